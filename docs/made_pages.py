"""Parts of the pages that Sphinx makes from the code: the commands, the gallery, and the names of columns in narrow tables.

``{commands}`` lists every command of the command line from click itself; ``{gallery}`` every network of ``specs/`` with the
picture of its schedule, and ``{drawing}`` draws a page of YAML.  Nothing that they make is kept in the repository.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any, ClassVar

import click
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.util.docutils import SphinxDirective

import gridc
from gridc.cli import COMMANDS, cli
from gridc.pictures.unrolled_drawing import example

SPECS = Path(__file__).parent.parent / "specs"


def section(title: str, *children: nodes.Node, code: bool = True) -> nodes.section:
    words = nodes.literal(title, title) if code else nodes.Text(title)
    return nodes.section("", nodes.title("", "", words), *children, ids=[nodes.make_id(title)], names=[title.lower()])


def prose(text: str) -> nodes.paragraph:
    """A paragraph of click's help, in which code stands in backticks or double quotes."""
    made = nodes.paragraph()
    for i, part in enumerate(re.split(r"``?([^`]+)``?", " ".join(text.split()))):
        made += nodes.literal(part, part) if i % 2 else nodes.Text(part)
    return made


class Commands(SphinxDirective):
    """A section for every command: usage, what it does, its arguments and options."""

    def run(self) -> list[nodes.Node]:
        return [self._command(name) for name in COMMANDS]

    def _command(self, name: str) -> nodes.section:
        context = click.Context(cli)
        command = cli.get_command(context, name)
        assert command is not None
        context = click.Context(command, info_name=f"gridc {name}", parent=None)
        usage = command.get_usage(context).removeprefix("Usage: ")
        parts: list[nodes.Node] = [nodes.literal_block(usage, usage, language="console")]
        parts += [prose(part) for part in (command.help or "").replace("\b", "").split("\n\n") if part.strip()]
        options = nodes.definition_list(classes=["simple"])
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is None or not record[1]:  # an argument that the usage shows
                continue
            term = nodes.term("", "", nodes.literal(record[0], record[0]))
            options += nodes.definition_list_item("", term, nodes.definition("", prose(record[1])))
        return section(f"gridc {name}", *parts, options)


class Gallery(SphinxDirective):
    """A section for every network of ``specs/``: what it is, figures of its schedule, its picture and its page."""

    def run(self) -> list[nodes.Node]:
        return [self._network(path) for path in sorted(SPECS.glob("*.yaml"))]

    def _network(self, path: Path) -> nodes.section:
        self.env.note_dependency(str(path))
        text = path.read_text(encoding="utf-8")
        said = [line.lstrip("# ") for line in text.splitlines() if line.startswith("# ") and "yaml-language" not in line]
        spec = gridc.read(path)
        binding: dict[str, Any] = dict(example(spec).binding)
        plan = gridc.schedule(spec, **binding)
        for picture in ("grid", "wavefronts"):
            keep(Path(self.env.app.outdir), f"{path.stem}-{picture}", plan.to_svg(picture))
        sizes = " × ".join(f"{d.name} {n}" for d, n in zip(spec.dimensions, plan.sizes, strict=True))
        cells = ", ".join(dict.fromkeys(t.cell for t in spec.transforms.values()))
        figures = (f"Cells: {cells}. For {sizes}: {plan.work:,} steps in {plan.span:,} wavefronts, {plan.parallelism:.1f} steps "
                   "side by side on the average.")  # fmt: skip
        return section(
            path.stem, *([nodes.paragraph("", " ".join(said))] if said else []), nodes.paragraph("", figures),
            self._picture(path.stem, "wavefronts", f"The wavefront of every step of {path.stem}"),
            *self._folded("The grid unrolled", [self._picture(path.stem, "grid", f"The grid of {path.stem}, unrolled")]),
            *self._folded(f"specs/{path.name}", [nodes.literal_block(text, text, language="yaml")]),
            code=False,
        )  # fmt: skip

    def _picture(self, stem: str, picture: str, alt: str) -> nodes.Node:
        return nodes.container("", shown(self.env.docname, f"{stem}-{picture}", alt), classes=["network"])

    def _folded(self, summary: str, inside: list[nodes.Node]) -> list[nodes.Node]:
        opened = f'<details class="network"><summary>{html.escape(summary)}</summary>'
        return [nodes.raw("", opened, format="html"), *inside, nodes.raw("", "</details>", format="html")]


class Drawing(SphinxDirective):
    """A picture of the page of YAML that is the content, with a caption: ``{drawing} wavefronts T=10``."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {"caption": directives.unchanged_required, "alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        picture, *sizes = self.arguments[0].split()
        given: dict[str, Any] = {s: int(n) for s, n in (size.split("=") for size in sizes)}
        plan = gridc.schedule("\n".join(self.content), **given)
        name = f"{self.env.docname}-{plan.spec.name}-{picture}"
        keep(Path(self.env.app.outdir), name, plan.to_svg(picture))
        figure = nodes.figure("", shown(self.env.docname, name, self.options["alt"]))
        caption, said = self.state.inline_text(self.options["caption"], self.lineno)
        figure += nodes.caption("", "", *caption)
        return [figure, *said]


def keep(outdir: Path, name: str, svg: str) -> None:
    """Write a picture beside the pages that are being made."""
    folder = outdir / "_static" / "drawn"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_text(svg, encoding="utf-8")


def shown(docname: str, name: str, alt: str) -> nodes.Node:
    """The picture of that name, on a page."""
    source = "../" * docname.count("/") + f"_static/drawn/{name}.svg"
    return nodes.raw("", f'<img loading="lazy" src="{source}" alt="{html.escape(alt)}">', format="html")


def name_columns(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the name of its column into every cell of a table: a phone shows the rows stacked, without the head."""
    if app.builder.format != "html":
        return
    for table in doctree.findall(nodes.table):
        heads = [row for head in table.findall(nodes.thead) for row in head.children]
        if not heads:
            continue
        table["classes"].append("stacks")
        names = [entry.astext() for entry in heads[0].children]
        for body in table.findall(nodes.tbody):
            for row in body.children:
                for name, entry in zip(names, row.children, strict=False):
                    if not isinstance(entry, nodes.entry):
                        continue
                    if entry.astext().strip() in ("", "–"):
                        entry["classes"].append("empty")
                        continue
                    where = entry.children[0] if entry.children and isinstance(entry.children[0], nodes.paragraph) else entry
                    where.insert(0, nodes.inline("", f"{name}: " if name else "", classes=["column-name"]))


def skip_routing(app: Sphinx, kind: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn makes for its routing of metadata: its text refers to its own pages."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    app.add_directive("gallery", Gallery)
    app.add_directive("drawing", Drawing)
    app.connect("doctree-resolved", name_columns)
    app.connect("autodoc-skip-member", skip_routing)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    return {"version": gridc.__version__, "parallel_read_safe": True, "parallel_write_safe": True}
