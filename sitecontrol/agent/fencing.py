"""How long each step of the last fencing took (docs/failover.md): measured by the executor, told by `/status`.

All steps count from one moment: when the last proof of leadership was gone, which is before anybody decided anything.
"""

import asyncio
from pathlib import Path

from replication.postmaster import Postmaster
from sitecontrol.clock import Clock
from sitecontrol.leadership.facts import Facts

LOOK_EVERY = 0.005  # seconds
ALL = frozenset({"decided", "locked_out", "connections_ended", "postgres_ended"})


class Fencing:
    """`last_ms`: of the last fencing, milliseconds until each step was reached.

    `decided`: the fence was decided. `locked_out`: our own word is that no dispatcher is let in. `connections_ended`:
    no session of our PostgreSQL is left. `postgres_ended`: no process of it is left.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self.last_ms: dict[str, float] = {}

    def begin(self, facts: Facts) -> None:
        """A fence was decided from these facts."""
        self._since = proof_ended(facts)
        self.last_ms.clear()
        self._note("decided", facts.now)
        if not facts.open:
            self._note("locked_out", facts.now)

    def reached(self, step: str) -> None:
        """Now, if it was not reached before."""
        self._note(step, self._clock.now())

    def look(self, *, is_open: bool) -> None:
        """What the agent says now of whether dispatchers are let in."""
        if not is_open:
            self.reached("locked_out")

    def _note(self, step: str, at: float) -> None:
        if self._since is not None:
            self.last_ms.setdefault(step, round((at - self._since) * 1000, 1))
            if self.last_ms.keys() >= ALL:
                self._since = None


def proof_ended(facts: Facts) -> float:
    """When the last of what shows that we lead ran out: etcd's word, the lease, the canary. Now, when it did not: then
    something else is the reason to fence.
    """
    if facts.etcd_here or facts.lease_safe or facts.canary_fresh:
        return facts.now
    ends = [facts.etcd_proof_ends]
    if facts.canary_age is not None:
        ends.append(facts.now - facts.canary_age + facts.settings.canary_max_age)
    return min(facts.now, max(ends))


async def sessions_ended(postmaster: Postmaster) -> None:
    """Wait until the postmaster has no child left: each session is one, and it ends itself last of all."""
    while not postmaster.ended:
        left = _children(postmaster.pid)
        if left is None:
            await postmaster.wait_exit()
        elif not left:
            return
        else:
            await asyncio.sleep(LOOK_EVERY)


def _children(pid: int) -> list[str] | None:
    """None: it has ended, or this kernel does not tell."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
