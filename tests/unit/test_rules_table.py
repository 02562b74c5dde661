"""docs/simulation.md tells of each safety rule what breaks without it: the mutations and tests that it names exist."""

import re
from pathlib import Path

from tests.simulation.mutations import MUTATIONS
from tests.simulation.mutations_adopting import ADOPTING
from tests.simulation.mutations_failback import BACK
from tests.simulation.mutations_health import HEALTH
from tests.simulation.mutations_proof import OF_FOUR_NODES, PROOF
from tests.simulation.mutations_sending import SENDING

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "simulation.md"
KNOWN = {m.name for m in (*MUTATIONS, *PROOF, *OF_FOUR_NODES, *SENDING, *HEALTH, *BACK, *ADOPTING)}


def rows() -> dict[str, str]:
    """Rule → what breaks, without the rows that are headings."""
    section = PAGE.read_text().partition("## Each rule, and what breaks without it")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {rule.strip(): breaks.strip() for rule, breaks in cells[2:] if not rule.strip().startswith("**")}


def mutations(breaks: str) -> set[str]:
    return set(re.findall(r"\*(.+?)\*", breaks))


def named_tests(breaks: str) -> set[tuple[str, str]]:
    return set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", breaks))


def test_every_rule_has_something_that_breaks():
    found = rows()
    assert len(found) > 40
    assert [rule for rule, breaks in found.items() if not mutations(breaks) and not named_tests(breaks)] == []


def test_every_mutation_is_told_of_and_no_other():
    assert {name for breaks in rows().values() for name in mutations(breaks)} == KNOWN


def test_every_test_that_is_named_is_there():
    named = {test for breaks in rows().values() for test in named_tests(breaks)}
    assert len(named) > 30
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
    ]
    assert missing == []
