"""A swap in the middle of which etcd is lost, when the old leader is shut down already."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sitecontrol.agent.executor import Executor
from sitecontrol.agent.memory import Memory
from sitecontrol.etcd.api import EtcdUnknown
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import HandOver, ServeOn, StartPrimary
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Phase
from tests.unit.health_scenes import settings_of
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import OUR_LEASE, at_columbus, cluster, entry, primary, swap

SHUT_DOWN = primary(state=PgState.STOPPED, open_term=None, clean_shutdown_lsn=2_000, names=(), standbys=())


def left_by_etcd(**change: Any) -> Facts:
    """Nine seconds into `held`; the last word of etcd is almost as old, and no hand-over was sent."""
    values: dict[str, Any] = {
        "cluster": cluster(swap=entry(swap(Phase.HELD))),
        "swap_phase_since": 91.0,
        "etcd_heard_at": 91.5,
        "lease": LeaseFacts(id=OUR_LEASE, ends_at=93.0),
        "hand_over_unsent": True,
        "pg": SHUT_DOWN,
    }
    return at_columbus(**(values | change))


def rule_of(facts: Facts) -> str:
    return decide(Lane.POSTGRES, facts).rule


def test_a_leader_that_is_shut_down_starts_again_when_etcd_is_silent_past_the_swaps_deadline():
    assert decide(Lane.POSTGRES, left_by_etcd()).effect == StartPrimary()
    assert decide(Lane.SWAP, left_by_etcd()).effect is None


@pytest.mark.parametrize(
    "otherwise",
    [
        {"hand_over_unsent": False},  # it may have been applied: unknown is not no
        {"swap_phase_since": 97.0},  # etcd may still come back in time
        {"etcd_heard_at": 99.9},  # it is there: the swap is rolled back by a write
    ],
    ids=["perhaps sent", "in time", "etcd at hand"],
)
def test_it_stays_down_while_the_swap_may_still_move_the_lead(otherwise: dict[str, Any]):
    assert rule_of(left_by_etcd(**otherwise)) == "shut-down-awaits-hand-over"


def test_started_again_it_opens_in_the_old_term_without_etcd_only_if_commits_wait_for_all_in_step():
    started = primary(open_term=None, canary_at=None)
    assert decide(Lane.POSTGRES, left_by_etcd(pg=started)).effect == ServeOn()
    unawaited = replace(started, names=())
    assert not isinstance(decide(Lane.POSTGRES, left_by_etcd(pg=unawaited)).effect, ServeOn)
    perhaps_sent = left_by_etcd(pg=started, hand_over_unsent=False)
    assert rule_of(perhaps_sent) == "lead-pending"


def test_once_open_it_serves_by_its_canary_as_without_a_swap():
    assert rule_of(left_by_etcd(pg=primary())) == "leads"
    assert rule_of(left_by_etcd(pg=primary(canary_at=98.0))) == "canary-late"


@pytest.mark.parametrize(
    ("seen", "unsent"),
    [
        ((Phase.REQUESTED, Phase.CHECKED, Phase.HELD), True),
        ((Phase.CHECKED, Phase.HELD), True),
        ((Phase.HELD,), False),  # an agent that was started since: the one before it may have sent it
    ],
)
def test_a_hand_over_counts_as_sent_unless_the_agent_has_seen_the_swap_from_before(
    seen: tuple[Phase, ...], unsent: object
):
    memory = Memory()
    for at, phase in enumerate(seen):
        memory.look(float(at), cluster(swap=entry(swap(phase))), primary(), "columbus-a")
    assert memory.hand_over_unsent is unsent
    memory.note_hand_over("s1")
    assert not memory.hand_over_unsent


class GoneEtcd:
    async def get_prefix(self, _: str) -> None:
        raise EtcdUnknown("no answer")


class LiveEtcd:
    async def get_prefix(self, _: str) -> None:
        return


class Scribe:
    def __init__(self) -> None:
        self.told: list[str] = []

    def writer(self, _: Facts) -> Any:
        return SimpleNamespace(hand_over=lambda *_, **__: "the hand-over")

    async def write(self, transaction: str) -> None:
        self.told.append(transaction)
        raise EtcdUnknown("no answer")


@pytest.mark.parametrize(("etcd", "told"), [(GoneEtcd(), []), (LiveEtcd(), ["s1", "the hand-over"])])
async def test_no_hand_over_is_sent_to_an_etcd_that_is_gone_and_one_that_is_sent_is_noted_first(
    etcd: Any, told: list[str]
):
    """A hand-over of unknown outcome keeps the old leader down until etcd's return."""
    unused: Any = None
    scribe: Any = Scribe()
    executor = Executor(
        etcd=etcd,
        scribe=scribe,
        postgres=unused,
        bootstrapper=unused,
        steps=unused,
        row=unused,
        look=unused,
        repaired=unused,
        proved=unused,
        hands_over=scribe.told.append,
        clock=HeldClock(),
        settings=settings_of(),
    )
    with pytest.raises(EtcdUnknown):
        await executor.execute(HandOver(shutdown_lsn=2_000), left_by_etcd())
    assert scribe.told == told


class Database:
    """Its second barrier begins five seconds after the first one."""

    def __init__(self, clock: HeldClock) -> None:
        self.clock, self.did = clock, []  # type: tuple[HeldClock, list[str]]

    async def barrier(self) -> None:
        self.did.append("barrier")
        await self.clock.advance(5.0)

    async def open(self, term: int, node: str) -> None:
        self.did.append(f"{node} open in {term}")

    def proved(self, at: float) -> None:
        self.did.append(f"proved at {at:g}")

    async def look(self) -> None:
        self.did.append("look")


async def test_serving_on_opens_only_after_a_commit_that_began_after_the_standbys_had_come_back():
    unused: Any = None
    clock = HeldClock()
    database: Any = Database(clock)
    executor = Executor(
        etcd=unused,
        scribe=unused,
        postgres=unused,
        bootstrapper=unused,
        steps=unused,
        row=database,
        look=database.look,
        repaired=unused,
        proved=database.proved,
        hands_over=unused,
        clock=clock,
        settings=settings_of(),
    )
    began = clock.now() + 5.0
    await executor.execute(ServeOn(), left_by_etcd(pg=primary(open_term=None)))
    assert database.did == ["barrier", "barrier", f"proved at {began:g}", "columbus-a open in 3", "look"]
