"""Writes docs/schemas/: a JSON Schema for each command of `sitectl` that prints JSON, from the shapes in the code.

`python -m tests.schemas_pages`
"""

import json
from pathlib import Path

from sitecontrol.cli.shapes import SHAPES, schema_of

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def name_of(command: str) -> str:
    return f"{command.replace(' ', '-')}.json"


def pages() -> dict[str, str]:
    """Every file of the folder, by its name."""
    return {name_of(command): json.dumps(schema_of(command), indent=1) + "\n" for command in SHAPES}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
