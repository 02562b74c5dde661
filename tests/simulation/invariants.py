"""The invariants by their names in docs/failover.md, looked at after every step in which something changed."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dispatcher.model import State
from sitecontrol.leadership import audit
from sitecontrol.leadership.effects import Effect, ShutDownForSwap
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.invariants import Broken
from sitecontrol.leadership.observed import FAILBACK
from sitecontrol.records import HistoryEntry, Phase, Swap
from sitecontrol.view import Entry
from tests.simulation.adopting import Adopted
from tests.simulation.carrier import Inbox
from tests.simulation.clients import Acknowledged, Ledger
from tests.simulation.disk import Disk
from tests.simulation.etcd import PREFIX, EtcdCluster
from tests.simulation.observers import Truth
from tests.simulation.postgres import Database, World
from tests.simulation.returning import HOME, NOT_HOME, Returns
from tests.simulation.scene import settings_of
from tests.simulation.scheduler import EPOCH, Scheduler, Task
from tests.simulation.sending import SimulatedDispatcher

UNDER_WAY = frozenset({State.QUEUED, State.SUBMITTING, State.IN_DOUBT})
CLOCKS = 0.98  # two clocks of the simulation at their worst
WORD_LASTS = 10.0  # seconds that a place's word may outlive what it saw: its lease, begun anew by an election of etcd's
LONGEST_PAUSE = 1.0  # seconds between two acknowledgements
RESTS = (10, 10.0)  # terms that begin within as many seconds, and in which nobody is opened
SERVES_ON_WITHIN = 3.0  # seconds after the deadline of a swap that etcd left half way


@dataclass(frozen=True, kw_only=True)
class LossTold:
    """What a forced entry of the history says is lost."""

    nothing: bool  # nothing acknowledged
    since: datetime | None  # what was acknowledged since then; None: all that the node lacks


def loss_told(word: HistoryEntry) -> LossTold:
    nothing = "nothing acknowledged is lost" in word.evidence.get("last_record", "")
    sign = re.search(r" was written at (\S+ \S+), by", word.evidence.get("last_sign", ""))
    return LossTold(nothing=nothing, since=None if sign is None else datetime.fromisoformat(sign[1]))


class Violation(AssertionError):
    """An invariant does not hold; `invariant` is its name in docs/failover.md."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


