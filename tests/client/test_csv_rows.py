"""From a CSV to messages: every broken row is told, and no good one is lost."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from hotsite_client.csv_rows import LONGEST_LINE, Bad, Plan, Row, Table, Unusable, message, opened

HEADER = b"to,street,eta\n"
GOOD = b"+16145550123,Elm St,6 pm\n"


def plan(**changed: Any) -> Plan:
    values: dict[str, Any] = {
        "program": "outages", "batch": "storm", "to_column": "to", "body_column": None,
        "template": "Power is out on {street}. Back by {eta}.", "reference_column": None, "own_batch": True,
        "class_": None, "send_at": None, "expires_at": None, "on_doubt": None,
    }  # fmt: skip
    return Plan(**{**values, **changed})


def table(content: bytes, encoding: str = "utf-8-sig", delimiter: str = ",") -> Table:
    text = io.TextIOWrapper(io.BytesIO(content), encoding, errors="surrogateescape", newline="")
    return Table(text, encoding=encoding, delimiter=delimiter)


def rows(content: bytes, encoding: str = "utf-8-sig") -> list[Row | Bad]:
    return list(table(content, encoding))


def made(row: bytes, **changed: Any) -> Any:
    (read,) = rows(HEADER + row)
    assert isinstance(read, Row)
    return message(read, plan(**changed))


def test_a_template_is_filled_from_the_columns():
    assert made(GOOD).body == "Power is out on Elm St. Back by 6 pm."
    assert made(GOOD, template="{{{street}}}").body == "{Elm St}"
    assert made(GOOD, template=None, body_column="street").body == "Elm St"


def test_a_column_may_have_the_topics():
    assert made(GOOD, topic_column="street").topic == "Elm St"
    assert made(GOOD).topic is None
    assert made(b"+16145550123,Elm St,\n", template="Out on {street}.", topic_column="eta").topic is None


def test_spaces_around_a_cell_do_not_count():
    assert made(b" +16145550123 , Elm St,6 pm\n") == made(GOOD)


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (b"+16145550123,,6 pm\n", "street", "is empty"),
        (b",Elm St,6 pm\n", "to", "is empty"),
        (b"614-555-0123,Elm St,6 pm\n", "to", "'614-555-0123' is not a number in E.164 form"),
        ("+१६१४५५५०१२३,Elm St,6 pm\n".encode(), "to", "is not a number"),
    ],
)
def test_a_bad_cell_is_told_with_its_column(row: bytes, column: str, reason: str):
    bad = made(row)
    assert (bad.line, bad.column) == (2, column)
    assert reason in bad.reason


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        (b"+16145550123,Elm St\n", "", "has 2 cells, and the header 3"),
        (b"+16145550123,Elm St,6 pm,more\n", "", "has 4 cells"),
        (b'+16145550123,"Elm" St,6 pm\n', "", "expected after"),
        (b"+16145550123,Stra\xdfe,6 pm\n", "street", "is not utf-8"),
        (b"x" * (LONGEST_LINE * 3) + b"\n", "", f"more than {LONGEST_LINE} characters"),
        (b"+16145550123," + b"x" * 150_000 + b",6 pm\n", "", "field larger than field limit"),
        (b'+16145550123,"Elm\nSt",6 pm,\n', "", "(lines 2 to 3: is a quote left open?)"),
    ],
)
def test_a_broken_row_is_told_and_the_next_ones_are_read(row: bytes, column: str, reason: str):
    bad, good = rows(HEADER + row + GOOD)
    assert isinstance(bad, Bad)
    assert (bad.line, bad.column) == (2, column)
    assert reason in bad.reason
    assert isinstance(good, Row)
    assert good.line == 2 + row.count(b"\n")


def test_a_quote_that_is_never_closed_is_told_with_the_lines_it_swallowed():
    *_, last = rows(HEADER + GOOD + b'+16145550123,"Elm St,6 pm\n' + GOOD)
    assert isinstance(last, Bad)
    assert (last.line, last.reason) == (3, "unexpected end of data (lines 3 to 4: is a quote left open?)")


def test_empty_lines_are_no_rows_and_line_ends_may_be_of_any_kind():
    assert len(rows(HEADER + b"\n" + GOOD + b"\r\n" + GOOD.rstrip())) == 2
    assert len(rows((HEADER + GOOD + GOOD).replace(b"\n", b"\r"))) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_other_encodings_are_read_when_named(encoding: str):
    (row,) = rows("to,street,eta\n+16145550123,Straße,6 pm\n".encode(encoding), encoding)
    assert isinstance(row, Row)
    assert row.cells["street"] == "Straße"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must name the columns"),
        (b"\n", "must name the columns"),
        (b"x" * (LONGEST_LINE + 1), "must name the columns"),
        (b"to,to\n", "a name of its own"),
        (b"to,,eta\n", "a name of its own"),
        (b"\xff\xfet\0o\0", "is not utf-8:"),
        (b'"to\n', "cannot be read"),
    ],
)
def test_a_file_without_a_sound_header_is_refused(content: bytes, reason: str):
    with pytest.raises(Unusable, match=reason):
        table(content)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"to_column": "phone"}, "no column 'phone'; the file has to, street, eta"),
        ({"template": "{road}"}, "no column 'road'"),
        ({"template": "{to.x}"}, "no column 'to.x'"),
        ({"template": "{to!r}"}, "nothing else"),
        ({"template": "{}"}, "nothing else"),
        ({"template": "{to"}, "cannot be read"),
        ({"template": None, "body_column": "text"}, "no column 'text'"),
        ({"reference_column": "id"}, "no column 'id'"),
    ],
)
def test_a_plan_that_does_not_fit_the_file_is_refused(changed: dict[str, Any], reason: str):
    with pytest.raises(Unusable, match=reason):
        plan(**changed).check(table(HEADER).columns)


def test_a_row_has_the_same_reference_whenever_and_wherever_it_is_read():
    (other,) = rows(b"street,error_line,to,eta\nElm St,7,+16145550123,6 pm\n")
    assert isinstance(other, Row)
    assert message(other, plan()).reference == made(GOOD).reference
    assert made(GOOD).reference.startswith("storm-")
    assert made(GOOD, template="{street}").reference == made(GOOD).reference


def test_another_batch_and_another_row_have_other_references():
    other = made(b"+16145550123,Elm St,7 pm\n")
    assert len({made(GOOD).reference, made(GOOD, batch="storm 2").reference, other.reference}) == 3
    long = [made(GOOD, batch="x" * 60 + end).reference for end in ("1.csv", "2.csv")]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 100


def test_a_column_may_name_the_rows():
    assert made(GOOD, reference_column="street").reference == "storm/Elm St"
    assert made(GOOD, reference_column="street", own_batch=False).reference == "Elm St"
    long = made(b"+16145550123," + b"x" * 101 + b",6 pm\n", reference_column="street", own_batch=False)
    assert "makes a reference of 101 characters" in long.reason


def test_a_file_is_never_held_as_a_whole(tmp_path: Path):
    """A line without an end is read away piece by piece."""
    path = tmp_path / "one.csv"
    with path.open("wb") as file:
        file.write(HEADER)
        file.truncate(100_000_000)
    tracemalloc.start()
    with opened(path, "utf-8-sig") as text:
        (bad,) = Table(text, encoding="utf-8-sig", delimiter=",")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "characters" in bad.reason
    assert most < 20_000_000
