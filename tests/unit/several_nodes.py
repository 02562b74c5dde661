"""Facts of a cluster with two nodes in each site: columbus-a leads, and the other three are in step."""

from dataclasses import replace
from typing import Any

from sitecontrol.leadership.facts import Facts, LeaseFacts, PgFacts, SlotFacts, StandbyFacts
from sitecontrol.leadership.slots import slot_of
from sitecontrol.records import Member, Role
from sitecontrol.view import Entry, Snapshot
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    at_columbus,
    cluster,
    entry,
    member,
    primary,
    standby,
    sync,
)

NEAR, FAR = "columbus-b", "denver-b"
SITE_OF = {COLUMBUS: "columbus", NEAR: "columbus", DENVER: "denver", FAR: "denver"}
LEASES = {COLUMBUS: OUR_LEASE, NEAR: 21, DENVER: 22, FAR: 23}


def told(node: str, **change: Any) -> Entry[Member]:
    """The record of a node."""
    role = Role.LEADER if node == COLUMBUS else Role.STANDBY
    home = DENVER if SITE_OF[node] == "denver" else COLUMBUS
    values = {"node": node, "incarnation": f"disk-{node}", "role": role} | change
    return entry(member(home).model_copy(update=values), LEASES[node])


def four(*in_step: str, members: dict[str, Entry[Member]] | None = None, **change: Any) -> Snapshot:
    """Columbus-a leads with these in step; `members` in place of their usual records."""
    known = {node: told(node) for node in SITE_OF} | (members or {})
    return cluster(members=known, sync=entry(sync(COLUMBUS, *(in_step or (NEAR, DENVER, FAR)))), **change)


def streams(node: str, **change: Any) -> StandbyFacts:
    values: dict[str, Any] = {"flush_lsn": 1_000, "replay_lsn": 1_000, "moved_at": 100.0, "streaming": True}
    return StandbyFacts(name=node, **(values | change))


def serving(*names: str, **change: Any) -> PgFacts:
    """The leader's PostgreSQL: the three stream, and commits wait for `names`."""
    others = (NEAR, DENVER, FAR)
    values: dict[str, Any] = {
        "names": names,
        "remote_in_step": tuple(n for n in names if SITE_OF[n] == "denver"),
        "standbys": tuple(streams(node) for node in others),
        "slots": tuple(SlotFacts(name=slot_of(node), lsn=1_000, lost=False) for node in others),
    }
    return primary(**(values | change))


def at_leader(*in_step: str, **change: Any) -> Facts:
    names = in_step or (NEAR, DENVER, FAR)
    return replace(
        at_columbus(site_of=SITE_OF, cluster=four(*names), pg=serving(*names)),
        **change,
    )


def without_leader(node: str, *, lsn: int = 1_000, absent_for: float = 0.0, **change: Any) -> Facts:
    """What `node` knows when the leader is gone with its lease."""
    left = {name: told(name) for name in SITE_OF if name != COLUMBUS}
    values: dict[str, Any] = {
        "node": node,
        "site": SITE_OF[node],
        "site_of": SITE_OF,
        "lease": LeaseFacts(id=LEASES[node], ends_at=101.8),
        "pg": standby(incarnation=f"disk-{node}", received_lsn=lsn, replayed_lsn=lsn, canary_at=97.0),
        "cluster": replace(four(leader=None), members=left),
        "leader_absent_since": 100.0 - absent_for,
    }
    return replace(at_columbus(), **(values | change))
