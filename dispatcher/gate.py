"""Whether requests may go to the database now, to which node, and whether this site sends.

Pure: a picture of etcd and what our connections told go in, a `Gate` comes out. `TABLE` is read from the top
and the first row that holds decides; each row has a sentence that an operator can read.

Rules:

* The gate protects nothing that must be safe: the database knows its leader and refuses a wrong one
  (failover rule 8). It only keeps us from asking where the answer is sure to be no, and holds requests.
* No leader in etcd, or no etcd at all: the last known leader is asked until another shows.
* A swap holds production only while etcd vouches for the leader, or its database is closed. Without etcd nothing can be
  handed over nor rolled back: an old leader that is open and commits serves on, as without a swap.
* A leader is believed to be open only when its own database said so, in this very term. That is why a swap's
  phases after the hand-over need no rows of their own: the new leader is asked until it is open.
* While etcd does not vouch for the leader (it is silent, or its key is gone), open means that its canary is
  fresh, too: then it still commits, and nobody else was promoted (failover.md, "When etcd is lost").
* A term never goes back: a picture that is older than what we know is not followed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sitecontrol.records import Leader, Phase, Swap
from sitecontrol.settings import Egress
from sitecontrol.settings_types import Name
from sitecontrol.view import Snapshot

MOVING = frozenset({Phase.HELD, Phase.FLUSHED, Phase.HANDED, Phase.PROMOTED})


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that the decision rests on."""

    here: Name  # our own site
    egress: Egress
    leader: Leader | None  # the newest leader that we have seen, even if etcd or its key is gone
    swap: Swap | None
    site: Name | None  # the leader's site by our own settings, None when they do not name its node
    connected: bool  # a warm connection to the leader's node stands
    opened: int | None  # the term in which the leader's database said that it is open
    vouched: bool  # etcd spoke a moment ago, and names this leader


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The decision. `swap` is the id of the swap for which production is held."""

    rule: str
    sentence: str
    node: Name | None
    site: Name | None
    term: int
    open: bool
    may_send: bool
    swap: str | None


@dataclass(frozen=True, kw_only=True)
class Row:
    rule: str
    holds: Callable[[Facts], bool]
    sentence: str
    open: bool = False
    may_send: bool = False


def _moving(facts: Facts) -> bool:
    """A swap has stopped the old leader's traffic and has not handed over yet."""
    swap, leader = facts.swap, facts.leader
    return swap is not None and leader is not None and swap.phase in MOVING and leader.term <= swap.term


def _not_open(facts: Facts) -> bool:
    return facts.leader is not None and facts.opened != facts.leader.term


def _elsewhere(facts: Facts) -> bool:
    return facts.egress is Egress.LIVE_SITE and facts.site != facts.here


TABLE: tuple[Row, ...] = (
    Row(
        rule="no-leader",
        holds=lambda f: f.leader is None,
        sentence="No leader was seen since this process started: requests are held until etcd names one.",
    ),
    Row(
        rule="unlisted",
        holds=lambda f: f.site is None,
        sentence="The leader {node} is not in this place's settings: requests are held; add it.",
    ),
    Row(
        rule="swap",
        holds=lambda f: _moving(f) and (f.vouched or _not_open(f)),
        sentence="Production moves from {swap_from} to {swap_to} (phase {phase}): requests are held.",
    ),
    Row(
        rule="not-connected",
        holds=lambda f: not f.connected,
        sentence="No connection to the leader {node} stands: requests are held while one is made.",
    ),
    Row(
        rule="unproved",
        holds=lambda f: _not_open(f) and not f.vouched,
        sentence="Neither etcd nor a fresh canary in an open database shows that {node} leads in term {term}: requests"
        " are held.",
    ),
    Row(
        rule="not-open",
        holds=_not_open,
        sentence="The leader {node} has not let dispatchers in for term {term}: requests are held.",
    ),
    Row(
        rule="open-elsewhere",
        holds=_elsewhere,
        sentence="Production is in {site}: requests are taken here and written there; that site sends.",
        open=True,
    ),
    Row(
        rule="open",
        holds=lambda _: True,
        sentence="The leader {node} is open in term {term}: requests are taken, and this site sends.",
        open=True,
        may_send=True,
    ),
)


def newest_leader(known: Leader | None, snapshot: Snapshot) -> Leader | None:
    """The leader to follow: the one in the picture, unless there is none or it is of an older term."""
    seen = snapshot.leader.record if snapshot.leader is not None else None
    if seen is None or (known is not None and seen.term < known.term):
        return known
    return seen


def decide(facts: Facts) -> Gate:
    row = next(row for row in TABLE if row.holds(facts))
    leader, swap = facts.leader, facts.swap
    return Gate(
        rule=row.rule,
        sentence=row.sentence.format(
            node=leader.node if leader else None,
            term=leader.term if leader else None,
            site=facts.site,
            swap_from=swap.from_node if swap else None,
            swap_to=swap.to_node if swap else None,
            phase=swap.phase.value if swap else None,
        ),
        node=leader.node if leader and facts.site else None,
        site=facts.site,
        term=leader.term if leader else 0,
        open=row.open,
        may_send=row.may_send,
        swap=swap.id if swap is not None and row.rule == "swap" else None,
    )
