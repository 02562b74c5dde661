"""etcd's own members: how each one is, and moving etcd's leadership between them.

A change of etcd's leader prolongs every lease by up to its full length, and with them the time until a dead
live site is noticed. So the agents keep etcd's leadership away from the live site, and this is what they do
it with.
"""

import asyncio
from collections.abc import Iterable, Sequence

from sitecontrol.etcd.api import EtcdError, EtcdUnknown, MemberStatus
from sitecontrol.etcd.calls import Calls
from sitecontrol.etcd.endpoints import Endpoint
from sitecontrol.etcd.wire import Rpc, members_request, move_leader_request, status_request


async def statuses(calls: Calls, timeout: float) -> dict[Endpoint, MemberStatus]:
    """What each endpoint says of the member behind it; silent ones are missing. It needs no quorum."""
    endpoints = calls.endpoints.all
    answers = await asyncio.gather(*(_status(calls, endpoint, timeout) for endpoint in endpoints))
    return {
        endpoint: status for endpoint, status in zip(endpoints, answers, strict=True) if status is not None
    }


async def _status(calls: Calls, endpoint: Endpoint, timeout: float) -> MemberStatus | None:
    try:
        status, listed = await asyncio.gather(
            calls.at(endpoint, Rpc.STATUS, status_request(), timeout=timeout),
            calls.at(endpoint, Rpc.MEMBERS, members_request(), timeout=timeout),
        )
    except EtcdError:
        return None
    names = {member.ID: member.name for member in listed.members}
    return MemberStatus(
        endpoint=endpoint.url,
        member_id=status.header.member_id,
        name=names.get(status.header.member_id, ""),
        leader_id=status.leader,
        db_size=status.dbSize,
        revision=status.header.revision,
        version=status.version,
        alarms=alarms_in(status.errors),
    )


def alarms_in(errors: Iterable[str]) -> frozenset[str]:
    """The names of etcd's alarms among what a member says is wrong, as in "memberID:4711 alarm:NOSPACE "."""
    words = (word for error in errors for word in error.split())
    return frozenset(word.removeprefix("alarm:") for word in words if word.startswith("alarm:"))


async def move_leader(calls: Calls, member_id: int, timeout: float) -> None:
    """Only the leader itself takes this order, so it is looked up first. Raises EtcdError."""
    deadline = asyncio.get_running_loop().time() + timeout
    known = await statuses(calls, timeout)
    leaders: Sequence[Endpoint] = [
        endpoint for endpoint, status in known.items() if status.member_id == status.leader_id
    ]
    if not leaders:
        raise EtcdUnknown("no endpoint reaches etcd's leader; nothing was sent")
    if known[leaders[0]].member_id == member_id:
        return
    left = deadline - asyncio.get_running_loop().time()
    await calls.at(leaders[0], Rpc.MOVE_LEADER, move_leader_request(member_id), timeout=left)
