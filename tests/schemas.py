"""Validates what `sitectl … --json` printed against the published schema of its command."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from sitecontrol.cli.shapes import SHAPES
from tests.schemas_pages import FOLDER, name_of


@cache
def validator(command: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / name_of(command)).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def command_in(words: Sequence[str]) -> str | None:
    """The command among the words of a command line: the longest that we know, wherever the options stand."""
    plain = [word for word in words if not word.startswith("-")]
    for length in (3, 2, 1):
        for start in range(len(plain) - length + 1):
            if (command := " ".join(plain[start : start + length])) in SHAPES:
                return command
    return None


def check(words: Sequence[str], document: Any) -> None:
    """Fails with the first thing that is not as the schema of the command says."""
    command = command_in(words)
    assert command is not None, words
    error = next(validator(command).iter_errors(document), None)
    assert error is None, f"sitectl {command} --json, at {list(error.absolute_path)}: {error.message[:1000]}"
