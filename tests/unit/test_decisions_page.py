"""docs/decisions.md tells what the tables say, and its diagrams show every row that does something."""

from pathlib import Path

from sitecontrol.leadership.decide import TABLE
from sitecontrol.leadership.table import Lane
from tests.decisions_page import edges, page, sample_effect

PAGE = Path(__file__).parents[2] / "docs" / "decisions.md"


def test_the_page_is_made_from_the_tables_as_they_are():
    assert PAGE.read_text() == page(), "python -m tests.decisions_page > docs/decisions.md"


def test_every_row_for_postgresql_that_does_something_is_taken_in_one_of_the_situations_drawn():
    drawn = {rule for moves in edges().values() for rules in moves.values() for rule in rules}
    assert drawn == {row.name for row in TABLE[Lane.POSTGRES] if sample_effect(row) is not None}
