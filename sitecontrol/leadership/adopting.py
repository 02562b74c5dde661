"""etcd has lost `initialize`, `term` or `sync`: what they become, from what the nodes know. Pure: a dry run and the act
itself ask the same.

Nothing is guessed. Who serves holds everything, for nobody could take the lead without etcd. While nobody serves:

* a node that is not heard may hold more, unless a person counts it as gone;
* on several timelines the row of the database decides, which whoever leads writes before anything is acknowledged:
  the nodes that have the row of the latest term. On one timeline, whoever wrote it holds all that others have of it;
  without that one, whoever of those that run has received most;
* where a row or a position cannot be read, for PostgreSQL is stopped, or where two have written a timeline of the same
  number, a person has to say who holds everything.

The term goes on from the latest one that a row tells of; a person has to say it where no row can be read. While nobody
serves it skips `UNSEEN`, for there may have been terms that nobody came to write a row in.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replication import lsn
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.records import BEGINS_ANEW, Initialize, Sync, Term

UNSEEN = 100  # terms
LOST = ("initialize", "term", "sync")


@dataclass(frozen=True, kw_only=True)
class Node:
    """What a node's agent told a moment ago: its `GET /status`, or None when it is not heard."""

    node: str
    site: str
    told: Mapping[str, Any] | None
    canary_max_age: float

    def _get(self, name: str) -> Any:
        return None if self.told is None else self.told["postgres"].get(name)

    @property
    def has_data(self) -> bool:
        """Of a cluster: what a first start left unfinished is nothing."""
        return self._get("incarnation") is not None and not self._get("unfinished")

    @property
    def incarnation(self) -> str:
        return str(self._get("incarnation"))

    @property
    def system_id(self) -> str | None:
        known = self._get("system_id")
        return None if known is None else str(known)

    @property
    def row_term(self) -> int | None:
        known = self._get("row_term")
        return None if known is None else int(known)

    @property
    def serves_in(self) -> int | None:
        """The term in which its PostgreSQL is open, and commits: one that was cut off may be open, and waits."""
        primary, term = self.is_primary, self._get("open_term")
        age = self.told.get("canary_age_s") if self.told is not None else None
        return (
            int(term)
            if primary and term is not None and age is not None and age <= self.canary_max_age
            else None
        )

    @property
    def begins_anew(self) -> bool:
        """Its agent is of a version that has its PostgreSQL begin a timeline of its own where a record says so."""
        return self.told is not None and int(self.told.get("writes_format", 1)) >= BEGINS_ANEW

    @property
    def streams(self) -> bool:
        return bool(self._get("streaming"))

    @property
    def follows(self) -> str | None:
        """From whom it was told to receive."""
        known = self._get("follows")
        return None if known is None else str(known)

    @property
    def wrote(self) -> bool:
        """It was the last primary of its timeline, as far as itself knows."""
        was = self._get("state") == PgState.STOPPED.value and self._get("was_primary")
        return self.is_primary or bool(was)

    @property
    def is_primary(self) -> bool:
        return bool(self._get("state") == PgState.PRIMARY.value)

    @property
    def runs(self) -> bool:
        """Its position is exact; of one that is stopped it has at least that."""
        return self._get("state") in (PgState.PRIMARY.value, PgState.STANDBY.value)

    @property
    def timeline(self) -> int:
        return int(self._get("timeline") or 0)

    @property
    def position(self) -> int:
        return max(int(self._get("lsn") or 0), int(self._get("replayed_lsn") or 0))

    def document(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "site": self.site,
            "reached": self.told is not None,
            "state": self._get("state"),
            "system_id": self.system_id,
            "timeline": self.timeline,
            "lsn": lsn.show(self.position),
            "row_term": self.row_term,
            "serves": self.serves_in is not None,
        }


