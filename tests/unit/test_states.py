"""The table of a segment's states: whole, reachable, and the page that is made out of it."""

import re
from importlib import resources
from pathlib import Path

import pytest

from dispatcher.model import State
from dispatcher.states import BY_NAME, FINAL, TABLE, WAITING, IllegalTransition, What
from tests import states_page

MIGRATIONS = ("0011_transitions.pre.sql", "0013_received.pre.sql", "0021_order_of_the_queue.pre.sql")


def test_each_row_has_a_name_of_its_own_and_each_name_a_row() -> None:
    assert len(BY_NAME) == len(TABLE) == len(What)


def test_every_state_can_be_reached_and_only_the_final_ones_are_never_left() -> None:
    reached = {after for row in TABLE for after in row.after}
    left = {before for row in TABLE for before in row.before}
    assert reached == set(State)
    assert set(State) - left == FINAL


def test_what_may_have_left_is_never_canceled_or_expired() -> None:
    for row in TABLE:
        if State.CANCELED in row.after or row.what is What.TOO_LATE:
            assert row.before <= WAITING


def test_a_way_that_is_not_in_the_table_is_refused() -> None:
    BY_NAME[What.CLAIMED].check(State.QUEUED, State.SUBMITTING)
    BY_NAME[What.ACCEPTED].check(None, State.QUEUED)
    BY_NAME[What.TAKEN_TOO].check(State.DELIVERED, State.DELIVERED)
    for what, before, after in (
        (What.CLAIMED, State.SUBMITTED, State.SUBMITTING),
        (What.ACCEPTED, State.QUEUED, State.QUEUED),
        (What.TAKEN_TOO, State.QUEUED, State.SUBMITTED),
        (What.RECEIPT, State.DELIVERED, State.UNDELIVERED),
    ):
        with pytest.raises(IllegalTransition, match=f"{what}: no way from {before} to {after}"):
            BY_NAME[what].check(before, after)


def test_the_database_has_the_same_table() -> None:
    folder = resources.files("dispatcher.sql") / "migrations"
    sql = "".join((folder / name).read_text() for name in MIGRATIONS)
    rows = re.findall(r"\('(\w+)', '\{(.*?)\}', '\{(.*?)\}', (true|false),\s+'((?:[^']|'')*)'\)", sql)
    stored = {
        what: (
            set(filter(None, before.split(", "))),
            set(filter(None, after.split(", "))),
            by == "true",
            said,
        )
        for what, before, after, by, said in rows
    }
    assert stored == {
        row.what: (set(row.before), set(row.after), row.by_carrier, row.sentence.replace("'", "''"))
        for row in TABLE
    }


def test_the_page_is_the_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "states.md"
    assert page.read_text() == states_page.page(), "python -m tests.states_page > docs/states.md"
