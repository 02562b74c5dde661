"""The rules of who counts as the leader, until when, and what must be seen before it is believed, each taken out.

Nothing acknowledged depends on some of them, for synchronous commits carry it: the invariants that see them broken
are `fenced-in-time`, `ended-before-given-up`, `barrier-before-opening`, `lead-rests` and `shut-down-for-somebody`.
"""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from sitecontrol.agent.executor import Executor
from sitecontrol.agent.keeper import Keeper
from sitecontrol.agent.row import OPEN, OPENING, WRITE_WITHIN, Row
from sitecontrol.leadership import swapping
from sitecontrol.leadership.facts import Facts
from tests.simulation.faults import Fault, Kind
from tests.simulation.mutation import SAFETY, Mutation
from tests.simulation.mutations import without_row
from tests.simulation.own_postgres import ModelPostgres
from tests.simulation.scenarios import forced_older_copy, lost_target, neither_starts

OTHER_DATA = ("lead-without-data", "lead-with-other-data")

# -- rules taken out -----------------------------------------------------------------------------------------------


@contextmanager
def _leads_by_name() -> Iterator[None]:
    """With any data directory: the leader's record names that, too, and a second node's is another one."""

    def lead(f: Facts) -> bool:
        return f.leader is not None and f.lease.id != 0 and f.leader.record.node == f.node

    with patch.object(Facts, "lead", property(lead)), without_row(*OTHER_DATA):
        yield


@contextmanager
def _whatever_data_is_there_leads() -> Iterator[None]:
    """What a copy that is older than a second lacks is seen by what was recorded to have been reached, too."""
    with without_row(*OTHER_DATA), patch.object(Facts, "short_of", property(lambda _: None)):
        yield


def _a_copied_lease_is_ones_own() -> AbstractContextManager[Any]:
    def kept_id(self: Keeper) -> int:
        lease, _, _ = self._state_file.read_text().partition(" ")
        return int(lease or "0", 16)

    return patch.object(Keeper, "_kept_id", kept_id)


def _lets_in_before_the_barrier() -> AbstractContextManager[Any]:
    real = Row.open

    async def open_first(self: Row, term: int, node: str) -> None:
        session = await self._connect(OPENING)
        await session.commit(OPEN, term, node, timeout=WRITE_WITHIN)
        await real(self, term, node)

    return patch.object(Row, "open", open_first)


def _starts_waiting_for_nobody() -> AbstractContextManager[Any]:
    real = ModelPostgres.start_primary

    async def start(self: ModelPostgres, names: tuple[str, ...], *, within: float | None = None) -> None:
        await real(self, (), within=within)
        self.database.set_names(names)  # by a reload, which takes its time

    return patch.object(ModelPostgres, "start_primary", start)


def _gives_up_first() -> AbstractContextManager[Any]:
    async def give_up(self: Any, _: Any, facts: Facts) -> None:
        await self._scribe.write(self._scribe.writer(facts).give_up())
        await self._postgres.end_at_once()
        await self._look()

    return patch.object(Executor, "_give_up", give_up)


def _told_to_end_is_ended() -> AbstractContextManager[Any]:
    async def end_at_once(self: ModelPostgres, reached: Any = lambda _: None) -> None:
        async def later() -> None:
            await self._take_time(0.1, 1.0)
            if self.database.server is server:
                self.database.crash()

        server = self.database.server
        self.world.scheduler.spawn(later(), "kernel")
        reached("connections_ended")
        reached("postgres_ended")

    return patch.object(ModelPostgres, "end_at_once", end_at_once)


def _trusts_the_lease_to_its_end() -> AbstractContextManager[Any]:
    return patch.object(Facts, "lease_safe", property(lambda f: f.lease.id != 0 and f.lease_ends_in > 0.0))


def _counts_from_the_answer() -> AbstractContextManager[Any]:
    real = Keeper._renew

    async def renew(self: Keeper) -> None:
        sent_at = self._clock.now()
        await real(self)
        if self.lease.id:
            ends_at = self.lease.ends_at + self._clock.now() - sent_at
            self.lease = type(self.lease)(id=self.lease.id, ends_at=ends_at, former=self.lease.former)

    return patch.object(Keeper, "_renew", renew)


