"""Cuts a CSV file that comes in chunks into records, in memory that does not grow with the file. Pure.

Python's `csv` reads the records; here is what a stream needs around it:

* The encoding: UTF-8 with or without a byte order mark, UTF-16 with one, Windows-1252 only when it is declared (every
  file is one of that, so it cannot be found out).
* A line may be of any length and a quote may never be closed: no more of either is held than `MOST_BYTES`. The flaw is
  told with its place, and reading goes on at the next line: a quote that is not closed takes its own line with it and
  no other.
* What cannot be decoded, and NULs, are flaws of their own row.

A record is named by the number of the line that it begins in, from 1, as an editor counts them.
"""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dispatcher.http.lines import LineCutter, Overlong

MOST_BYTES: Final = 65_536  # of a line, and of a record
MOST_LINES: Final = 50  # of a record: a quoted cell may have line breaks in it
DELIMITERS: Final = (",", ";", "\t", "|")
ODD: Final = re.compile("[\0\ufffd]")
_UNCLOSED: Final = "unexpected end of data"
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')


class Charset(StrEnum):
    UTF_8 = "utf-8"  # also UTF-16, when a byte order mark says so
    WINDOWS_1252 = "windows-1252"


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it stands in the file; an empty line is one without cells."""

    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Flaw:
    """What cannot be read as a row; `column` is counted from 1, 0 when it is not known."""

    line: int
    column: int
    reason: str


class RecordReader:
    """Feed chunks of any size, in order; then `end`. A delimiter that is not given is chosen by the first line."""

    def __init__(self, *, charset: Charset = Charset.UTF_8, delimiter: str | None = None) -> None:
        self.delimiter = delimiter
        self._charset = charset
        self._bytes = _ToLines(charset)
        self._number = 0  # of the newest line
        self._held: list[str] = []  # lines of a record that has not ended yet
        self._held_from = 0  # the number of the first of them
        self._held_size = 0

    def feed(self, chunk: bytes) -> Iterator[Record | Flaw]:
        for line in self._bytes.feed(chunk):
            yield from self._line(line)

    def end(self) -> Iterator[Record | Flaw]:
        for line in self._bytes.end():
            yield from self._line(line)
        while self._held:
            yield from self._give_up()

    def _line(self, line: bytes | Overlong) -> Iterator[Record | Flaw]:
        self._number += 1
        if isinstance(line, Overlong):
            while self._held:
                yield from self._give_up()
            yield self._overlong(line)
            return
        text = line.removesuffix(b"\r").decode(self._bytes.codec, errors="replace")
        if self.delimiter is None:
            self.delimiter = likely_delimiter(text)
        yield from self._take(text, self._number)

    def _take(self, text: str, number: int) -> Iterator[Record | Flaw]:
        """One more line: of the record that is open, or a new one."""
        may_end = not self._held or '"' in text
        if not self._held:
            self._held_from = number
        self._held.append(text)
        self._held_size += len(text)
        if may_end:
            try:
                cells = next(csv.reader(self._lines(), delimiter=self.delimiter or ",", strict=True))
            except csv.Error as error:
                if str(error) != _UNCLOSED:
                    yield from self._give_up(_in_words(error))
                    return
            else:
                self._let_go()
                yield Record(self._held_from, cells)
                return
        if self._held_size > MOST_BYTES or len(self._held) >= MOST_LINES:
            yield from self._give_up()

    def _give_up(self, reason: str | None = None) -> Iterator[Record | Flaw]:
        """The open record's first line is flawed; those after it are read anew."""
        first, (flawed, *others) = self._held_from, self._held
        self._let_go()
        yield Flaw(first, self._column(flawed), reason or "opens a quote that is not closed")
        for number, text in enumerate(others, first + 1):
            yield from self._take(text, number)

    def _let_go(self) -> None:
        self._held.clear()
        self._held_size = 0

    def _lines(self) -> Iterator[str]:
        for text in self._held[:-1]:
            yield text + "\n"
        yield self._held[-1]

    def _column(self, text: str) -> int:
        """How many cells begin before the quote that breaks the line."""
        delimiter = self.delimiter or ","
        whole = re.compile(rf'"(?:[^"]|"")*"(?={re.escape(delimiter)})')
        return 1 + whole.sub("", text).partition('"')[0].count(delimiter)

    def _overlong(self, line: Overlong) -> Flaw:
        begun = _QUOTED.sub("", line.begun.decode(self._bytes.codec, errors="replace"))
        reason = f"the line has {line.size} bytes, and at most {MOST_BYTES} are taken"
        return Flaw(self._number, 1 + begun.count(self.delimiter or ","), reason)


class _ToLines:
    """From chunks of bytes to lines in an encoding that has the same line feed as ASCII."""

    def __init__(self, charset: Charset) -> None:
        self._cutter = LineCutter(MOST_BYTES)
        self._charset = charset
        self._begin: bytes | None = b""  # what came until the first bytes are known
        self._wide: codecs.IncrementalDecoder | None = None  # of UTF-16, which has not
        self.codec = "utf-8" if charset is Charset.UTF_8 else "cp1252"

    def feed(self, chunk: bytes) -> list[bytes | Overlong]:
        if self._begin is not None:
            self._begin += chunk
            if len(self._begin) < len(codecs.BOM_UTF8):
                return []
            chunk = self._without_mark(self._begin)
            self._begin = None
        return self._cut(chunk)

    def end(self) -> list[bytes | Overlong]:
        lines: list[bytes | Overlong] = []
        if self._begin is not None:
            lines += self._cut(self._without_mark(self._begin))
            self._begin = None
        if self._wide is not None:
            lines += self._cutter.feed(self._wide.decode(b"", final=True).encode(errors="replace"))
        last = self._cutter.end()
        return lines if last is None else [*lines, last]

    def _without_mark(self, begin: bytes) -> bytes:
        if begin.startswith(codecs.BOM_UTF8):
            self.codec = "utf-8"
            return begin.removeprefix(codecs.BOM_UTF8)
        for mark, name in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
            if begin.startswith(mark):
                self._wide = codecs.getincrementaldecoder(name)(errors="replace")
                self.codec = "utf-8"
                return begin.removeprefix(mark)
        return begin

    def _cut(self, chunk: bytes) -> list[bytes | Overlong]:
        if self._wide is not None:
            chunk = self._wide.decode(chunk).encode(errors="replace")
        return self._cutter.feed(chunk)


def likely_delimiter(header: str) -> str:
    """The one that the first line has most of, outside of quotes."""
    bare = _QUOTED.sub("", header)
    return max(DELIMITERS, key=bare.count)


def _in_words(error: csv.Error) -> str:
    said = str(error)
    if "expected after" in said:
        return "has characters after a closing quote; a quote inside a cell is written twice"
    if "new-line character" in said:
        return "has a carriage return in the middle of a line"
    return f"cannot be read as CSV: {said}"
