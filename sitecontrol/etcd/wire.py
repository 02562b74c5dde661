"""etcd's gRPC messages, and their translation from and to the types of `api`.

The only module that touches the generated code (package aetcd, used for nothing else, see docs/adr/0001).
Everything here is pure. The messages are `Any` to the type checker: the generated code has no annotations.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any

import grpc.aio
from aetcd.rpc import kv_pb2, rpc_pb2, rpc_pb2_grpc  # type: ignore[import-untyped]  # it ships no annotations

from sitecontrol.etcd.api import (
    Compare,
    Delete,
    Event,
    EventKind,
    KeyValue,
    Put,
    Range,
    Target,
    TxnResult,
    WatchBatch,
)


class Rpc(Enum):
    """The remote calls that we use."""

    RANGE = auto()
    PUT = auto()
    DELETE = auto()
    TXN = auto()
    GRANT = auto()
    KEEP_ALIVE = auto()
    REVOKE = auto()
    STATUS = auto()
    MEMBERS = auto()
    MOVE_LEADER = auto()
    AUTHENTICATE = auto()


def stubs(channel: grpc.aio.Channel) -> dict[Rpc, Any]:
    """Every call by one channel, each as `call(request, timeout=..., metadata=...)` to be awaited."""
    kv = rpc_pb2_grpc.KVStub(channel)
    lease = rpc_pb2_grpc.LeaseStub(channel)
    maintenance = rpc_pb2_grpc.MaintenanceStub(channel)
    return {
        Rpc.RANGE: kv.Range,
        Rpc.PUT: kv.Put,
        Rpc.DELETE: kv.DeleteRange,
        Rpc.TXN: kv.Txn,
        Rpc.GRANT: lease.LeaseGrant,
        # Declared as a stream, but on the wire a stream of one request and one answer *is* a unary call,
        # and as such it has a deadline and a status of its own.
        Rpc.KEEP_ALIVE: channel.unary_unary(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=rpc_pb2.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=rpc_pb2.LeaseKeepAliveResponse.FromString,
        ),
        Rpc.REVOKE: lease.LeaseRevoke,
        Rpc.STATUS: maintenance.Status,
        Rpc.MEMBERS: rpc_pb2_grpc.ClusterStub(channel).MemberList,
        Rpc.MOVE_LEADER: maintenance.MoveLeader,
        Rpc.AUTHENTICATE: rpc_pb2_grpc.AuthStub(channel).Authenticate,
    }


def watch_stub(channel: grpc.aio.Channel) -> Any:
    return rpc_pb2_grpc.WatchStub(channel).Watch


def key_value(kv: Any) -> KeyValue:
    return KeyValue(
        # A key that is not UTF-8 is nobody's of ours: it must do no harm, and need not be readable back.
        key=kv.key.decode(errors="backslashreplace"),
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        lease=kv.lease,
    )


def end_of_prefix(prefix: str) -> bytes:
    """The first key after all that begin with `prefix`. The last byte of UTF-8 text is never 0xff."""
    encoded = prefix.encode()
    return encoded[:-1] + bytes([encoded[-1] + 1])


def get_request(key: str, *, serializable: bool) -> Any:
    return rpc_pb2.RangeRequest(key=key.encode(), serializable=serializable)


def prefix_request(prefix: str, *, serializable: bool) -> Any:
    return rpc_pb2.RangeRequest(
        key=prefix.encode(), range_end=end_of_prefix(prefix), serializable=serializable
    )


def range_answer(response: Any) -> Range:
    return Range(revision=response.header.revision, kvs=tuple(key_value(kv) for kv in response.kvs))


def put_request(put: Put) -> Any:
    return rpc_pb2.PutRequest(key=put.key.encode(), value=put.value, lease=put.lease)


def delete_request(delete: Delete) -> Any:
    return rpc_pb2.DeleteRangeRequest(key=delete.key.encode())


_TARGETS = {
    Target.MOD_REVISION: (rpc_pb2.Compare.MOD, "mod_revision"),
    Target.CREATE_REVISION: (rpc_pb2.Compare.CREATE, "create_revision"),
    Target.LEASE: (rpc_pb2.Compare.LEASE, "lease"),
    Target.VALUE: (rpc_pb2.Compare.VALUE, "value"),
}


def _compare(compare: Compare) -> Any:
    target, field = _TARGETS[compare.target]
    return rpc_pb2.Compare(
        key=compare.key.encode(), target=target, result=rpc_pb2.Compare.EQUAL, **{field: compare.to}
    )


def _operation(operation: Put | Delete) -> Any:
    match operation:
        case Put():
            return rpc_pb2.RequestOp(request_put=put_request(operation))
        case Delete():
            return rpc_pb2.RequestOp(request_delete_range=delete_request(operation))


def txn_request(
    compares: Sequence[Compare], operations: Sequence[Put | Delete], *, read_on_failure: bool
) -> Any:
    reads = [
        rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=compare.key.encode()))
        for compare in compares
    ]
    return rpc_pb2.TxnRequest(
        compare=[_compare(compare) for compare in compares],
        success=[_operation(operation) for operation in operations],
        failure=reads if read_on_failure else [],
    )


def txn_answer(response: Any) -> TxnResult:
    kvs: tuple[KeyValue | None, ...] = ()
    if not response.succeeded:
        found = (answer.response_range.kvs for answer in response.responses)
        kvs = tuple(key_value(kvs[0]) if kvs else None for kvs in found)
    return TxnResult(succeeded=response.succeeded, revision=response.header.revision, kvs=kvs)


def grant_request(ttl: int) -> Any:
    return rpc_pb2.LeaseGrantRequest(TTL=ttl)


def keep_alive_request(lease: int) -> Any:
    return rpc_pb2.LeaseKeepAliveRequest(ID=lease)


def revoke_request(lease: int) -> Any:
    return rpc_pb2.LeaseRevokeRequest(ID=lease)


def status_request() -> Any:
    return rpc_pb2.StatusRequest()


def members_request() -> Any:
    return rpc_pb2.MemberListRequest()


def move_leader_request(member_id: int) -> Any:
    return rpc_pb2.MoveLeaderRequest(targetID=member_id)


def authenticate_request(user: str, password: str) -> Any:
    return rpc_pb2.AuthenticateRequest(name=user, password=password)


def watch_request(prefix: str, start_revision: int) -> Any:
    return rpc_pb2.WatchRequest(
        create_request=rpc_pb2.WatchCreateRequest(
            key=prefix.encode(), range_end=end_of_prefix(prefix), start_revision=start_revision
        )
    )


def progress_request() -> Any:
    return rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest())


def _event(event: Any) -> Event:
    kind = EventKind.DELETE if event.type == kv_pb2.Event.DELETE else EventKind.PUT
    return Event(kind=kind, kv=key_value(event.kv))


def watch_batch(response: Any) -> WatchBatch:
    """The events of an answer that has some. etcd never splits a revision unless asked to (`fragment`)."""
    events = tuple(_event(event) for event in response.events)
    return WatchBatch(revision=events[-1].kv.mod_revision, events=events)
