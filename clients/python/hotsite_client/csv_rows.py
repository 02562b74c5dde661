"""From a CSV to messages. A row that is broken is told with its line, its column and the reason; the others go on.

Nothing in a file makes us hold more than one row of bounded length.
"""

import csv
import hashlib
import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from hotsite_client.model import Message

LONGEST_LINE: Final = 200_000  # characters
LONGEST_REFERENCE: Final = 100
LONGEST_BATCH: Final = 60
ERROR_COLUMNS: Final = (
    "error_line",
    "error_column",
    "error_reason",
)  # of a file of rejects, which may come back
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


class Unusable(ValueError):
    """The file, or what was asked of it, cannot be used at all."""


@dataclass(frozen=True, kw_only=True)
class Row:
    line: int  # of the file, from 1; the first, if it has several
    cells: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Bad:
    line: int
    column: str  # empty for the row as a whole
    reason: str
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a row becomes a message."""

    program: str
    batch: str
    to_column: str
    body_column: str | None
    template: str | None
    reference_column: str | None
    own_batch: (
        bool  # it was named by the caller: then it stands before the values of the reference column, too
    )
    class_: Literal["emergency", "service", "marketing"] | None
    send_at: datetime | None
    expires_at: datetime | None
    on_doubt: Literal["resend", "hold"] | None
    topic_column: str | None = None

    def check(self, columns: Sequence[str]) -> None:
        """Raises Unusable for a column that the file does not have, or a template that cannot be filled."""
        wanted = [self.to_column, self.body_column, self.reference_column, *variables(self.template or "")]
        for column in (*wanted, self.topic_column):
            if column is not None and column not in columns:
                raise Unusable(f"there is no column {column!r}; the file has {', '.join(columns)}")


def opened(path: Path, encoding: str) -> TextIO:
    """What is not of the encoding becomes surrogates, and so a matter of its row."""
    return path.open(encoding=encoding, errors="surrogateescape", newline="")


class Table:
    """The rows below a header, of a file as `opened` gives it.

    Raises Unusable when there is no header, or none that can be one.
    """

    def __init__(self, file: TextIO, *, encoding: str, delimiter: str) -> None:
        self._encoding = encoding.removesuffix("-sig")
        self._lines = _Lines(file)
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        try:
            header = next(self._reader, None)
        except csv.Error as error:
            raise Unusable(f"the header cannot be read: {error}") from None
        if not header or self._lines.take_overlong():
            raise Unusable("the first line must name the columns")
        if not all(map(_is_sound, header)):
            raise Unusable(
                f"the header is not {self._encoding}: give the file's encoding (--encoding cp1252, utf-16)"
            )
        self.columns = [name.strip() for name in header]
        if "" in self.columns or len(set(self.columns)) != len(self.columns):
            raise Unusable(f"each column needs a name of its own: {', '.join(map(repr, self.columns))}")

    def __iter__(self) -> Iterator[Row | Bad]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Bad(line=line, column="", reason=f"{error}{self._up_to(line)}")
                continue
            finally:
                overlong = self._lines.take_overlong()
            if overlong:
                yield Bad(line=line, column="", reason=f"a line has more than {LONGEST_LINE} characters")
            elif cells:
                yield self._row(line, cells)

    def _row(self, line: int, cells: list[str]) -> Row | Bad:
        named = dict(zip(self.columns, cells, strict=False))
        if len(cells) != len(self.columns):
            reason = f"has {len(cells)} cells, and the header {len(self.columns)}{self._up_to(line)}"
            return Bad(line=line, column="", reason=reason, cells=named)
        for column, cell in named.items():
            if not _is_sound(cell):
                return Bad(line=line, column=column, reason=f"is not {self._encoding}", cells=named)
        return Row(line=line, cells=named)

    def _up_to(self, line: int) -> str:
        """Where a row ended that goes over several lines: a quote may be left open."""
        last = self._reader.line_num
        return f" (lines {line} to {last}: is a quote left open?)" if last > line else ""


class _Lines:
    """Lines of bounded length; the rest of a longer one is let go, and told by `take_overlong`."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._overlong = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        if len(line) == LONGEST_LINE and line[-1] not in "\r\n":
            self._overlong = True
            while (rest := self._text.readline(LONGEST_LINE)) and rest[-1] not in "\r\n":
                pass
            return "\n"
        return line

    def take_overlong(self) -> bool:
        found, self._overlong = self._overlong, False
        return found


def _is_sound(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def variables(template: str) -> list[str]:
    """The columns that a template names, as in `Power is out on {street}`. Raises Unusable."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise Unusable(f"the template cannot be read: {error}; {{{{ and }}}} stand for braces") from None
    for _, name, specification, conversion in parts:
        if name is not None and (not name or specification or conversion):
            raise Unusable("in a template, braces hold the name of a column and nothing else: {street}")
    return [name for _, name, _, _ in parts if name is not None]


def fill(template: str, cells: Mapping[str, str]) -> str:
    parts = string.Formatter().parse(template)
    return "".join(literal + ("" if name is None else cells[name]) for literal, name, _, _ in parts)


def message(row: Row, plan: Plan) -> Message | Bad:
    cells = {name: cell.strip() for name, cell in row.cells.items()}
    needed = [plan.to_column, plan.body_column, plan.reference_column, *variables(plan.template or "")]
    for column in needed:
        if column is not None and not cells[column]:
            return Bad(line=row.line, column=column, reason="is empty", cells=row.cells)
    if not _E164.fullmatch(cells[plan.to_column]):
        reason = f"{cells[plan.to_column][:40]!r} is not a number in E.164 form, such as +16145550123"
        return Bad(line=row.line, column=plan.to_column, reason=reason, cells=row.cells)
    reference = reference_of(cells, plan)
    if len(reference) > LONGEST_REFERENCE:
        reason = f"makes a reference of {len(reference)} characters; it may have {LONGEST_REFERENCE}"
        return Bad(line=row.line, column=plan.reference_column or "", reason=reason, cells=row.cells)
    return Message(
        program=plan.program,
        to=cells[plan.to_column],
        body=fill(plan.template, cells) if plan.template is not None else cells[plan.body_column or ""],
        reference=reference,
        class_=plan.class_,
        send_at=plan.send_at,
        expires_at=plan.expires_at,
        on_doubt=plan.on_doubt,
        topic=(cells[plan.topic_column] or None) if plan.topic_column is not None else None,
    )


def reference_of(cells: Mapping[str, str], plan: Plan) -> str:
    """The same for the same row of the same batch, whenever and in whatever order it is read."""
    if plan.reference_column is not None:
        value = cells[plan.reference_column]
        return f"{plan.batch}/{value}" if plan.own_batch else value
    content = sorted((name, cell) for name, cell in cells.items() if name not in ERROR_COLUMNS)
    digest = hashlib.sha256(json.dumps([plan.batch, content]).encode()).hexdigest()
    return f"{plan.batch[:LONGEST_BATCH]}-{digest[:32]}"


def column_of(field_name: str, plan: Plan) -> str:
    """The column that a field of Hotsite's answer came from."""
    columns: dict[str, Any] = {
        "to": plan.to_column,
        "body": plan.body_column,
        "reference": plan.reference_column,
    }
    return columns.get(field_name) or field_name
