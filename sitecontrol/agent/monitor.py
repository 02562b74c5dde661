"""Watches our own PostgreSQL: ten polls a second over one warm session, and the canary over another.

`facts` is always what was last seen, with "does not answer" told apart from "does not run". The canary is the
row whose commits prove that we still lead: it takes the same way as a message, so it waits for every standby
in step. On a standby the canary is *seen*: it is fresh when its number grew a moment ago by our own clock.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import asyncpg
import structlog
from pydantic_core import from_json

from replication.errors import ReplicationError
from replication.session import Session
from sitecontrol.clock import Clock
from sitecontrol.frozen import replace
from sitecontrol.leadership.facts import PgFacts, PgState, SlotFacts, StandbyFacts
from sitecontrol.settings import FailoverSettings

log = structlog.get_logger()

POLL_EVERY = 0.1  # seconds
ANSWER_WITHIN = 1.0  # seconds: a PostgreSQL that takes longer is mute
CANARY_WITHIN = 30.0  # seconds; a canary that waits for a standby is left to wait
WAL_PAGE = 1024  # bytes: the smallest that PostgreSQL can be built with
PAGE_HEADER = 40  # bytes: the longest of a page of WAL
POLL = resources.files("sitecontrol.sql").joinpath("poll.sql").read_text()
CANARY = "update control.canary set seq = seq + 1, term = $1, written_at = clock_timestamp()"
NAMES = re.compile(r'"([^"]+)"')  # we always quote them
UNSEEN = PgFacts(state=PgState.MUTE)  # what each look begins with
FAILURES = (ReplicationError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


@dataclass(frozen=True, kw_only=True)
class Running:
    """What is known of our running PostgreSQL without asking it."""

    system_id: str | None
    incarnation: str | None
    follows: str | None
    compared_in: int | None = None
    apart_from: str | None = None
    unfinished: bool = False
    wal_free: int | None = None
    wal_volume: int | None = None


class Monitor:
    """`connect` opens a superuser session to our own PostgreSQL; `at_rest` tells of one that does not run (None:
    it runs); `running` tells what is known of it without asking.
    """

    def __init__(
        self,
        connect: Callable[[str], Awaitable[Session]],
        at_rest: Callable[[], Awaitable[PgFacts | None]],
        running: Callable[[], Running],
        changed: Callable[[], None],
        clock: Clock,
        settings: FailoverSettings,
    ) -> None:
        self._connect = connect
        self._at_rest = at_rest
        self._running = running
        self._changed = changed
        self._clock = clock
        self._settings = settings
        self._session: Session | None = None
        self._canary_seq: int | None = None
        self._timeline = 0
        self._opened_for = 0.0  # seconds since the row was written, at the last look
        self._seen = False  # it was seen, whatever it did, since this agent started
        self._inserted = 0  # at the last look: the end of a record, which may not be flushed yet
        # Mute since now: an agent that was just started has not asked yet, and must not take that for a long silence.
        self.facts = PgFacts(state=PgState.MUTE, since=clock.now())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poll_forever(), name="postgres-poll")
            tasks.create_task(self._canary_forever(), name="canary")

    async def poll(self) -> PgFacts:
        """Look once, now."""
        asked_at = self._clock.now()
        try:
            seen = await self._at_rest() or await self._ask()
        except (
            ReplicationError,
            OSError,
        ) as error:  # a disk that is full takes not even a note of what is there
            log.warning("postgres_not_seen", error=str(error))
            seen = self._silent(PgState.MUTE)
        now, before = self._clock.now(), self.facts
        answers = seen.state in (PgState.PRIMARY, PgState.STANDBY)
        if seen.state in (PgState.STOPPED, PgState.ABSENT, PgState.UNUSABLE):
            self._timeline = self._inserted = 0
        changed = seen.state is not before.state or seen.open_term != before.open_term
        self.facts = replace(
            seen,
            since=before.since if seen.state is before.state else now,
            looked_at=now,
            opened_at=self._opened_at(seen, asked_at),
            down_since=None if answers else before.down_since if before.down_since is not None else now,
        )
        self._seen = self._seen or seen.state not in (PgState.MUTE, PgState.STARTING)
        if changed:
            log.info("postgres_is", state=seen.state.value, timeline=seen.timeline, open_term=seen.open_term)
            self._changed()
        return self.facts

    def _opened_at(self, seen: PgFacts, asked_at: float) -> float | None:
        """By the database's word, which is as old as the question: an opening that is noticed late proves no longer. An
        agent that was just started does not know what committed before, and counts from now.
        """
        before = self.facts
        if seen.open_term is None:
            return None
        if seen.open_term == before.open_term:
            return before.opened_at
        return asked_at - self._opened_for if self._seen else asked_at

    def proved(self, at: float) -> None:
        """A commit that began then was confirmed by every standby in step: as good as a canary."""
        self.facts = replace(self.facts, canary_at=at)

    def forget_session(self) -> None:
        """Our PostgreSQL is about to go: nothing may wait on the old connection."""
        if self._session is not None:
            self._session.terminate()
            self._session = None

    async def _poll_forever(self) -> None:
        while True:
            await self.poll()
            await self._clock.sleep(POLL_EVERY)

    async def _ask(self) -> PgFacts:
        try:
            if self._session is None or self._session.closed:
                self._session = await self._connect("monitor")
            rows = await self._session.read(POLL, timeout=ANSWER_WITHIN)
        except asyncpg.CannotConnectNowError:
            return self._silent(PgState.STARTING)
        except FAILURES as error:
            log.debug("postgres_mute", error=str(error))
            self.forget_session()
            return self._silent(PgState.MUTE)
        return self._understand(dict(rows[0]))

    def _silent(self, state: PgState) -> PgFacts:
        """What it last told may be long past; by whom it was opened is not ours to forget, though."""
        known = self._running()
        self._inserted = 0  # what it had not flushed may be gone
        return replace(
            self.facts,
            state=state,
            system_id=known.system_id,
            incarnation=known.incarnation,
            unfinished=known.unfinished,  # a first start that failed before it ever answered is begun anew
            compared_in=known.compared_in,
            apart_from=known.apart_from,
            standbys=(),
            upstream=False,
        )

    def _understand(self, row: dict[str, Any]) -> PgFacts:
        now = self._clock.now()
        known = self._running()
        primary = not row["in_recovery"]
        # A standby's walreceiver, which alone tells the newest timeline at once, is gone just when it matters: when
        # the leader is. While the same server runs, its timeline never goes back.
        self._opened_for = max(0.0, row["opened_for"] or 0.0)
        self._timeline = max(self._timeline, int(row["timeline"]))
        if row["canary_seq"] != self._canary_seq and not primary:
            first_look = self._canary_seq is None
            self._canary_seq = row["canary_seq"]
            canary_at = self.facts.canary_at if first_look else now
        else:
            canary_at = self.facts.canary_at
        flushed, replayed = int(row["lsn"]), int(row["replayed"])
        return replace(
            UNSEEN,
            state=PgState.PRIMARY if primary else PgState.STANDBY,
            unflushed_since=self._stands_since(flushed, row["inserted"], now) if primary else None,
            unreplayed_since=None if primary else self._stands_since(replayed, flushed, now),
            received_at=None if primary else self._received_at(flushed, now),
            system_id=known.system_id,
            incarnation=known.incarnation,
            timeline=self._timeline,
            control_timeline=row["control_timeline"],
            received_lsn=flushed,
            replayed_lsn=replayed,
            whole_lsn=self._whole(flushed, row["inserted"]) if primary else 0,
            was_primary=primary,
            unfinished=known.unfinished,
            follows=known.follows,
            compared_in=known.compared_in,
            apart_from=known.apart_from,
            wal_free=known.wal_free,
            wal_volume=known.wal_volume,
            upstream=row["upstream"],
            open_term=row["row_term"] if primary and row["opened_here"] else None,
            row_term=row["row_term"],
            remote_in_step=tuple(row["remote_in_step"]),
            names=tuple(NAMES.findall(row["names"])) if primary else (),
            standbys=tuple(self._standby(s, flushed, now) for s in from_json(row["standbys"])),
            slots=tuple(SlotFacts(**slot) for slot in from_json(row["slots"])),
            canary_at=canary_at,
            canary_written=row["canary_written_at"],
        )

    def _whole(self, flushed: int, inserted: int) -> int:
        """WAL is flushed up to the middle of a record at times; up to where records were inserted at the last look all
        of them are whole.
        """
        last, self._inserted = self._inserted, int(inserted)
        at_a_page = (
            last % WAL_PAGE <= PAGE_HEADER
        )  # then the record before ends in front of the page's header
        return last if last <= flushed and not at_a_page else self.facts.whole_lsn

    def _stands_since(self, position: int, goal: int, now: float) -> float | None:
        """Since when a position (flushed, on a primary; replayed, on a standby) has not moved towards its goal."""
        if position >= goal:
            return None
        before = self.facts
        since = before.unflushed_since if before.state is PgState.PRIMARY else before.unreplayed_since
        return since if since is not None and position <= before.replayed_lsn else now

    def _received_at(self, received: int, now: float) -> float | None:
        before = self.facts
        if before.state is not PgState.STANDBY:
            return None
        return now if received > before.received_lsn else before.received_at

    def _standby(self, told: dict[str, Any], lsn: int, now: float) -> StandbyFacts:
        """A standby moved if it flushed more than at the last look, or had all there was at the last look."""
        name, flush = str(told["name"]), int(told["flush"])
        before = next((s for s in self.facts.standbys if s.name == name), None)
        moved = before is None or flush > before.flush_lsn or flush >= min(lsn, self.facts.received_lsn)
        moved_at = now if moved or before is None else before.moved_at
        still = 0 if moved or before is None else before.still + 1
        # PostgreSQL measures with each answer of the standby: of one that is silent it goes on telling the last figure.
        measured = float(told["flush_lag"] or 0.0)
        return StandbyFacts(
            name=name,
            streaming=bool(told["streaming"]),
            flush_lsn=flush,
            replay_lsn=int(told["replay"]),
            moved_at=moved_at,
            still=still,
            flush_lag_s=max(measured, now - moved_at),
            replay_lag_s=told["replay_lag"],
        )

    async def _canary_forever(self) -> None:
        session: Session | None = None
        while True:
            started = self._clock.now()
            if self.facts.open_term is not None:
                try:
                    if session is None or session.closed:
                        session = await self._connect("canary")
                    await session.commit(CANARY, self.facts.open_term, timeout=CANARY_WITHIN)
                    self.facts = replace(self.facts, canary_at=started)
                except FAILURES as error:
                    log.debug("canary_failed", error=str(error))
                    if session is not None:
                        session.terminate()
                    session = None
            elapsed = self._clock.now() - started
            await self._clock.sleep(max(0.02, self._settings.canary_every - elapsed))