@dataclass(kw_only=True)
class Invariants:
    scheduler: Scheduler
    world: World
    cluster: EtcdCluster
    ledger: Ledger
    inbox: Inbox
    truth: Truth
    say: Callable[[str], None]
    alarms: Callable[[], Iterable[tuple[str, Broken]]]  # what agents say of invariants at run time, by node
    returns: Returns | None  # production goes back home by itself
    _open: dict[str, tuple[str, int]] = field(default_factory=dict)  # node -> (boot, term) as last seen
    _leader_seen: tuple[int, str] | None = None
    _begun_terms: dict[int, float] = field(
        default_factory=dict
    )  # term -> when it began, as long as it counts
    only_lines: bool = False  # nothing but lines between places fails in this run
    _sync_seen: int = 0  # the revision of `sync` that was looked at
    _term_seen: int = 0  # and of `term`
    _history_seen: Mapping[str, Entry[HistoryEntry]] | None = None
    _words_seen: int = 0  # entries of the history that tell of a person's word on who leads on
    planned: dict[str, float] = field(default_factory=dict)  # swap -> its time
    _begun: dict[str, datetime] = field(default_factory=dict)  # of these, when it began
    _adopted: Mapping[str, Adopted] = field(default_factory=dict)
    _adopted_in: int = 0  # the term after which etcd's data were made anew
    _log_deleted: bool = False
    _asked: dict[str, float] = field(default_factory=dict)  # health's swaps, and when each was asked for

    def after_step(self, task: Task) -> None:
        if task.error is not None:
            if isinstance(task.error, Violation):
                raise task.error
            raise Violation(
                "no-crash", f"{task.owner}: {type(task.error).__name__}: {task.error}"
            ) from task.error
        self._look_at_words()
        for database in self.world.databases.values():
            self._look_at_opening(database)
        self._look_at_leader()
        self._look_at_sync()
        self._look_at_term()
        if self.returns is not None:
            self.returns.look(self.cluster.snapshot)
        self._look_at_swap()
        for node, broken in self.alarms():
            raise Violation(broken.invariant, f"{node} sees that {broken.what}")

    def _look_at_leader(self) -> None:
        """Whoever is made the leader must hold every acknowledged message: `only-in-step-leads`. (Of an older copy that
        was a primary this is known when it has started: until then it may lead, and must not open.)
        """
        leader = self.cluster.snapshot.leader
        if leader is None:
            gone, self._leader_seen = self._leader_seen, None
            if gone is not None and self.only_lines:
                self._fenced(gone[1])
            return
        made = (leader.record.term, leader.record.node)
        if made == self._leader_seen:
            return
        self._leader_seen = made
        self.say(f"LEADER     {made[1]} in term {made[0]}")
        self._look_at_rest(made[0])
        database = self.world.databases[made[1]]
        if database.disk is None or not database.disk.unjudged:
            self.holds_all(database, "only-in-step-leads", f"{made[1]} leads in term {made[0]}")

    def _look_at_rest(self, term: int) -> None:
        """Nodes that come to nothing do not take the lead from one another again and again."""
        now, (most, within) = self.scheduler.now, RESTS
        opened = {number for number, *_ in self.ledger.opened}
        begun = {**self._begun_terms, term: self._begun_terms.get(term, now)}
        self._begun_terms = {t: at for t, at in begun.items() if t not in opened and now - at <= within}
        if len(self._begun_terms) > most:
            raise Violation(
                "lead-rests", f"{len(self._begun_terms)} terms within {within:g} s, and nobody opened in any"
            )

    def _look_at_opening(self, database: Database) -> None:
        server = database.server
        term = database.opened_here(server) if server is not None else None
        if server is None or term is None:
            return
        now = (server.boot, term)
        if self._open.get(database.machine) == now:
            return
        self._open[database.machine] = now
        self.ledger.opened.append((term, database.machine, self.scheduler.now))
        self.say(f"OPENED     {database.machine} in term {term}")
        self.holds_all(database, "acked-survives", f"{database.machine} opened in term {term}")
        self._told_everywhere(database, server.disk)
        others = {node for t, node, _ in self.ledger.opened if t == term}
        if len(others) > 1:
            raise Violation("one-writer", f"{', '.join(sorted(others))} were both opened in term {term}")

    # -- what keeps the service in order, where nothing acknowledged would be lost

    def _fenced(self, node: str) -> None:
        """Its lease has run out, and anybody may be promoted: it was fenced, or serves by its canary."""
        database, term = self.world.databases[node], self.cluster.snapshot.term
        server = database.server
        released = term is not None and term.record.released_by == node
        if server is None or released or database.opened_here(server) is None:
            return
        age = self.scheduler.now - server.canary_at
        if age > settings_of("columbus").failover.canary_max_age / CLOCKS:
            raise Violation(
                "fenced-in-time", f"the lease of {node} has run out; it is open, its canary {age:.2f} s old"
            )

    def _told_everywhere(self, database: Database, disk: Disk) -> None:
        """A barrier went before: what can be told of here is with everybody in step."""
        sync, last = self.cluster.snapshot.sync, disk.latest("message", self.world.entries)
        if sync is None or last is None or sync.record.leader != database.node:
            return
        position = disk.wal.index(last) + 1
        for standby in sync.record.standbys:
            theirs = self.world.databases[standby.node].disk
            if theirs is None or theirs.incarnation != standby.incarnation:
                continue
            if theirs.flushed < position or theirs.wal[position - 1] != last:
                raise Violation(
                    "barrier-before-opening",
                    f"{database.machine} is opened, and {standby.node}, in step, lacks what it may tell of",
                )

    def _look_at_sync(self) -> None:
        """Whoever is told to be in step has the leader's own entries, as far as it has any."""
        sync = self.cluster.snapshot.sync
        if sync is None or sync.mod_revision == self._sync_seen:
            return
        self._sync_seen = sync.mod_revision
        leader = self.world.databases[sync.record.leader].disk
        for standby in sync.record.standbys:
            theirs = self.world.databases[standby.node].disk
            if leader is None or theirs is None or theirs.incarnation != standby.incarnation:
                continue
            if leader.incarnation != sync.record.leader_incarnation:
                continue
            common = min(standby.lsn, len(theirs.wal), len(leader.wal))
            if theirs.wal[:common] != leader.wal[:common]:
                raise Violation(
                    "in-step-is-a-copy", f"{standby.node} came into step, and holds something else"
                )

    def _look_at_term(self) -> None:
        """Who gives the lead up lets nobody in any more."""
        term = self.cluster.snapshot.term
        if term is None or term.mod_revision == self._term_seen:
            return
        self._term_seen = term.mod_revision
        gone = self.world.databases.get(term.record.released_by or "")
        if gone is not None and gone.server is not None and gone.opened_here(gone.server) is not None:
            raise Violation("ended-before-given-up", f"{gone.machine} gave the lead up, and is open")

    # -- a person's word

    def _look_at_words(self) -> None:
        """A person says that a node leads on: what it lacks is lost by that word, which has to tell so."""
        history = self.cluster.snapshot.history
        if history is self._history_seen:
            return
        self._history_seen = history
        words = [key for key, entry in history.items() if entry.record.kind == "forced"]
        if len(words) == self._words_seen:
            return
        self._words_seen = len(words)
        newest = max((history[key] for key in words), key=lambda entry: entry.mod_revision, default=None)
        adopted = next(
            (self._adopted[key] for key in words if key in self._adopted and history[key] is newest), None
        )
        if adopted is not None and newest is not None:
            self._look_at_adopted(newest.record, adopted)
        elif newest is not None:
            self._accept_loss(newest.record, loss_told(newest.record))

    def _look_at_adopted(self, word: HistoryEntry, told: Adopted) -> None:
        """What etcd had lost is made anew: by what the nodes know without loss, by a word with what he was told."""
        self._adopted_in = word.term
        if told.by_word:
            self._accept_loss(word, LossTold(nothing=not told.told_of_loss, since=None))
        else:
            self.say(f"ADOPTED    {word.node} after term {word.term}")
            self.holds_all(self.world.databases[word.node], "acked-survives", f"{word.node} is adopted")

    def data_lost(self, adopted: Mapping[str, Adopted], *, log_deleted: bool) -> None:
        """What was seen of records that are gone. `adopted`: what an operator is told who makes them anew."""
        self._adopted, self._log_deleted = adopted, self._log_deleted or log_deleted
        self._words_seen = self._sync_seen = self._term_seen = 0
        self._asked.clear()

    def _accept_loss(self, word: HistoryEntry, told: LossTold) -> None:
        """Of the messages, and of what is known of texts that left."""
        database = self.world.databases[word.node]
        disk = database.disk
        lost = [t for t in self.ledger.acknowledged if disk is None or not disk.holds(t.entry, t.position)]
        self.say(f"FORCED     {word.node} after term {word.term}: {len(lost)} messages are lost")
        since = None if told.since is None else (told.since - EPOCH).total_seconds()
        for message in lost:
            if told.nothing or (since is not None and message.at < since):
                raise Violation(
                    "loss-told",
                    f"message {message.message}, acknowledged at {message.at:.3f}, is lost: told was {word.evidence}",
                )
        self.ledger.acknowledged = [t for t in self.ledger.acknowledged if t not in lost]
        texts = database.queue().texts if disk is not None else {}
        ended = {number for number, text in texts.items() if text.state not in UNDER_WAY}
        self.inbox.texts = {n: received for n, received in self.inbox.texts.items() if n in ended}

    def holds_all(self, database: Database, invariant: str, what: str) -> None:
        wal = database.disk.wal if database.disk is not None else []
        for told in self.ledger.acknowledged:
            if told.position > len(wal) or (wal[told.position - 1] != told.entry and told.entry not in wal):
                raise Violation(
                    invariant,
                    f"{what} without message {told.message}, acknowledged at {told.at:.3f} by {told.node}",
                )

    def acknowledged(self, told: Acknowledged, database: Database) -> None:
        """Just before it is told: whoever was opened in a newer term must hold it, and it must come from one node."""
        for other in self.ledger.acknowledged[-50:]:
            if other.term == told.term and other.node != told.node:
                raise Violation(
                    "one-writer", f"{told.node} and {other.node} both acknowledged in term {told.term}"
                )
        for node in told.remote:
            disk = self.world.databases[node].disk
            if disk is None or not disk.has_flushed(told.entry, told.position):
                raise Violation("label-true", f"message {told.message} was told to be on {node}, and is not")
        for term, node, at in self.ledger.opened:
            if term <= told.term:
                continue
            wal = self.world.databases[node].disk
            if wal is None or not wal.holds(told.entry, told.position):
                raise Violation(
                    "acked-survives",
                    f"{told.node} acknowledged message {told.message} in term {told.term};"
                    f" {node} had been opened in term {term} at {at:.3f}, without it",
                )
            if at < told.began:
                raise Violation(
                    "no-stale-claim", f"{told.node} wrote in term {told.term}, after term {term} was opened"
                )

    def _place(self, node: str) -> str:
        return self.world.databases[node].place

    # -- health

    def _look_at_swap(self) -> None:
        """Health asks only with two witnesses, not while it is paused, and neither too soon nor too often."""
        picture = self.cluster.snapshot
        swap = picture.swap.record if picture.swap is not None else None
        if swap is not None and swap.id in self.planned:
            self._look_at_planned(swap)
        self._look_at_dropped()
        if swap is None or swap.evidence is None or swap.id in self._asked:
            return
        self.say(f"ASKED      {swap.by} for a swap from {swap.from_node}")
        if self.returns is not None and swap.evidence.get("rule") == FAILBACK:
            self._broken("failback-holds", swap, self.returns.wrong(swap, CLOCKS))
        else:
            self._broken("health-holds", swap, self._not_agreed(swap))
        self._broken("health-holds", swap, self._beyond_limits())
        self._asked[swap.id] = self.scheduler.now

    @staticmethod
    def _broken(invariant: str, swap: Swap, wrong: Iterable[str]) -> None:
        for what in wrong:
            raise Violation(invariant, f"{swap.by} asks for a swap, and {what}")

    def _not_agreed(self, swap: Swap) -> Iterator[str]:
        live = self._place(swap.from_node)
        saw = self.truth.who_saw(live, self.scheduler.now - WORD_LASTS)
        words = self.cluster.snapshot.observations.items()
        say = {place for place, o in words if not o.record.blind and o.record.fit.get(live) is False}
        if len(saw & say) < 2:
            yield f"only {', '.join(saw & say) or 'nobody'} saw the live site unfit, and says so"

    def _beyond_limits(self) -> Iterator[str]:
        """Those of all swaps that no person asks for."""
        now, limits = self.scheduler.now, settings_of("columbus").failover
        before = [now - at for at in self._asked.values()]
        desired = self.cluster.snapshot.desired
        if desired is not None and desired.record.paused:
            yield "automatic swaps are paused"
        elif before and before[-1] < limits.swap_cool_down * CLOCKS:
            yield f"the last one was asked for {before[-1]:.1f} s ago"
        elif len(before) >= limits.max_swaps_per_hour:
            yield f"there were {len(before)} within the hour"

    def away_from_home(self, live: str) -> str | None:
        """It is back where it goes back by itself, but if it has moved as often as it may, or it is not the hour."""
        if self.returns is None or live == HOME or not self.returns.in_hours:
            return None
        return None if len(self._asked) >= settings_of(HOME).failover.max_swaps_per_hour else NOT_HOME

    def _look_at_planned(self, swap: Swap) -> None:
        """It begins at its time, and once: whatever stops it afterwards, nobody begins it again."""
        if swap.phase is not Phase.REQUESTED:
            return
        if swap.id not in self._begun:
            self.say(f"BEGINS     {swap.id} to {swap.to_node}")
        now, begun = self.scheduler.now, self._begun.setdefault(swap.id, swap.requested_at)
        if now < self.planned[swap.id]:
            raise Violation(
                "planned-in-time", f"{swap.id} begins {self.planned[swap.id] - now:.2f} s too soon"
            )
        if begun != swap.requested_at:
            raise Violation("planned-in-time", f"{swap.id} begins a second time")

    def _look_at_dropped(self) -> None:
        """Nor is it dropped before its time."""
        for swap, at in self.planned.items():
            if self.scheduler.now >= at or swap in self._begun:
                continue
            if any(key.endswith(f"-{swap}") for key in self.cluster.snapshot.history):
                raise Violation(
                    "planned-in-time", f"{swap} is dropped {at - self.scheduler.now:.2f} s too soon"
                )

    def begins(self, effect: Effect, facts: Facts) -> None:
        """Just before an agent does something, by what it knows: nothing is shut down for a target that it knows could
        not be handed the lead.
        """
        if not isinstance(effect, ShutDownForSwap):
            return
        swap, sync = facts.cluster.swap, facts.cluster.sync
        target = swap.record.to_node if swap is not None else ""
        told = facts.cluster.members.get(target)
        here = told.record.incarnation if told is not None else None
        in_step = {(s.node, s.incarnation) for s in sync.record.standbys} if sync is not None else set()
        if target == facts.node or (target, here) not in in_step:
            raise Violation(
                "shut-down-for-somebody", f"{facts.node} is shut down for {target or 'nobody'}, on {here}"
            )

    # -- texts

    def claimed(self, database: Database, term: int, since: float) -> None:
        """A dispatcher was given a claim: `no-stale-claim`."""
        for newer, node, at in self.ledger.opened:
            if newer > term and at < since:
                raise Violation(
                    "no-stale-claim",
                    f"{database.node} gave a claim in term {term}, after {node} was opened in term {newer}",
                )

    def leaves(self, sender: SimulatedDispatcher, number: int) -> None:
        """Just before a text leaves: it is claimed by who sends it, at the one leader, and never left before."""
        if not sender.leadership.gate.may_send:
            raise Violation("one-site-sends", f"{sender.place} sends while its own gate is shut")
        _, node, _ = max(self.ledger.opened)
        queue = self.world.databases[node].queue()
        text = queue.texts.get(number)
        claim = queue.claims.get(text.claim) if text is not None else None
        if text is None or claim is None or number not in claim[1] or claim[0].dispatcher != sender.identity:
            state = "lost" if text is None else text.state.value
            raise Violation(
                "no-stale-claim", f"{sender.identity} sends text {number}, which is {state} at {node}"
            )
        [made_at] = {self._place(n) for term, n, _ in self.ledger.opened if term == claim[0].term}
        if made_at != sender.place:
            raise Violation(
                "one-site-sends", f"{sender.place} sends while {made_at} is live, by its own claim"
            )
        before = self.inbox.texts.get(number, [])
        if before and (not text.resent or len(before) > 1):
            raise Violation(
                "sent-once",
                f"text {number} left {before[-1].place} at {before[-1].at:.3f}, and again from {sender.place},"
                " though it was in doubt in between for nobody",
            )

    def served_throughout(self) -> None:
        """Nothing but etcd was lost: the same leader, the same term, and no pause beyond a second."""
        term = self.cluster.snapshot.term
        if term is None or term.record.term != 1 or self.ledger.longest_gap > LONGEST_PAUSE:
            number = term.record.term if term else 0
            raise Violation(
                "serves-through-dcs-loss", f"term {number}, a pause of {self.ledger.longest_gap:.2f} s"
            )

    def served_after_a_held_swap(self) -> None:
        """Etcd was lost in the middle of a swap, and no hand-over was sent: it held everybody until its deadline."""
        limit = settings_of("columbus").failover.swap_deadline / CLOCKS + SERVES_ON_WITHIN
        if self.ledger.longest_gap > limit:
            pause = self.ledger.longest_gap
            raise Violation("serves-through-dcs-loss", f"a pause of {pause:.2f} s, with no hand-over sent")

    def log_verifies(self) -> None:
        """Whatever was applied late, or twice tried: the audit log verifies, and tells of every term. (Of what was lost
        with it nothing tells, and what somebody deletes of it is missed.)
        """
        kvs = self.cluster.store.get_prefix(PREFIX).kvs
        broken = audit.flaws(kvs, PREFIX)
        if broken and not self._log_deleted:
            raise Violation("log-verifies", f"{broken[0].key} {broken[0].what}")
        told = {seal for entry in audit.document(kvs, PREFIX)["audit"] for seal in entry["seals"]}
        term = self.cluster.snapshot.term
        first = max(2, self._adopted_in + 1)
        missing = [
            n for n in range(first, (term.record.term if term else 0) + 1) if f"history/{n:010d}" not in told
        ]
        if missing and not self._log_deleted:
            raise Violation("log-verifies", f"no entry tells how term {missing[0]} began")
