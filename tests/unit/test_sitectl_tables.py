"""What `sitectl` shows in 80 columns, as in a pipe or a CI job: names and dates whole, nothing left out in silence."""

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from sitecontrol.agent.state import AgentState
from sitecontrol.cli.audit import audit_lines, verified
from sitecontrol.cli.tables import history_lines, node_lines, status_lines, unheard
from sitecontrol.records import SWAP_PHASES, Deed, Desired, Member
from tests.unit.leadership_facts import at_columbus, cluster, entry, member

NOT_STREAMING = "PostgreSQL does not stream from the leader"


def shown(what: RenderableType, *, width: int = 80) -> list[str]:
    console = Console(width=width, file=StringIO())
    console.print(what)
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined] # a StringIO
    assert all(len(line) <= width for line in lines), lines
    return [line.rstrip() for line in lines]


def told(**change: Any) -> dict[str, Any]:
    return AgentState(
        prefix="/hotsite/test/", facts=at_columbus(cluster=cluster(**change)), version="1"
    ).cluster()


def members(*records: Member) -> dict[str, Any]:
    return {record.node: entry(record) for record in records}


# -- status


def test_the_status_fits_in_80_columns_with_names_roles_and_headers_whole() -> None:
    lines = shown(status_lines(told()))
    assert "live site columbus  ·  term 3  ·  durability two-site" in lines
    header = next(line for line in lines if line.startswith("node"))
    assert re.split(r" {2,}", header) == [
        "node",
        "site",
        "role",
        "in step",
        "ready",
        "timeline",
        "replay lag",
    ]
    rows = [re.split(r" {2,}", line) for line in lines]
    assert ["columbus-a", "columbus", "leader", "-", "yes", "1", "0 B"] in rows
    assert ["denver-a", "denver", "standby", "yes", "yes", "1", "0 B"] in rows


def test_an_agent_that_does_not_reach_etcd_is_not_taken_at_its_word() -> None:
    old = told() | {"etcd_reached": False}
    assert "an old picture: columbus-a does not reach etcd, nor does any other" in shown(status_lines(old))


def test_what_is_in_the_way_stands_below_the_table_by_its_node() -> None:
    records = members(member("columbus-a"), member("denver-a", ready=False, reasons=(NOT_STREAMING,)))
    assert f"denver-a: {NOT_STREAMING}" in shown(status_lines(told(members=records)))


def test_a_node_whose_record_is_gone_is_shown_as_not_heard() -> None:
    document = told(members=members(member("columbus-a")))
    assert document["nodes"] == [
        {"node": "columbus-a", "site": "columbus"},
        {"node": "denver-a", "site": "denver"},
    ]
    lines = shown(status_lines(document))
    assert any(line.startswith("denver-a    denver    unknown") for line in lines)
    assert "denver-a: its agent is not heard" in lines


def test_an_agent_that_tells_no_nodes_is_helped_out_by_our_own_settings() -> None:
    document = told(members=members(member("columbus-a")))
    del document["nodes"]
    assert unheard(document, {"columbus-a": "columbus", "denver-a": "denver"}) == {"denver-a": "denver"}


def test_while_nobody_leads_no_durability_is_promised() -> None:
    lines = shown(status_lines(told(leader=None)))
    assert "live site none  ·  term 3  ·  durability unknown while nobody leads" in lines
    assert not any("two-site" in line for line in lines)


def test_who_paused_and_why_is_shown_and_what_ends_it_when_nobody_leads() -> None:
    paused = entry(Desired(paused=True, paused_by="ann", paused_reason="storm"))
    lines = shown(status_lines(told(desired=paused)))
    assert "automatic swaps paused by ann: storm" in lines
    assert not any("resume" in line for line in lines)
    text = " ".join(shown(status_lines(told(desired=paused, leader=None))))
    assert (
        "nobody leads, and automatic swaps are paused: `sitectl resume` lets a node that is in step" in text
    )


# -- history

DURATIONS = {phase.value: 1000 + n for n, phase in enumerate(SWAP_PHASES[1:])}
ENTRIES = [
    {"term": 1, "at": "2026-11-26T02:03:04+00:00", "kind": "election", "site": "columbus", "by": "columbus-a",
     "reason": "the lease of the leader ran out and its canary is not seen any more", "durations_ms": {}},
    {"term": 12, "at": "2026-11-26T02:13:14+00:00", "kind": "swap rolled back", "site": "denver", "by": "operator",
     "reason": "planned work on the power supply", "durations_ms": DURATIONS},
]  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_history_keeps_dates_and_sites_whole_and_each_phase_with_its_number(width: int) -> None:
    lines = shown(history_lines(ENTRIES), width=width)
    for whole in ("2026-11-26 02:03:04", "2026-11-26 02:13:14", "columbus", "election", "columbus-a"):
        assert any(whole in line for line in lines), whole
    for name, ms in DURATIONS.items():
        assert any(f"{name} {ms}" in line for line in lines), name
    assert any(re.match(r"term +when \(UTC\) +what +live site +by$", line) for line in lines)


LONG = (
    "longer than 30 s in phase requested (failover.swap_prepare_within); "
    + "denver-a lags, " * 20
    + "\u90b8" * 100
)
KINDS = ("bootstrap", "failover", "swap", "swap rolled back", "forced")


