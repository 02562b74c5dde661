"""What an agent tells others about the standbys that follow it, and about the row that holds."""

from dataclasses import replace
from io import StringIO
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from sitecontrol.agent.metrics import AgentCollector
from sitecontrol.agent.monitor import Monitor, Running
from sitecontrol.agent.state import AgentState
from sitecontrol.cli.tables import status_lines
from sitecontrol.leadership.decide import TABLE, decide
from sitecontrol.leadership.effects import Claim
from sitecontrol.leadership.facts import Facts, PgState, StandbyFacts
from sitecontrol.leadership.table import Lane
from sitecontrol.records import HistoryEntry
from sitecontrol.settings import FailoverSettings
from sitecontrol.snapshot import Bad
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import COLUMBUS, DENVER, at_columbus, at_denver, cluster, primary, standby

BEHIND = StandbyFacts(
    name=DENVER,
    streaming=True,
    flush_lsn=900,
    replay_lsn=700,
    moved_at=99.0,
    flush_lag_s=1.25,
    replay_lag_s=2.5,
)


def state(facts: Facts) -> AgentState:
    told = AgentState(prefix="/p/", facts=facts, version="1")
    told.decisions = {lane: decide(lane, facts) for lane in Lane}
    return told


def metrics_of(told: AgentState) -> list[str]:
    registry = CollectorRegistry()
    registry.register(AgentCollector(told))
    return generate_latest(registry).decode().splitlines()


# -- an etcd that was made anew


def test_an_etcd_of_another_cluster_is_told_with_its_cure_when_no_other_is_reached() -> None:
    gone = at_columbus(etcd_heard_at=90.0)
    for facts, reasons in ((gone, ["made anew: start again"]), (at_columbus(), [])):
        told = state(facts)
        assert told.serving
        told.strangers = lambda: ("made anew: start again",)
        assert told.reasons == reasons


# -- how far a standby is behind


def test_a_leader_tells_how_far_each_standby_is_behind_in_bytes_and_in_seconds() -> None:
    told = state(at_columbus(pg=primary(standbys=(BEHIND,))))
    assert told.status()["postgres"]["standbys"] == [
        {
            "name": DENVER,
            "streaming": True,
            "lag_bytes": 100,
            "lag_s": 1.25,
            "replay_lag_bytes": 300,
            "replay_lag_s": 2.5,
        }
    ]
    lines = metrics_of(told)
    assert f'hotsite_standby_lag_bytes{{standby="{DENVER}"}} 100.0' in lines
    assert f'hotsite_standby_lag_seconds{{standby="{DENVER}"}} 1.25' in lines
    assert f'hotsite_standby_replay_lag_bytes{{standby="{DENVER}"}} 300.0' in lines
    assert f'hotsite_standby_replay_lag_seconds{{standby="{DENVER}"}} 2.5' in lines


def test_without_a_measurement_no_seconds_of_replay_are_told() -> None:
    told = state(at_columbus(pg=primary(standbys=(replace(BEHIND, replay_lag_s=None),))))
    assert told.status()["postgres"]["standbys"][0]["replay_lag_s"] is None
    assert not any(line.startswith("hotsite_standby_replay_lag_seconds{") for line in metrics_of(told))


async def test_of_a_standby_that_is_silent_the_seconds_grow_all_the_same() -> None:
    """PostgreSQL measures with each answer of the standby, and goes on telling the last figure of one that is mute."""
    clock = HeldClock()

    async def unused(*_: object) -> Any:
        raise AssertionError

    monitor = Monitor(
        unused,
        unused,
        lambda: Running(system_id="7", incarnation=None, follows=None),
        lambda: None,
        clock,
        FailoverSettings(),
    )

    async def look(flush: int, lsn: int, *, measured: float | None) -> float:
        told = {"name": DENVER, "streaming": True, "flush": flush, "replay": flush, "flush_lag": measured}
        seen = monitor._standby({**told, "replay_lag": None}, lsn, clock.now())
        monitor.facts = replace(
            monitor.facts, state=PgState.PRIMARY, received_lsn=lsn, standbys=(seen,), looked_at=clock.now()
        )
        await clock.advance(1.0)
        return seen.flush_lag_s

    assert await look(100, 100, measured=None) == 0.0
    assert await look(100, 200, measured=0.02) == 0.02  # it had all there was at the last look
    assert [await look(100, 300 + n, measured=0.02) for n in range(3)] == [1.0, 2.0, 3.0]
    assert await look(302, 302, measured=0.02) == 0.02


# -- the row that holds


def shown(told: dict[str, Any]) -> str:
    console = Console(width=200, file=StringIO())
    console.print(status_lines(told))
    text: str = console.file.getvalue()  # type: ignore[attr-defined] # a StringIO
    return text


def test_the_cluster_is_told_with_the_row_that_holds_and_its_sentence() -> None:
    told = state(at_columbus()).cluster()
    assert told["decision"] == {"rule": "leads", "sentence": "We lead and are open."}
    assert f"{COLUMBUS}: We lead and are open." in shown(told)


def test_an_agent_that_has_not_decided_yet_tells_no_row() -> None:
    told = AgentState(prefix="/p/", facts=at_columbus(), version="1").cluster()
    assert told["decision"] is None
    assert f"{COLUMBUS}: " not in shown(told)


def test_the_history_keeps_the_row_of_an_election_with_its_sentence() -> None:
    facts = at_denver(cluster=cluster(leader=None), pg=standby(canary_at=97.0), leader_absent_since=99.9)
    decision = decide(Lane.POSTGRES, facts)
    assert isinstance(decision.effect, Claim)
    assert decision.effect.evidence["rule"] == decision.rule
    assert decision.effect.evidence["sentence"] == decision.sentence


def test_every_sentence_of_the_table_has_room_in_the_history() -> None:
    for row in (row for rows in TABLE.values() for row in rows):
        HistoryEntry(
            term=1,
            node=DENVER,
            site="denver",
            at=at_columbus().wall,
            kind="failover",
            by="x",
            evidence={"rule": row.name, "sentence": row.sentence},
        )


def test_what_in_etcd_is_not_believed_is_told_everywhere_and_not_without_end():
    bad = {f"members/x{n:05}": Bad(why="\x1b[2J", mod_revision=n, lease=0) for n in range(1, 1_001)}
    told = state(at_columbus(cluster=cluster(bad=bad)))
    assert told.status()["bad_records"] == told.cluster()["bad_records"]
    assert len(told.cluster()["bad_records"]) == 50
    assert "hotsite_bad_records 1000.0" in metrics_of(told)
    assert not [line for line in metrics_of(told) if "members/x" in line]
    out = StringIO()
    Console(file=out, width=100).print(status_lines(told.cluster()))
    assert "not believed in etcd: 'members/x00001'" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    assert not told.reasons