@dataclass(frozen=True, kw_only=True)
class Word:
    """What a person adds to what the nodes know."""

    node: str | None = None  # holds everything
    gone: Collection[str] = ()  # for good
    term: int | None = None  # no later one was granted


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What would be written, if nothing is in the way."""

    obstacles: tuple[str, ...]
    node: Node | None = None
    initialize: Initialize | None = None
    term: Term | None = None
    sync: Sync | None = None
    comes: tuple[str, ...] = ()


def adoption(f: Facts, nodes: Sequence[Node], word: Word) -> Adoption:
    found = [*_not_needed(f), *_not_decided(f, nodes, word)]
    ours = _ours(f, nodes)
    chosen = _chosen(ours, word)
    if chosen is not None and chosen.serves_in is None and not chosen.begins_anew:
        found.append(
            f"the agent of {chosen.node} is of an earlier version, which would go on in a timeline that others may hold"
            f" more of: upgrade {chosen.node} first, or say who else holds everything (--to NODE)"
        )
    term = _term(f, ours, chosen, word)
    if chosen is not None and term is None:
        found.append(
            "no node's database can be asked for its last term: say which one no other was after (--term)"
        )
    if found or chosen is None or term is None or chosen.system_id is None:
        return Adoption(obstacles=tuple(found), node=chosen)
    return Adoption(
        obstacles=(),
        node=chosen,
        initialize=Initialize(system_id=chosen.system_id),
        term=Term(term=term),
        sync=Sync(
            term=term,
            leader=chosen.node,
            leader_incarnation=chosen.incarnation,
            opens_above=chosen.timeline or None if chosen.serves_in is None else None,
        ),
        comes=tuple(_comes(nodes, chosen, term)),
    )


def lost(f: Facts) -> tuple[str, ...]:
    """The records that are not there, or not believed."""
    return tuple(name for name in LOST if f.bad(name) or getattr(f.cluster, name) is None)


def _not_needed(f: Facts) -> Iterator[str]:
    if not f.etcd_here or not f.lease_safe or not f.cluster_read:
        yield f"{f.node} does not reach etcd: what it has is not known"
    if f.leader is not None:
        yield f"{f.leader.record.node} leads, and writes the records itself: there is nothing to adopt"
    elif not lost(f):
        yield "`initialize`, `term` and `sync` are there and believed: there is nothing to adopt"
    for name in LOST:
        if name in f.cluster.bad and f.of_later_version(f.cluster.bad[name]):
            yield f"a later version of this program wrote `{name}`: upgrade {f.node} first"
    if f.cluster.initialize is not None and f.cluster.initialize.lease:
        yield "a first start is under way: wait for its end"


def _not_decided(f: Facts, nodes: Sequence[Node], word: Word) -> Iterator[str]:
    """Why the nodes do not tell who holds everything."""
    ours = _ours(f, nodes)
    serving = [n for n in ours if n.serves_in is not None]
    for node in nodes:
        if node.told is None and node.node not in word.gone and not serving:
            cure = f"start its agent, or count it as gone (--gone {node.node})"
            yield f"{node.node} is not heard, and may hold more: {cure}"
        if node.told is not None and node.node in word.gone:
            yield f"{node.node} is heard: it is not gone"
    if not ours:
        yield "no node that is heard has data of a cluster"
        return
    ids = {n.system_id or "unknown" for n in ours}
    if len(ids) > 1 or "unknown" in ids:
        each = ", ".join(f"{n.node} {n.system_id or 'unknown'}" for n in ours)
        yield f"the nodes have data of different clusters (system identifiers: {each}): move away what is not ours"
    if len(serving) > 1:
        yield f"{' and '.join(n.node for n in serving)} both serve: stop the one that is not to lead"
    if word.node is not None and word.node not in {n.node for n in ours}:
        yield f"{word.node} is not heard, or has no data of this cluster"
    elif serving and word.node not in (None, serving[0].node):
        yield f"{serving[0].node} serves, so it holds everything, and {word.node} cannot lead beside it"
    if not serving:
        closed = {n.node for n in nodes if n.is_primary}  # they are heard, and do not serve
        for node in ours:
            if node.streams and node.follows not in closed:
                yield f"{node.node} receives from somebody who serves, and is not heard: start that agent"
        if word.node is None and _furthest(ours) is None:
            each = ", ".join(f"{n.node} timeline {n.timeline}, {_row(n)}" for n in ours)
            yield f"who holds everything cannot be decided ({each}): say it (--to NODE)"


def _ours(f: Facts, nodes: Sequence[Node]) -> list[Node]:
    """Those that have data; of another cluster only if nothing tells which one is ours."""
    known = f.cluster.initialize
    expected = None if known is None or known.lease or f.bad("initialize") else known.record.system_id
    return [n for n in nodes if n.has_data and expected in (None, n.system_id)]


def _chosen(ours: Sequence[Node], word: Word) -> Node | None:
    serving = next((n for n in ours if n.serves_in is not None), None)
    if serving is not None or not ours:
        return serving
    if word.node is not None:
        return next((n for n in ours if n.node == word.node), None)
    return _furthest(ours)


def _furthest(ours: Sequence[Node]) -> Node | None:
    """The one that holds all that the others do; None: nothing shows which one."""
    rows = [n.row_term for n in ours if n.row_term is not None]
    latest = [n for n in ours if n.row_term == max(rows)] if len(rows) == len(ours) else list(ours)
    if len({n.timeline for n in latest}) > 1:
        return None
    wrote = [n for n in latest if n.wrote]
    if len(wrote) == 1 or len(latest) == 1:
        return (wrote or latest)[0]
    if wrote or not all(n.runs for n in latest):
        return None
    return max(latest, key=lambda n: (n.position, n.node))


def _term(f: Facts, ours: Sequence[Node], chosen: Node | None, word: Word) -> int | None:
    """A serving node goes on in its own term; else one that is after all that can have been granted."""
    if chosen is not None and chosen.serves_in is not None:
        return chosen.serves_in
    if "term" not in lost(f):
        return f.term
    rows = [n.row_term for n in ours if n.row_term is not None]
    told = [*rows, *([f.term] if f.term else [])]
    if word.term is not None:
        return max([word.term, *told])
    return max(told) + UNSEEN if rows else None


def _comes(nodes: Sequence[Node], chosen: Node, term: int) -> Iterator[str]:
    if chosen.serves_in is not None:
        yield f"{chosen.node} serves, and goes on in term {term}"
    else:
        at = f"timeline {chosen.timeline}, {lsn.show(chosen.position)}"
        alone = f"{chosen.node} ({at}) counts as the only one that holds everything"
        yield f"{alone}, and takes the lead in term {term + 1}"
    for other in nodes:
        if other.node == chosen.node:
            continue
        if other.told is None:
            yield f"{other.node} is not heard: acknowledged messages that it alone has are lost"
        elif not other.has_data:
            yield f"{other.node} has no data, and is cloned"
        elif other.timeline == chosen.timeline and other.position <= chosen.position:
            yield f"{other.node} has no more than {chosen.node}, and follows"
        else:
            yield f"{other.node} may have more ({_row(other)}): what it alone holds is set aside when it follows"
    yield "etcd may have a snapshot: to restore that instead keeps the history and the audit log (docs/etcd.md)"


def _row(node: Node) -> str:
    return "its row cannot be read" if node.row_term is None else f"row of term {node.row_term}"