def together(lines: list[str]) -> str:
    return "".join("".join(lines).split())


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_not_a_letter_of_a_reason_or_of_a_name_is_lost(width: int) -> None:
    entries = [
        ENTRIES[1]
        | {"kind": kind, "by": "health, agent columbus-a", "reason": LONG}
        | {"evidence": {"id": "0123456789ab"}}
        for kind in KINDS
    ]
    lines = shown(history_lines(entries), width=width)
    whole = together(lines)
    assert whole.count(together([LONG, "swap 0123456789ab"])) == len(KINDS)
    assert whole.count(together(["health, agent columbus-a"])) == len(KINDS)
    if width >= 80:
        rows = [re.split(r" {2,}", line) for line in lines if "2026" in line]
        assert [row[2] for row in rows] == list(KINDS)
        assert all(row[4] == "health, agent columbus-a" for row in rows)
        assert all(line.startswith("    ") for line in lines if "failover.swap_prepare_within" in line)


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_not_a_letter_of_the_audit_log_is_lost(width: int) -> None:
    entries = [LOG["audit"][0] | {"what": deed.value, "reason": LONG} for deed in Deed]
    lines = shown(audit_lines(LOG | {"audit": entries}), width=width)
    whole = together(lines)
    for said in (LONG, LOG["audit"][0]["about"]):
        assert whole.count(together([said])) == len(entries)
    for deed in Deed:
        assert together([deed.value]) in whole
    if width >= 120:
        assert [re.split(r" {2,}", line)[2] for line in lines if "2026" in line] == [
            deed.value for deed in Deed
        ]


def test_an_entry_that_does_not_decode_is_told_by_its_key() -> None:
    bad = {"key": "/hotsite/test/history/0000000007", "bad": "HistoryEntry: term: no number"}
    said = " ".join(" ".join(shown(history_lines([ENTRIES[0], bad]))).split())
    assert "'/hotsite/test/history/0000000007' is not believed: 'HistoryEntry: term: no number'" in said


def test_a_column_that_is_empty_in_every_row_is_left_out() -> None:
    lines = shown(history_lines([e | {"by": ""} for e in ENTRIES]))
    assert not any(re.search(r"\bby\b", line) for line in lines)


def test_the_evidence_of_one_term_is_shown_when_asked_for() -> None:
    lines = shown(
        history_lines([ENTRIES[0] | {"evidence": {"rule": "claim", "sentence": "[/]" * 60}}], evidence=True)
    )
    assert any(line.split() == ["rule", "claim"] for line in lines)


# -- audit

LOG: dict[str, Any] = {
    "audit": [
        {
            "number": number,
            "at": "2026-01-02T03:04:05.000000Z",
            "what": "swap handed over",
            "about": "columbus-a to denver-a, swap 0123456789ab",
            "by": "anna [/]",
            "source": "2001:db8:1234:5678:9abc:def0:1234:5678",
            "through": "columbus-a",
            "reason": "the building's power is worked at",
            "term": 2,
            "seals": {"history/0000000002": "0" * 64},
        }
        for number in (1, 12)
    ],
    "newest": {"number": 12, "digest": "0" * 64},
    "flaws": [],
    "older": [],
}


def test_the_audit_log_fits_in_80_columns_with_numbers_and_dates_whole() -> None:
    lines = shown(audit_lines(LOG))
    assert next(line for line in lines if "no." in line).split() == [
        "no.", "when", "(UTC)", "what", "by", "from",
    ]  # fmt: skip
    assert [line.split()[:3] for line in lines if "2026" in line] == [
        ["1", "2026-01-02", "03:04:05"],
        ["12", "2026-01-02", "03:04:05"],
    ]


def test_a_log_that_does_not_verify_says_so_below_its_entries() -> None:
    flaw = {"key": "audit/0000000002", "what": "is missing"}
    lines = shown(audit_lines(LOG | {"flaws": [flaw, flaw]}))
    assert "the audit log does not verify: audit/0000000002 is missing" in " ".join(lines)


def test_a_log_that_verifies_tells_the_digest_to_compare_another_time() -> None:
    assert verified(LOG) == (
        "All 12 entries, and all that they seal, are as they were written. The newest one's digest: "
        + "0" * 64
    )
    assert verified(LOG | {"newest": None}) == "There is no entry yet."


# -- node list


def test_the_list_of_nodes_is_whole_in_80_columns_and_a_silent_agent_is_told_below() -> None:
    row = {
        "node": "columbus-a", "site": "columbus", "reached": True, "role": "starting", "ready": True,
        "postgres": {"state": "unusable", "timeline": 12}, "decision": {"rule": "canary-holds-back"},
    }  # fmt: skip
    lines = shown(node_lines([row, {"node": "denver-a", "site": "denver", "reached": False}]))
    rows = [re.split(r" {2,}", line) for line in lines]
    assert ["columbus-a", "columbus", "starting", "unusable", "12", "yes", "canary-holds-back"] in rows
    assert ["denver-a", "denver", "-", "-", "-", "-", "-"] in rows
    assert "denver-a: its agent is silent" in lines
