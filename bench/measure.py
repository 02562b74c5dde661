"""One measurement each: traffic for a while, what became of it, and what it cost."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from bench.bulk import bulk
from bench.campaigns import Campaign
from bench.lab import CarrierLog, Lab, wait_until_sent
from bench.load import Tally, closed_loop, open_loop
from bench.processes import usage
from sitecontrol.lab.numbers import fictional_number

TEXT = "Power is out near you. Crews are on the way; we expect it back by 16:30. Reply STAT for news."
WARM_UP_S = 5.0
IDLE_S = 5.0
DRAIN_WITHIN_S = 120.0
BULK_STREAMS = 8
GENERATOR = "load generator"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one measurement found. Rates are per second, latencies milliseconds, costs microseconds a message."""

    name: str
    seconds: float
    accepted: int
    refused: int
    accepted_rate: float
    sent_rate: float
    backlog: int  # accepted and not yet sent when the traffic ended
    lost: int  # accepted and never sent, however long one waits
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cost_us: dict[str, float] = field(
        default_factory=dict
    )  # CPU by kind of process, what idling costs taken off
    idle_share: dict[str, float] = field(default_factory=dict)  # of one core, by kind, without any traffic


class Bench:
    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._kinds = {**lab.kinds, os.getpid(): GENERATOR}
        self._numbers = itertools.count()
        self._run = f"{time.time():.0f}"
        self.idle: dict[str, float] = {}  # seconds a second, by kind

    async def prepare(self) -> None:
        """Warm everything up, wait until it is sent, then see what idling costs."""
        log = self._lab.carrier()
        tally = await closed_loop(self._lab.doors, 64, WARM_UP_S, self._text, self._lab.key)
        await wait_until_sent(log, tally.accepted, within=DRAIN_WITHIN_S)
        before, began = usage(self._kinds), time.perf_counter()
        await asyncio.sleep(IDLE_S)
        took = time.perf_counter() - began
        self.idle = {kind: used / took for kind, used in _spent(before, usage(self._kinds)).items()}

    async def singles(self, name: str, *, clients: int, seconds: float) -> Result:
        def traffic() -> "asyncio.Future[Tally]":
            run = closed_loop(self._lab.doors, clients, seconds, self._text, self._lab.key)
            return asyncio.ensure_future(run)

        return await self._messages(name, traffic)

    async def answers(self, name: str, *, clients: int, rate: float, seconds: float) -> Result:
        def traffic() -> "asyncio.Future[Tally]":
            run = open_loop(self._lab.doors, clients, seconds, self._text, self._lab.key, rate=rate)
            return asyncio.ensure_future(run)

        return await self._messages(name, traffic)

    async def _messages(self, name: str, traffic: Callable[[], "asyncio.Future[Tally]"]) -> Result:
        log, before, began = self._lab.carrier(), usage(self._kinds), time.time()
        tally = await traffic()
        ended = time.time()
        cost = self._cost(before, ended - began, tally.accepted)
        sent, in_all = await self._sent(log, tally.accepted, began, ended)
        return Result(
            name=name,
            seconds=tally.seconds,
            accepted=tally.accepted,
            refused=sum(tally.statuses.values()) - tally.accepted + tally.broken,
            accepted_rate=tally.per_second,
            sent_rate=sent / (ended - began),
            backlog=tally.accepted - sent,
            lost=tally.accepted - in_all,
            p50_ms=tally.percentile(0.5),
            p99_ms=tally.percentile(0.99),
            cost_us=cost,
            idle_share=self.idle,
        )

    async def bulk(self, name: str, *, seconds: float) -> Result:
        """Accepting and sending, each by itself: the second is the rate at which the backlog shrinks afterwards."""
        log, before, began = self._lab.carrier(), usage(self._kinds), time.time()
        accepted, took = await bulk(self._lab.doors, BULK_STREAMS, seconds, self._text, self._lab.key)
        ended = time.time()
        sent, in_all = await self._sent(log, accepted, began, ended)
        drained = time.time()
        cost = self._cost(before, drained - began, accepted)
        return Result(
            name=name,
            seconds=took,
            accepted=accepted,
            refused=0,
            accepted_rate=accepted / took,
            sent_rate=(in_all - sent) / (drained - ended),
            backlog=accepted - sent,
            lost=accepted - in_all,
            cost_us=cost,
            idle_share=self.idle,
        )

    async def campaign(self, name: str, *, rows: int) -> Result:
        """Its list, accepted by itself; then, from the start on, how fast it goes out."""
        log, before, began = self._lab.carrier(), usage(self._kinds), time.time()
        campaign = Campaign(self._lab.doors[0], self._lab.program, self._lab.key)
        accepted = await campaign.send_list(rows, lambda: fictional_number(next(self._numbers)))
        ended = time.time()
        await campaign.start()
        sent, in_all = await self._sent(log, accepted, began, ended)
        drained = time.time()
        return Result(
            name=name,
            seconds=ended - began,
            accepted=accepted,
            refused=rows - accepted,
            accepted_rate=accepted / (ended - began),
            sent_rate=in_all / (drained - ended),
            backlog=accepted - sent,
            lost=accepted - in_all,
            cost_us=self._cost(before, drained - began, accepted),
            idle_share=self.idle,
        )

    async def _sent(self, log: CarrierLog, accepted: int, began: float, ended: float) -> tuple[int, int]:
        """What the carriers took in the window, and what they took in the end."""
        in_all = await wait_until_sent(log, accepted, within=DRAIN_WITHIN_S)
        return log.taken(began, ended), in_all

    def _cost(self, before: dict[str, float], took: float, messages: int) -> dict[str, float]:
        spent = _spent(before, usage(self._kinds))
        return {
            kind: (used - self.idle.get(kind, 0.0) * took) / max(1, messages) * 1e6
            for kind, used in spent.items()
        }

    def _text(self) -> bytes:
        number = next(self._numbers)
        return orjson.dumps(
            {
                "program": self._lab.program,
                "to": fictional_number(number),
                "body": TEXT,
                "reference": f"{self._run}-{number}",
            }
        )


def _spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {kind: after[kind] - before.get(kind, 0.0) for kind in after}
