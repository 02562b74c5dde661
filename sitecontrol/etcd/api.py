"""What the rest of Hotsite may ask of etcd, and what each answer means.

The rules behind it are in docs/etcd.md. The most important: **every error means "unknown"**. A call that
timed out may still be applied minutes later, when a hung member wakes. Only a transaction that *returned*
with `succeeded=False` says "no".

Two implementations stand behind these protocols, `client.GrpcEtcd` and `memory.MemoryEtcd`; one conformance
suite (tests/conformance) runs on both.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


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
    # With `read_on_failure`: the present state of the compared keys, in the order of the compares, else empty.
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


class Etcd(Protocol):
    """Keys are full strings (prefix included). Each call has a deadline of its own; see `EtcdUnknown`."""

    async def get(self, key: str, *, serializable: bool = False) -> Range: ...

    async def get_prefix(self, prefix: str, *, serializable: bool = False) -> Range: ...

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write; returns the new revision. Raises LeaseLost when the lease is gone."""
        ...

    async def delete(self, key: str) -> int: ...

    async def txn(
        self, compares: Sequence[Compare], puts_and_deletes: Sequence[Put | Delete], *, read_on_failure: bool = False
    ) -> TxnResult: ...

    async def grant(self, ttl: int) -> int:
        """A new lease of `ttl` seconds (etcd may give more, never less than its floor); returns its id."""
        ...

    async def keep_alive(self, lease: int) -> int:
        """Prolong once; returns the seconds granted, 0 when the lease is gone (rule 7: it raises nothing)."""
        ...

    async def revoke(self, lease: int) -> None: ...

    def watch(self, prefix: str, start_revision: int) -> AsyncIterator[WatchBatch]:
        """Changes below `prefix` from `start_revision` on, across lost members and compactions, until closed."""
        ...

    async def members(self) -> Sequence[MemberStatus]:
        """Status of each endpoint that answers within the deadline; the silent ones are left out."""
        ...

    async def move_leader(self, member_id: int) -> None:
        """Ask etcd's own leader to hand over to `member_id`."""
        ...

    async def aclose(self) -> None: ...
