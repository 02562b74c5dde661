"""A whole scene for tests of the page: two sites and a witness, in any condition."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis

from healthcheck.board import Board
from healthcheck.noc.scene import Scene
from healthcheck.observation import observe
from healthcheck.picture import live, remember
from healthcheck.probes.result import Result
from healthcheck.targets import Kind, What, targets_of
from sitecontrol.etcd.api import MemberStatus
from sitecontrol.records import (
    Desired,
    HistoryEntry,
    InStep,
    Leader,
    Maintenance,
    Member,
    Observation,
    Phase,
    PhaseTime,
    Record,
    Role,
    Swap,
    Sync,
    Term,
)
from sitecontrol.settings import Settings
from sitecontrol.view import Entry, Snapshot

# The machine may be busy: slowness of a single example is no finding.
patient = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])

WALL = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
SITES = ("columbus", "denver")


@dataclass
class HeldClock:
    """Time stands until a test moves it."""

    seconds: float = 1000.0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> datetime:
        return WALL + timedelta(seconds=self.seconds - 1000.0)

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def settings_of(here: str = "columbus", **more: Any) -> Settings:
    """As `load` would give it, for one of the three places."""
    places: list[dict[str, Any]] = [
        {
            "name": site,
            "nodes": [
                {"name": f"{site}-a", "postgres": f"10.0.{i}.1:5432", "agent": f"http://10.0.{i}.1:8008"}
            ],
            "dispatchers": [{"name": f"{site}-{n}", "url": f"http://10.0.{i}.1:80{n}0"} for n in (1, 2)],
            "healthcheck": f"http://10.0.{i}.1:8090",
            "etcd_member": f"etcd-{site}",
        }
        for i, site in enumerate(SITES, start=1)
    ]
    places.append(
        {
            "name": "witness",
            "kind": "witness",
            "healthcheck": "http://10.0.3.1:8090",
            "etcd_member": "etcd-witness",
        }
    )
    data: dict[str, Any] = {
        "site": {
            "name": here,
            "environment": "lab",
            "state_dir": Path("state"),
            "secrets_dir": Path("secrets"),
        },
        "place": places,
        "etcd": {"endpoints": ["http://10.0.1.1:2379"]},
        "healthcheck": {"listen": "127.0.0.1:0"},
        "carrier": [
            {"name": name, "address": f"{name}.example:2775", "system_id": "hotsite"}
            for name in ("alto", "basso")
        ],
    }
    return Settings.model_validate(data | more)


def entry(record: Record) -> Entry[Any]:
    return Entry(record=record, mod_revision=7, create_revision=5, lease=1)


def snapshot_of(
    leader: str | None = "columbus", *, in_step: bool = True, swap: Phase | None = None
) -> Snapshot:
    other = "denver" if leader == "columbus" else "columbus"
    standbys = (InStep(node=f"{other}-a", incarnation="i2", timeline=3, lsn=4096),) if in_step else ()
    snapshot = Snapshot(serial=1, revision=9, read_at=1000.0, term=entry(Term(term=4)))
    if leader is None:
        return snapshot
    lead = Leader(node=f"{leader}-a", incarnation="i1", site=leader, term=4)
    members = {
        f"{site}-a": entry(
            Member(
                node=f"{site}-a",
                site=site,
                role=Role.LEADER if site == leader else Role.STANDBY,
                incarnation="i1" if site == leader else "i2",
                term=4,
                timeline=3,
                ready=in_step or site == leader,
                reasons=() if in_step or site == leader else ("PostgreSQL does not stream from the leader",),
                wall=WALL,
            )
        )
        for site in SITES
    }
    moving = Swap(
        id="5f0c",
        from_node=f"{leader}-a",
        to_node=f"{other}-a",
        by="maria",
        reason="kernel update",
        phase=swap or Phase.REQUESTED,
        term=4,
        requested_at=WALL,
        times=(PhaseTime(phase=Phase.REQUESTED, at=WALL), PhaseTime(phase=Phase.CHECKED, at=WALL)),
    )
    return Snapshot(
        serial=1,
        revision=9,
        read_at=1000.0,
        term=entry(Term(term=4)),
        leader=entry(lead),
        sync=entry(Sync(term=4, leader=lead.node, leader_incarnation="i1", standbys=standbys)),
        swap=entry(moving) if swap else None,
        members=members,
    )


def report_of_dispatcher(name: str, *, counted: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "ready": True,
        "reasons": [],
        "links": [
            {"carrier": c, "name": f"{c}-1", "state": "bound", "enquire_rtt_s": 0.018, "unanswered": 12}
            for c in ("alto", "basso")
        ],
        "queue": {
            "by_state": {
                "queued": 1830,
                "submitting": 96,
                "submitted": 412,
                "delivered": 118_204,
                "in_doubt": 0,
            },
            "oldest_queued_s": {"service": 1.4, "marketing": 6.2},
        },
        "counters": {"accepted": counted, "submitted": counted, "receipts": counted},
    }


def report_of_agent(node: str, *, leads: bool) -> dict[str, Any]:
    other = "denver-a" if node == "columbus-a" else "columbus-a"
    return {
        "node": node,
        "role": "leader" if leads else "standby",
        "term": 4,
        "is_open": leads,
        "postgres": {
            "state": "primary" if leads else "standby",
            "timeline": 3,
            "lag_bytes": 0,
            "standbys": [
                {
                    "name": other,
                    "streaming": True,
                    "lag_bytes": 2048,
                    "lag_s": 0.035,
                    "replay_lag_bytes": 4096,
                    "replay_lag_s": 1.5,
                }
            ]
            if leads
            else [],
        },
        "durability": "two-site",
        "decision": {"rule": "serve", "sentence": "Serving: the lease is renewed."},
        "ready": True,
        "reasons": [],
        "etcd_reached": True,
        "traffic": [{"adapter": "dns", "state": "ok" if leads else "idle", "reason": ""}],
        "quarantine": {"files": 0, "rows": 0, "alarm": None},
        "settings_differ": [],
        "if_lost": loss_of("columbus" if leads == (node == "columbus-a") else "denver"),
    }


def loss_of(site: str, *in_the_way: str) -> dict[str, Any]:
    """As an agent tells of the loss of the live site."""
    heir = "denver-a" if site == "columbus" else "columbus-a"
    sentence = f"If {site} died now, {heir} would lead, in about 2.5 s, at most 4.6 s."
    return {
        "what": site,
        "sentence": f"If {site} died now, nobody could take the lead." if in_the_way else sentence,
        "would_lead": [] if in_the_way else [heir],
        "typical_s": None if in_the_way else 2.5,
        "worst_s": None if in_the_way else 4.6,
        "lost": "Nothing that was acknowledged.",
        "in_the_way": list(in_the_way),
    }


def troubled() -> dict[str, dict[str, Any]]:
    """Reports by target: rows set aside, a failing adapter, settings that differ, nobody who could take over."""
    alarm = "17 rows that only this node held are set aside in 2 files: see `sitectl node quarantine list`"
    differ = "failover.lease_ttl is 2 at columbus-a and 3 at denver-a"
    leader, standby = (report_of_agent(f"{s}-a", leads=s == "columbus") for s in SITES)
    leader |= {
        "traffic": [
            {"adapter": "dns", "state": "failed", "reason": "10.0.9.1 refused the update: NOTAUTH"},
            {"adapter": "haproxy", "state": "ok", "reason": ""},
        ],
        "settings_differ": [differ],
        "if_lost": loss_of("columbus", "denver-a is not in step: it might lack acknowledged messages"),
    }
    standby |= {
        "quarantine": {"files": 2, "rows": 17, "alarm": alarm},
        "settings_differ": ["failover.lease_ttl is 3 at denver-a and 2 at columbus-a"],
    }
    return {"agent/columbus-a": leader, "agent/denver-a": standby}


def wanted(snapshot: Snapshot, desired: Desired) -> Snapshot:
    return Snapshot(**{**snapshot.__dict__, "desired": entry(desired)})


UNDER_WORK = Desired(
    paused=True,
    paused_by="maria",
    paused_reason="storm",
    maintenance=(
        Maintenance(
            site="denver", since=WALL, until=WALL + timedelta(hours=2), by="joe", reason="new power supply"
        ),
        Maintenance(
            site="columbus", since=WALL - timedelta(hours=3), until=WALL, by="joe", reason="what is over"
        ),
    ),
)


def member(name: str, number: int) -> MemberStatus:
    return MemberStatus(
        endpoint="x", member_id=number, name=name, leader_id=3, db_size=1 << 20, revision=9, version="3.4.23"
    )


def good_result(target: Any, leader: str | None, term: int = 4) -> Result:
    """What a look at a healthy system brings home."""
    evidence: dict[str, Any] = {}
    detail = "HTTP 200"
    if target.what is What.AGENT:
        evidence = {"report": report_of_agent(target.of, leads=target.place == leader)}
    elif target.what is What.DISPATCHER:
        evidence = {"report": report_of_dispatcher(target.of)}
    elif target.what is What.POSTGRES:
        leads = target.place == leader
        evidence = {"term": term, "is_open": leads, "in_recovery": not leads, "durability": "two-site"}
        detail = f"answers, open in term {term}" if leads else "answers, follows the leader"
    elif target.what is What.CANARY:
        evidence, detail = {"seq": 5120, "age_s": 0.3}, "number 5120, moving"
    elif target.what is What.ETCD:
        names = ("etcd-columbus", "etcd-denver", "etcd-witness")
        evidence = {"members": {n: member(n, i) for i, n in enumerate(names, start=1)}}
        detail = "3 members answer; its own leader is etcd-witness"
    elif target.what is What.MEMBER:
        detail = "follows, 1.0 MiB, version 3.4.23"
    elif target.kind is Kind.SMPP:
        detail = "1 of 1 bound"
    elif target.kind is Kind.TCP:
        detail = "the port accepts"
    return Result(
        ok=True, latency=0.018 if target.place == "denver" else 0.002, detail=detail, evidence=evidence
    )


@dataclass
class Stage:
    """Builds a scene; `bad` and `silent` map a target's name (or its beginning) to what is said of it."""

    here: str = "columbus"
    leader: str | None = "columbus"
    open_term: int = 4
    snapshot: Snapshot | None = None
    etcd_answers: bool = True
    bad: Mapping[str, str] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    reports: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    settings: Settings | None = None
    history: tuple[HistoryEntry, ...] = ()
    looks: int = 30
    others: Mapping[str, Observation] = field(default_factory=dict)

    def board(self) -> tuple[Settings, Board, HeldClock]:
        settings = self.settings or settings_of(self.here)
        assert settings.healthcheck is not None
        clock = HeldClock()
        targets = targets_of(settings, settings.healthcheck)
        board = Board(targets, clock)
        for _ in range(self.looks):
            for target in targets:
                board.record(target, self.result(target))
            clock.seconds += 1.0
        return settings, board, clock

    def result(self, target: Any) -> Result:
        bad = next((why for name, why in self.bad.items() if target.name.startswith(name)), None)
        if bad is not None:
            return Result(ok=False, latency=1.0, detail=bad)
        silent = next((why for name, why in self.silent.items() if target.name.startswith(name)), None)
        if silent is not None:
            return Result(ok=None, detail=silent)
        good = good_result(target, self.leader, self.open_term)
        if target.name in self.reports:
            return Result(
                ok=True, latency=0.001, detail="HTTP 200", evidence={"report": self.reports[target.name]}
            )
        return good

    def scene(self) -> Scene:
        settings, board, clock = self.board()
        snapshot = self.snapshot or snapshot_of(self.leader)
        rows = list(board.rows())
        shown = live(settings, snapshot, rows, etcd_answers=self.etcd_answers)
        own = observe(settings.site.name, settings.place, rows, shown.node, clock.wall())
        others = {name: entry(o) for name, o in self.others.items()}
        snapshot = Snapshot(**{**snapshot.__dict__, "observations": {**others, own.place: entry(own)}})
        return Scene(
            settings=settings,
            at=clock.wall(),
            snapshot=snapshot,
            etcd_answers=self.etcd_answers,
            etcd_silent_s=0.5 if self.etcd_answers else 12.0,
            live=shown,
            durability=remember(None, shown.durability.value, clock.wall()),
            rows=rows,
            own=own,
            history=self.history,
            series={
                "accepted": [900.0 + 90 * (i % 7) for i in range(120)],
                "submitted": [880.0 + 70 * (i % 5) for i in range(120)],
                "receipts": [850.0 + 120 * (i % 3) for i in range(120)],
            },
        )


def past(term: int, site: str, kind: Any, reason: str = "", **durations: int) -> HistoryEntry:
    return HistoryEntry(
        term=term,
        node=f"{site}-a",
        site=site,
        at=WALL - timedelta(hours=6 * (5 - term)),
        kind=kind,
        by="maria" if kind == "swap" else "columbus-a",
        reason=reason,
        evidence={"lease": "ran out at 15:09:24.1", "sync": "denver-a, timeline 2, in step"}
        if kind == "failover"
        else {},
        durations_ms=durations,
    )


HISTORY = (
    past(4, "columbus", "swap", "home again", held=210, flushed=90, promoted=110, opened=40),
    past(3, "denver", "failover", "the leader's lease ran out", detected=1900, promoted=120, opened=60),
    past(2, "columbus", "swap", "rehearsal", held=180, flushed=80, promoted=100, opened=40),
    past(1, "columbus", "bootstrap", "the first node"),
)
