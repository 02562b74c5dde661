"""What the rest of Hotsite may ask of etcd, and what each answer means.

The rules behind it are in docs/etcd.md. The most important: **every error means "unknown"**. A call that
timed out may still be applied minutes later, when a hung member wakes. Only a transaction that *returned*
with `succeeded=False` says "no".

Two implementations stand behind these protocols, `client.GrpcEtcd` and `memory.MemoryEtcd`; one conformance
suite (tests/conformance) runs on both.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

QUOTA = 256 * 1024**2  # bytes that our configurations let a member's store grow to
FULL = (
    "etcd's store is full: it renews leases and takes no writes, so nobody can take the lead and who is in step cannot"
    " change. Make room: `etcdctl compact`, `etcdctl defrag` of each member, `etcdctl alarm disarm` (docs/etcd.md)"
)


class EtcdError(Exception):
    """etcd did not answer the question."""


class EtcdUnknown(EtcdError):
    """No answer in time, or a broken one: the call may have been applied, or may be applied later."""


class LeaseLost(EtcdError):
    """The lease named in a put or a transaction does not exist (any more): nothing was written."""


class EtcdRefused(EtcdError):
    """etcd understood and refused (permission, quota, bad request): nothing was written."""


@dataclass(frozen=True, kw_only=True)
class KeyValue:
    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int  # 0 = bound to none


@dataclass(frozen=True, kw_only=True)
class Range:
    """Keys and the revision of the store at which they were read (a watch goes on at `revision + 1`)."""

    revision: int
    kvs: tuple[KeyValue, ...]

    @property
    def one(self) -> KeyValue | None:
        return self.kvs[0] if self.kvs else None


class Target(Enum):
    """What of a key a transaction compares."""

    MOD_REVISION = "mod"  # 0 means: the key does not exist
    CREATE_REVISION = "create"  # 0 means: the key does not exist
    LEASE = "lease"
    VALUE = "value"


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Holds when `target` of `key` equals `to`."""

    key: str
    target: Target
    to: int | bytes


@dataclass(frozen=True, kw_only=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, kw_only=True)
class Delete:
    key: str


@dataclass(frozen=True, kw_only=True)
class TxnResult:
    succeeded: bool
    revision: int
    # With `read_on_failure`: the present state of the compared keys, in the order of the compares.
    kvs: tuple[KeyValue | None, ...] = ()


class EventKind(Enum):
    PUT = "put"
    DELETE = "delete"


@dataclass(frozen=True, kw_only=True)
class Event:
    kind: EventKind
    kv: KeyValue  # of a DELETE: key and mod_revision only


@dataclass(frozen=True, kw_only=True)
class WatchBatch:
    """All events of one or more whole revisions, in order; `revision` is the newest of them.

    `reset` is None, or a fresh Range of the prefix that replaces everything known (after a compaction).
    """

    revision: int
    events: tuple[Event, ...] = ()
    reset: Range | None = None


@dataclass(frozen=True, kw_only=True)
class MemberStatus:
    endpoint: str
    member_id: int
    name: str
    leader_id: int  # 0 = knows of none
    db_size: int  # bytes
    revision: int
    version: str
    alarms: frozenset[str] = frozenset()  # etcd's own, of the whole cluster: NOSPACE, CORRUPT

    @property
    def full(self) -> bool:
        """It refuses whatever needs room, until an operator has made some and ended the alarm."""
        return "NOSPACE" in self.alarms


class Etcd(Protocol):
    """Keys are full strings (prefix included).

    Every call ends within `timeout` seconds, by default the client's own (settings: etcd.call_timeout), with
    an answer or an `EtcdError`. Reading calls, `keep_alive` and `revoke` ask the next endpoint within that
    time when one is silent; a call that writes is sent once, and what is not known of it is `EtcdUnknown`.
    """

    @property
    def strangers(self) -> Sequence[str]:
        """A sentence for each endpoint whose last answer came from another etcd cluster than ours, with the cure."""
        ...

    async def get(self, key: str, *, serializable: bool = False, timeout: float | None = None) -> Range:
        """The key as the majority has it; `serializable`: as any one member has it, perhaps old."""
        ...

    async def get_prefix(
        self, prefix: str, *, serializable: bool = False, timeout: float | None = None
    ) -> Range:
        """All keys that begin with `prefix`, in the order of their bytes."""
        ...

    async def put(self, key: str, value: bytes, *, lease: int = 0, timeout: float | None = None) -> int:
        """Write; returns the new revision. Raises LeaseLost when the lease is gone."""
        ...

    async def delete(self, key: str, *, timeout: float | None = None) -> int:
        """Delete, whether it exists or not; returns the store's revision."""
        ...

    async def txn(
        self,
        compares: Sequence[Compare],
        puts_and_deletes: Sequence[Put | Delete],
        *,
        read_on_failure: bool = False,
        timeout: float | None = None,
    ) -> TxnResult:
        """Do all of it if every compare holds, else nothing. Raises LeaseLost when a put's lease is gone."""
        ...

    async def grant(self, ttl: int, *, timeout: float | None = None) -> int:
        """A new lease of `ttl` seconds (etcd may give more, never less than its floor); returns its id."""
        ...

    async def keep_alive(self, lease: int, *, timeout: float | None = None) -> int:
        """Prolong once; returns the seconds granted, 0 when the lease is gone (rule 7: it raises nothing).

        The caller reckons the lease's end from a clock read *before* this call.
        """
        ...

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        """End the lease and delete its keys. A lease that is gone already is no error."""
        ...

    def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """Changes below `prefix` from `start_revision` on, across lost members and compactions, until closed.

        Raises EtcdRefused when etcd does not let us see the prefix; everything else is tried again for ever.
        Close it (`contextlib.aclosing`) or cancel the task that iterates.
        """
        ...

    async def members(self, *, timeout: float | None = None) -> Sequence[MemberStatus]:
        """Status of each endpoint that answers within the deadline; the silent ones are left out."""
        ...

    async def move_leader(self, member_id: int, *, timeout: float | None = None) -> None:
        """Ask etcd's own leader to hand over to `member_id`; nothing to do when that one leads already."""
        ...

    async def aclose(self) -> None: ...
