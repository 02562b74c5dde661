"""docs/routing.md tells every reason in the words that operators read, and every setting."""

import re
from pathlib import Path

import pytest

from dispatcher.engine.changes import PACED, ROUTED, ROUTED_BY
from dispatcher.engine.router import Why
from dispatcher.engine.routing import Reason

PAGE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()


def test_the_reasons_are_told_as_they_are():
    table = PAGE[PAGE.index("## Why not") : PAGE.index("## When no carrier")]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    assert rows == [(reason.name.lower(), reason.value) for reason in Reason]


@pytest.mark.parametrize("name", sorted(ROUTED | PACED | {f"dispatcher.{name}" for name in ROUTED_BY}))
def test_what_changes_without_touching_a_link_is_named(name):
    changing = PAGE[PAGE.index("## Changing carriers") : PAGE.index("## What is told")]
    assert f"`{name}`" in changing


@pytest.mark.parametrize("why", Why)
def test_why_texts_are_given_back_is_named(why):
    assert f"`{why}`" in PAGE
