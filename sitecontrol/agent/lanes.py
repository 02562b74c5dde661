"""Runs at most one effect per lane, lanes beside each other; a fence ends what the PostgreSQL lane is doing. So does a
claim to lead, while that lane only asks a leader for its history, or rests after a failure: whoever led is gone.

The loop that decides never waits for an effect: while a clone runs for minutes, the same facts go on being
judged, and what is decided meanwhile for a busy lane is dropped, to be decided anew when the lane is free.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import structlog

from sitecontrol.clock import Clock
from sitecontrol.leadership.effects import Claim, Clone, Effect, Fence, RecordReached
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Decision, Lane

log = structlog.get_logger()

PAUSE_AFTER_FAILURE = 0.2  # seconds before a lane tries again
PAUSE_BEFORE_REPEAT = 0.2  # or does once more what it has just done: it changed nothing that is seen yet
LONGEST_PAUSE = 60.0  # between clones of one leader that fail


class Lanes:
    """`execute` carries one effect out, with the very facts that it was decided from; `done` is told after each,
    so that the facts are judged anew. `only_asks` tells whether starting a standby has moved nothing yet.
    """

    def __init__(
        self,
        execute: Callable[[Effect, Facts], Awaitable[None]],
        done: Callable[[], None],
        clock: Clock,
        *,
        only_asks: Callable[[], bool] = lambda: False,
    ) -> None:
        self._execute = execute
        self._done = done
        self._clock = clock
        self._only_asks = only_asks
        self._resting: set[Lane] = set()  # lanes that only wait after a failure
        self._running: dict[Lane, tuple[Effect, asyncio.Task[None]]] = {}
        self._ended: dict[Lane, tuple[Effect, float]] = {}  # the last one of each lane, and when
        self._failures: dict[Lane, tuple[Effect, int]] = {}  # how often in a row it has failed

    def busy_with(self, lane: Lane) -> Effect | None:
        entry = self._running.get(lane)
        return entry[0] if entry else None

    def offer(self, decision: Decision, facts: Facts) -> bool:
        """Start the decision's effect if its lane is free, or if it ends what is under way. Tells whether."""
        effect = decision.effect
        if effect is None:
            return False
        busy = self._running.get(decision.lane)
        if busy is not None:
            waits = decision.lane in self._resting or self._only_asks()
            if not gives_way(busy[0], effect, waits=waits):
                return False
            busy[1].cancel()
        elif self._just_done(decision.lane, effect):
            return False
        log.log(
            _level(effect),
            "decided",
            rule=decision.rule,
            effect=type(effect).__name__,
            sentence=decision.sentence,
        )
        previous = busy[1] if busy else None
        task = asyncio.create_task(
            self._run(decision.lane, effect, facts, previous), name=f"effect-{decision.rule}"
        )
        self._running[decision.lane] = (effect, task)
        return True

    def _just_done(self, lane: Lane, effect: Effect) -> bool:
        last = self._ended.get(lane)
        failed, failures = self._failures.get(lane, (None, 0))
        pause = pause_before_repeat(effect, failures if failed == effect else 0)
        return last is not None and last[0] == effect and self._clock.now() - last[1] < pause

    def _note(self, lane: Lane, effect: Effect, *, failed: bool) -> None:
        before, failures = self._failures.get(lane, (None, 0))
        self._failures[lane] = (effect, (failures + 1 if before == effect else 1) if failed else 0)

    async def _run(
        self, lane: Lane, effect: Effect, facts: Facts, previous: asyncio.Task[None] | None
    ) -> None:
        name = type(effect).__name__
        started = self._clock.now()
        try:
            if previous is not None:
                await asyncio.wait([previous])
            await self._execute(effect, facts)
            self._note(lane, effect, failed=False)
            log.log(_level(effect), "done", effect=name, seconds=round(self._clock.now() - started, 3))
        except Exception as error:  # noqa: BLE001 # whatever went wrong is judged anew from fresh facts
            self._note(lane, effect, failed=True)
            seconds = round(self._clock.now() - started, 3)
            log.warning(
                "effect_failed", effect=name, seconds=seconds, kind=type(error).__name__, error=str(error)
            )
            self._resting.add(lane)
            await self._clock.sleep(PAUSE_AFTER_FAILURE)
        finally:
            self._resting.discard(lane)
            current = self._running.get(lane)
            if current is not None and current[1] is asyncio.current_task():
                del self._running[lane]
                self._ended[lane] = (effect, self._clock.now())
            self._done()

    def forget_failures(self, lane: Lane) -> None:
        """The next try of the lane waits for nothing."""
        self._failures.pop(lane, None)
        self._ended.pop(lane, None)

    async def stop(self) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _level(effect: Effect) -> int:
    """What is done every second all the time is no news."""
    return logging.DEBUG if isinstance(effect, RecordReached) else logging.INFO


def gives_way(busy: Effect, decided: Effect, *, waits: bool) -> bool:
    """Whether what a lane is doing is ended for what was decided meanwhile. `waits`: it only asks a leader for its
    history, or rests after a failure.
    """
    if isinstance(decided, Claim):
        return waits and not isinstance(busy, Claim)
    return isinstance(decided, Fence) and not isinstance(busy, Fence)


def pause_before_repeat(effect: Effect, failures: int) -> float:
    """Seconds. Each try of a clone costs the leader a checkpoint and the line between the sites; one that failed will
    mostly fail again. A clone of another leader is another effect, and waits for nothing.
    """
    if not isinstance(effect, Clone) or failures == 0:
        return PAUSE_BEFORE_REPEAT
    return float(min(2.0 ** min(failures - 1, 10), LONGEST_PAUSE))  # a node may be away for months
