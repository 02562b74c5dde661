"""The shape of what `sitectl lab` and `sitectl drill` print with `--json` (see `shapes`)."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)


class Told(Shape):
    pid: int | None
    url: str | None


class Named(Told):
    name: str


class LabEtcd(Shape):
    pid: int | None
    client_url: str | None


class LabPostgres(Shape):
    pid: int | None
    port: int
    data_dir: str
    socket_dir: str


class LabNode(Shape):
    name: str
    log: str
    agent: Told
    postgres: LabPostgres


class LabPlace(Shape):
    """The witness has the first two only. `agent` and `postgres` are those of its first node."""

    healthcheck: Told
    etcd: LabEtcd
    live: bool = False
    dispatchers: list[Named] = []
    agent: Told | None = None
    postgres: LabPostgres | None = None
    nodes: list[LabNode] = []


class LabCarrier(Shape):
    name: str
    host: str
    port: int
    pid: int | None
    system_id: str
    log: str | None


class LabAccount(Shape):
    name: str
    key: str
    program: str


class LabLine(Shape):
    source: str
    destination: str
    delay_ms: float
    cut: bool
    connections: int
    bytes: int


class LabProcess(Shape):
    name: str
    place: str
    kind: str
    pid: int | None
    state: str
    restarts: int
    last_exit: int | None
    url: str | None


class Supervisor(Shape):
    pid: int


class Lab(Shape):
    id: str
    dir: str
    options: dict[str, Any]
    sites: dict[str, LabPlace]
    carriers: list[LabCarrier]
    accounts: list[LabAccount]
    live_site: str | None
    term: int | None
    durability: str | None
    noc_url: str
    lines: list[LabLine] | None
    supervisor: Supervisor
    processes: list[LabProcess]


class LabDown(Shape):
    dir: str
    stragglers: int
    purged: bool


class Fault(Shape):
    fault: str
    site: str
    healed: bool


class Healed(Shape):
    healed: bool


class Drill(Shape):
    name: str
    summary: str
    pause_limit_s: float
    median_limit_s: float | None
    in_swap: bool
    takes: str


class Moment(Shape):
    t: float
    what: str
    where: str


class Series(Shape):
    drill: str
    runs: int
    pause_median_s: float | None
    pause_min_s: float | None
    pause_max_s: float | None
    median_limit_s: float | None
    pause_limit_s: float
    held: dict[str, bool]
    ok: bool


class DrillRun(Shape):
    drill: str
    seed: int
    site: str
    started_at: str
    fault_at: str
    healed_at: str | None
    quick: bool
    in_swap: bool
    rate: float
    pause_s: float | None
    pause_limit_s: float
    pause_from_s: float
    first_ack_after_fault_s: float | None
    first_submit_after_fault_s: float | None
    accepted: int
    refused: int
    connections_broken: int
    connections_broken_unexpectedly: int
    unanswered: int
    acknowledged_lost: int
    not_final: int
    in_doubt: int
    duplicates_at_carrier: int
    duplicates_declared: int
    not_delivered: int
    by_state: dict[str, int]
    at_carriers: int | None
    two_site_again_s: float | None
    fencing_ms: dict[str, float]
    live_before: str | None
    live_after: str | None
    term_before: int
    term_after: int
    held: dict[str, bool]
    timeline: list[Moment]
    acks_per_tenth: list[tuple[float, int]]
    notes: list[str]
    ok: bool
    series: Series
