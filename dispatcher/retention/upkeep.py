"""Rounds of upkeep by the dispatchers of the live site, one of them at a time.

On a session of its own, so that it never waits for a text's commit nor a text for it. The leader's clock has to be
believed (`dispatcher.clocks`), and this site has to be the one that sends. What is wrong is shown by `/status` and
Prometheus until a round says otherwise: it keeps nobody from sending.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, datetime

import asyncpg
import structlog

from dispatcher.leadership import Leadership
from dispatcher.owned import Tasks
from dispatcher.retention import decide
from dispatcher.retention.carry_out import Place, one_round
from dispatcher.retention.forgetting import forget_campaigns, forget_replies
from dispatcher.retention.model import Picture, RetentionError, Round
from dispatcher.retention.store import RetentionStore
from dispatcher.store import DispatcherError
from replication.errors import ReplicationError
from replication.session import Session
from sitecontrol.clock import Clock
from sitecontrol.settings import SettingsError
from sitecontrol.settings_retention import RetentionSettings
from sitecontrol.settings_types import Name

log = structlog.get_logger()

FIRST_AFTER_S = 15.0
EVERY_S = 60.0
REFERENCES_AT_ONCE = 2_000
CALLS_A_ROUND = 100  # of each kind that look for what is to be forgotten; a whole day is there for all
PAUSE_S = 0.1  # between two of these
SCHEMA_OLDER = frozenset({"42883", "42501", "3F000", "42P01"})  # as dispatcher.engine.schema, and a table

Connect = Callable[[Name], Awaitable[Session]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the last round of this process saw."""

    at: datetime  # the leader's clock
    periods: int
    oldest: datetime | None  # where the oldest period ends
    newest: datetime | None
    round: Round


@dataclass
class Sweep:
    """How far references were looked through on a day."""

    day: date | None = None
    reached: tuple[int, str] | None = (0, "")
    forgotten: int = field(default=0)


class Upkeep:
    def __init__(
        self,
        *,
        leadership: Leadership,
        connect: Connect,
        settings: RetentionSettings,
        place: Place,
        clock_agrees: Callable[[Name | None], bool],
        clock: Clock,
    ) -> None:
        self._leadership = leadership
        self._connect = connect
        self._settings = settings
        self._place = place
        self._clock_agrees = clock_agrees
        self._clock = clock
        self._sweep = Sweep()
        self.seen: Seen | None = None
        self.tasks = Tasks("upkeep")

    async def start(self) -> None:
        self.tasks.spawn(self._forever(), "rounds")

    async def stop(self) -> None:
        await self.tasks.stop()

    @property
    def problems(self) -> tuple[str, ...]:
        return () if self.seen is None else self.seen.round.problems

    async def _forever(self) -> None:
        await self._clock.sleep(FIRST_AFTER_S)
        while True:
            gate = self._leadership.gate
            if gate.may_send and gate.node is not None and self._clock_agrees(gate.node):
                await self._try(gate.node, gate.term)
            else:
                self.seen = None  # whoever does it now knows better
            await self._clock.sleep(EVERY_S)

    async def _try(self, node: Name, term: int) -> None:
        try:
            session = await self._connect(node)
        except (ReplicationError, SettingsError, asyncpg.PostgresError, OSError) as error:
            log.debug("upkeep_cannot_connect", node=node, error=str(error))
            return
        try:
            await self._round(RetentionStore(session, term, self._clock))
        except RetentionError as error:
            log.warning("upkeep_failed", error=str(error))
        except (DispatcherError, ReplicationError, OSError) as error:
            log.info("upkeep_interrupted", error=f"{type(error).__name__}: {error}")
        except asyncpg.PostgresError as error:
            if error.sqlstate in SCHEMA_OLDER:
                log.debug("upkeep_awaits_schema", error=str(error))
            else:
                log.error("upkeep_failed", error=str(error))  # noqa: TRY400 # the database's words say it
        finally:
            await session.aclose()

    async def _round(self, store: RetentionStore) -> None:
        if not await store.begin():
            self.seen = None
            return
        done = await one_round(store, self._settings, self._place)
        picture = await store.picture()
        self._tell(picture, done)
        await self._forget(store, picture)
        before = decide.forget_replies_before(picture, self._settings)
        await forget_replies(store, self._clock, before, calls=CALLS_A_ROUND)
        before = decide.forget_campaigns_before(picture, self._settings)
        await forget_campaigns(store, self._clock, before, calls=CALLS_A_ROUND)

    def _tell(self, picture: Picture, done: Round) -> None:
        said = self.problems
        periods = picture.periods
        self.seen = Seen(
            at=picture.now,
            periods=len(periods),
            oldest=periods[0].until if periods else None,
            newest=periods[-1].until if periods else None,
            round=done,
        )
        if done.problems and done.problems != said:
            log.warning("retention_problems", problems=done.problems)

    async def _forget(self, store: RetentionStore, picture: Picture) -> None:
        """A part of the day's walk through all references."""
        if self._sweep.day != picture.now.date():
            self._sweep = Sweep(day=picture.now.date())
        before = decide.forget_before(picture, self._settings)
        for _ in range(CALLS_A_ROUND):
            if self._sweep.reached is None:
                break
            forgotten, self._sweep.reached = await store.forget(
                before, self._sweep.reached, REFERENCES_AT_ONCE
            )
            self._sweep.forgotten += forgotten
            await self._clock.sleep(PAUSE_S)
        if self._sweep.reached is None and self._sweep.forgotten:
            log.info("references_forgotten", count=self._sweep.forgotten)
            self._sweep.forgotten = 0
