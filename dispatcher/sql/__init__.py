"""The SQL of the message path: migrations that make the schema, and the named queries that call its functions.

A query stands in `queries/*.sql` under a line `-- name: <name>`; a migration is a file of its own (see
`dispatcher.migrate`).
"""

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def queries() -> dict[str, str]:
    """The named queries of all files, by name."""
    found: dict[str, str] = {}
    for file in (resources.files(__name__) / "queries").iterdir():
        _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"two queries are called {name!r}; the second is in {file.name}")
            found[name] = text.strip().rstrip(";")
    return found
