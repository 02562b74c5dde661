"""Reading a campaign's list: encodings, quotes, delimiters, lines without end, and what is told of a bad row."""

import csv
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.campaigns.lists import ListReader, Reading, name_of, plain_number
from dispatcher.campaigns.model import BadRow, Text
from dispatcher.campaigns.records import (
    DELIMITERS,
    MOST_BYTES,
    MOST_LINES,
    Charset,
    Flaw,
    Record,
    RecordReader,
)
from dispatcher.campaigns.templates import Faulty, Template
from dispatcher.campaigns.variables import Type, Variable

NUMBER = "+16145550123"
TEMPLATE = Template(
    "Dear {name}, back by {eta}.", [Variable(name="name"), Variable(name="eta", type=Type.TIME)]
)
HEADER = "to,name,eta\n"
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufffd"), max_size=8)


def records(data: bytes, *, size: int = 0, **options: object) -> list[Record | Flaw]:
    reader = RecordReader(**options)  # type: ignore[arg-type]
    step = size or len(data) or 1
    found = [one for at in range(0, len(data), step) for one in reader.feed(data[at : at + step])]
    return found + list(reader.end())


def rows(data: str | bytes, template: Template = TEMPLATE, **options: object) -> list[Text | BadRow]:
    reader = ListReader(template, Reading(**options))  # type: ignore[arg-type]
    return [*reader.feed(data.encode() if isinstance(data, str) else data), *reader.end()]


def refused(data: str | bytes, template: Template = TEMPLATE, **options: object) -> dict[str, str]:
    with pytest.raises(Faulty) as faulty:
        rows(data, template, **options)
    return {fault.field: fault.message for fault in faulty.value.faults}


# -- records


@given(
    st.lists(st.lists(CELL, min_size=2, max_size=4), max_size=6),
    st.sampled_from(DELIMITERS),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.integers(1, 40),
)
def test_what_a_csv_writer_writes_is_read_however_it_is_cut_into_chunks(table, delimiter, end, codec, size):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(table)
    read = records(file.getvalue().encode(codec), size=size, delimiter=delimiter)
    assert [one.cells for one in read if isinstance(one, Record)] == table


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_records_and_flaws_in_the_order_of_lines_whatever_the_chunks(data, size):
    read = records(data, size=size)
    assert read == records(data)
    lines = [one.line for one in read]
    assert lines == sorted(set(lines))


@given(
    st.lists(
        st.sampled_from(["a,b\n", 'a,"b\n', '"a",b\n', 'a","b"\n', '"\n', '""\n', 'x"y,z\n']),
        min_size=1,
        max_size=12,
    )
)
def test_no_line_is_lost_to_a_quote_that_is_not_its_own(lines):
    """Each line is in exactly one record or flaw: those between two numbers belong to the record of the first."""
    read = records("".join(lines).encode(), delimiter=",")
    assert read[0].line == 1
    for one, following in zip(read, [*read[1:], None], strict=True):
        end = following.line if following is not None else len(lines) + 1
        if isinstance(one, Flaw):
            assert end == one.line + 1


def test_a_quote_that_is_not_closed_takes_its_own_line_and_no_other():
    data = b'a,b\n1,"open\n' + b"".join(b"%d,x\n" % n for n in range(200))
    flaw, *others = records(data)[1:]
    assert flaw == Flaw(2, 2, "opens a quote that is not closed")
    assert others == [Record(n + 3, [str(n), "x"]) for n in range(200)]


def test_a_quoted_cell_may_have_line_breaks_and_the_record_is_named_by_its_first_line():
    assert records(b'a,b\n"1\r\n2",x\r\n3,y\n') == [
        Record(1, ["a", "b"]),
        Record(2, ["1\n2", "x"]),
        Record(4, ["3", "y"]),
    ]


def test_so_many_lines_a_quoted_cell_has_at_most():
    lines = '"' + "\n" * (MOST_LINES - 1) + '"'
    assert records(f"a,b\n{lines},1\n".encode())[1] == Record(2, [lines[1:-1], "1"])
    assert isinstance(records(f'a,b\n"\n{lines[1:]},1\n'.encode())[1], Flaw)


