"""The records that Hotsite keeps in etcd, and their strict encoding.

A value read from etcd is hostile until it was decoded here: wrong types, values out of bounds and oversized ones raise
`BadRecord`, and nobody acts on a record that does not decode. Addresses are never taken from a record.

Two versions of the program run side by side while a system is upgraded (docs/adr/0011): a field that is not known is
ignored, and lost when the record is written anew; a record with a `format` above ours is refused (`NewerRecord`).
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sitecontrol.settings_types import Name

MAX_RECORD_BYTES = 64_000
FORMAT = (
    2  # the highest that is written; raised when a record means something that an older program must not miss
)
BEGINS_ANEW = 2  # the `format` from which a program knows `opens_above`
MAX_REASON = 300  # characters that are told of what is wrong with a value
MAX_TERM = 9_999_999_999  # as many digits as a key of the history has

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Lsn = Count
Timeline = Annotated[int, Field(ge=1, le=2**32 - 1)]
TermNumber = Annotated[int, Field(ge=1, le=MAX_TERM)]
Text = Annotated[str, StringConstraints(max_length=500)]
ShortText = Annotated[str, StringConstraints(max_length=40)]
SettingName = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
Identity = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]  # sha256 of a value as etcd has it


class BadRecord(ValueError):
    """A value in etcd is not what it should be; it is ignored and an alarm is raised."""


class NewerRecord(BadRecord):
    """A record that says it is of a later version of this program: this one must not act on it, nor write it over while
    such a version is about.
    """


class _Formatted(BaseModel):
    """What tells an older program that it must not read the rest. Absent: 1."""

    format: int = 1


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @property
    def least_format(self) -> int:
        """What a program must read to act on this very record: more than 1 where something in it must not be missed."""
        return 1

    def encode(self) -> bytes:
        told, least = self.model_dump_json(exclude_none=True), self.least_format
        return (told if least == 1 else f'{{"format":{least},{told.removeprefix("{")}').encode()

    @classmethod
    def decode(cls, value: bytes) -> Self:
        if len(value) > MAX_RECORD_BYTES:
            raise BadRecord(f"{cls.__name__}: {len(value)} bytes, at most {MAX_RECORD_BYTES} are taken")
        try:
            told = _Formatted.model_validate_json(value, strict=True).format
            if told > FORMAT:
                raise NewerRecord(
                    f"{cls.__name__}: format {told}, and this program reads {FORMAT} at most: a later version wrote it."
                    " Upgrade this node"
                )
            record = cls.model_validate_json(value, strict=True, extra="ignore")
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in found["loc"])
            said = f"{cls.__name__}: {where}: {found['msg']}" if where else f"{cls.__name__}: {found['msg']}"
            raise BadRecord(said[:MAX_REASON]) from error
        if not record.model_fields_set:
            raise BadRecord(f"{cls.__name__}: it has none of the fields of one")
        return record


class Leader(Record):
    """Who leads. Bound to the leader's lease."""

    node: Name
    incarnation: Identity
    site: Name
    term: TermNumber


class Term(Record):
    """The last term granted."""

    term: TermNumber
    released_by: Name | None = None  # its leader gave it up by itself, with its PostgreSQL ended


class Initialize(Record):
    """PostgreSQL's system identifier of this cluster; null while the first node still runs initdb."""

    system_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")]


class InStep(Record):
    """A standby that is sure to hold every acknowledged commit, and what it must be able to show."""

    node: Name
    incarnation: Identity
    timeline: Timeline
    lsn: Lsn  # it must have at least this


class Sync(Record):
    """Who holds every acknowledged commit: the leader and these standbys."""

    term: TermNumber
    leader: Name
    leader_incarnation: Identity
    standbys: tuple[InStep, ...] = ()
    serial: Count = 0  # grows when the record is rewritten unchanged, to settle an earlier unknown write
    # By a person's word, and the timeline that the leader was on: others may hold more of it.
    opens_above: Timeline | None = None

    @property
    def least_format(self) -> int:
        """A program that missed a person's word would go on in the timeline of which others hold more."""
        return 1 if self.opens_above is None else BEGINS_ANEW

    def opens_above_with(self, incarnation: str | None) -> int | None:
        """Of this data directory."""
        return self.opens_above if self.leader_incarnation == incarnation else None


