"""What agents tell afterwards: of which decisions, when, and how long a failover took."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sitecontrol import quarantine
from sitecontrol.agent.chronicle import Chronicle
from sitecontrol.agent.executor import Overtaken
from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.leadership import telling
from sitecontrol.leadership.effects import Claim, Fence, GiveUp, Promote
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.quarantine import Header
from sitecontrol.records import Deed, Phase, Swap
from tests.unit.health_scenes import settings_of
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import COLUMBUS, DENVER, WALL, at_columbus, at_denver
from tests.unit.test_audit import PREFIX, Log, begun, used


def decision(effect: Any) -> Decision:
    return Decision(lane=Lane.POSTGRES, rule="a-rule", sentence="Because.", effect=effect)


CLAIM = decision(Claim(kind="failover", evidence={}))
HEADER = Header(
    at=WALL, node=COLUMBUS, site="columbus", system_id="7", incarnation="i", term=4, leader=DENVER, timeline=3,
    leader_timeline=4, fork_lsn="0/1", end_lsn="0/2", counts={"message": 2}, compared=True, complete=True,
    error=None,
)  # fmt: skip


def test_a_fence_and_a_lead_given_up_are_told_with_their_rule_and_their_facts() -> None:
    facts = at_columbus()
    fence = telling.begun(decision(Fence(reason="no proof")), facts)
    gave_up = telling.begun(decision(GiveUp(reason="the disk takes no WAL")), facts)
    assert fence is not None
    assert gave_up is not None
    assert (fence.what, gave_up.what) == (Deed.FENCED, Deed.GAVE_UP)
    assert gave_up.reason == "the disk takes no WAL"
    assert gave_up.evidence is not None
    assert gave_up.evidence["rule"] == "a-rule"
    assert "PostgreSQL" in gave_up.evidence
    assert telling.begun(decision(Promote()), facts) is None


def test_nothing_is_told_while_nobody_leads_or_something_moves_or_etcd_is_silent() -> None:
    facts = at_columbus()
    assert telling.calm(facts)
    moving = Swap(
        id="s", from_node=COLUMBUS, to_node=DENVER, by="anna", phase=Phase.HELD, term=1, requested_at=WALL
    )
    log = begun()
    assert log.apply(log.writer().request(moving))
    for busy in (
        replace(facts, cluster=replace(facts.cluster, leader=None)),
        replace(facts, etcd_heard_at=None),
        replace(facts, cluster=replace(facts.cluster, swap=log.snapshot.swap)),
        replace(facts, pg=replace(facts.pg, open_term=None)),
    ):
        assert not telling.calm(busy)


# -- how long a failover took


def test_a_failover_is_timed_from_the_last_canary_on_phase_by_phase() -> None:
    facts = at_columbus()
    gone = replace(
        facts,
        now=100.0,
        cluster=replace(facts.cluster, leader=None),
        leader_absent_since=99.9,
        pg=replace(facts.pg, state=PgState.STANDBY, canary_at=97.5, open_term=None),
    )
    taken = telling.taking(CLAIM, gone)
    assert taken is not None
    assert telling.further(taken, replace(gone, now=100.05)) == taken
    leader = facts.leader
    term = facts.cluster.term
    assert leader is not None
    assert term is not None
    ours = replace(
        gone.cluster,
        leader=leader,
        term=replace(term, record=term.record.model_copy(update={"term": taken.term})),
    )
    led = replace(gone, cluster=ours, leader_absent_since=None)
    for now, pg in (
        (100.1, led.pg),
        (100.3, replace(led.pg, state=PgState.PRIMARY)),
        (100.45, replace(led.pg, state=PgState.PRIMARY, open_term=taken.term)),
    ):
        later = telling.further(taken, replace(led, now=now, pg=pg))
        assert later is not None
        taken = later
    assert taken.durations_ms == {"detection": 2400, "election": 200, "promotion": 200, "reopening": 150}


def test_a_claim_that_another_won_is_timed_by_nobody() -> None:
    lost = at_denver()  # columbus leads
    taken = telling.taking(CLAIM, replace(lost, leader_absent_since=lost.now))
    assert taken is not None
    assert telling.further(taken, lost) is None


# -- as written


def failed_over() -> Log:
    """Columbus has taken the lead of a term by a failover."""
    return used()


def test_the_durations_of_a_failover_go_to_its_history_once_and_the_log_still_verifies() -> None:
    log = failed_over()
    term = log.writer().term
    timed = log.writer().timed(term, {"detection": 2100, "election": 80}, WALL)
    assert timed is not None
    assert log.apply(timed)
    assert log.snapshot.history[f"{term:010d}"].record.durations_ms == {"detection": 2100, "election": 80}
    assert log.entries[-1]["what"] == "failover done"
    assert log.entries[-1]["reason"] == "detection 2100 ms, election 80 ms"
    assert log.writer().timed(term, {"detection": 1}, WALL) is None
    assert log.writer(DENVER).timed(term, {"detection": 1}, WALL) is None
    assert log.flaws == ()


def note_of(log: Log) -> Transaction:
    fence = telling.begun(decision(Fence(reason="no proof")), at_columbus())
    assert fence is not None
    return log.writer().note(fence)


def test_a_note_is_one_more_entry_and_the_log_still_verifies() -> None:
    log = failed_over()
    assert log.apply(note_of(log))
    entry = log.entries[-1]
    assert (entry["what"], entry["reason"], entry["by"]) == ("fenced", "no proof", f"agent {COLUMBUS}")
    assert entry["evidence"]["rule"] == "a-rule"
    assert log.flaws == ()


def test_a_note_that_is_late_takes_no_number_from_a_claim() -> None:
    log = failed_over()
    late = note_of(log)
    log.delete("leader")
    claim = log.writer(DENVER).claim("failover", {}, WALL + timedelta(seconds=20))
    assert not log.apply(late)  # nobody leads
    assert log.apply(claim)
    assert not log.apply(late)  # another leads
    assert log.flaws == ()


def test_a_note_waits_for_the_end_of_a_swap() -> None:
    log = failed_over()
    late = note_of(log)
    swap = Swap(
        id="s2",
        from_node=COLUMBUS,
        to_node=DENVER,
        by="anna",
        phase=Phase.REQUESTED,
        term=3,
        requested_at=WALL,
    )
    assert log.apply(log.writer().request(swap))
    assert not log.apply(late)
    assert not log.apply(note_of(log))


# -- the task


class Pen:
    """Stands in for etcd and the scribe: writes to the log in memory, and may fail to answer."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.mute = False  # what is written gets no answer

    def writer(self, _: Facts) -> Writer:
        return self.log.writer()

    async def write(self, transaction: Transaction) -> int:
        if not self.log.apply(transaction):
            raise Overtaken("something changed")
        if self.mute:
            raise EtcdUnknown("no answer")
        return 1

    async def get(self, key: str) -> Any:
        return self.log.store.get_prefix(key)


