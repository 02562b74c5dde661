"""What etcd keeps, in memory: keys with revisions, leases that run out, history that can be compacted.

Plain and synchronous: every method is one step that nothing can interrupt, as a raft entry is. Leases run out
by the injected clock, looked at on each step (`tick`); `next_expiry` says when to look next. The conformance
suite holds it to what a real etcd does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sitecontrol.clock import Clock
from sitecontrol.etcd.api import (
    Compare,
    Delete,
    EtcdRefused,
    Event,
    EventKind,
    KeyValue,
    LeaseLost,
    MemberStatus,
    Put,
    Range,
    Target,
    TxnResult,
)

SHORTEST_LEASE = 2  # seconds; etcd's floor with an election timeout of 1 s


@dataclass(kw_only=True)
class _Lease:
    ttl: int
    ends_at: float


class MemoryStore:
    """One cluster's state. Several `MemoryEtcd` clients may share it, as the agents of two sites do."""

    def __init__(self, clock: Clock, members: Sequence[str] = ("columbus", "denver", "witness")) -> None:
        self.clock = clock
        self.revision = 1
        self.compacted = 0
        self._keys: dict[str, KeyValue] = {}
        self._history: list[Event] = []
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0
        self._listeners: set[Callable[[], None]] = set()
        self._members = dict(enumerate(members, start=1))
        self._leader = 1

    # Reading

    def get(self, key: str) -> Range:
        self.tick()
        kv = self._keys.get(key)
        return Range(revision=self.revision, kvs=() if kv is None else (kv,))

    def get_prefix(self, prefix: str) -> Range:
        self.tick()
        found = sorted(key for key in self._keys if key.startswith(prefix))
        return Range(revision=self.revision, kvs=tuple(self._keys[key] for key in found))

    def events(self, prefix: str, from_revision: int) -> tuple[Event, ...] | None:
        """What happened from `from_revision` on, oldest first; None when part of it is compacted away."""
        self.tick()
        if from_revision < self.compacted or from_revision > self.revision + 1:
            return None
        return tuple(
            event
            for event in self._history
            if event.kv.mod_revision >= from_revision and event.kv.key.startswith(prefix)
        )

    # Writing

    def txn(
        self, compares: Sequence[Compare], operations: Sequence[Put | Delete], *, read_on_failure: bool
    ) -> TxnResult:
        self.tick()
        keys = [operation.key for operation in operations]
        if len(set(keys)) != len(keys):
            raise EtcdRefused("duplicate key given in txn request")
        if "" in keys:
            raise EtcdRefused("key is not provided")
        if not all(self._holds(compare) for compare in compares):
            kvs = tuple(self._keys.get(compare.key) for compare in compares) if read_on_failure else ()
            return TxnResult(succeeded=False, revision=self.revision, kvs=kvs)
        for operation in operations:
            if isinstance(operation, Put) and operation.lease and operation.lease not in self._leases:
                raise LeaseLost(f"lease {operation.lease} not found")
        self._apply(operations)
        return TxnResult(succeeded=True, revision=self.revision)

    def _holds(self, compare: Compare) -> bool:
        kv = self._keys.get(compare.key)
        match compare.target:
            case Target.MOD_REVISION:
                return (kv.mod_revision if kv else 0) == compare.to
            case Target.CREATE_REVISION:
                return (kv.create_revision if kv else 0) == compare.to
            case Target.LEASE:
                return (kv.lease if kv else 0) == compare.to
            case Target.VALUE:  # nothing is not even equal to the empty value
                return kv is not None and kv.value == compare.to

    def _apply(self, operations: Sequence[Put | Delete]) -> None:
        """All of one revision. Deleting what does not exist changes nothing."""
        effective = [o for o in operations if isinstance(o, Put) or o.key in self._keys]
        if not effective:
            return
        self.revision += 1
        for operation in effective:
            self._history.append(self._write(operation))
        for listener in tuple(self._listeners):
            listener()

    def _write(self, operation: Put | Delete) -> Event:
        if isinstance(operation, Delete):
            del self._keys[operation.key]
            gone = KeyValue(
                key=operation.key, value=b"", create_revision=0, mod_revision=self.revision, lease=0
            )
            return Event(kind=EventKind.DELETE, kv=gone)
        before = self._keys.get(operation.key)
        kv = KeyValue(
            key=operation.key,
            value=operation.value,
            create_revision=before.create_revision if before else self.revision,
            mod_revision=self.revision,
            lease=operation.lease,
        )
        self._keys[operation.key] = kv
        return Event(kind=EventKind.PUT, kv=kv)

    # Leases

    def grant(self, ttl: int) -> int:
        self.tick()
        ttl = max(ttl, SHORTEST_LEASE)
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(ttl=ttl, ends_at=self.clock.now() + ttl)
        return self._last_lease

    def keep_alive(self, lease: int) -> int:
        self.tick()
        held = self._leases.get(lease)
        if held is None:
            return 0
        held.ends_at = self.clock.now() + held.ttl
        return held.ttl

    def revoke(self, lease: int) -> None:
        self.tick()
        self._end(lease)

    def _end(self, lease: int) -> None:
        if self._leases.pop(lease, None) is not None:
            self._apply([Delete(key=key) for key, kv in sorted(self._keys.items()) if kv.lease == lease])

    def tick(self) -> None:
        """End the leases that have run out."""
        now = self.clock.now()
        for lease in [lease for lease, held in self._leases.items() if held.ends_at <= now]:
            self._end(lease)

    @property
    def next_expiry(self) -> float | None:
        """When the next lease runs out, by the clock."""
        return min((held.ends_at for held in self._leases.values()), default=None)

    # etcd itself

    def statuses(self) -> tuple[MemberStatus, ...]:
        return tuple(
            MemberStatus(
                endpoint=f"memory://{name}",
                member_id=member_id,
                name=name,
                leader_id=self._leader,
                db_size=sum(len(kv.value) for kv in self._keys.values()),
                revision=self.revision,
                version="memory",
            )
            for member_id, name in self._members.items()
        )

    def move_leader(self, member_id: int) -> None:
        """As etcd does it: every lease begins anew with the new leader."""
        if member_id not in self._members:
            raise EtcdRefused("bad leader transferee")
        if member_id == self._leader:
            return
        self._leader = member_id
        for held in self._leases.values():
            held.ends_at = self.clock.now() + held.ttl

    def compact(self, revision: int) -> None:
        """Forget all history before `revision`."""
        self.compacted = revision
        self._history = [event for event in self._history if event.kv.mod_revision >= self.compacted]

    def lose_everything(self) -> None:
        """Begin anew, as after all members lost their disks."""
        self.revision = 1
        self.compacted = 0
        self._keys.clear()
        self._history.clear()
        self._leases.clear()
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called after each change; returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)
