"""Reads the rows of a campaign's list: the header says which column is what, each row makes a text or is refused. Pure.

A row that is refused is told with its line, its column and the reason, and the others go on. What is wrong with the
header is wrong with every row, so then the list is refused as a whole.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from dispatcher.campaigns.model import BadRow, Text
from dispatcher.campaigns.records import ODD, Charset, Flaw, Record, RecordReader
from dispatcher.campaigns.templates import Fault, Faulty, Misfit, Template
from dispatcher.http import numbers
from dispatcher.http.problem import shorten
from dispatcher.http.submission import sized

USUAL_COLUMN: Final = "to"
COLUMNS_TOLD: Final = 30
LONGEST_TOPIC: Final = 100
_DRESS: Final = re.compile(r"[\s().\-\u00a0\u2010-\u2015]+")
_NO_NAME: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a list is to be read."""

    charset: Charset = Charset.UTF_8
    delimiter: str | None = None  # None: the one that the header has most of
    number_column: str = USUAL_COLUMN
    north_american: bool = False  # numbers without + are of country code 1
    any_possible_number: bool = False  # a lab: numbers belong to nobody
    topic_column: str | None = None  # None: the texts have no topics


class ListReader:
    """Feed chunks, then `end`. Raises Faulty when the header cannot be used; nothing was yielded before."""

    def __init__(self, template: Template, reading: Reading) -> None:
        self._template = template
        self._reading = reading
        self._records = RecordReader(charset=reading.charset, delimiter=reading.delimiter)
        self._row: _RowReader | None = None
        self.blank_lines = 0

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns that the template has no use for."""
        return self._row.ignored if self._row is not None else ()

    def feed(self, chunk: bytes) -> Iterator[Text | BadRow]:
        return self._rows(self._records.feed(chunk))

    def end(self) -> Iterator[Text | BadRow]:
        yield from self._rows(self._records.end())
        if self._row is None:
            raise Faulty([Fault(field="", message="the list is empty; its first line names the columns")])

    def _rows(self, records: Iterator[Record | Flaw]) -> Iterator[Text | BadRow]:
        for record in records:
            if self._row is None:
                if isinstance(record, Flaw):
                    raise Faulty(
                        [Fault(field="", message=f"the header, in line {record.line}: {record.reason}")]
                    )
                if any(record.cells):
                    self._row = _RowReader(record.cells, self._template, self._reading)
                continue
            if isinstance(record, Flaw):
                yield BadRow(record.line, self._row.column(record.column), record.reason, "")
            elif any(record.cells):
                yield self._row.read(record)
            else:
                self.blank_lines += 1


class _RowReader:
    """Knows the columns. Raises Faulty when one is missing or there twice."""

    def __init__(self, header: Sequence[str], template: Template, reading: Reading) -> None:
        self._header = [cell.strip() for cell in header]
        self._any_possible = reading.any_possible_number
        self._north_american = reading.north_american
        names = [name_of(cell) for cell in header]
        number_column = name_of(reading.number_column)
        topic_column = None if reading.topic_column is None else name_of(reading.topic_column)
        needed = {number_column} | {v.name for v in template.variables if v.default is None}
        needed |= set() if topic_column is None else {topic_column}
        used = needed | {v.name for v in template.variables}
        found = Counter(names)
        wrong = [
            Fault(field=name, message=f"is no column of this list{_meant(name, self._header)}")
            for name in sorted(needed)
            if name not in found
        ]
        wrong += [
            Fault(field=name, message=f"is the name of {found[name]} columns")
            for name in sorted(used)
            if found[name] > 1
        ]
        if wrong:
            raise Faulty(wrong)
        self._number_at = names.index(number_column)
        self._topic_at = None if topic_column is None else names.index(topic_column)
        self._place = {name: names.index(name) for name in used if name in found}
        self._render = template.for_columns(names)
        self.ignored = tuple(cell for cell, name in zip(self._header, names, strict=True) if name not in used)

    def column(self, number: int) -> str:
        """The name of a column that is counted from 1; empty for 0."""
        if 1 <= number <= len(self._header) and self._header[number - 1]:
            return self._header[number - 1]
        return str(number) if number else ""

    def read(self, record: Record) -> Text | BadRow:
        line, cells = record.line, record.cells
        if len(cells) != len(self._header):
            return self._ragged(record)
        for index, cell in enumerate(cells):
            if (odd := ODD.search(cell)) is not None:
                what = "a NUL" if odd[0] == "\0" else "what is not of the list's encoding"
                return self._bad(line, index, f"holds {what} at index {odd.start()}", cell)
        to = cells[self._number_at].strip()
        if not to.startswith("+") or not to[1:].isdigit():
            to = plain_number(to, north_american=self._north_american)
        if (fault := numbers.fault(to, any_possible=self._any_possible)) is not None:
            return self._bad(
                line, self._number_at, fault if to else "must not be empty", cells[self._number_at]
            )
        try:
            body = self._render(cells)
        except Misfit as misfit:
            at = self._place.get(misfit.name)
            column = misfit.name if at is None else self._header[at]
            return BadRow(line, column, str(misfit), shorten(misfit.value))
        encoding, segments, fault = sized(body)
        if fault is not None:
            return BadRow(line, "", f"its text {fault}", shorten(body))
        topic = "" if self._topic_at is None else cells[self._topic_at].strip()
        if self._topic_at is not None and (len(topic) > LONGEST_TOPIC or not topic.isprintable()):
            return self._bad(
                line, self._topic_at, f"must have at most {LONGEST_TOPIC} printable characters", topic
            )
        return Text(line, to, body, encoding, segments, topic or None)

    def _ragged(self, record: Record) -> BadRow:
        has, needs = len(record.cells), len(self._header)
        reason = f"the row has {has} cells, and the header {needs}"
        return BadRow(record.line, self.column(min(has, needs) + 1), reason, "")

    def _bad(self, line: int, index: int, reason: str, value: str) -> BadRow:
        return BadRow(line, self._header[index], reason, shorten(value))


def name_of(cell: str) -> str:
    """A column's name as a variable may have it: `First Name` is `first_name`."""
    return _NO_NAME.sub("_", cell.strip().lower()).strip("_")


def plain_number(number: str, *, north_american: bool) -> str:
    """Without what only dresses it up; with the country code when the list says that there is none."""
    bare = _DRESS.sub("", number)
    if not north_american or bare.startswith("+") or not (bare.isascii() and bare.isdigit()):
        return bare if bare.startswith("+") and bare[1:].isdigit() else number
    if len(bare) == 10:
        return f"+1{bare}"
    return f"+{bare}" if len(bare) == 11 and bare.startswith("1") else number


def _meant(name: str, header: Sequence[str]) -> str:
    close = get_close_matches(name, [name_of(cell) for cell in header], n=1)
    if close:
        return f"; did you mean {close[0]}?"
    has = ", ".join(cell or "(no name)" for cell in header[:COLUMNS_TOLD])
    return f"; it has {shorten(has)}"
