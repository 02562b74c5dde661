"""How decisions are written to etcd: compares and writes as data. Pure.

**Every transaction compares the mod_revision of all that was reasoned from** (`leader`, `term`, `sync`, `swap`),
because a call that timed out may still be applied minutes later, when a hung member wakes: by then one of them
has changed, and the late write applies to nothing. Before anyone acts on "it was not applied", something is
written on top (`rewrite_sync`, `roll_back`): an unchanged rewrite changes the revision too.

What is kept for people is told in the audit log by the same transaction (`_told`): it takes the next number, which
must still be free.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sitecontrol.etcd.api import Compare, Delete, Put, Target
from sitecontrol.frozen import replace
from sitecontrol.leadership import audit
from sitecontrol.leadership.adopting import Adoption
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.swap_record import durations, of_swap, passed
from sitecontrol.records import (
    AuditHead,
    Deed,
    Desired,
    HistoryEntry,
    Initialize,
    InStep,
    Leader,
    Member,
    Phase,
    Planned,
    Position,
    Reached,
    Record,
    Swap,
    Sync,
    Term,
)
from sitecontrol.snapshot import LAST_NUMBER
from sitecontrol.view import Entry, Snapshot, audit_key

REASONED_FROM = ("leader", "term", "sync", "swap")


@dataclass(frozen=True, kw_only=True)
class Transaction:
    compares: tuple[Compare, ...]
    writes: tuple[Put | Delete, ...]
    audited: AuditHead | None = None  # the entry of the audit log that it writes


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Builds transactions for one node out of one picture of the cluster."""

    prefix: str
    cluster: Snapshot
    node: str
    site: str
    incarnation: str
    lease: int

    def _unchanged(self, *, seen: Iterable[str] = ()) -> tuple[Compare, ...]:
        """Nothing that was reasoned from has changed; an absent key (revision 0) must still be absent. In the place of
        what is not believed stands what was: such a transaction changes nothing, but for keys that it has `seen` to be
        bad, and must find just so.
        """
        return tuple(
            self._at(name, self._seen_at(name) if name in seen else self._believed_at(name))
            for name in REASONED_FROM
        )

    def _at(self, name: str, revision: int) -> Compare:
        return Compare(key=self.prefix + name, target=Target.MOD_REVISION, to=revision)

    def _believed_at(self, name: str) -> int:
        entry: Entry[Record] | None = getattr(self.cluster, name)
        return entry.mod_revision if entry else 0

    def _seen_at(self, name: str) -> int:
        """The revision of what stands there, believed or not."""
        bad = self.cluster.bad.get(name)
        return bad.mod_revision if bad is not None else self._believed_at(name)

    @property
    def _stray(self) -> tuple[str, ...]:
        """`leader`, where nobody is believed to lead: whoever takes the lead writes over what stands there."""
        return ("leader",) if self.cluster.leader is None else ()

    def _put(self, name: str, record: Record, lease: int = 0) -> Put:
        return Put(key=self.prefix + name, value=record.encode(), lease=lease)

    def _delete(self, name: str) -> Delete:
        return Delete(key=self.prefix + name)

    def _history(self, entry: HistoryEntry, suffix: str = "") -> Put:
        return self._put(f"history/{entry.term:010d}{suffix}", entry)

    def _transaction(self, *writes: Put | Delete, seen: Iterable[str] = ()) -> Transaction:
        return Transaction(compares=self._unchanged(seen=seen), writes=writes)

    def _told(self, transaction: Transaction, act: Act, *, term: int) -> Transaction:
        """The same, and told in the audit log. What is applied late finds its number taken, or is the next entry. Where
        somebody has put an entry under the last number of all it is done untold: the log stands in nobody's way.
        """
        if self.cluster.log_end.number >= LAST_NUMBER:
            return transaction
        puts = [write for write in transaction.writes if isinstance(write, Put)]
        seals = audit.seals_of(puts, self.prefix)
        entry = audit.next_entry(self.cluster, act, through=self.node, term=term, seals=seals)
        written = self._put(audit_key(entry.number), entry)
        head = AuditHead(number=entry.number, digest=audit.digest(written.value))
        free = Compare(key=written.key, target=Target.MOD_REVISION, to=0)
        return Transaction(
            compares=(*transaction.compares, free),
            writes=(*transaction.writes, written, self._put(audit.HEAD, head)),
            audited=head,
        )

    @property
    def term(self) -> int:
        return self.cluster.term.record.term if self.cluster.term else 0

    # -- beginnings -----------------------------------------------------------------------------------------

    def begin_bootstrap(self) -> Transaction:
        """Reserve the first start for as long as our lease lives; a crash leaves nothing behind.

        A reservation that is ours already is written anew: `bootstrap` from before it may have been sent and
        timed out, and can then no longer be applied to the data directory that we are about to throw away.
        """
        key = self.prefix + "initialize"
        known = self.cluster.initialize
        seen = Compare(key=key, target=Target.MOD_REVISION, to=known.mod_revision if known else 0)
        return Transaction(
            compares=(seen, *self._unchanged()),
            writes=(self._put("initialize", Initialize(system_id="0"), self.lease),),
        )

    def bootstrap(self, system_id: str, at: datetime, *, reserved_at: int) -> Transaction:
        """All first records at once, in place of our reservation; `reserved_at`: the revision that wrote it."""
        ours = Compare(key=self.prefix + "initialize", target=Target.MOD_REVISION, to=reserved_at)
        leader = self._leader(1)
        act = Act(what=Deed.BOOTSTRAP, by=f"agent {self.node}", at=at, about=f"{self.node} leads")
        first = Transaction(
            compares=(ours, *self._unchanged()),
            writes=(
                self._put("initialize", Initialize(system_id=system_id)),
                self._put("leader", leader, self.lease),
                self._put("term", Term(term=1)),
                self._put("sync", self._alone(1)),
                self._delete("reached"),
                self._history(
                    HistoryEntry(
                        term=1,
                        node=self.node,
                        site=self.site,
                        at=at,
                        kind="bootstrap",
                        by=f"agent {self.node}",
                    )
                ),
            ),
        )
        return self._told(first, act, term=1)

    # -- the lead -------------------------------------------------------------------------------------------

    def claim(self, kind: str, evidence: Mapping[str, str], at: datetime) -> Transaction:
        """Take the next term. `_unchanged` demands that `leader` is absent or holds the same stray value as
        when this was decided.
        """
        term = self.term + 1
        entry = HistoryEntry.model_validate(
            {
                "term": term,
                "node": self.node,
                "site": self.site,
                "at": at,
                "kind": kind,
                "by": f"agent {self.node}",
                "reason": "nobody led",
                "evidence": dict(evidence),
            }
        )
        act = Act(
            what=Deed.FAILOVER, by=entry.by, at=at, about=f"{self.node} takes the lead", reason=entry.reason
        )
        taken = self._transaction(
            self._put("leader", self._leader(term), self.lease),
            self._put("term", Term(term=term)),
            self._history(entry),
            seen=(*self._stray, "swap"),  # whoever leads then ends it
        )
        return self._told(taken, act, term=term)

    def reclaim(self) -> Transaction:
        """The same term again, with our new lease; `leader` must be absent and `sync` unchanged (or the same bad
        value: a leader that never stopped serving needs no word of it).
        """
        return self._transaction(
            self._put("leader", self._leader(self.term), self.lease), seen=(*self._stray, "sync", "swap")
        )

    def give_up(self) -> Transaction:
        return self._transaction(
            self._delete("leader"), self._put("term", Term(term=self.term, released_by=self.node))
        )

    # -- who is in step ----------------------------------------------------------------------------------------

    def narrow(self) -> Transaction:
        return self._transaction(self._put("sync", self._alone(self.term)))

    def rewrite_sync(self, standbys: tuple[InStep, ...]) -> Transaction:
        """`sync` with these standbys, as a new write even when it says so already."""
        serial = self.cluster.sync.record.serial + 1 if self.cluster.sync else 0
        changes = {"standbys": standbys, "serial": serial, "opens_above": self._opens_above()}
        return self._transaction(self._put("sync", self._alone(self.term).model_copy(update=changes)))

    def reached(self, nodes: tuple[Position, ...], system_id: str) -> Transaction:
        """How far these have come, if we still lead. No other transaction compares it: it is in nobody's way."""
        record = Reached(system_id=system_id, term=self.term, nodes=nodes)
        seen = self._at("leader", self._believed_at("leader")), self._at("reached", self._seen_at("reached"))
        return Transaction(compares=seen, writes=(self._put("reached", record),))

    # -- the swap ------------------------------------------------------------------------------------------------

    def request(self, swap: Swap, source: str = "") -> Transaction:
        """Ask for a swap: `swap` must be absent, and the picture that it was checked against unchanged."""
        act = of_swap(Deed.SWAP_ASKED, swap, swap.requested_at, source=source)
        return self._told(self._transaction(self._put("swap", swap)), act, term=self.term)

    def ask(self, swap: Swap, places: Iterable[str]) -> Transaction:
        """Health asks: as `request`, and neither what people want nor any word that speaks for it has changed. So an
        ask that is applied late, perhaps after the very swap was made or rolled back, changes nothing: each place
        writes its word anew every ten seconds.
        """
        desired, words = self.cluster.desired, self.cluster.observations
        seen = {"desired": desired.mod_revision if desired else 0} | {
            f"observations/{place}": words[place].mod_revision if place in words else 0 for place in places
        }
        reasoned_from = tuple(
            Compare(key=self.prefix + name, target=Target.MOD_REVISION, to=revision)
            for name, revision in seen.items()
        )
        request = self.request(swap)
        return Transaction(compares=(*request.compares, *reasoned_from), writes=request.writes)

    def advance(self, swap: Swap, *phases: Phase, at: datetime) -> Transaction:
        """The record in the last of `phases`, with a time for each."""
        return self._transaction(self._put("swap", passed(swap, *phases, at=at)))

    def hand_over(
        self,
        swap: Swap,
        *,
        target: Entry[Member],
        incarnation: str,
        site: str,
        own_timeline: int,
        shutdown_lsn: int,
        at: datetime,
    ) -> Transaction:
        """`leader` and `term` move to the target, under the target's own lease; we stay in step, being complete.

        Of the target's record, which is written anew each second, only what stays is compared: it is still the one of
        that agent, bound to that lease.
        """
        term = self.term + 1
        leader = Leader(node=swap.to_node, incarnation=incarnation, site=site, term=term)
        ourselves = InStep(
            node=self.node, incarnation=self.incarnation, timeline=own_timeline, lsn=shutdown_lsn
        )
        entry = HistoryEntry(
            term=term,
            node=swap.to_node,
            site=site,
            at=at,
            kind="swap",
            by=swap.by,
            reason=swap.reason,
            evidence={"from": self.node, "shutdown_lsn": str(shutdown_lsn), **(swap.evidence or {})},
        )
        handed = self._transaction(
            self._put("leader", leader, target.lease),
            self._put("term", Term(term=term)),
            self._put(
                "sync",
                Sync(term=term, leader=swap.to_node, leader_incarnation=incarnation, standbys=(ourselves,)),
            ),
            self._put("swap", passed(swap, Phase.FLUSHED, Phase.HANDED, at=at)),
            self._history(entry),
        )
        told = self._told(handed, of_swap(Deed.SWAP_HANDED, swap, at), term=term)
        return replace(told, compares=(*told.compares, *self._same_agent(swap.to_node, target)))

    def _same_agent(self, node: str, member: Entry[Member]) -> tuple[Compare, ...]:
        key = f"{self.prefix}members/{node}"
        return (
            Compare(key=key, target=Target.CREATE_REVISION, to=member.create_revision),
            Compare(key=key, target=Target.LEASE, to=member.lease),
        )

    def roll_back(self, swap: Swap, reason: str, at: datetime) -> Transaction:
        """End the swap before its hand-over. The delete is the write that bars a late hand-over."""
        ended = passed(swap, Phase.ROLLED_BACK, at=at)
        entry = HistoryEntry(
            term=self.term,
            node=self.node,
            site=self.site,
            at=at,
            kind="swap rolled back",
            by=swap.by,
            reason=reason[:500],
            evidence={
                "id": swap.id,
                "from": swap.from_node,
                "to": swap.to_node,
                "asked_because": swap.reason,
                **(swap.evidence or {}),
            },
            steps=ended.times,
            durations_ms=durations(ended),
        )
        ending = self._transaction(self._delete("swap"), self._history(entry, f"-{swap.id}"))
        act = of_swap(Deed.SWAP_ROLLED_BACK, swap, at, reason=reason)
        return self._told(ending, act, term=self.term)

    def finish(self, swap: Swap, at: datetime) -> Transaction:
        """The completed swap goes to the history of its term, with how long each phase took."""
        done = passed(swap, Phase.IN_STEP, at=at)
        entry = HistoryEntry(
            term=self.term,
            node=self.node,
            site=self.site,
            at=swap.requested_at,
            kind="swap",
            by=swap.by,
            reason=swap.reason,
            evidence={"from": swap.from_node, "id": swap.id, **(swap.evidence or {})},
            steps=done.times,
            durations_ms=durations(done),
        )
        ending = self._transaction(self._delete("swap"), self._history(entry))
        return self._told(ending, of_swap(Deed.SWAP_DONE, swap, at), term=self.term)

    def begin_planned(self, swap: Swap, desired: Desired) -> Transaction:
        """As `request`, of a swap whose time has come; `desired` plans it no more. So it begins once, or not at all."""
        begun = self._transaction(self._put("swap", swap), self._put("desired", desired))
        act = of_swap(Deed.SWAP_ASKED, swap, swap.requested_at)
        return self._told(self._same_wishes(begun), act, term=self.term)

    def drop_planned(self, planned: Planned, desired: Desired, reason: str, at: datetime) -> Transaction:
        """A planned swap that cannot begin: the history tells why, as of one that was rolled back."""
        told = {"id": planned.id, "to": planned.to, "planned_for": planned.at.isoformat()}
        entry = HistoryEntry(
            term=self.term,
            node=self.node,
            site=self.site,
            at=at,
            kind="swap rolled back",
            by=planned.by,
            reason=reason[:500],
            evidence={**told, "asked_because": planned.reason},
        )
        dropped = self._transaction(self._put("desired", desired), self._history(entry, f"-{planned.id}"))
        about = f"to {planned.to}, swap {planned.id}"
        act = Act(what=Deed.SWAP_ROLLED_BACK, by=planned.by, at=at, about=about, reason=reason)
        return self._told(self._same_wishes(dropped), act, term=self.term)

    def _same_wishes(self, transaction: Transaction) -> Transaction:
        unchanged = self._at("desired", self._believed_at("desired"))
        return Transaction(compares=(*transaction.compares, unchanged), writes=transaction.writes)

    # -- what people want --------------------------------------------------------------------------------------

    def want(self, desired: Desired, act: Act) -> Transaction:
        """In place of what was wanted so far; only that is compared, whoever leads."""
        unchanged = self._at("desired", self._seen_at("desired"))
        wanted = Transaction(compares=(unchanged,), writes=(self._put("desired", desired),))
        return self._told(wanted, act, term=self.term)

    def trust(self, act: Act, timeline: int) -> Transaction:
        """A person says that we lead on, if still nobody leads: `sync` of us alone, over what is not believed or names
        others, and nothing of what anybody had reached counts any more. The history tells of it, too, beside the term
        that it follows. `timeline`: ours, of which others may hold more.
        """
        compares = tuple(self._at(each, self._seen_at(each)) for each in REASONED_FROM)
        entry = audit.by_word(act, self.term, self.node, self.site)
        word = "forced" if act.what is Deed.FORCED else "trusted"
        writes = (
            self._put("sync", self._alone(self.term).model_copy(update={"opens_above": timeline or None})),
            self._delete("reached"),
            self._history(entry, f"-{word}-{self._seen_at('sync')}"),
        )
        return self._told(Transaction(compares=compares, writes=writes), act, term=self.term)

    def adopt(self, adoption: Adoption, act: Act) -> Transaction:
        """What the nodes know in the place of records that etcd has lost, if all is as it was seen."""
        node, initialize, term, sync = adoption.node, adoption.initialize, adoption.term, adoption.sync
        if node is None or initialize is None or term is None or sync is None:
            raise ValueError(f"nothing may be written: {adoption.obstacles}")
        names = ("initialize", *REASONED_FROM)
        entry = audit.by_word(act, term.term, node.node, node.site)
        writes = (
            self._put("initialize", initialize),
            self._put("term", term),
            self._put("sync", sync),
            self._history(entry, f"-adopted-{self.cluster.revision}"),
        )
        compares = tuple(self._at(each, self._seen_at(each)) for each in names)
        return self._told(Transaction(compares=compares, writes=writes), act, term=term.term)

    # -- what is told afterwards ---------------------------------------------------------------------------------

    def note(self, act: Act) -> Transaction:
        """Nothing but an entry of the log."""
        return self._told(Transaction(compares=self._calm(), writes=()), act, term=self.term)

    def timed(self, term: int, durations_ms: Mapping[str, int], at: datetime) -> Transaction | None:
        """How long each phase of the failover to this term took. None: its entry is gone, or tells it already."""
        key = f"{term:010d}"
        known = self.cluster.history.get(key)
        if known is None or known.record.node != self.node or known.record.durations_ms:
            return None
        entry = known.record.model_copy(update={"durations_ms": dict(durations_ms)})
        same = Compare(key=f"{self.prefix}history/{key}", target=Target.MOD_REVISION, to=known.mod_revision)
        timed = Transaction(compares=(*self._calm(), same), writes=(self._history(entry),))
        took = ", ".join(f"{name} {ms} ms" for name, ms in durations_ms.items())
        act = Act(
            what=Deed.FAILOVER_DONE,
            by=entry.by,
            at=at,
            about=f"{self.node} is open in term {term}",
            reason=took,
        )
        return self._told(timed, act, term=term)

    def _calm(self) -> tuple[Compare, ...]:
        """The same leader leads, and no swap is under way: what is only told takes its number from no claim and no
        hand-over, for whoever decides on one of these has seen all that was told before.
        """
        leader = self.cluster.leader
        led = leader.mod_revision if leader else -1  # nobody: it shall not be written
        return (
            Compare(key=self.prefix + "leader", target=Target.MOD_REVISION, to=led),
            Compare(key=self.prefix + "swap", target=Target.MOD_REVISION, to=0),
        )

    # -- what is not believed ------------------------------------------------------------------------------------

    def mend(self, name: str, *, system_id: str, waited_for: Collection[str], at: datetime) -> Transaction:
        """Write what is believed over what stands there, if all that `mending` reasons from is as it was seen.

        `waited_for`: the standbys that our commits wait for, of which alone `sync` may speak.
        """
        names = dict.fromkeys((name, *REASONED_FROM))
        compares = tuple(self._at(each, self._seen_at(each)) for each in names)
        bad = self.cluster.bad.get(name)
        why = bad.why if bad is not None else "contradicts what the leader holds"
        act = Act(what=Deed.MENDED, by=f"agent {self.node}", at=at, about=name, reason=f"{name} {why}"[:500])
        mended = Transaction(compares=compares, writes=(self._mended(name, system_id, waited_for),))
        return self._told(mended, act, term=self.term)

    def _mended(self, name: str, system_id: str, waited_for: Collection[str]) -> Put | Delete:
        entry: Entry[Record] | None = getattr(self.cluster, name)
        if name == "sync":
            return self._put(name, self._known_in_step(waited_for))
        if name == "initialize":
            return self._put(name, Initialize(system_id=system_id))
        if entry is None:
            return self._delete(name)
        return self._put(name, entry.record, self.lease if name == "leader" else 0)

    def _known_in_step(self, waited_for: Collection[str]) -> Sync:
        """What is believed, of this term and of standbys that are waited for. Fewer are always true."""
        known = self.cluster.sync.record if self.cluster.sync else None
        alone = self._alone(self.term).model_copy(update={"opens_above": self._opens_above()})
        if known is None or (known.term, known.leader) != (alone.term, alone.leader):
            return alone
        staying = tuple(standby for standby in known.standbys if standby.node in waited_for)
        return alone.model_copy(update={"standbys": staying, "serial": known.serial + 1})

    # -- parts -------------------------------------------------------------------------------------------------

    def _leader(self, term: int) -> Leader:
        return Leader(node=self.node, incarnation=self.incarnation, site=self.site, term=term)

    def _opens_above(self) -> int | None:
        """A person's word about this data stands until `sync` is narrowed, which is on a timeline of its own."""
        return self.cluster.sync.record.opens_above_with(self.incarnation) if self.cluster.sync else None

    def _alone(self, term: int) -> Sync:
        return Sync(term=term, leader=self.node, leader_incarnation=self.incarnation)
