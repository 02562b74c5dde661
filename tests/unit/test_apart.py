"""A standby whose history has a timeline of the same number as the leader's, and another one."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replication import histories
from replication.errors import NeedsClone, NodeError, SessionLost
from replication.histories import Says
from replication.session import Target
from replication.timelines import Stretch
from sitecontrol.agent import comparing, own_postgres
from sitecontrol.agent.executor import Executor
from sitecontrol.agent.lanes import Lanes
from sitecontrol.agent.monitor import Running
from sitecontrol.agent.own_postgres import OwnPostgres
from sitecontrol.agent.state import AgentState
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim, Clone, Join, StartStandby
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Role
from tests.unit.health_scenes import settings_of
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    at_denver,
    cluster,
    entry,
    member,
    primary,
    standby,
    sync,
)

BARRED = cluster(sync=entry(sync(COLUMBUS)))


def test_a_standby_compares_its_history_with_the_leaders_anew_in_each_term() -> None:
    for before in (None, 2):
        decision = decide(Lane.POSTGRES, at_denver(pg=standby(compared_in=before)))
        assert (decision.rule, decision.effect) == ("re-point", StartStandby(leader=COLUMBUS))
    assert decide(Lane.POSTGRES, at_denver(pg=standby(compared_in=3))).rule == "follows"


@pytest.mark.parametrize("state", [PgState.STOPPED, PgState.STANDBY])
def test_one_that_is_apart_from_its_leader_is_cloned_once_the_leader_holds_everything(state: PgState) -> None:
    pg = standby(state=state, apart_from=COLUMBUS, compared_in=None)
    decision = decide(Lane.POSTGRES, at_denver(pg=pg, cluster=BARRED))
    assert (decision.rule, decision.effect) == ("clone-apart", Clone(leader=COLUMBUS))
    assert not isinstance(
        decide(Lane.POSTGRES, at_denver(pg=pg)).effect, Clone
    )  # in step: perhaps the only copy


def test_to_be_apart_from_one_leader_says_nothing_about_the_next() -> None:
    pg = standby(apart_from="columbus-b", compared_in=None)
    assert decide(Lane.POSTGRES, at_denver(pg=pg, cluster=BARRED)).rule == "re-point"


def test_only_one_that_has_compared_its_history_in_this_term_comes_into_step() -> None:
    def told(**of_denver: Any) -> Facts:
        members = {
            COLUMBUS: entry(member(COLUMBUS), OUR_LEASE),
            DENVER: entry(member(DENVER, **of_denver), THEIR_LEASE),
        }
        pg = primary(names=(), remote_in_step=())
        return at_columbus(pg=pg, cluster=cluster(sync=entry(sync(COLUMBUS)), members=members))

    assert decide(Lane.STEP, told(term=3)).effect == Join(node=DENVER)
    assert decide(Lane.STEP, told(term=2)).effect is None
    assert decide(Lane.STEP, told(role=Role.STARTING)).effect is None


def test_a_standby_calls_itself_one_after_it_has_compared_its_history() -> None:
    def role(facts: Facts) -> Role:
        return AgentState(prefix="/", facts=facts, version="1").role

    assert role(at_denver(pg=standby(compared_in=3))) is Role.STANDBY
    assert role(at_denver(pg=standby(compared_in=2))) is Role.STARTING
    nobody = at_denver(pg=standby(compared_in=2), cluster=cluster(leader=None))
    assert role(nobody) is Role.STANDBY  # it is in step, and may lead by what it holds
    barred = at_denver(pg=standby(compared_in=2), cluster=cluster(leader=None, sync=entry(sync(COLUMBUS))))
    assert (
        role(barred) is Role.STARTING
    )  # whoever takes the lead up again must not take it for one that has compared


def test_one_that_could_not_compare_says_why_it_is_not_ready() -> None:
    def reasons(facts: Facts) -> str:
        return " ".join(AgentState(prefix="/", facts=facts, version="1").reasons)

    assert "not told its history in this term" in reasons(at_denver(pg=standby(compared_in=2)))
    assert "told its history" not in reasons(at_denver(pg=standby(compared_in=3)))


class Ours:
    """A node, as far as its histories are asked for."""

    def __init__(self, *stretches: Stretch) -> None:
        self._stretches = frozenset(stretches)

    async def told(self) -> frozenset[Stretch]:
        return self._stretches


LEADER = Target(host="127.0.0.1", port=5432, user="x")
FIRST = Stretch(timeline=1, begin=0, end=500)
OF_B = Stretch(timeline=2, begin=500, end=None, begun_by="b, promotion 1")
OF_C = replace(OF_B, begun_by="c, promotion 1")


async def goes_on(
    monkeypatch: pytest.MonkeyPatch, *theirs: Stretch, in_recovery: bool = False, ours: tuple[Stretch, ...]
) -> bool:
    async def told(*_: object, **__: object) -> Says:
        return Says(system_id="7", in_recovery=in_recovery, timeline=theirs[-1].timeline, history=theirs)

    monkeypatch.setattr(histories, "ask", told)
    node: Any = Ours(*ours)
    return await comparing.goes_on(node, LEADER, "7")


async def test_the_same_number_by_another_promotion_is_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NeedsClone, match="timeline 2 of 127"):
        await goes_on(monkeypatch, FIRST, OF_C, ours=(FIRST, OF_B))
    assert await goes_on(monkeypatch, FIRST, OF_B, ours=(FIRST, OF_B))
    assert await goes_on(monkeypatch, FIRST, OF_C, ours=(FIRST,))


async def test_a_leader_that_is_not_promoted_yet_may_begin_a_timeline_of_our_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NodeError, match="not promoted yet: whether its next timeline is our 2 is not known"):
        await goes_on(monkeypatch, FIRST, in_recovery=True, ours=(FIRST, OF_B))
    assert not await goes_on(monkeypatch, FIRST, in_recovery=True, ours=(FIRST,))
    assert not await goes_on(monkeypatch, FIRST, OF_B, in_recovery=True, ours=(FIRST, OF_B))


async def test_whoever_answers_for_another_cluster_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(*_: object, **__: object) -> Says:
        return Says(system_id="8", in_recovery=False, timeline=1, history=(FIRST,))

    monkeypatch.setattr(histories, "ask", told)
    node: Any = Ours(FIRST)
    with pytest.raises(NodeError, match="of another cluster: its system identifier is 8"):
        await comparing.goes_on(node, LEADER, "7")


async def test_a_leader_that_answers_nothing_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def told(*_: object, **__: object) -> Says:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(histories, "ask", told)
    monkeypatch.setattr(comparing, "ASK_WITHIN", 0.01)
    node: Any = Ours(FIRST)
    with pytest.raises(SessionLost, match="did not tell its history"):
        await comparing.goes_on(node, LEADER, "7")


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"\0\0\0", b"one 0/1"])
def test_a_history_of_ours_that_cannot_be_read_needs_a_clone(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "pg_wal").mkdir()
    (tmp_path / "pg_wal" / "00000002.history").write_bytes(damage)
    with pytest.raises(NeedsClone, match=r"00000002\.history cannot be read"):
        histories.all_own(tmp_path)


class Postgres:
    """An own PostgreSQL whose history contradicts that of its leader."""

    def __init__(self) -> None:
        self.disowned = 0

    async def start_standby(self, leader: str | None, *, term: int | None = None) -> None:
        raise NeedsClone(f"timeline 2 of {leader} in term {term} is another one than ours of that number")

    def running(self) -> Running:
        return Running(system_id="7", incarnation="disk", follows=None, apart_from=COLUMBUS)

    async def disown(self) -> None:
        self.disowned += 1


def executor_of(own: Any, scribe: Any = None) -> Executor:
    unused: Any = None
    return Executor(
        etcd=unused,
        scribe=scribe,
        postgres=own,
        bootstrapper=unused,
        steps=unused,
        row=unused,
        look=_nothing,
        repaired=unused,
        proved=unused,
        hands_over=unused,
        clock=HeldClock(),
        settings=settings_of(),
    )


@pytest.mark.parametrize(("written_in", "disowned"), [(3, 1), (2, 0)])
async def test_a_copy_that_the_leader_counts_and_that_is_of_another_history_is_disowned(
    written_in: int, disowned: int
) -> None:
    """Else it stays in `sync` for ever, may lead, and is never cloned. While `sync` is of an older term it is kept."""
    own = Postgres()
    executor = executor_of(own)
    facts = at_denver(cluster=cluster(sync=entry(sync(COLUMBUS, DENVER, term=written_in))))
    with pytest.raises(NeedsClone):
        await executor.execute(StartStandby(leader=COLUMBUS), facts)
    assert own.disowned == disowned


async def _nothing() -> None:
    return


# -- an election waits for no comparison


class Asking:
    """A node that runs as a standby, and of which nothing but the control file is asked."""

    running = True

    async def control_data(self) -> Any:
        return SimpleNamespace(system_id="7")


class Claims:
    """In the place of etcd: takes every claim."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()

    def writer(self, _: Facts) -> Any:
        return SimpleNamespace(claim=lambda *_: "claim", term=3)

    async def write(self, transaction: Any) -> int:
        assert transaction == "claim"
        self.taken.set()
        return 1


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OwnPostgres:
    monkeypatch.setattr(own_postgres, "node_settings", lambda _: None)
    monkeypatch.setattr(own_postgres, "Node", lambda _: Asking())
    monkeypatch.setattr(OwnPostgres, "_target", lambda *_: LEADER)
    nobodys: Any = None
    return OwnPostgres(settings_of(), nobodys, HeldClock(), marker=tmp_path / "marker")


