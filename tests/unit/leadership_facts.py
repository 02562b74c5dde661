"""Facts for the tests of decisions: a healthy two-site cluster, and ways to change it."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sitecontrol.leadership.facts import Facts, LeaseFacts, PgFacts, PgState, SlotFacts, StandbyFacts
from sitecontrol.records import (
    DispatcherRecord,
    Initialize,
    InStep,
    Leader,
    Member,
    Phase,
    Record,
    Role,
    Swap,
    Sync,
    Term,
)
from sitecontrol.settings import FailoverSettings
from sitecontrol.view import Entry, Snapshot

WALL = datetime(2026, 1, 1, tzinfo=UTC)
COLUMBUS, DENVER = "columbus-a", "denver-a"
OUR_LEASE, THEIR_LEASE = 11, 22
SITE_OF = {COLUMBUS: "columbus", DENVER: "denver"}


def entry(record: Record, lease: int = 0, mod_revision: int = 5) -> Entry[Any]:
    return Entry(record=record, mod_revision=mod_revision, create_revision=1, lease=lease)


def member(node: str, *, ready: bool = True, **change: Any) -> Member:
    values: dict[str, Any] = {
        "node": node,
        "site": SITE_OF[node],
        "role": Role.STANDBY,
        "incarnation": f"disk-{node}",
        "term": 3,
        "timeline": 1,
        "received_lsn": 1_000,
        "replayed_lsn": 1_000,
        "ready": ready,
        "wall": WALL,
    }
    return Member(**(values | change))


def in_step(node: str) -> InStep:
    return InStep(node=node, incarnation=f"disk-{node}", timeline=1, lsn=500)


def sync(leader: str, *standbys: str, term: int = 3) -> Sync:
    return Sync(
        term=term,
        leader=leader,
        leader_incarnation=f"disk-{leader}",
        standbys=tuple(in_step(node) for node in standbys),
    )


def leader(node: str, term: int = 3) -> Leader:
    return Leader(node=node, incarnation=f"disk-{node}", site=SITE_OF[node], term=term)


def swap(phase: Phase, from_node: str = COLUMBUS, to_node: str = DENVER, term: int = 3) -> Swap:
    return Swap(
        id="s1", from_node=from_node, to_node=to_node, by="op", phase=phase, term=term, requested_at=WALL
    )


def dispatcher(name: str, site: str, **change: Any) -> DispatcherRecord:
    values: dict[str, Any] = {"name": name, "site": site, "ready": True, "links": 1, "links_up": 1}
    return DispatcherRecord(**(values | change))


def cluster(**change: Any) -> Snapshot:
    """Columbus leads term 3 with Denver in step."""
    values: dict[str, Any] = {
        "serial": 1,
        "revision": 9,
        "read_at": 100.0,
        "initialize": entry(Initialize(system_id="7")),
        "leader": entry(leader(COLUMBUS), OUR_LEASE),
        "term": entry(Term(term=3)),
        "sync": entry(sync(COLUMBUS, DENVER)),
        "members": {
            COLUMBUS: entry(member(COLUMBUS, role=Role.LEADER), OUR_LEASE),
            DENVER: entry(member(DENVER), THEIR_LEASE),
        },
        "dispatchers": {
            "columbus-1": entry(dispatcher("columbus-1", "columbus")),
            "denver-1": entry(dispatcher("denver-1", "denver")),
        },
    }
    return Snapshot(**(values | change))


def primary(**change: Any) -> PgFacts:
    values: dict[str, Any] = {
        "state": PgState.PRIMARY,
        "since": 10.0,
        "system_id": "7",
        "incarnation": f"disk-{COLUMBUS}",
        "timeline": 1,
        "control_timeline": 1,
        "received_lsn": 1_000,
        "replayed_lsn": 1_000,
        "was_primary": True,
        "open_term": 3,
        "row_term": 3,
        "remote_in_step": (DENVER,),
        "names": (DENVER,),
        "standbys": (
            StandbyFacts(name=DENVER, streaming=True, flush_lsn=1_000, replay_lsn=1_000, moved_at=100.0),
        ),
        "slots": (SlotFacts(name="hotsite_denver_a", lsn=1_000, lost=False),),
        "canary_at": 99.9,
    }
    return PgFacts(**(values | change))


def standby(**change: Any) -> PgFacts:
    values: dict[str, Any] = {
        "state": PgState.STANDBY,
        "since": 10.0,
        "system_id": "7",
        "incarnation": f"disk-{DENVER}",
        "timeline": 1,
        "control_timeline": 1,
        "received_lsn": 1_000,
        "replayed_lsn": 1_000,
        "follows": COLUMBUS,
        "compared_in": 3,
        "upstream": True,
        "row_term": 3,
        "canary_at": 99.9,
    }
    return PgFacts(**(values | change))


def at_columbus(**change: Any) -> Facts:
    """What the leader's agent knows at second 100, everything being well."""
    values: dict[str, Any] = {
        "now": 100.0,
        "wall": WALL,
        "node": COLUMBUS,
        "site": "columbus",
        "preferred": True,
        "site_of": SITE_OF,
        "settings": FailoverSettings(),
        "cluster": cluster(),
        "cluster_read": True,
        "etcd_heard_at": 99.8,
        "lease": LeaseFacts(id=OUR_LEASE, ends_at=101.8),
        "pg": primary(),
    }
    return Facts(**(values | change))


def at_denver(**change: Any) -> Facts:
    """What the standby's agent knows."""
    values: dict[str, Any] = {
        "node": DENVER,
        "site": "denver",
        "preferred": False,
        "lease": LeaseFacts(id=THEIR_LEASE, ends_at=101.8),
        "pg": standby(),
    }
    return replace(at_columbus(), **(values | change))