def chronicle_of(pen: Pen, folder: Path, **failover: Any) -> Chronicle:
    site = {"name": "columbus", "environment": "lab", "state_dir": folder, "secrets_dir": folder}
    settings = settings_of(site=site, failover=failover)
    scribe: Any = pen
    etcd: Any = pen
    chronicle = Chronicle(
        scribe=scribe,
        etcd=etcd,
        settings=settings,
        clock=HeldClock(),
        files=lambda: quarantine.found(folder / "quarantine"),
    )
    chronicle._prefix = PREFIX
    return chronicle


async def tell(chronicle: Chronicle) -> None:
    """One round, as `run` makes it."""
    facts = at_columbus()
    await chronicle._look_at_disk(facts)
    await chronicle._tell(lambda: facts)


async def test_what_was_begun_is_told_once_even_when_the_answer_was_lost(tmp_path: Path) -> None:
    pen = Pen(failed_over())
    chronicle = chronicle_of(pen, tmp_path)
    chronicle.began(decision(Fence(reason="no proof")), at_columbus())
    pen.mute = True
    with pytest.raises(EtcdUnknown):
        await tell(chronicle)
    pen.mute = False
    await tell(chronicle)
    await tell(chronicle)
    assert [e["what"] for e in pen.log.entries].count("fenced") == 1
    assert pen.log.flaws == ()


async def test_a_ledger_that_cannot_be_kept_keeps_nothing_from_being_told_and_tells_nothing_twice(
    tmp_path: Path,
) -> None:
    (tmp_path / "told.json").mkdir()  # nothing can be written over it
    pen = Pen(failed_over())
    before = len(pen.log.entries)
    quarantine.write(tmp_path / "quarantine", HEADER)
    chronicle = chronicle_of(pen, tmp_path)
    chronicle.began(decision(Fence(reason="no proof")), at_columbus())
    for _ in range(3):
        await tell(chronicle)
    assert sorted(e["what"] for e in pen.log.entries[before:]) == ["fenced", "rows set aside"]
    (tmp_path / "told.json").rmdir()
    await tell(chronicle)
    await tell(chronicle_of(pen, tmp_path))
    assert len(pen.log.entries) == before + 2


async def test_settings_that_changed_between_two_starts_are_told_once(tmp_path: Path) -> None:
    pen = Pen(failed_over())
    before = len(pen.log.entries)
    await tell(chronicle_of(pen, tmp_path))
    assert len(pen.log.entries) == before  # the first start
    for _ in range(2):
        await tell(chronicle_of(pen, tmp_path, max_swaps_per_hour=7))
    told = pen.log.entries[before:]
    assert [e["what"] for e in told] == ["settings changed"]
    assert told[0]["evidence"]["failover.max_swaps_per_hour"].endswith("7 now")


async def test_a_file_of_set_aside_rows_is_told_when_it_is_made_and_when_somebody_settled_it(
    tmp_path: Path,
) -> None:
    pen = Pen(failed_over())
    before = len(pen.log.entries)
    quarantine.write(tmp_path / "quarantine", HEADER)
    for _ in range(2):  # an agent that was restarted does not tell it again
        await tell(chronicle_of(pen, tmp_path))
    quarantine.settle(quarantine.found(tmp_path / "quarantine")[0], "anna")
    for _ in range(2):
        await tell(chronicle_of(pen, tmp_path))
    made, settled = pen.log.entries[before:]
    assert (made["what"], made["at"], made["evidence"]) == (
        "rows set aside", WALL.isoformat().replace("+00:00", "Z"), {"rows of message": "2"},
    )  # fmt: skip
    assert (settled["what"], settled["by"]) == ("set-aside rows settled", "anna")
