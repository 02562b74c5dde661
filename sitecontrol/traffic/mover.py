"""Points every adapter to our site while we are the live site: each in a task of its own, beside the agent's loop.

`look` is called by the loop and returns at once. Nothing that an adapter does, raises or leaves undone reaches the
loop: it is logged, and told in `told`, from which `/status` and the metrics are made.
"""

import asyncio
from collections.abc import Sequence

import structlog

from sitecontrol.clock import Clock
from sitecontrol.traffic import moving
from sitecontrol.traffic.api import Adapter, AdapterFailed, Move
from sitecontrol.traffic.moving import Act, Progress

log = structlog.get_logger()

GRACE = 1.0  # seconds beyond its own deadline, for an adapter that does not keep it


class Mover:
    def __init__(self, adapters: Sequence[Adapter], *, check_every: float, clock: Clock) -> None:
        self._adapters = adapters
        self._check_every = check_every
        self._clock = clock
        self._move: Move | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.told = {adapter.name: Progress() for adapter in adapters}  # adapter -> how far it is

    def look(self, move: Move | None) -> None:
        """Clients belong to us, by `move`, or (None) we have no say where they belong. Cheap when nothing changed."""
        if move == self._move:
            return
        self._move = move
        for adapter in self._adapters:
            before = self._tasks.pop(adapter.name, None)
            if before is not None:
                before.cancel()
            progress = self.told[adapter.name]
            if move is None:
                self.told[adapter.name] = moving.end(progress)
            else:
                self.told[adapter.name] = moving.begin(progress, move.term)
            self._tasks[adapter.name] = asyncio.create_task(
                self._keep(adapter, move, before), name=f"traffic-{adapter.name}"
            )

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, adapter: Adapter, move: Move | None, before: asyncio.Task[None] | None) -> None:
        """One adapter, for as long as `move` holds; never beside what was under way for an earlier one."""
        if before is not None:
            await asyncio.wait([before])
        while move is not None:
            progress = await self._attempt(adapter, move)
            self.told[adapter.name] = progress
            await self._clock.sleep(moving.pause(progress, self._check_every))

    async def _attempt(self, adapter: Adapter, move: Move) -> Progress:
        before = self.told[adapter.name]
        act = moving.next_act(before)
        started = self._clock.now()
        try:
            async with asyncio.timeout(adapter.deadline + GRACE):
                wrong = await _carry_out(adapter, act, move)
        except TimeoutError:
            after = moving.failed(before, f"no end within {adapter.deadline:g} s")
        except AdapterFailed as error:
            after = moving.failed(before, str(error))
        except Exception as error:  # noqa: BLE001 # a fault of an adapter is an alarm, never the agent's end
            after = moving.failed(before, f"{type(error).__name__}: {error}")
        else:
            after = moving.succeeded(before, act, wrong)
        self._tell(adapter, move, before, after, seconds=round(self._clock.now() - started, 3))
        return after

    def _tell(
        self, adapter: Adapter, move: Move, before: Progress, after: Progress, *, seconds: float
    ) -> None:
        """One line for what changed: not for every attempt that fails alike."""
        where = {"adapter": adapter.name, "site": move.site, "term": move.term}
        if after.pointed and not before.pointed:
            log.info("traffic_moved", **where, seconds=seconds, attempts=before.failures + 1)
        elif after.state is moving.State.FAILED:
            if (before.state, before.reason) != (after.state, after.reason):
                log.warning("traffic_failed", **where, seconds=seconds, reason=after.reason)
        elif before.state is moving.State.FAILED:
            log.info("traffic_in_order", **where)


async def _carry_out(adapter: Adapter, act: Act, move: Move) -> str | None:
    if act is Act.CHECK:
        return await adapter.check(move)
    await adapter.point_to(move)
    return None