@contextmanager
def _nothing_is_compared() -> Iterator[None]:
    """Nor is a leader waited for until it has written `sync`: here each of the two makes up for the other."""

    async def compare(*_: object) -> bool:
        return True

    with patch.object(ModelPostgres, "_compare", compare), without_row("await-narrow"):
        yield


# -- schedules that need them --------------------------------------------------------------------------------------


def beside_the_leader(rng: random.Random) -> tuple[Fault, ...]:
    """A copy of the leader's machine is started beside it, while nobody else is in step."""
    return (
        Fault(3.0, 12.0, Kind.KILL_SITE, "denver"),
        Fault(round(rng.uniform(5.0, 7.0), 2), 6.0, Kind.SECOND, "columbus"),
    )


def beside_the_standby(rng: random.Random) -> tuple[Fault, ...]:
    """A copy of the standby's machine is started beside it; the standby hangs for a moment, and the leader is lost."""
    hangs = round(rng.uniform(6.0, 6.5), 2)
    lost = round(hangs + rng.uniform(0.3, 1.1), 2)
    return (
        Fault(3.0, 12.0, Kind.SECOND, "denver"),
        Fault(hangs, 2.0, Kind.STOP_POSTGRES, "denver"),
        Fault(lost, 8.0, Kind.KILL_SITE, "columbus"),
    )


def older_copy_of_the_leader(rng: random.Random) -> tuple[Fault, ...]:
    """The leader comes back within its lease, with an older copy."""
    return (Fault(5.0, round(rng.uniform(0.1, 1.0), 2), Kind.WRONG_DISK, "columbus"),)


def crash_in_a_cut(rng: random.Random) -> tuple[Fault, ...]:
    """PostgreSQL of the leader crashes while commits wait for a standby that has just been cut off."""
    crash = round(5.0 + rng.uniform(0.2, 0.7), 2)
    return (
        Fault(5.0, 4.0, Kind.CUT, "columbus", "denver"),
        Fault(crash, 0.1, Kind.KILL_POSTGRES, "columbus"),
    )


def disk_stalls(rng: random.Random) -> tuple[Fault, ...]:
    return (Fault(round(rng.uniform(3.0, 5.0), 2), 12.0, Kind.DISK_STALLS, "columbus"),)


def isolated(rng: random.Random) -> tuple[Fault, ...]:
    """The live site is cut off from everybody."""
    return (Fault(round(rng.uniform(3.0, 5.0), 2), 8.0, Kind.ISOLATE, "columbus"),)


def isolated_after_slow_answers(rng: random.Random) -> tuple[Fault, ...]:
    """As `isolated`, and just before that etcd's answers were slow."""
    at = round(rng.uniform(4.0, 6.0), 2)
    return (Fault(2.0, 10.0, Kind.ETCD_SLOW, "columbus"), Fault(at, 8.0, Kind.ISOLATE, "columbus"))


def same_number(rng: random.Random) -> tuple[Fault, ...]:
    """Of four nodes two are promoted one after the other from one position: the first is lost before it has written
    `sync`, and one of the others follows it by then, whose agent dies.
    """
    late = round(rng.uniform(6.7, 7.0), 2)
    return (
        Fault(5.0, 13.0, Kind.KILL_SITE, "columbus-a"),
        Fault(6.3, 2.0, Kind.STOP_AGENT, "denver-a"),
        Fault(late, 1.2, Kind.ETCD_LATE, "columbus"),
        Fault(round(late + 1.0, 2), 10.0, Kind.KILL_SITE, "columbus-b"),
        Fault(round(late + 1.3, 2), 5.0, Kind.KILL_AGENT, "denver-b"),
    )