class Position(Record):
    """How far a node's WAL was flushed."""

    node: Name
    timeline: Timeline
    lsn: Lsn


class Reached(Record):
    """How far those who held every acknowledged commit had come at least, as the leader of `term` saw it: who has less
    now is an older copy. Kept when its writer is gone.
    """

    system_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")]
    term: TermNumber
    nodes: Annotated[tuple[Position, ...], Field(max_length=64)]


class Role(StrEnum):
    LEADER = "leader"
    STANDBY = "standby"
    STARTING = "starting"  # cloning, rewinding, catching up
    STOPPED = "stopped"


class Member(Record):
    """What a node says of itself. Bound to its own lease."""

    node: Name
    site: Name
    role: Role
    incarnation: Identity | None = None
    term: Count = 0
    timeline: Count = 0
    received_lsn: Lsn = 0
    replayed_lsn: Lsn = 0
    ready: bool = False  # could take over now
    reasons: tuple[Text, ...] = ()  # why not
    version: Text = ""
    # Its settings of [failover], by name; versions before these were told leave them out.
    failover: Annotated[dict[SettingName, float | ShortText], Field(max_length=64)] | None = None
    rejoin_asked_at: AwareDatetime | None = None  # the last `sitectl node rejoin` since this agent started
    writes_format: Count = (
        1  # the highest `format` that its program writes; versions before this leave it out
    )
    wall: AwareDatetime


class DispatcherRecord(Record):
    """A dispatcher's word. Bound to its lease. Key: dispatchers/<name>."""

    name: Name
    site: Name
    ready: bool
    reasons: tuple[Text, ...] = ()
    links_up: Count = 0
    links: Count = 0
    held_for: Identity | None = None  # the swap for which it has stopped claiming and holds requests
    unanswered: Count = 0  # submits without an answer


class Phase(StrEnum):
    """Phases of a planned swap, in order."""

    REQUESTED = "requested"  # somebody asked
    CHECKED = "checked"  # the target could take over, by every check
    HELD = "held"  # dispatchers stop claiming and hold requests
    FLUSHED = "flushed"  # the old leader is shut down clean and the target has all of it; only among `times`
    HANDED = "handed"  # leader and term moved to the target
    PROMOTED = "promoted"  # the target's PostgreSQL takes writes; only among `times`
    OPENED = "opened"  # dispatchers are let in
    FOLLOWING = "following"  # the old leader follows
    IN_STEP = "in step"  # sync names the old leader again: done
    ROLLED_BACK = "rolled back"  # ended before the hand-over; nothing moved


# The way of a swap that succeeds.
SWAP_PHASES: tuple[Phase, ...] = tuple(phase for phase in Phase if phase is not Phase.ROLLED_BACK)


class PhaseTime(Record):
    phase: Phase
    at: AwareDatetime


class Swap(Record):
    """The one swap in progress."""

    id: Identity
    from_node: Name
    to_node: Name
    by: Text
    reason: Text = ""
    phase: Phase
    term: TermNumber  # the term in which it was asked for
    requested_at: AwareDatetime
    times: tuple[PhaseTime, ...] = ()
    note: Text = ""
    evidence: dict[str, Text] | None = None  # of one that health asked for: the rule, and what each place saw


class Maintenance(Record):
    """Work at a site, announced by a person: until its end health moves production neither away from it nor to it."""

    site: Name
    since: AwareDatetime
    until: AwareDatetime
    by: Text
    reason: Text


class Planned(Record):
    """A swap that an operator wants at a time to come."""

    id: Identity  # of the swap that it becomes
    to: Name  # a site or a node
    at: AwareDatetime
    asked_at: AwareDatetime
    by: Text
    reason: Text = ""


