"""On which line of a TOML file each setting stands.

tomllib gives values without positions, so this walks the text once more. It is only ever used on text that tomllib
has accepted, and so needs to recognise nothing but structure: headers, keys, and where a value ends. A path
is made of keys and, below an array, indices: `[[place]]` with `nodes = [{name = "a"}]` gives
`("place", 0, "nodes", 0, "name")`.
"""

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]

_BLANK = re.compile(
    r"(?:[ \t\r\n]|#[^\n]*)*"
)  # between statements, and inside arrays: comments and newlines, too
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
_STRING = re.compile(
    r"'''(?:[\s\S]*?)'{3,5}(?!')"
    r'|"""(?:[^\\]|\\[\s\S])*?"{3,5}(?!")'
    r"|'[^'\n]*'"
    r'|"(?:[^"\\\n]|\\.)*"'
)
_BARE_VALUE = re.compile(r"[^,\]}#\n]+")  # a number, a date, true or false


def lines_of(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every table, element and value in `text`, which must be valid TOML.

    What is written in several places (a table that is only implied by the names of others) has its first line.
    """
    walk = _Walk(text)
    walk.document()
    return walk.lines


def nearest(lines: dict[Path, int], path: Path) -> int:
    """The line of `path`, or of the closest thing around it that is written down; 1 for the file as a whole."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Walk:
    """One pass over the text. `_at` is where we are; each method takes one thing and moves past it."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._starts = [0] + [match.end() for match in re.finditer("\n", text)]
        self._last_index: dict[Path, int] = {}  # of the arrays of tables

    def document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._assignment(table)

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`; returns the table that it opens."""
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        *outer, last = self._dotted_key()
        self._at += 2 if is_array else 1
        path: Path = ()
        for key in outer:
            path = self._inside((*path, key), start)
        path = (*path, last)
        if not is_array:
            return self._inside(path, start)
        self._note(path, start)
        self._last_index[path] = self._last_index.get(path, -1) + 1
        return self._inside(path, start)

    def _inside(self, path: Path, start: int) -> Path:
        """The table at `path`; where that is an array of tables, its newest."""
        self._note(path, start)
        if path in self._last_index:
            path = (*path, self._last_index[path])
            self._note(path, start)
        return path

    def _assignment(self, table: Path) -> None:
        """`key = value`, with a dotted key perhaps."""
        start = self._at
        path = table
        for key in self._dotted_key():
            path = (*path, key)
            self._note(path, start)
        self._at += 1  # =
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_BARE_VALUE)

    def _array(self, path: Path) -> None:
        index = 0
        while not self._closed("]"):
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        while not self._closed("}"):
            self._assignment(path)

    def _closed(self, bracket: str) -> bool:
        """Past the opening bracket or a comma, and past `bracket` if that is what comes."""
        self._skip(_BLANK)
        if self._text[self._at] in "[{,":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] != bracket:
            return False
        self._at += 1
        return True

    def _dotted_key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            start = self._at
            keys.append(_unquoted(self._text[start : self._skip(_KEY)]))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"not TOML at offset {self._at}")
        self._at = match.end()
        return self._at

    def _note(self, path: Path, offset: int) -> None:
        self.lines.setdefault(path, bisect_right(self._starts, offset))


def _unquoted(key: str) -> str:
    if key[0] in "\"'":
        value: str = tomllib.loads(f"key = {key}")["key"]
        return value
    return key
