"""A program, run in NumPy row by row: what stands between the oracle, which knows no rows, and compiled code, which is fast.

It shares the tables of rows with gridc, and of the cells their rules; everything else is what the listing says.
"""

from __future__ import annotations

import numpy as np

from gridc.scheduling.program import ATTEND, CELL, COPY, PRODUCT

COMPARE = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal}


class Functions:
    """What a rule may call."""

    tanh = staticmethod(np.tanh)
    exp, log, sqrt = staticmethod(np.exp), staticmethod(np.log), staticmethod(np.sqrt)
    number = staticmethod(lambda value, like: value)
    mean = staticmethod(lambda a: a.mean(axis=-1, keepdims=True))
    softplus = staticmethod(lambda a: np.logaddexp(0, a))
    where = staticmethod(lambda sign, a, b, x, y: np.where(COMPARE[sign](a, b), x, y))
    sigmoid = staticmethod(lambda a: np.exp(-np.logaddexp(0, -a)))
    relu = staticmethod(lambda a: np.maximum(a, 0))


def interpret(program, h, m, joined, w, b, p, dropped, kept, facts):
    """Run the instructions on hidden vectors ``h`` and memories ``m``, ``[rows and boundary, hidden]``, in place: NaN but for
    what enters.  ``joined[t]`` are the arrays that join, ``w``, ``b`` and ``p`` the weights of each transform or None,
    ``dropped`` the dropout masks of those that are read through them or None, ``kept`` what zoneout keeps of their vectors and
    ``facts`` those to which they attend."""
    z = [[np.full((own.rows, width), np.nan) for width in program.widths(t)] for t, own in enumerate(program.transforms)]
    a = [np.full((own.rows, own.width), np.nan) for own in program.transforms]
    for step in program.instructions:
        t, rows, weight = step["transform"], slice(step["first"], step["end"]), step["weight"]
        own, low = program.transforms[t], step["low"] - program.block_starts[t]
        if step["kind"] in (PRODUCT, COPY):
            for j in range(low, low + step["high"] - step["low"]):
                k = j - len(own.sources)
                index = own.read_rows[j][rows] if k < 0 else own.joined_rows[k][rows]
                table = h[own.sources[j]] if k < 0 else joined[t][k]
                z[t][j][rows] = np.where((index < 0)[:, None], 0, table[index])
                if k < 0 and own.masks[j] is not None and dropped[own.sources[j]] is not None:
                    mask = own.masks[j][rows]
                    z[t][j][rows] *= np.where((mask < 0)[:, None], 1, dropped[own.sources[j]][mask])
        if step["kind"] == PRODUCT:
            starts = np.cumsum([0, *program.widths(t)])
            blocks = slice(low, low + step["high"] - step["low"])
            part = w[t][weight][starts[blocks.start] : starts[blocks.stop]]
            a[t][rows] = (a[t][rows] if step["adds"] else 0) + np.concatenate(z[t][blocks], axis=1)[rows] @ part
        elif step["kind"] == CELL:
            bias = 0 if b[t] is None else b[t][weight]
            gates = np.split(a[t][rows] + bias, own.gates, axis=1)
            holes = [] if p[t] is None else np.split(p[t][weight], p[t].shape[-1] // own.hidden)
            carried = [(m if own.memory else h)[t][index[rows]] for index in own.carried_rows]
            rule = own.cell.rule
            new = rule(Functions, gates, None if own.memory or not carried else carried[0], carried if own.memory else [],
                       holes, own.options)  # fmt: skip
            for state, value, keep in zip((h[t], m[t]), new, kept[t] if own.keeps else (None, None), strict=False):
                if value is not None:
                    share = 0 if keep is None else keep[own.kept_rows[rows] if len(keep) > 1 else [0]]
                    old = 0 if keep is None else state[own.carried_rows[0][rows]]
                    state[rows] = share * old + (1 - share) * value
        elif step["kind"] == ATTEND:
            query, sets = h[t][own.carried_rows[0][rows]], own.fact_rows[rows]
            keys, values = facts[t][0][sets], facts[t][1][sets] if len(facts[t]) > 1 else facts[t][0][sets + 1]
            share = np.einsum("rj,rfj->rf", query, keys)
            if own.options.attention == "softmax":
                share = np.exp(share) / np.exp(share).sum(axis=1, keepdims=True)
            found = np.einsum("rf,rfj->rj", share, values)
            h[t][rows] = found + (query if not own.gates else a[t][rows] + (0 if b[t] is None else b[t][weight]))
        elif step["kind"] == COPY:
            h[t][rows] = z[t][0][rows]
        else:
            for state in (h[t], m[t]) if own.memory else (h[t],):
                state[step["target"]] += state[step["source"]]
