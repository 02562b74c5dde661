"""The line of every setting, against documents whose lines are known because they were written piece by
piece."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitecontrol.settings_lines import Path, lines_of, nearest

DOCUMENT = '''\
# a comment with [brackets] and "quotes
top = 1

[site]  # a comment
name = "columbus"
"quoted key" = 'a # no comment'
text = """
[not.a.header]
key = 1
"""  # the end
literal = \'\'\'it's "fine"\'\'\'\'
after = 1979-05-27T07:32:00Z

[[place]]
name = "columbus"
nodes = [  # a list over lines
  # with a comment, [and brackets]
  {name = "a", "quoted.dot" = {deep = [1, [2]]}},

  {name = "b"},
]

[place.more]
x = true
[[place]]
name = "denver"
  [[place.inner]]
  y = 1
  [[place.inner]]
  y = "]"

[a . "b c".d]
e.f.g = [ "#", ']' ]
e.f.h = +1_000
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("site",), 4),
        (("site", "name"), 5),
        (("site", "quoted key"), 6),
        (("site", "text"), 7),
        (("site", "literal"), 11),
        (("site", "after"), 12),
        (("place",), 14),
        (("place", 0), 14),
        (("place", 0, "name"), 15),
        (("place", 0, "nodes"), 16),
        (("place", 0, "nodes", 0), 18),
        (("place", 0, "nodes", 0, "quoted.dot", "deep", 1, 0), 18),
        (("place", 0, "nodes", 1, "name"), 20),
        (("place", 0, "more", "x"), 24),
        (("place", 1), 25),
        (("place", 1, "name"), 26),
        (("place", 1, "inner", 0, "y"), 28),
        (("place", 1, "inner", 1, "y"), 30),
        (("a",), 32),
        (("a", "b c", "d", "e", "f", "g", 1), 33),
        (("a", "b c", "d", "e", "f", "h"), 34),
    ],
)
def test_a_setting_is_found_on_its_line(path: Path, line: int) -> None:
    assert lines_of(DOCUMENT)[path] == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("place", 1, "postgres"), 25),
        (("place", 0, "nodes", 1, "agent"), 20),
        (("place", 7), 14),
        (("nowhere", "at", "all"), 1),
        ((), 1),
    ],
)
def test_what_is_missing_has_the_line_of_what_surrounds_it(path: Path, line: int) -> None:
    assert nearest(lines_of(DOCUMENT), path) == line


def test_an_empty_file_has_no_lines_but_its_first() -> None:
    assert nearest(lines_of(""), ("site",)) == 1


# Documents written at random, each piece noting its own line

KEYS = st.text("abcxyz-_0", min_size=1, max_size=4) | st.sampled_from(["a.b", 'q"q', "s p", "#", "ü", "[x]"])
SCALARS = (
    st.integers(-(2**40), 2**40)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab #]},\"'\\\n=[{", max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | st.lists(inner, min_size=1, max_size=3), max_size=3),
    max_leaves=6,
)


@dataclass
class Writer:
    """Writes TOML in the manners that `draw` picks, and remembers the line of every path."""

    draw: Any
    text: str = ""
    lines: dict[Path, int] = field(default_factory=dict)

    def put(self, piece: str, *paths: Path) -> None:
        for path in paths:
            self.lines.setdefault(path, self.text.count("\n") + 1)
        self.text += piece

    def table(self, table: dict[str, Any], path: Path = (), header: tuple[str, ...] = ()) -> None:
        below = {key: value for key, value in table.items() if self.heads(value)}
        for key, value in table.items():
            if key not in below:
                self.filler()
                self.put(f"{name(key)} = ", (*path, key))
                self.value(value, (*path, key))
                self.put(self.draw(st.sampled_from(["", "  # [comment]", " "])) + "\n")
        for key, value in below.items():
            for index, one in enumerate(value if isinstance(value, list) else [value]):
                array = isinstance(value, list)
                place = (*path, key, index) if array else (*path, key)
                names = (*header, name(key))
                self.filler()
                self.put("[[" if array else "[", (*path, key), place)
                self.put(" . ".join(names) + ("]]" if array else "]") + "\n")
                self.table(one, place, names)

    def heads(self, value: Any) -> bool:
        """Whether to write it below a header of its own."""
        tables = value if isinstance(value, list) else [value]
        return bool(tables) and all(isinstance(one, dict) for one in tables) and self.draw(st.booleans())

    def value(self, value: Any, path: Path) -> None:
        match value:
            case dict():
                self.put("{")
                for index, (key, below) in enumerate(value.items()):
                    self.put(", " if index else " ")
                    self.put(f"{name(key)} = ", (*path, key))
                    self.value(below, (*path, key))
                self.put(" }")
            case list():
                self.put("[")
                for index, below in enumerate(value):
                    self.put("," if index else "")
                    self.gap()
                    self.put("", (*path, index))
                    self.value(below, (*path, index))
                self.gap()
                self.put("]")
            case str():
                self.put(self.quoted(value))
            case bool():
                self.put(str(value).lower())
            case _:
                self.put(repr(value))

    def quoted(self, value: str) -> str:
        if "'" not in value and "\n" not in value and self.draw(st.booleans()):
            return f"'{value}'"
        escaped = value.replace("\\", "\\\\")
        if self.draw(st.booleans()):
            return '"""\n' + escaped.replace('"', '\\"') + '"""'
        return '"' + escaped.replace('"', '\\"').replace("\n", "\\n") + '"'

    def gap(self) -> None:
        """Between the elements of a list: perhaps a new line."""
        self.put(self.draw(st.sampled_from(["", " ", "\n  ", " # ] }\n"])))

    def filler(self) -> None:
        self.put(self.draw(st.sampled_from(["", "\n", "# name = [\n", "\t"])))


def name(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    if bare or key.strip("-_") == "":
        return key
    return '"' + key.replace('"', '\\"') + '"'


def paths(data: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    below = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, value in below:
        yield from paths(value, (*path, step))


@given(st.data(), TABLES)
def test_every_setting_of_any_document_is_found_on_its_line(
    data: st.DataObject, table: dict[str, Any]
) -> None:
    writer = Writer(data.draw)
    writer.table(table)
    assert tomllib.loads(writer.text) == table
    assert lines_of(writer.text) == writer.lines
    assert set(paths(table)) == set(writer.lines)
