"""What agents and dispatchers say of themselves at /status, taken with care.

Theory. A report comes from another process, perhaps of another version, perhaps broken. A field that is
missing or of a wrong type costs only that field: the page shows the rest. Unknown fields are ignored.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator

from healthcheck.probes.result import plain

MAX_ITEMS = 200  # of any list or object in a report

T = TypeVar("T")


def or_none(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError:
        return None


def each(value: Any, check: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    """The items that are right, in order."""
    if not isinstance(value, list):
        return ()
    kept: list[Any] = []
    for item in value[:MAX_ITEMS]:
        try:
            kept.extend(check([item]))
        except ValidationError:
            continue
    return tuple(kept)


def each_value(value: Any, check: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """The members of an object that are right."""
    if not isinstance(value, dict):
        return {}
    kept: dict[str, Any] = {}
    for key, item in list(value.items())[:MAX_ITEMS]:
        try:
            kept |= check({plain(key): item})
        except ValidationError:
            continue
    return kept


Line = Annotated[str, BeforeValidator(lambda v: plain(v) if isinstance(v, str) else v)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
Maybe = Annotated[T | None, WrapValidator(or_none)]
Some = Annotated[tuple[T, ...], WrapValidator(each)]
Named = Annotated[dict[str, T], WrapValidator(each_value)]


class Report(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StandbyReport(Report):
    name: Maybe[Line] = None
    streaming: Maybe[bool] = None
    lag_bytes: Maybe[Count] = None  # of the leader's log, not yet on the standby's disk
    lag_s: Maybe[Seconds] = None  # until a commit is on its disk
    replay_lag_bytes: Maybe[Count] = None
    replay_lag_s: Maybe[Seconds] = None  # until it can be read there, which a promotion would wait for


class PostgresReport(Report):
    state: Maybe[Line] = None
    timeline: Maybe[Count] = None
    lsn: Maybe[Line | int] = None
    lag_bytes: Maybe[Count] = None
    standbys: Some[StandbyReport] = ()  # told by the leader


class DecisionReport(Report):
    rule: Maybe[Line] = None
    sentence: Maybe[Line] = None


class TrafficReport(Report):
    adapter: Line
    state: Maybe[Line] = None  # idle, moving, ok, failed
    reason: Maybe[Line] = None


class QuarantineReport(Report):
    files: Maybe[Count] = None
    rows: Maybe[Count] = None
    alarm: Maybe[Line] = None


class LossReport(Report):
    """If the live site died now."""

    what: Maybe[Line] = None
    sentence: Line
    would_lead: Some[Line] = ()
    typical_s: Maybe[Seconds] = None
    worst_s: Maybe[Seconds] = None
    lost: Maybe[Line] = None
    in_the_way: Some[Line] = ()


class AgentReport(Report):
    node: Maybe[Line] = None
    role: Maybe[Line] = None
    term: Maybe[Count] = None
    live_site: Maybe[Line] = None
    is_open: Maybe[bool] = None
    postgres: Maybe[PostgresReport] = None
    durability: Maybe[Line] = None
    lease_s: Maybe[Seconds] = None
    canary_age_s: Maybe[Seconds] = None
    decision: Maybe[DecisionReport] = None
    ready: Maybe[bool] = None
    reasons: Some[Line] = ()
    etcd_reached: Maybe[bool] = None
    traffic: Some[TrafficReport] = ()
    quarantine: Maybe[QuarantineReport] = None
    settings_differ: Some[Line] = ()
    if_lost: Maybe[LossReport] = None


class LinkReport(Report):
    carrier: Line
    name: Maybe[Line] = None
    state: Maybe[Line] = None
    bound: Maybe[bool] = None
    unanswered: Maybe[Count] = None
    window: Maybe[Count] = None
    enquire_rtt_s: Maybe[Seconds] = None
    submits: Maybe[Count] = None
    throttled: Maybe[Count] = None
    doubts: Maybe[Count] = None
    last_error: Maybe[Line] = None


class QueueReport(Report):
    by_state: Named[Count] = {}
    oldest_queued_s: Named[Seconds] = {}
    age_s: Maybe[Seconds] = None  # since it was counted


class DispatcherReport(Report):
    name: Maybe[Line] = None
    site: Maybe[Line] = None
    live_site: Maybe[Line] = None
    term: Maybe[Count] = None
    ready: Maybe[bool] = None
    reasons: Some[Line] = ()
    links: Some[LinkReport] = ()
    queue: Maybe[QueueReport] = None
    counters: Named[Count] = {}


R = TypeVar("R", bound=Report)


def tolerant(kind: type[R], data: Mapping[str, Any]) -> R:
    """Decode what can be decoded; never raises, since no field of a whole report is required."""
    return kind.model_validate(dict(data))
