"""`schema`: the JSON Schema of what a command prints with `--json`."""

import click
from rich.text import Text

from sitecontrol.cli.session import Exit, Globals, Problem, with_globals
from sitecontrol.cli.shapes import NO_JSON, SHAPES, schema_of


@click.command()
@click.argument("words", nargs=-1, metavar="[COMMAND…]")
@with_globals
def schema(options: Globals, *, words: tuple[str, ...]) -> None:
    """The JSON Schema of what COMMAND prints with --json, as `sitectl schema node list`.

    Without COMMAND: the commands that have one.
    """
    command = " ".join(words)
    if not command:
        if options.as_json:
            options.emit(list(SHAPES))
        else:
            options.console.print(Text("\n".join(SHAPES)))
        return
    if command in NO_JSON:
        raise Problem(f"sitectl {command} prints no JSON: it is for people", Exit.USAGE)
    if command not in SHAPES:
        raise Problem(f"{command}: no such command; `sitectl schema` lists them", Exit.USAGE)
    options.emit(schema_of(command))
