"""PostgreSQL: it answers, what it says of itself, and whether the canary in it moves.

One kept connection per node as `hotsite_monitor`, one call of `control.state()` per look. A connection that
failed or was cut off at the deadline is terminated, never asked to cancel: a hung server would hang us too.

The canary is a row that the leader's agent writes all the time through the same path as a message. Its age is
not taken by comparing two machines' clocks: it is the time, on our clock, since we saw its number grow.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from healthcheck.probes.result import Result, host_port, plain
from healthcheck.targets import Target
from sitecontrol.clock import Clock
from sitecontrol.settings import SettingsError

STATE = "select term, node, is_open, in_recovery, durability, canary_seq, canary_age_s from control.state()"


class PostgresProbe:
    """`password` is asked at every connect, so that a replaced secret is taken up."""

    def __init__(self, password: Callable[[], str], *, database: str = "hotsite") -> None:
        self._password = password
        self._database = database
        self._kept: dict[str, asyncpg.Connection] = {}

    async def __call__(self, target: Target, deadline: float) -> Result:
        began = time.perf_counter()
        connection = self._kept.pop(target.name, None)
        if connection is None or connection.is_closed():
            try:
                password = self._password()
            except SettingsError as error:
                return Result(ok=None, detail=plain(error))  # our own lack says nothing about the database
            connection = await self._connect(target, password, deadline)
        try:
            row = await connection.fetchrow(STATE)
        except asyncpg.PostgresError as error:
            self._kept[target.name] = connection
            return Result(ok=False, latency=time.perf_counter() - began, detail=plain(error))
        except BaseException:
            connection.terminate()
            raise
        self._kept[target.name] = connection
        latency = time.perf_counter() - began
        if row is None:
            return Result(ok=False, latency=latency, detail="control.state() says nothing")
        evidence = dict(row)
        return Result(ok=True, latency=latency, detail=describe(evidence), evidence=evidence)

    async def aclose(self) -> None:
        for connection in self._kept.values():
            connection.terminate()
        self._kept.clear()

    async def _connect(self, target: Target, password: str, deadline: float) -> asyncpg.Connection:
        host, port = host_port(target.address)
        return await asyncpg.connect(
            host=host,
            port=port,
            user="hotsite_monitor",
            password=password,
            database=self._database,
            timeout=max(0.01, deadline - asyncio.get_running_loop().time()),
            server_settings={"application_name": "healthcheck", "statement_timeout": "5000"},
        )


def describe(state: Mapping[str, object]) -> str:
    if state.get("in_recovery"):
        return "answers, follows the leader"
    return f"answers, open in term {state.get('term')}" if state.get("is_open") else "answers, not open"


@dataclass(frozen=True, kw_only=True)
class Sighting:
    seq: int
    grew_at: float  # Clock.now()


class CanaryProbe:
    """Reads the canary from what the database's look brought home; `latest` gives that result."""

    def __init__(self, latest: Callable[[str], Result | None], clock: Clock, max_age: float) -> None:
        self._latest = latest
        self._clock = clock
        self._max_age = max_age
        self._seen: dict[str, Sighting] = {}

    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline
        state = self._latest(target.source or "")
        if state is None or not state.ok:
            return Result(ok=None, detail="its database does not answer")
        seq, told_age = state.evidence.get("canary_seq"), state.evidence.get("canary_age_s")
        if not isinstance(seq, int):
            return Result(ok=None, detail="there is no canary yet")
        now = self._clock.now()
        before = self._seen.get(target.name)
        first = before is None
        if before is None or seq != before.seq:
            before = self._seen[target.name] = Sighting(seq=seq, grew_at=now)
        still = now - before.grew_at
        # With a single sighting our clock knows nothing yet, so the database's own reckoning is taken.
        age = float(told_age) if first and isinstance(told_age, int | float) else still
        # It is looked at only every so often, so a moving canary may be that much older than it seems.
        bound = self._max_age + target.every
        return Result(
            ok=age <= bound,
            detail=f"number {seq}, moving" if age <= bound else f"number {seq} has not moved for {age:.1f} s",
            evidence={"seq": seq, "age_s": round(max(age, 0.0), 3), "max_age_s": bound},
        )
