"""Which site is live, how safe its promises are, and who would take over: worked out from all sources. Pure.

Theory. etcd names the leader, and the leader's database knows that it leads. When both are seen and agree
there is nothing to explain. When etcd is lost the database goes on being right, since nobody can take the
lead without etcd; when the database is not seen from here etcd is right. Whatever is shown says which of the
two it rests on, and a picture that rests on neither says that it is old. Without etcd's word an open database is
believed only while its canary moves: when that is late, its agent and its dispatchers have closed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from healthcheck.board import Row
from healthcheck.reports import AgentReport, tolerant
from healthcheck.targets import What
from sitecontrol.records import Phase, Swap
from sitecontrol.settings import Settings
from sitecontrol.view import Snapshot

# Between these a swap has stopped the old leader and not yet opened the new one.
MOVING = {Phase.HELD, Phase.FLUSHED, Phase.HANDED, Phase.PROMOTED}


class LiveState(StrEnum):
    LIVE = "live"
    MOVING = "moving"  # production is on its way from one site to the other
    OPENING = "opening"  # somebody leads, and its database is not open yet
    NOBODY = "nobody"  # no leader, or one that has closed
    OLD = "as last known"  # neither etcd nor a database tells
    UNKNOWN = "unknown"  # nothing was ever seen


class Durability(StrEnum):
    TWO_SITE = "two-site"
    ONE_SITE = "one-site"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Live:
    state: LiveState
    site: str | None
    node: str | None
    term: int
    durability: Durability
    sentence: str

    @property
    def serving_site(self) -> str | None:
        """The site that takes writes; None while production is on its way."""
        return self.site if self.state in {LiveState.LIVE, LiveState.OLD} else None


@dataclass(frozen=True, kw_only=True)
class Open:
    """A node that says that it takes writes."""

    node: str
    term: int
    durability: str | None


@dataclass(frozen=True, kw_only=True)
class Heir:
    """A node that could take over, or what stands in its way."""

    node: str
    site: str | None
    could: bool
    reasons: tuple[str, ...]


def open_nodes(rows: Sequence[Row]) -> list[Open]:
    """Nodes that take writes by their database's word, or where that is not seen, by their agent's."""
    told: dict[str, Open | None] = {}
    for row in rows:
        if row.target.what is What.AGENT and row.last and row.last.ok:
            raw = row.last.evidence.get("report")
            report = tolerant(AgentReport, raw) if isinstance(raw, dict) else AgentReport()
            is_open = report.is_open and report.role == "leader"
            found = Open(node=row.target.of, term=report.term or 0, durability=report.durability)
            told.setdefault(row.target.of, found if is_open else None)
    for row in rows:
        if row.target.what is What.POSTGRES and row.last and row.last.ok:
            state = row.last.evidence
            is_open = state.get("is_open") is True and state.get("in_recovery") is False
            told[row.target.of] = _open(row.target.of, state) if is_open else None
    return sorted((o for o in told.values() if o is not None), key=lambda o: o.term, reverse=True)


def _open(node: str, state: Mapping[str, object]) -> Open:
    term, durability = state.get("term"), state.get("durability")
    return Open(
        node=node,
        term=term if isinstance(term, int) else 0,
        durability=durability if isinstance(durability, str) else None,
    )


def live(settings: Settings, snapshot: Snapshot, rows: Sequence[Row], *, etcd_answers: bool) -> Live:
    leader = snapshot.leader.record if snapshot.leader else None
    swap = snapshot.swap.record if snapshot.swap else None
    opened = open_nodes(rows)
    best = opened[0] if opened else None
    if swap is not None and swap.phase in MOVING and etcd_answers:
        return _moving(settings, snapshot, swap, leader.term if leader else swap.term)
    if leader is not None and (best is None or best.term <= leader.term or best.node == leader.node):
        mine = next((o for o in opened if o.node == leader.node), None)
        if mine is not None and not etcd_answers and _still(rows, mine.node):
            return _closed(mine, etcd_answers=etcd_answers)
        seen = any(
            r.target.what is What.POSTGRES and r.target.of == leader.node and r.standing.verdict.alive
            for r in rows
        )
        state, sentence = _led(leader.node, mine, seen=seen, etcd_answers=etcd_answers)
        return Live(
            state=state,
            site=leader.site,
            node=leader.node,
            term=leader.term,
            durability=_durability(settings, snapshot, mine, etcd_answers=etcd_answers),
            sentence=sentence,
        )
    if best is not None and _still(rows, best.node):
        return _closed(best, etcd_answers=etcd_answers)
    if best is not None:
        return Live(
            state=LiveState.LIVE,
            site=settings.site_of(best.node),
            node=best.node,
            term=best.term,
            durability=_durability(settings, snapshot, best, etcd_answers=False),
            sentence=f"By the word of {best.node}'s own database; etcd "
            + ("names no leader at the moment." if etcd_answers else "does not answer."),
        )
    term = snapshot.term.record.term if snapshot.term else 0
    if snapshot.read_at is None:
        state, sentence = LiveState.UNKNOWN, "Neither etcd nor a database has been seen yet."
    elif etcd_answers:
        state, sentence = LiveState.NOBODY, "etcd names no leader, and no database takes writes."
    else:
        state, sentence = (
            LiveState.UNKNOWN,
            "etcd does not answer, and no database that takes writes is seen.",
        )
    return Live(
        state=state, site=None, node=None, term=term, durability=Durability.UNKNOWN, sentence=sentence
    )


def _closed(found: Open, *, etcd_answers: bool) -> Live:
    why = "etcd names no leader" if etcd_answers else "etcd does not answer"
    return Live(
        state=LiveState.NOBODY,
        site=None,
        node=found.node,
        term=found.term,
        durability=Durability.UNKNOWN,
        sentence=f"{why}, and the canary of {found.node} stands still: it takes nothing until one of them is back.",
    )


def _still(rows: Sequence[Row], node: str) -> bool:
    """The node's canary is seen to stand still."""
    return any(
        row.target.what is What.CANARY and row.target.of == node and row.standing.verdict.dead for row in rows
    )