PROOF = (
    Mutation(
        name="leadership goes by the node's name",
        rule="leadership is compared by lease, never by a node's name",
        breaks=SAFETY,
        patch=_leads_by_name,
        scenario=beside_the_leader,
    ),
    Mutation(
        name="a second node of one name is let in",
        rule="two agents cannot use one name: the second stays out",
        breaks=SAFETY,
        patch=lambda: without_row("name-taken-runs", "name-taken"),
        scenario=beside_the_standby,
    ),
    Mutation(
        name="a copied lease is one's own",
        rule="a lease is taken up again only by the agent that it was granted to",
        breaks=SAFETY,
        patch=_a_copied_lease_is_ones_own,
        scenario=beside_the_standby,
    ),
    Mutation(
        name="whatever data directory is there leads on",
        rule="only the data directory that took the lead leads",
        breaks=SAFETY | {"converges"},
        patch=_whatever_data_is_there_leads,
        scenario=older_copy_of_the_leader,
    ),
    Mutation(
        name="an older copy goes on in its own timeline",
        rule="what was a primary and leads by an operator's word begins a timeline of its own",
        breaks=SAFETY | {"in-step-is-a-copy"},
        patch=lambda: without_row("begin-anew", "end-to-begin-anew"),
        scenario=forced_older_copy,
    ),
    Mutation(
        name="dispatchers are let in before the barrier",
        rule="after any start nobody is let in until a barrier has committed",
        breaks=frozenset({"barrier-before-opening"}),
        patch=_lets_in_before_the_barrier,
        scenario=crash_in_a_cut,
    ),
    Mutation(
        name="a start waits for nobody at first",
        rule="the barrier waits for everybody in step: commits do from the first moment of a start",
        breaks=frozenset({"barrier-before-opening"}),
        patch=_starts_waiting_for_nobody,
        scenario=crash_in_a_cut,
    ),
    Mutation(
        name="the lead is given up before PostgreSQL has ended",
        rule="giving the lead up first ends the whole process group",
        breaks=frozenset({"ended-before-given-up"}),
        patch=_gives_up_first,
        scenario=disk_stalls,
    ),
    Mutation(
        name="what was told to end counts as ended",
        rule="PostgreSQL is ended when it was seen to be",
        breaks=frozenset({"ended-before-given-up", "fenced-in-time"}),
        patch=_told_to_end_is_ended,
        scenario=disk_stalls,
    ),
    Mutation(
        name="a node that cannot start takes the lead again at once",
        rule="whose PostgreSQL could not be started leaves the lead to others, after each failure for longer",
        breaks=frozenset({"lead-rests"}),
        patch=lambda: without_row("rest-after-failed-start"),
        scenario=neither_starts,
    ),
    Mutation(
        name="what becomes of a swap's target is not asked",
        rule="the target of a swap that can be handed nothing any more ends it, before anything is shut down for it",
        breaks=frozenset({"shut-down-for-somebody"}),
        patch=lambda: patch.object(swapping, "target_lost", lambda _: ()),
        scenario=lost_target,
    ),
    Mutation(
        name="a leader without proof goes on",
        rule="a leader with neither etcd's word, nor a fresh lease, nor a fresh canary is fenced",
        breaks=frozenset({"fenced-in-time"}),
        patch=lambda: without_row("lost-proof"),
        scenario=isolated,
    ),
    Mutation(
        name="the lease is trusted to its very end",
        rule="the leader is fenced a margin before its lease can have run out",
        breaks=frozenset({"fenced-in-time"}),
        patch=_trusts_the_lease_to_its_end,
        scenario=isolated,
    ),
    Mutation(
        name="the lease counts from the answer",
        rule="the lease counts from when its renewal was sent",
        breaks=frozenset({"fenced-in-time"}),
        patch=_counts_from_the_answer,
        scenario=isolated_after_slow_answers,
    ),
)

OF_FOUR_NODES = (
    Mutation(
        name="nothing is compared",
        rule="before a node follows a leader, in each term, the two histories are compared",
        breaks=SAFETY | {"in-step-is-a-copy"},
        patch=_nothing_is_compared,
        scenario=same_number,
    ),
)
