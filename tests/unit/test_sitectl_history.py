"""`sitectl history ID`: a term, or a swap by its id."""

import json
from pathlib import Path
from typing import Any

import pytest

from sitecontrol.cli.session import Exit
from tests.unit.test_sitectl_acts import answering, call


def entry(term: int, kind: str, swap: str | None = None) -> dict[str, Any]:
    return {
        "term": term, "node": "columbus-a", "site": "columbus", "at": "2026-01-01T00:00:00Z", "kind": kind,
        "by": "anna", "reason": "work", "evidence": {"id": swap} if swap else {}, "steps": [], "durations_ms": {},
    }  # fmt: skip


TOLD = [
    entry(1, "bootstrap"),
    entry(1, "swap rolled back", "5ca1ab1e0000"),
    entry(2, "swap", "123456789012"),
    {"key": "/hotsite/test/history/0000000003", "bad": "HistoryEntry: term: no number"},
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ((), TOLD),
        (("1",), TOLD[:2]),
        (("5ca1ab1e0000",), TOLD[1:2]),
        (("123456789012",), TOLD[2:3]),
        (("7",), []),
    ],
)
def test_a_term_or_a_swap_is_found(asked: tuple[str, ...], found: list[Any], tmp_path: Path):
    with answering(history=(200, {"history": TOLD})) as agent:
        said = call(tmp_path, "history", *asked, "--json", columbus=1, denver=agent.server_port)
    assert (said.exit_code, json.loads(said.stdout)) == (Exit.DONE, found)


def test_of_a_swap_the_evidence_is_shown_and_what_names_nothing_is_a_mistake(tmp_path: Path):
    with answering(history=(200, {"history": TOLD})) as agent:
        shown = call(tmp_path, "history", "5ca1ab1e0000", columbus=1, denver=agent.server_port)
        wrong = call(tmp_path, "history", "5ca1ab1f", columbus=1, denver=agent.server_port)
    assert "swap rolled back, term 1, on this evidence:" in shown.stdout
    assert wrong.exit_code == Exit.USAGE
    assert "5ca1ab1f: no such term and no such swap" in wrong.stderr
