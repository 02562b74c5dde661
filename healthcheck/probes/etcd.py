"""etcd: a linearizable read (there is a quorum), and each member's own status."""

import time
from collections.abc import Callable

from healthcheck.probes.result import Result, plain
from healthcheck.targets import Target
from sitecontrol.etcd.api import FULL, QUOTA, Etcd, EtcdError

QUOTA_WARNING = 0.8


class EtcdProbe:
    """The cluster: reads the key `target.address` through the quorum and asks every member how it is."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline  # the client has a deadline of its own for each call
        members = {m.name: m for m in await self._etcd.members()}
        evidence: dict[str, object] = {"members": members}
        began = time.perf_counter()
        try:
            await self._etcd.get(target.address)
        except EtcdError as error:
            latency = time.perf_counter() - began
            detail = f"{len(members)} members answer, but no quorum: {plain(error)}"
            return Result(ok=False, latency=latency, detail=detail, evidence=evidence)
        latency = time.perf_counter() - began
        leader = next((m.name for m in members.values() if m.member_id == m.leader_id), None)
        detail = f"{len(members)} members answer; its own leader is {leader or 'not seen from here'}"
        return Result(ok=True, latency=latency, detail=detail, evidence={**evidence, "leader": leader})


class MemberProbe:
    """One member, from what the cluster's look brought home; `latest` gives that result."""

    def __init__(self, latest: Callable[[str], Result | None]) -> None:
        self._latest = latest

    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline
        cluster = self._latest(target.source or "")
        members = cluster.evidence.get("members") if cluster else None
        if not isinstance(members, dict):
            return Result(ok=False, detail="does not answer")
        member = members.get(target.address)
        if member is None:
            return Result(ok=False, detail="does not answer")
        filled = member.db_size / QUOTA
        evidence = {
            "leads": member.leader_id == member.member_id,
            "db_size": member.db_size,
            "revision": member.revision,
            "version": member.version,
        }
        if member.leader_id == 0:
            return Result(ok=False, detail="answers, but knows of no leader", evidence=evidence)
        if member.full:
            return Result(ok=False, detail=FULL, evidence=evidence)
        if member.alarms:
            raised = plain(", ".join(sorted(member.alarms)))
            return Result(ok=False, detail=f"etcd has raised its alarm {raised}", evidence=evidence)
        if filled > QUOTA_WARNING:
            return Result(ok=False, detail=f"its store is {filled:.0%} full", evidence=evidence)
        role = "leads etcd" if evidence["leads"] else "follows"
        size = f"{member.db_size / 1024**2:.1f} MiB"
        return Result(ok=True, detail=f"{role}, {size}, version {plain(member.version)}", evidence=evidence)
