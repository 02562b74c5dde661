"""The shape of what each command prints with `--json`: for `sitectl schema`, docs/schemas/ and the tests.

A shape is strict: no key may be there that it does not name, and none be missing that has no default. What an agent
tells of one that was not reached is missing as a whole. Durations are in seconds, times ISO 8601 in UTC.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from sitecontrol.cli.replaying import Verdict
from sitecontrol.cli.shapes_of_acts import (
    AdoptChecked,
    AdoptDone,
    ForceChecked,
    ForceDone,
    NodeActChecked,
    NodeActDone,
)
from sitecontrol.cli.shapes_of_labs import Drill, DrillRun, Fault, Healed, Lab, LabDown
from sitecontrol.records import (
    AuditEntry,
    AuditHead,
    Desired,
    DispatcherRecord,
    HistoryEntry,
    InStep,
    Maintenance,
    Member,
    Swap,
)

Durability = Literal["two-site", "one-site", "unknown"]


class Shape(BaseModel):
    model_config = ConfigDict(
        extra="forbid", defer_build=True
    )  # built when `sitectl schema` asks, not at each start


class Refusal(BaseModel):
    """RFC 9457: an agent said no. What it would say otherwise may stand beside it."""

    model_config = ConfigDict(extra="allow", defer_build=True)
    type: str
    title: str
    status: int
    detail: str


class Ruling(Shape):
    rule: str
    sentence: str


class Vote(Shape):
    place: str
    word: str
    reasons: list[str]


class Health(Shape):
    decision: Ruling | None
    told: str
    live_site: str | None
    target_site: str | None
    target_node: str | None
    agreed_for_s: float | None
    unfit_for_s: float
    votes: list[Vote]
    cools_down_for_s: float
    swaps_within_hour: int
    max_swaps_per_hour: int
    failback: list[str]


class PlannedSwap(Shape):
    id: str
    to: str
    at: AwareDatetime
    asked_at: AwareDatetime
    by: str
    reason: str
    in_the_way: list[str]


class BrokenInvariant(Shape):
    invariant: str
    what: str


class NodeAtSite(Shape):
    node: str
    site: str


class Cluster(Shape):
    """`GET /cluster`."""

    live_site: str | None
    leader: str | None
    term: int
    durability: Durability
    sync: list[InStep]
    swap: Swap | None
    nodes: list[NodeAtSite]
    members: list[Member]
    dispatchers: list[DispatcherRecord]
    planned: PlannedSwap | None
    paused: bool
    paused_by: str
    paused_reason: str
    maintenance: list[Maintenance]
    retired: list[str]
    health: Health
    settings_differ: list[str]
    bad_records: dict[str, str]
    invariants_broken: list[BrokenInvariant]
    told_by: str
    decision: Ruling | None
    etcd_reached: bool
    etcd_alarm: str | None


class Queue(Shape):
    told_by: str | None
    age_s: float | None
    by_state: dict[str, int]
    oldest_queued_s: dict[str, float]


class Alarm(Shape):
    level: Literal["bad", "warn"]
    what: str
    detail: str
    since: str | None


class Seen(Shape):
    """By the health daemon of a place."""

    place: str
    queue: Queue
    alarms: list[Alarm]


class Status(Cluster):
    """`seen`: null when no health daemon answers."""

    seen: Seen | None


class SwapChecked(Shape):
    """A dry run."""

    to: str
    to_site: str | None
    obstacles: list[str]
    dry_run: bool
    would: Literal["swap"]


class WishChecked(Shape):
    """A dry run: `changes` has the fields that would change, each from what to what."""

    obstacles: list[str]
    consequences: list[str]
    changes: dict[str, tuple[Any, Any]]
    wanted: Desired
    dry_run: Literal[True]
    would: Literal["pause", "resume", "maintenance begin", "maintenance end", "swap plan", "swap cancel"]


class Unreadable(Shape):
    """An entry of the history that does not decode."""

    key: str
    bad: str


class Step(Shape):
    what: str
    typical_s: float
    worst_s: float


class Prospect(Shape):
    node: str
    site: str
    could_lead: bool | None
    rule: str | None
    sentence: str
    obstacles: list[str]
    notes: list[str]


class ShortLoss(Shape):
    what: str | None
    sentence: str
    would_lead: list[str]
    typical_s: float | None
    worst_s: float | None
    lost: str
    in_the_way: list[str]


class Loss(ShortLoss):
    steps: list[Step]
    acknowledged_lost: int | None
    in_doubt: int
    etcd_members: dict[str, bool]
    etcd_left: int | None
    etcd_needed: int | None
    nodes: list[Prospect]


class Decided(Shape):
    at: AwareDatetime
    last_at: AwareDatetime
    lane: str
    rule: str
    sentence: str
    effect: str | None
    begun: int
    evidence: dict[str, str]


class Why(Shape):
    """`GET /why`."""

    told_by: str
    etcd_reached: bool
    live_site: str | None
    leader: str | None
    term: int
    site_lost: Loss
    leader_lost: Loss
    swap: dict[str, list[str]]
    planned: PlannedSwap | None
    etcd_leader: str | None
    invariants_broken: list[BrokenInvariant]
    decisions: list[Decided]


class Flaw(Shape):
    key: str
    what: str


class Audit(Shape):
    """`GET /audit`."""

    audit: list[AuditEntry]
    newest: AuditHead | None
    flaws: list[Flaw]
    older: list[str]


class AdapterState(Shape):
    adapter: str
    state: Literal["idle", "moving", "ok", "failed"]
    reason: str


class Kept(Shape):
    files: int
    rows: int
    alarm: str | None


class NodeRow(Shape):
    """`GET /status` of a node's agent; only the first three of one that was not reached."""

    node: str
    site: str
    reached: bool
    role: Literal["leader", "standby", "starting", "stopped"] | None = None
    version: str = ""
    writes_format: int = 1
    term: int = 0
    leader: str | None = None
    live_site: str | None = None
    is_open: bool = False
    live: bool = False
    postgres: dict[str, Any] = {}
    durability: Durability = "unknown"
    lease_s: float | None = None
    canary_age_s: float | None = None
    etcd_reached: bool = False
    etcd_alarm: str | None = None
    swap: Swap | None = None
    decision: Ruling | None = None
    decisions: dict[str, Ruling | None] = {}
    work: str | None = None
    ready: bool = False
    reasons: list[str] = []
    health: Health | None = None
    fencing: dict[str, dict[str, float]] = {}
    traffic: list[AdapterState] = []
    quarantine: Kept | None = None
    settings_differ: list[str] = []
    if_lost: ShortLoss | None = None
    bad_records: dict[str, str] = {}
    invariants_broken: list[BrokenInvariant] = []


