"""Runs work at whichever node leads, and holds it while production moves.

Theory: warm connections stand to every node (`warm`). `gate.decide` says from etcd's picture and from what
the connections told whether work may pass, and where to. Work that meets a refusal, an unknown commit or a
lost connection is run again at whoever then leads: every operation of a `Store` may be repeated.

Rules:

* The leader's own database must have said "open in this term" since the last trouble with it; while it has
  not, it is asked every few hundredths of a second on a connection that is already there. While etcd does not
  vouch for the leader, it must also show a fresh canary, and is asked ten times a second.
* Etcd vouches by the picture, or by a read of `leader` (`ClusterView.leader_at`). That it answers other calls of ours
  says nothing of who leads: the watch may hang.
* When the leader moves, statements in flight at the old node are abandoned: its site may have vanished
  without a word, and TCP would wait for minutes. Their outcome is unknown: they run again at the new leader.
* Waiting is bounded in time and in number; past that, `Unavailable` says when to come again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import isinf
from typing import TypeVar

import asyncpg
import structlog

from dispatcher.gate import Facts, decide, newest_leader
from dispatcher.metrics import Metrics
from dispatcher.model import StoredDurability
from dispatcher.owned import Tasks, nap
from dispatcher.store import DispatcherError, NotLeader, Store
from dispatcher.warm import Connection, Dial, Lane, Loan, WarmNode
from replication.errors import CommitUnknown
from sitecontrol.clock import Clock
from sitecontrol.records import Leader
from sitecontrol.settings import Settings
from sitecontrol.settings_types import Name
from sitecontrol.view import ClusterView, Snapshot

__all__ = ["Lane", "Leadership", "LeadershipState", "Unavailable"]

log = structlog.get_logger()

T = TypeVar("T")

LANES: Mapping[Lane, int] = {
    Lane.INTAKE: 3,
    Lane.READ: 2,
    Lane.CLAIM: 1,
    Lane.SETTLE: 2,
    Lane.WEBHOOK: 1,
}
ASK_OPEN_EVERY_S = 0.01  # while a leader has not opened yet
ASK_ALIVE_EVERY_S = 0.5  # otherwise: how soon a silent death of a node is noticed, together with the next
ASK_PROOF_EVERY_S = 0.1  # while only its canary shows that the leader still leads
ETCD_SILENT_S = (
    3.0  # without a word from etcd about who leads it vouches for nobody; it is asked twice a second
)
ASK_WITHIN_S = 2.0  # a node that does not answer so long is treated as gone
ATTEMPT_S = 3.0  # an attempt is given this long even if less of the time allowed is left
AGAIN_AFTER_S = 0.02  # between two attempts at the same work
RETRY_AFTER_S = 1.0  # what a caller is told who was held in vain

# SQLSTATEs that say "not now, or not here": the same work may succeed in a moment, or elsewhere.
PASSING = frozenset(
    {
        "25006",  # read_only_sql_transaction: a standby
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53300",  # too_many_connections
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
    }
)


class Unavailable(DispatcherError):
    """Nobody could take this in the time allowed. It may or may not have been done: repeat it later."""

    def __init__(self, retry_after_s: float, reason: str) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, kw_only=True)
class LeadershipState:
    """What is known now, for answers and for pages."""

    leader_node: Name | None
    leader_site: Name | None
    term: int
    open: bool
    may_send: bool  # open, and this site is the one that sends
    holding: int  # how much work waits for the gate
    durability: StoredDurability | None  # what the cluster is configured to give; each answer has its own
    rule: str
    sentence: str


class Leadership:
    def __init__(
        self, *, settings: Settings, view: ClusterView, dial: Dial, clock: Clock, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._view = view
        self._clock = clock
        self._metrics = metrics
        self.tasks = Tasks("leadership")
        self.snapshot = view.snapshot  # the picture that the gate was decided on
        self._known: Leader | None = None
        self._opened: tuple[Name, int] | None = None
        self._changed = asyncio.Event()
        self._ask_now = asyncio.Event()
        self._subscribers: list[asyncio.Event] = []
        self._holding = 0
        self._nodes = {
            node.name: WarmNode(node.name, dial, LANES, self._decide)
            for place in settings.place
            for node in place.nodes
        }
        self._site_of = {node.name: place.name for place in settings.place for node in place.nodes}
        self._facts_of_gate = self._facts()
        self.gate = decide(self._facts_of_gate)

    @property
    def state(self) -> LeadershipState:
        gate = self.gate
        return LeadershipState(
            leader_node=gate.node,
            leader_site=gate.site,
            term=gate.term,
            open=gate.open,
            may_send=gate.may_send,
            holding=self._holding,
            durability=configured_durability(self.snapshot, self._settings),
            rule=gate.rule,
            sentence=gate.sentence,
        )

    async def start(self) -> None:
        """Dial every node and follow the picture of the cluster. Returns at once."""
        self._see(self._view.snapshot)
        self.tasks.spawn(self._follow(), "follow")
        for node in self._nodes.values():
            self.tasks.spawn(self._watch(node), f"watch {node.name}")
            for slot in node.slots:
                self.tasks.spawn(slot.keep(), f"connection to {node.name}")

    async def stop(self) -> None:
        await self.tasks.stop()

    async def run(
        self,
        op: Callable[[Store, int], Awaitable[T]],
        *,
        lane: Lane = Lane.INTAKE,
        hold_for: float | None = None,
    ) -> T:
        """Run `op(store, term)` at the leader, again and again until its outcome is known.

        `hold_for` (seconds; default: the setting of that name; may be infinite) bounds it all, but no attempt
        is cut before it had `ATTEMPT_S`. Raises `Unavailable` after that, or what `op` raises for good.
        """
        allowed = self._settings.dispatcher.hold_for if hold_for is None else hold_for
        deadline = self._clock.now() + allowed
        while True:
            node, term = await self._pass(deadline)
            loan = await self._bounded(node.lanes[lane].take(), deadline)
            if loan is None:
                continue
            try:
                began = self._clock.now()
                result = await self._attempt(op, loan, term, deadline)
            except (CommitUnknown, NotLeader, OSError, asyncpg.PostgresError) as error:
                self._forgive(error, node, term)
            else:
                self._metrics.commit_seconds.labels(lane.value).observe(self._clock.now() - began)
                if lane is Lane.INTAKE:
                    self._tell()
                return result
            finally:
                node.lanes[lane].give_back(loan)
            if self._clock.now() >= deadline:
                raise Unavailable(RETRY_AFTER_S, self.gate.sentence)
            await self._clock.sleep(AGAIN_AFTER_S)

    def subscribe(self, event: asyncio.Event) -> None:
        """Set `event` after each change of the gate and each intake: there may be something to send."""
        self._subscribers.append(event)

    def _tell(self) -> None:
        for event in self._subscribers:
            event.set()

    # -- one piece of work

    async def _pass(self, deadline: float) -> tuple[WarmNode, int]:
        """The leading node and its term, once the gate is open."""
        if (node := self._open_node()) is not None:
            return node, self.gate.term
        if self._holding >= self._settings.dispatcher.hold_max:
            raise Unavailable(RETRY_AFTER_S, f"{self._holding} are held already. {self.gate.sentence}")
        self._holding += 1
        try:
            while (node := self._open_node()) is None:
                await self._bounded(self._changed.wait(), deadline)
        finally:
            self._holding -= 1
        return node, self.gate.term

    def _open_node(self) -> WarmNode | None:
        return self._nodes.get(self.gate.node) if self.gate.open and self.gate.node is not None else None

    async def _attempt(
        self, op: Callable[[Store, int], Awaitable[T]], loan: Loan, term: int, deadline: float
    ) -> T:
        cut_at = max(deadline, self._clock.now() + ATTEMPT_S)
        try:
            return await self._bounded(op(loan.connection.store, term), cut_at)
        except (CommitUnknown, Unavailable, asyncio.CancelledError):
            loan.connection.terminate()  # the statement may still be running there
            raise

    def _forgive(self, error: Exception, node: WarmNode, term: int) -> None:
        """Take note of a failure after which the work is run again; raise any other."""
        if isinstance(error, CommitUnknown):
            self._metrics.unknown_commits += 1
        elif isinstance(error, NotLeader):
            if self._opened == (node.name, term):
                self._opened = None
                self._decide()
        elif not passing(error):
            raise error
        self._ask_now.set()  # the node may be gone
        log.debug("run_again", error=f"{type(error).__name__}: {error}", node=node.name, term=term)

    async def _bounded(self, awaitable: Awaitable[T], deadline: float) -> T:
        remaining = deadline - self._clock.now()
        bound = asyncio.timeout(None if isinf(remaining) else remaining)
        try:
            async with bound:
                return await awaitable
        except TimeoutError:
            if not bound.expired():
                raise  # it is `awaitable`'s own
            raise Unavailable(RETRY_AFTER_S, self.gate.sentence) from None

    # -- who leads, and whether it is open

    async def _follow(self) -> None:
        while True:
            self._see(await self._view.changed(self.snapshot.serial))

    def _see(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        before = self._known
        self._known = leader = newest_leader(before, snapshot)
        if leader is not None and (before is None or before.node != leader.node):
            self._move(before.node if before is not None else None, leader.node)
        if leader is not None and not self._vouched(leader):
            self._ask_now.set()  # what it told while etcd vouched for it does not count any more
        self._decide()

    def _move(self, old: Name | None, new: Name) -> None:
        for node in self._nodes.values():
            node.need(needed=node.name == new)
            if node.name == old:
                node.abandon()

    def _facts(self) -> Facts:
        leader, swap = self._known, self.snapshot.swap
        node = self._nodes.get(leader.node) if leader is not None else None
        opened = self._opened
        return Facts(
            here=self._settings.site.name,
            egress=self._settings.dispatcher.egress,
            leader=leader,
            swap=swap.record if swap is not None else None,
            site=self._site_of.get(leader.node) if leader is not None and node is not None else None,
            connected=node is not None and node.watch.connection is not None,
            opened=opened[1] if opened and leader and opened[0] == leader.node else None,
            vouched=leader is not None and self._vouched(leader),
        )

    def _vouched(self, leader: Leader) -> bool:
        """Whether etcd spoke a moment ago and names this leader in this term."""
        named, told_at = self.snapshot.leader, self._view.leader_at
        return (
            named is not None
            and told_at is not None
            and (named.record.node, named.record.term) == (leader.node, leader.term)
            and self._clock.now() - told_at <= ETCD_SILENT_S
        )

    def _decide(self) -> None:
        """Decide anew; tell everybody who waits when it came out differently."""
        facts = self._facts()
        if not facts.connected:
            self._opened = None  # whoever answers next may be another PostgreSQL
        if facts == self._facts_of_gate:
            return
        self._facts_of_gate, gate = facts, decide(facts)
        if gate == self.gate:
            return
        self.gate = gate
        log.info("gate", rule=gate.rule, open=gate.open, node=gate.node, term=gate.term, reason=gate.sentence)
        self._ask_now.set()
        self._changed.set()
        self._changed = asyncio.Event()
        self._tell()

    async def _watch(self, node: WarmNode) -> None:
        """Ask a node again and again whether it is open in the term that we know; notice when it is gone."""
        while True:
            if node.watch.connection is not None:
                await self._ask(node, node.watch.connection)
            node.sweep()
            leader = self._known
            leads = leader is not None and leader.node == node.name
            if leads and not self.gate.open:
                await self._clock.sleep(ASK_OPEN_EVERY_S)
            else:
                self._ask_now.clear()
                proves = leader is not None and leads and not self._vouched(leader)
                await nap(self._ask_now, ASK_PROOF_EVERY_S if proves else ASK_ALIVE_EVERY_S)

    async def _ask(self, node: WarmNode, connection: Connection) -> None:
        leader = self._known
        proved = leader is None or self._vouched(leader)
        canary_max_age = None if proved else self._settings.failover.canary_max_age
        try:
            async with asyncio.timeout(ASK_WITHIN_S):
                answer = await connection.store.is_open(
                    leader.term if leader is not None else 0, canary_max_age
                )
        except TimeoutError:
            log.warning("node_silent", node=node.name, seconds=ASK_WITHIN_S)
            node.drop()
        except (OSError, CommitUnknown, asyncpg.PostgresError) as error:
            log.debug("node_not_answering", node=node.name, error=f"{type(error).__name__}: {error}")
            node.watch.drop()
        else:
            if leader is not None and leader.node == node.name:
                self._opened = (node.name, leader.term) if answer else None
                self._decide()


def passing(error: Exception) -> bool:
    """Whether the same work may succeed in a moment, here or at another node."""
    if isinstance(error, asyncpg.PostgresConnectionError | OSError):
        return True
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in PASSING


def configured_durability(snapshot: Snapshot, settings: Settings) -> StoredDurability | None:
    """`two-site` while a standby in another site than the leader's must confirm each commit."""
    if snapshot.sync is None:
        return None
    sync = snapshot.sync.record
    home = settings.site_of(sync.leader)
    sites = {settings.site_of(standby.node) for standby in sync.standbys} - {home, None}
    return StoredDurability.TWO_SITE if sites else StoredDurability.ONE_SITE
