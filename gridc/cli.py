"""The command line: which commands there are, and what becomes of an error.

Results go to stdout, messages to stderr.  Exit codes: 0 done, 1 a mistake in gridc, 2 usage or spec, 3 data, 4 numbers,
5 resources, 130 interrupted.  A command is imported when it is called, so that ``gridc --help`` costs nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from gridc.commands.output import print_json
from gridc.errors import GridcError, SpecError, SpecWarning, nearest, printable
from gridc.plain_text import lenient

INTERRUPTED = 130
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("commands.start:init", "Write a commented spec for a sequence, an image, a table, a series or a text, and data to "
             "try it on."),
    "check": ("commands.check:check", "Say whether specs mean something, and what."),
    "show": ("commands.show:show", "Show a spec on its way through the compiler: spec, graph, schedule or program."),
    "schedule": ("commands.schedule:schedule", "Show how parallel a grid is: wavefronts, speed-up, pictures, a trace."),
    "compile": ("commands.use:compile_", "Build a spec's functions, and say what they cost."),
    "train": ("commands.learn:train", "Do the experiment of a spec's training block."),
    "sweep": ("commands.sweeps:sweep", "Search for the values of a spec that train best, with many trainings."),
    "predict": ("commands.use:predict", "Predict from a file with a trained model."),
    "score": ("commands.use:score", "Measure a trained model, with a confusion matrix."),
    "sample": ("commands.use:sample", "Write text with a trained language model."),
    "export": ("commands.export:export", "Write a trained model as ONNX, for other programs."),
    "inspect": ("commands.use:inspect", "Show what a model file holds: spec, parameters, training record, hashes."),
    "curve": ("commands.curves:curve", "Draw how trainings went, one or several side by side."),
    "bench": ("commands.bench:command", "Measure speed on this machine."),
    "doctor": ("commands.doctor:doctor", "Look at this machine and say what to do about it."),
    "schema": ("commands.start:schema", "Print the JSON Schema of a spec, for editors."),
    "completion": ("commands.start:completion", "Print what makes a shell complete gridc's commands."),
}
"""Command → where it lives under ``gridc``, and its one line of help."""


class Commands(click.Group):
    """The commands, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands' names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None for a name that there is not."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        return getattr(importlib.import_module(f"gridc.{module}"), name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that the arguments name, or end with the nearest name."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"There is no command '{args[0]}'{nearest(args[0], COMMANDS) or '; gridc --help lists them.'}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and what they do, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from gridc import __version__

        click.echo(f"gridc {__version__}")
        ctx.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version.")
def cli() -> None:
    """A symbolic graph compiler for Grid LSTMs: a page of YAML to wavefronts to fast kernels.

    New here?  gridc init sequence, then gridc train sequence.yaml.
    """  # noqa: D401  # the help of gridc itself


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        lenient(stream)
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = run(given)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; without this Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; what a spec is warned of is told as its errors are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SpecWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, SpecWarning):
                click.echo(f"gridc: {printable(message)}", err=True)
            else:
                usual(message, category, *rest, **more)

        warnings.showwarning = show
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        # Without standalone_mode click hands back the code that a command exits with, or what it returns.
        code = cli.main(arguments, prog_name="gridc", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        where = f" ({error.ctx.command_path} --help says more.)" if error.ctx else ""
        return _told(arguments, f"{error.format_message()}{where}", 2, error)
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # which click takes for the end of a person's input; nothing here asks for any
            return _mistake(arguments, error.__cause__)
        return _told(arguments, "Interrupted.", INTERRUPTED, None)
    except GridcError as error:
        return _told(arguments, str(error), error.exit_code, error)
    except BrokenPipeError:
        return 0
    except MemoryError as error:
        what = f" ({str(error)[0].lower()}{str(error)[1:].rstrip('.')})" if str(error) else ""  # NumPy says how much it asked for
        sentence = f"There is not enough memory{what}; a smaller batch, fewer hidden units or a shorter grid may fit."
        return _told(arguments, sentence, 5, None)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        return _told(arguments, f"{named}{error.strerror or error}.", 5, error)
    except Exception as error:
        return _mistake(arguments, error)


def _mistake(arguments: list[str], error: BaseException) -> int:
    import traceback

    traceback.print_exception(error)
    what = "This is a mistake in gridc, not in what you wrote; please report it with the lines above."
    return _told(arguments, what, 1, error)


def _told(arguments: list[str], sentence: str, code: int, error: BaseException | None) -> int:
    """Says what went wrong on stderr, and to a program that asked for JSON also on stdout."""
    click.echo(f"gridc: {printable(sentence)}", err=True)
    if "--json" in arguments:
        told: dict[str, Any] = {"error": sentence, "kind": type(error).__name__ if error else "Interrupted", "exit_code": code}
        if isinstance(error, SpecError):
            told |= {"error": error.sentence, "path": error.path, "line": error.line, "column": error.column}
        print_json(told)
    return code