class Desired(Record):
    """What people want: kept until they say otherwise."""

    paused: bool = False
    paused_by: Text = ""
    paused_reason: Text = ""
    preferred_site: Name | None = None
    maintenance: Annotated[tuple[Maintenance, ...], Field(max_length=16)] | None = (
        None  # at most one for a site
    )
    # Gone for good, by an operator's word, until their agents are heard again.
    retired: Annotated[tuple[Name, ...], Field(max_length=64)] | None = None
    planned: Planned | None = None
    # A person has looked at what health did up to this revision of etcd: it counts for no limit any more.
    acknowledged_revision: Annotated[int, Field(ge=0)] | None = None


class HistoryEntry(Record):
    """How a term began (history/<term>), or how a swap that moved nothing ended (history/<term>-<id>)."""

    term: TermNumber
    node: Name
    site: Name
    at: AwareDatetime
    kind: Literal["bootstrap", "failover", "swap", "swap rolled back", "forced"]
    by: Text
    reason: Text = ""
    evidence: dict[str, Text] = {}
    steps: tuple[PhaseTime, ...] = ()
    durations_ms: dict[str, int] = {}


class Deed(StrEnum):
    """What an entry of the audit log tells of."""

    BOOTSTRAP = "bootstrap"
    FAILOVER = "failover"
    FAILOVER_DONE = "failover done"
    GAVE_UP = "lead given up"
    FENCED = "fenced"
    SWAP_PLANNED = "swap planned"
    SWAP_CANCELLED = "planned swap cancelled"
    SWAP_ASKED = "swap asked for"
    SWAP_HANDED = "swap handed over"
    SWAP_DONE = "swap done"
    SWAP_ROLLED_BACK = "swap rolled back"
    PAUSED = "paused"
    RESUMED = "resumed"
    MAINTENANCE_BEGUN = "maintenance begun"
    MAINTENANCE_ENDED = "maintenance ended"
    RECLONE = "reclone asked for"
    REJOIN = "rejoin asked for"
    REMOVED = "node removed"
    TRUSTED = "node trusted"
    FORCED = "lead forced"
    ADOPTED = "cluster adopted"
    RETURNED = "removed node returned"
    SET_ASIDE = "rows set aside"
    SETTLED = "set-aside rows settled"
    SETTINGS = "settings changed"
    MENDED = "record mended"


class AuditEntry(Record):
    """One thing that was done (audit/<number>). Written once: by the transaction that did it, or as soon as that was
    possible; then `at` is before that of the entries around it.
    """

    number: Annotated[int, Field(ge=1)]
    previous: Digest | None = None  # of the entry before it; null: there is none
    at: AwareDatetime
    what: Deed
    about: Text = ""
    by: Text
    source: Text = ""  # the address that asked; empty: an agent by itself
    through: Name  # the node whose agent wrote it
    reason: Text = ""
    term: int
    seals: dict[str, Digest] = {}  # the records that were written with it: key -> digest of the value
    evidence: dict[str, Text] | None = None  # of what has no entry in the history


class AuditHead(Record):
    """The newest entry of the audit log, told a second time: without it nobody would miss the newest one."""

    number: Annotated[int, Field(ge=1)]
    digest: Digest


class ReachState(StrEnum):
    UP = "up"
    GOING_DOWN = "going-down"
    DOWN = "down"
    GOING_UP = "going-up"
    UNKNOWN = "unknown"


class Observation(Record):
    """What one place can reach. Bound to the observer's lease. Key: observations/<place>."""

    place: Name
    at: AwareDatetime
    blind: bool  # it reaches nothing: its vote does not count
    reach: dict[str, ReachState] = {}  # target name -> verdict
    fit: dict[Name, bool] = {}  # site -> whether it is fit to be the live site, seen from here
    reasons: dict[Name, tuple[Text, ...]] = {}