def _led(node: str, mine: Open | None, *, seen: bool, etcd_answers: bool) -> tuple[LiveState, str]:
    if mine is not None:
        if etcd_answers:
            return LiveState.LIVE, f"etcd names {node}, and its database takes writes."
        return LiveState.LIVE, f"{node}'s database takes writes; etcd does not answer."
    if not etcd_answers:
        return (
            LiveState.OLD,
            f"{node} led when etcd last spoke; neither etcd nor its database is seen from here.",
        )
    if seen:
        return LiveState.OPENING, f"etcd names {node}; its database is not open yet."
    return LiveState.LIVE, f"etcd names {node}; its database is not seen from here."


def _moving(settings: Settings, snapshot: Snapshot, swap: Swap, term: int) -> Live:
    site = settings.site_of(swap.to_node)
    return Live(
        state=LiveState.MOVING,
        site=site,
        node=swap.to_node,
        term=term,
        durability=_durability(settings, snapshot, None, etcd_answers=True),
        sentence=f"Production moves from {swap.from_node} to {swap.to_node}: {swap.phase.value}.",
    )


def _durability(
    settings: Settings, snapshot: Snapshot, mine: Open | None, *, etcd_answers: bool
) -> Durability:
    """By `sync` in etcd; by the leader's database when etcd is silent."""
    if snapshot.sync is not None and etcd_answers:
        sync = snapshot.sync.record
        home = settings.site_of(sync.leader)
        other = any(settings.site_of(s.node) != home for s in sync.standbys)
        return Durability.TWO_SITE if other else Durability.ONE_SITE
    if mine is not None and mine.durability in {Durability.TWO_SITE, Durability.ONE_SITE}:
        return Durability(mine.durability)
    return Durability.UNKNOWN


def heirs(settings: Settings, snapshot: Snapshot) -> tuple[Heir, ...]:
    """Who would take over if the leader died now, best first, and what stands in the others' way."""
    if snapshot.sync is None:
        return ()
    sync = snapshot.sync.record
    in_step = {s.node: s for s in sync.standbys}
    found = []
    for place in settings.place:
        for node in place.nodes:
            if node.name == sync.leader:
                continue
            reasons: list[str] = []
            member = snapshot.members.get(node.name)
            if node.name not in in_step:
                reasons.append("not in step: it may lack messages that were acknowledged")
            elif member is not None and member.record.incarnation != in_step[node.name].incarnation:
                reasons.append("its data directory is not the one that was in step")
            if member is None:
                reasons.append("its agent does not report")
            elif not member.record.ready:
                reasons += member.record.reasons or ("its agent says that it is not ready",)
            found.append(Heir(node=node.name, site=place.name, could=not reasons, reasons=tuple(reasons)))
    home = settings.site_of(sync.leader)
    return tuple(sorted(found, key=lambda h: (not h.could, h.site != home, h.node)))


@dataclass(frozen=True, kw_only=True)
class Held:
    """A value and since when it holds; `exact` is false when it held already at the first sight."""

    value: str
    since: datetime
    exact: bool


def remember(before: Held | None, value: str, at: datetime) -> Held:
    if before is not None and before.value == value:
        return before
    return Held(value=value, since=at, exact=before is not None)
