"""docs/timings.md tells what the code says."""

from pathlib import Path

from tests.timings_page import page

PAGE = Path(__file__).parents[2] / "docs" / "timings.md"


def test_the_page_is_made_from_the_profiles_and_the_relations_as_they_are():
    assert PAGE.read_text() == page(), "python -m tests.timings_page > docs/timings.md"