def test_a_line_without_end_is_told_with_its_place_and_reading_goes_on_in_constant_memory():
    reader = RecordReader()
    list(reader.feed(b"a,b,c\n1,2,"))
    chunk = b"x" * 1_000_000
    tracemalloc.start()
    for _ in range(1_000):
        assert list(reader.feed(chunk)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    flaw, after = reader.feed(b"\n4,5,6\n")
    reason = f"the line has 1000000004 bytes, and at most {MOST_BYTES} are taken"
    assert (flaw, after) == (Flaw(2, 3, reason), Record(3, ["4", "5", "6"]))


def test_a_line_without_end_in_utf_16_is_bounded_too():
    data = "a,b\n1,".encode("utf-16") + "x".encode("utf-16-le") * 200_000 + "\n2,3\n".encode("utf-16-le")
    _, flaw, after = records(data, size=1_001)
    assert (flaw.line, flaw.column, after) == (2, 2, Record(3, ["2", "3"]))


# -- headers


def test_columns_are_found_by_name_in_any_order_and_dress():
    [text] = rows(f'"ETA ",Extra,Name, To \n17:00,?,Ann,{NUMBER}\n')
    assert text == Text(2, NUMBER, "Dear Ann, back by 5 pm.", text.encoding, 1)


def test_columns_that_nobody_needs_are_told():
    reader = ListReader(TEMPLATE, Reading())
    list(reader.feed(b"to,name,eta,Meter No.\n"))
    assert reader.ignored == ("Meter No.",)


def test_every_missing_column_and_every_one_that_is_there_twice_is_named():
    assert refused("phone,Nam,eta,ETA\n") == {
        "name": "is no column of this list; did you mean nam?",
        "to": "is no column of this list; it has phone, Nam, eta, ETA",
        "eta": "is the name of 2 columns",
    }


def test_the_column_of_numbers_may_have_another_name():
    assert isinstance(
        rows(f"Phone Number,name,eta\n{NUMBER},A,17:00\n", number_column="phone_number")[0], Text
    )


def test_a_column_has_the_topics_where_one_is_named():
    header = f"to,name,eta,Outage Id\n{NUMBER},A,17:00,"
    assert rows(f"{header}17\n", topic_column="outage_id")[0].topic == "17"
    assert rows(f"{header}\n", topic_column="outage_id")[0].topic is None
    assert rows(f"{header}17\n")[0].topic is None


def test_a_topic_that_is_too_long_is_a_bad_cell():
    [bad] = rows(f"to,name,eta,outage\n{NUMBER},A,17:00,{'x' * 101}\n", topic_column="outage")
    assert (bad.line, bad.column) == (2, "outage")


def test_a_column_of_topics_that_is_not_there_is_named():
    assert set(refused("to,name,eta\n", topic_column="outage")) == {"outage"}


@pytest.mark.parametrize("data", ["", "\ufeff", "\n\n", ",,\n"])
def test_a_list_without_a_header_is_refused(data):
    assert refused(data)[""].startswith("the list is empty")


def test_a_header_that_cannot_be_read_is_refused_with_its_line():
    assert refused('\nto,"name\n')[""] == "the header, in line 2: opens a quote that is not closed"


def test_utf_16_without_a_mark_is_no_list():
    assert "to" in refused(HEADER.encode("utf-16-le"))


def test_a_column_with_a_default_may_be_missing():
    template = Template("Dear {name}.", [Variable(name="name", default="customer")])
    [text] = rows(f"to\n{NUMBER}\n", template)
    assert text.body == "Dear customer."


# -- rows

NO_NUMBER = "is not a telephone number in E.164 form, such as +16145550123"
AFTER_A_QUOTE = "has characters after a closing quote; a quote inside a cell is written twice"
GOOD = f"{NUMBER},Ann,17:00\n"


@pytest.mark.parametrize(
    ("row", "bad"),
    [
        ("6145550123,A,17:00", ("to", f"{NO_NUMBER}; did you mean +16145550123?", "6145550123")),
        (",A,17:00", ("to", "must not be empty", "")),
        ("1.61456E+10,A,17:00", ("to", NO_NUMBER, "1.61456E+10")),
        (f"{NUMBER},,17:00", ("name", "must not be empty", "")),
        (f"{NUMBER},A,soon", ("eta", "is not a time of day such as 17:30 or 5:30 pm", "soon")),
        (f"{NUMBER},A", ("eta", "the row has 2 cells, and the header 3", "")),
        (f"{NUMBER},A,17:00,x", ("4", "the row has 4 cells, and the header 3", "")),
        (f"{NUMBER},A\0b,17:00", ("name", "holds a NUL at index 1", "A\0b")),
        (f'{NUMBER},"A"b,17:00', ("name", AFTER_A_QUOTE, "")),
        (f"{NUMBER},A\rB,17:00", ("", "has a carriage return in the middle of a line", "")),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_line_column_and_reason_and_the_others_go_on(row, bad):
    before, told, after = rows(f"{HEADER}{GOOD}{row}\n{GOOD}")
    assert isinstance(before, Text)
    assert isinstance(after, Text)
    column, reason, value = bad
    assert (told.line, told.reason, told.value) == (3, reason, value)
    assert told.column == column or not column


def test_bytes_of_another_encoding_spoil_their_own_row_only():
    data = HEADER.encode() + f"{NUMBER},Zoë,17:00\n".encode("cp1252") + GOOD.encode()
    bad, good = rows(data)
    assert (bad.line, bad.column, bad.reason) == (
        2,
        "name",
        "holds what is not of the list's encoding at index 2",
    )
    assert isinstance(good, Text)


def test_windows_1252_is_read_when_it_is_declared():
    data = HEADER.encode() + f"{NUMBER},Zoë €,17:00\n".encode("cp1252")
    [text] = rows(data, charset=Charset.WINDOWS_1252)
    assert text.body.startswith("Dear Zoë €,")


def test_a_text_of_too_many_segments_is_a_bad_row():
    template = Template("{a}{b}{c}", [Variable(name=n, max_length=500, default="") for n in "abc"])
    [bad] = rows(f"to,a,b,c\n{NUMBER},{'ş' * 500},{'ş' * 500},\n", template)
    assert (bad.column, bad.reason[:29]) == ("", "its text makes 15 segments, a")


def test_empty_lines_and_empty_rows_are_counted_and_nothing_else():
    reader = ListReader(TEMPLATE, Reading())
    read = [*reader.feed(f"{HEADER}\n{GOOD},,\r\n\n{GOOD}".encode()), *reader.end()]
    assert [row.line for row in read] == [3, 6]
    assert reader.blank_lines == 3


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        ("(614) 555-0123", NUMBER), ("614.555.0123", NUMBER), ("1-614-555-0123", NUMBER), ("+1 614 555 0123", NUMBER),
        ("555-0123", "555-0123"), ("+44 20 7946 0123", "+442079460123"), ("n/a", "n/a"), ("٦١٤٥٥٥٠١٢٣", "٦١٤٥٥٥٠١٢٣"),
    ],
)  # fmt: skip
def test_north_american_numbers_are_read_as_people_write_them_when_the_list_says_so(given_, read):
    assert plain_number(given_, north_american=True) == read


def test_without_that_only_dress_is_taken_off():
    assert plain_number("+1 (614) 555-0123", north_american=False) == NUMBER
    assert plain_number("614 555 0123", north_american=False) == "614 555 0123"


@given(st.text(max_size=20))
def test_a_columns_name_is_found_again_under_its_own_name(cell):
    assert name_of(name_of(cell)) == name_of(cell)


@given(st.binary(max_size=300))
def test_whatever_follows_the_header_each_line_is_told_at_most_once(data):
    read = rows(HEADER.encode() + data)
    lines = [row.line for row in read]
    assert lines == sorted(set(lines))
