"""What a failed gRPC call says of the question that was put to etcd.

Only etcd's own word ("etcdserver: ...", and not all of those) means that nothing was written. Everything that
gRPC says by itself (no connection, deadline, a broken stream, an answer too large for us) is unknown, and so is an
answer that was cut off or spoilt on its way: gRPC raises whatever it stumbles over, and an empty message would decode
as "no keys", "not succeeded", "lease gone".
"""

from typing import Any

import grpc
import structlog

from sitecontrol.etcd.api import EtcdError, EtcdRefused, EtcdUnknown, LeaseLost

log = structlog.get_logger()


class TokenRefused(EtcdRefused):
    """etcd does not know our token (any more): authenticate and ask again; nothing was written."""


# Every one of these is found out before a request is applied, or instead of applying it.
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # by etcd's word: out of quota, too many requests
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)

# "invalid auth token" comes as UNAUTHENTICATED; the other two as INVALID_ARGUMENT.
_TOKEN_TROUBLE = ("invalid auth token", "revision of auth store is old", "user name is empty")


def is_token_trouble(details: str) -> bool:
    return any(trouble in details for trouble in _TOKEN_TROUBLE)


def meaning(error: grpc.aio.AioRpcError, endpoint: str) -> EtcdError:
    """The exception to raise for `error`, which came from (or on the way to) `endpoint`."""
    code, details = error.code(), error.details() or ""
    said = f"{endpoint}: {code.name}: {details}"
    if code not in _REFUSALS or not details.startswith("etcdserver: "):
        return EtcdUnknown(said)
    if code is grpc.StatusCode.UNAUTHENTICATED or is_token_trouble(details):
        return TokenRefused(said)
    if "requested lease not found" in details:
        return LeaseLost(said)
    return EtcdRefused(said)


class OneCluster:
    """All answers come from the cluster that gave the first one: another one's keys and leases are not ours.

    Nobody goes over to another cluster by himself, be ours gone for good: some would be there and some here, and each
    cluster would name a leader. A person starts the processes again, and so says that this is the one.
    """

    def __init__(self) -> None:
        self._id: int | None = None
        self.strangers: dict[str, str] = {}  # endpoint -> what is wrong with it, and the cure

    def checked(self, answer: Any, endpoint: str) -> Any:
        """The answer, if etcd gave it: each but MoveLeader's has a header that names the member and its cluster."""
        header = getattr(answer, "header", None)
        if header is None or not (header.cluster_id and header.member_id):
            raise EtcdUnknown(f"{endpoint}: an answer without etcd's header")
        if self._id is None:
            self._id = header.cluster_id
        if header.cluster_id != self._id:
            why = (
                f"{endpoint}: a member of etcd cluster {header.cluster_id:x}, while we speak with {self._id:x}: correct"
                " etcd.endpoints; if etcd was made anew, start this process again"
            )
            if self.strangers.get(endpoint) != why:
                self.strangers[endpoint] = why
                log.error("etcd_of_another_cluster", why=why)
            raise EtcdUnknown(why)
        self.strangers.pop(endpoint, None)
        return answer


def spoilt(error: Exception, endpoint: str) -> EtcdUnknown:
    """What gRPC raises of an answer that it cannot read."""
    return EtcdUnknown(f"{endpoint}: an answer that cannot be read: {type(error).__name__}: {error}"[:300])
