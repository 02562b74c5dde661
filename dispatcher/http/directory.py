"""Who may call and what they may send under: keys and programs of all accounts, kept in memory.

Rules:

* A request with a known key costs no database; the picture is read anew every two seconds, so a revoked key or
  a changed program is known everywhere within that.
* What is *not* in the picture may be newer than it: a reading that began after the question is awaited
  before the answer is "no". Such readings are shared, and spaced so that nobody can make us read all day.
* When it cannot be read, the old picture serves those it knows. The others are told to come again, not "no".
"""

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane, Unavailable
from dispatcher.model import ApiKey, Program
from dispatcher.owned import Tasks
from dispatcher.store import Store
from sitecontrol.clock import Clock

log = structlog.get_logger()

REFRESH_EVERY_S: Final = 2.0
LEAST_APART_S: Final = 0.25
READ_WITHIN_S: Final = 1.0  # then those who wait are told, or wait for another one
RETRY_AFTER_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Keys by their SHA-256, programs by account and name, and the names of those in use by account."""

    keys: dict[bytes, ApiKey]
    programs: dict[tuple[int, str], Program]
    names: dict[int, list[str]]
    by_number: dict[int, str]  # the names of all programs


def draw(keys: Sequence[ApiKey], programs: Sequence[Program]) -> Picture:
    names: dict[int, list[str]] = {}
    for program in sorted(programs, key=lambda program: program.name):
        if program.enabled:
            names.setdefault(program.account_id, []).append(program.name)
    return Picture(
        keys={key.secret_hash: key for key in keys},
        programs={(program.account_id, program.name): program for program in programs},
        names=names,
        by_number={program.id: program.name for program in programs},
    )


class Directory:
    def __init__(self, leadership: LeadershipLike, clock: Clock, *, hold_for: float) -> None:
        self._leadership = leadership
        self._clock = clock
        self._hold_for = hold_for
        self._tasks = Tasks("directory")
        self._picture = Picture(keys={}, programs={}, names={}, by_number={})
        self._asked = asyncio.Event()
        self._next: asyncio.Future[bool] | None = None
        self._stopped = False
        self.loaded = False  # it was read at least once

    @property
    def tasks(self) -> Tasks:
        return self._tasks

    async def start(self) -> None:
        self._tasks.spawn(self._follow(), "follow")

    async def stop(self) -> None:
        self._stopped = True
        await self._tasks.stop()
        if self._next is not None and not self._next.done():
            self._next.set_result(False)

    def key(self, secret: str) -> ApiKey | None:
        """The key that is usable now, from the picture in memory."""
        digest = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        found = self._picture.keys.get(digest)
        if found is None or not hmac.compare_digest(found.secret_hash, digest) or found.revoked:
            return None
        if found.expires_at is not None and found.expires_at <= self._clock.wall():
            return None
        return found

    def program(self, account_id: int, name: str) -> Program | None:
        return self._picture.programs.get((account_id, name))

    def program_name(self, number: int) -> str | None:
        """None while it is not known."""
        return self._picture.by_number.get(number)

    def program_names(self, account_id: int) -> list[str]:
        """Those that the account may send under now, in the order of the alphabet."""
        return self._picture.names.get(account_id, [])

    async def refreshed(self) -> None:
        """Return after a reading that began after this call. Raises Unavailable when none succeeds in time."""
        deadline = self._clock.now() + self._hold_for
        while not await self._next_reading():
            if self._stopped or self._clock.now() >= deadline:
                raise Unavailable(RETRY_AFTER_S, "keys and programs cannot be read now")

    async def _next_reading(self) -> bool:
        if self._stopped:
            return False
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._asked.set()
        return await asyncio.shield(self._next)

    async def _follow(self) -> None:
        while True:
            self._asked.clear()
            waiters, self._next = self._next, None
            succeeded = False
            try:
                succeeded = await self._read()
            finally:
                if waiters is not None:
                    waiters.set_result(succeeded)
            await self._clock.sleep(LEAST_APART_S)
            try:
                async with asyncio.timeout(REFRESH_EVERY_S - LEAST_APART_S):
                    await self._asked.wait()
            except TimeoutError:
                pass  # nobody asked: time for the regular reading

    async def _read(self) -> bool:
        async def both(store: Store, term: int) -> Picture:
            return draw(await store.api_keys(term), await store.programs(term))

        try:
            self._picture = await self._leadership.run(both, lane=Lane.READ, hold_for=READ_WITHIN_S)
        except (Unavailable, asyncpg.PostgresError) as error:
            log.info("directory_not_read", error=f"{type(error).__name__}: {error}")
            return False
        except Exception:
            log.exception("directory_not_read")  # the old picture serves on; the next reading may succeed
            return False
        self.loaded = True
        return True