class TrafficRow(Shape):
    node: str
    site: str
    reached: bool
    live: bool
    traffic: list[AdapterState]


class AdapterTried(Shape):
    adapter: str
    wrong: str | None


class AdapterPlan(Shape):
    adapter: str
    would: list[str]


class TrafficTest(Shape):
    site: str
    term: int
    adapters: list[AdapterTried] | list[AdapterPlan]


class SetAsideFile(Shape):
    """As in the file's first line, and where it is."""

    file: str
    path: str
    settled: bool
    at: AwareDatetime
    node: str
    site: str
    system_id: str
    incarnation: str
    term: int | None
    leader: str
    timeline: int
    leader_timeline: int | None
    fork_lsn: str | None
    end_lsn: str | None
    counts: dict[str, int]
    compared: bool
    complete: bool
    error: str | None


class SetAsideSettled(SetAsideFile):
    """A dry run: where the file would be kept."""

    dry_run: Literal[True]
    would: Literal["settle"]
    kept_as: str


class SetAsideRows(SetAsideFile):
    rows: list[dict[str, Any]]


class Replayed(Shape):
    reference: str
    to: str
    verdict: Verdict
    detail: str


class Replay(Shape):
    file: str
    dry_run: bool
    settled: bool
    messages: list[Replayed]


class Relation(Shape):
    name: str
    sentence: str
    rests: Literal["safety", "function", "promise"]
    takes: dict[str, float]
    fits: dict[str, float]
    slack_s: float
    holds: bool
    refused: bool


class ConfigGood(Shape):
    file: str
    site: str | None
    ok: Literal[True]
    timings: list[Relation]


class ConfigBad(Shape):
    ok: Literal[False]
    errors: list[str]
    timings: list[Relation] = []


class Schema(BaseModel):
    """A JSON Schema (draft 2020-12)."""

    model_config = ConfigDict(extra="allow", defer_build=True)
    dialect: str = Field(alias="$schema")


NodeAct = NodeActDone | NodeActChecked | Refusal

Wish = Desired | WishChecked | Refusal

SHAPES: dict[str, Any] = {
    "status": Status,
    "swap": HistoryEntry | SwapChecked | Wish,
    "failover": ForceDone | ForceChecked | Refusal,
    "cluster adopt": AdoptDone | AdoptChecked | Refusal,
    "pause": Wish,
    "resume": Wish,
    "maintenance begin": Wish,
    "maintenance end": Wish,
    "maintenance list": list[Maintenance],
    "history": list[HistoryEntry | Unreadable],
    "why": Why,
    "audit": Audit,
    "node list": list[NodeRow],
    "node reclone": NodeAct,
    "node rejoin": NodeAct,
    "node trust": NodeAct,
    "node remove": NodeAct,
    "node quarantine list": list[SetAsideFile],
    "node quarantine show": SetAsideRows,
    "node quarantine replay": Replay,
    "node quarantine settle": SetAsideFile | SetAsideSettled,
    "traffic status": list[TrafficRow],
    "traffic test": TrafficTest,
    "config check": ConfigGood | ConfigBad,
    "schema": Schema | list[str],
    "lab up": Lab,
    "lab status": Lab,
    "lab down": LabDown,
    "lab fault": Fault,
    "lab heal": Healed,
    "drill list": list[Drill],
    "drill run": DrillRun | list[DrillRun],
}
NO_JSON = ("lab logs", "demo")  # the log itself; for people
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(command: str) -> dict[str, Any]:
    """The JSON Schema of what `sitectl COMMAND --json` prints. Raises KeyError."""
    found = TypeAdapter(SHAPES[command]).json_schema(mode="validation")
    found.pop("title", None)
    return {"$schema": DIALECT, "title": f"sitectl {command} --json", **found}
