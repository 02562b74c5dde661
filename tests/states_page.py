"""Makes docs/states.md out of `dispatcher.states`: `python -m tests.states_page > docs/states.md`."""

import sys

from dispatcher.model import State
from dispatcher.states import FINAL, TABLE, Transition
from dispatcher.story import ROLL_UP

HEAD = """\
# The states of a message

A long text is sent in segments, and each segment has a state of its own. This page is made out of the table that both
stores follow (`dispatcher/states.py`; `python -m tests.states_page > docs/states.md`), so it shows every way there is.

```mermaid
stateDiagram-v2
"""
BELOW = """\
```

*What happened* is the name by which a line of a message's story is stored. *Told* says whether it is stored each time,
or read off the times that a segment has anyway: what happens to nearly every segment costs no row. A stored line says
which attempt it is about, and where a carrier answered, which one and what.

| what happened | from | to | told | in words |
|---|---|---|---|---|
"""
ROLLED_UP = """\

## A message of several segments
It is in the first of these states that any of its segments is in: it is delivered when all of them are, and one
segment's doubt is the message's.

"""


def page() -> str:
    return "".join(
        (
            HEAD,
            "\n".join(_edges()),
            "\n",
            BELOW,
            "".join(map(_line, TABLE)),
            ROLLED_UP,
            "".join(
                f"{number}. `{state}`{' (final)' if state in FINAL else ''}\n"
                for number, state in enumerate(ROLL_UP, 1)
            ),
        )
    )


def _edges() -> list[str]:
    ways: dict[tuple[str, str], list[str]] = {}
    for row in TABLE:
        for after in _in_order(row.after):
            for before in _in_order(row.before) or ["[*]"]:
                ways.setdefault((before, after), []).append(row.what)
    return [f"    {before} --> {after}: {', '.join(what)}" for (before, after), what in ways.items()]


def _line(row: Transition) -> str:
    before = ", ".join(_in_order(row.before)) or ("(new)" if row.after else "any")
    after = ", ".join(_in_order(row.after)) or "the same"
    told = "stored" if row.stored else "read off"
    return f"| `{row.what}` | {before} | {after} | {told} | {row.sentence} |\n"


def _in_order(states: frozenset[State]) -> list[str]:
    return [state for state in State if state in states]


if __name__ == "__main__":
    sys.stdout.write(page())
