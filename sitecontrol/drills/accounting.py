"""After a drill: what became of every acknowledged message, asked one by one, and held against the carriers' logs.

Asked repeatedly, since a text in doubt is settled only after its grace; given up after `within` seconds.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from sitecontrol.drills.client import Door
from sitecontrol.drills.ledger import Ack, now
from sitecontrol.drills.traffic import Access

FINAL = frozenset(
    {"delivered", "undelivered", "rejected", "expired", "failed", "canceled", "unknown", "suppressed"}
)
IN_DOUBT = "in_doubt"
PARALLEL = 32
ROUND_EVERY = 0.5  # seconds

Progress = Callable[[int, int], None]  # settled, of how many


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What the system says of one acknowledged message."""

    id: str
    reference: str
    state: str  # "missing" when the system does not know it; "unread" when nobody answered
    was_in_doubt: bool
    attempts: int

    @property
    def final(self) -> bool:
        return self.state in FINAL


class Accounting:
    def __init__(self, access: Access) -> None:
        self._headers = {"Authorization": f"Bearer {access.key}"}
        doors = [door for sites in access.doors.values() for door in sites[0]]
        self._doors = itertools.cycle(doors)
        self._tries = len(doors)

    async def settle(
        self, acks: Iterable[Ack], *, within: float, progress: Progress = lambda _settled, _all: None
    ) -> dict[str, Fate]:
        """The fate of each message by id; returns as soon as all are final."""
        deadline = now() + within
        open_ids = {ack.id: ack.reference for ack in acks}
        total = len(open_ids)
        fates: dict[str, Fate] = {}
        timeout = aiohttp.ClientTimeout(total=15.0)
        connector = aiohttp.TCPConnector(limit=PARALLEL)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=connector, headers=self._headers
        ) as session:
            while open_ids:
                for fate in await self._round(session, open_ids):
                    fates[fate.id] = fate
                    if fate.final:
                        del open_ids[fate.id]
                progress(total - len(open_ids), total)
                if now() > deadline:
                    break
                if open_ids:
                    await asyncio.sleep(ROUND_EVERY)
        return fates

    async def _round(self, session: aiohttp.ClientSession, ids: dict[str, str]) -> list[Fate]:
        queue = iter(tuple(ids.items()))
        found: list[Fate] = []

        async def worker() -> None:
            for message_id, reference in queue:
                found.append(await self._look_up(session, message_id, reference))

        await asyncio.gather(*(worker() for _ in range(PARALLEL)))
        return found

    async def _look_up(self, session: aiohttp.ClientSession, message_id: str, reference: str) -> Fate:
        for _ in range(self._tries):
            door: Door = next(self._doors)
            try:
                async with session.get(f"{door.url}/v1/messages/{message_id}") as response:
                    body: dict[str, Any] = await response.json(content_type=None)
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, ValueError):
                continue
            if status == 200:
                return fate_of(message_id, reference, body)
            if status == 404:
                return _without_answer(message_id, reference, "missing")
        return _without_answer(message_id, reference, "unread")


def fate_of(message_id: str, reference: str, body: dict[str, Any]) -> Fate:
    states = [body["state"], *(event["state"] for event in body.get("events", []))]
    return Fate(
        id=message_id,
        reference=reference,
        state=body["state"],
        was_in_doubt=IN_DOUBT in states,
        attempts=int(body.get("attempts", 0)),
    )


def _without_answer(message_id: str, reference: str, state: str) -> Fate:
    return Fate(id=message_id, reference=reference, state=state, was_in_doubt=False, attempts=0)