NOBODY_LEADS = at_denver(
    cluster=cluster(leader=None),
    pg=standby(compared_in=None, canary_at=60.0, upstream=False),
    leader_absent_since=99.9,
)


async def test_a_claim_is_made_while_a_comparison_with_a_leader_that_is_gone_hangs(
    own: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def hangs(*_: object) -> bool:
        asked.set()
        try:
            return await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(comparing, "goes_on", hangs)
    claims = Claims()
    executor = executor_of(own, claims)
    lanes = Lanes(executor.execute, lambda: None, HeldClock(), only_asks=executor.only_asks)
    assert lanes.offer(decide(Lane.POSTGRES, at_denver(pg=standby(compared_in=None))), at_denver())
    await asked.wait()
    claim = decide(Lane.POSTGRES, NOBODY_LEADS)
    assert isinstance(claim.effect, Claim)
    assert lanes.offer(claim, NOBODY_LEADS)
    async with asyncio.timeout(10):
        await claims.taken.wait()
    assert ended.is_set()
    assert not executor.only_asks()
    await lanes.stop()


async def test_a_claim_waits_for_a_standby_that_is_being_started_and_for_no_rest_after_a_failure() -> None:
    begun, going, claimed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    failed: list[Any] = []

    async def execute(effect: Any, _: Facts) -> None:
        if isinstance(effect, Claim):
            claimed.set()
            return
        begun.set()
        await going.wait()
        failed.append(effect)
        raise NodeError("it did not start")

    lanes = Lanes(execute, lambda: None, HeldClock())
    start, claim = (decide(Lane.POSTGRES, f) for f in (at_denver(pg=standby(compared_in=None)), NOBODY_LEADS))
    assert lanes.offer(start, at_denver())
    await begun.wait()
    assert not lanes.offer(claim, NOBODY_LEADS)
    going.set()
    for _ in range(3):
        await asyncio.sleep(0)  # until it has failed, and rests
    assert failed == [start.effect] == [lanes.busy_with(Lane.POSTGRES)]
    assert lanes.offer(claim, NOBODY_LEADS)
    await claimed.wait()
    await lanes.stop()
