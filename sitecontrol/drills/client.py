"""A client of the API as a careful caller writes one: it gives up on a connection, never on a message.

A text keeps its reference, so sending it again is harmless. It goes to a dispatcher of the client's own site
first. When that cannot be reached or does not take it, or says nothing for `patience`, it goes to the other
site as well, and the first 2xx counts. At most one request for each site is under way.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from sitecontrol.drills.ledger import Ack, Broken, Ledger, Refusal, Text, now

PATIENCE = 0.5  # seconds of silence before the other site is asked, too
RETRY_AFTER = 0.05
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=2.0)
FINAL_REFUSALS = range(400, 429)  # what a repeat would not change


@dataclass(frozen=True, kw_only=True)
class Door:
    """A dispatcher that takes messages."""

    site: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    door: Door
    status: int  # 0: none came
    body: dict[str, Any]
    t: float
    wall: float
    error: str = ""  # why none came


class Client:
    """`doors`: its own site's dispatchers, then the other site's."""

    def __init__(
        self, name: str, doors: Sequence[Sequence[Door]], *, key: str, program: str, ledger: Ledger
    ) -> None:
        self.name = name
        self._near, self._far = (itertools.cycle(site) for site in doors)
        self._program = program
        self._ledger = ledger
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            timeout=REQUEST_TIMEOUT, connector=connector, headers=self._headers
        )

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, text: Text, *, within: float) -> bool:
        """Until it is acknowledged, refused for good, or `within` seconds are over."""
        self._ledger.asked(text)
        asked_at = now()
        doors = self._doors()
        under_way: set[asyncio.Task[Answer]] = set()
        try:
            async with asyncio.timeout(within):
                while True:
                    if len(under_way) < 2:
                        under_way.add(asyncio.create_task(self._post(next(doors), text)))
                    done, under_way = await asyncio.wait(
                        under_way, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in done:
                        if self._settles(task.result(), text, asked_at):
                            return 200 <= task.result().status < 300
                    if done:
                        await asyncio.sleep(RETRY_AFTER)
        except TimeoutError:
            return False
        finally:
            await _cancel(under_way)

    def _doors(self) -> Iterator[Door]:
        while True:
            yield next(self._near)
            yield next(self._far)

    def _settles(self, answer: Answer, text: Text, asked_at: float) -> bool:
        """Enter it into the ledger; whether nothing is left to do for this text."""
        if answer.status == 0:
            self._ledger.break_off(
                Broken(
                    client=self.name,
                    reference=text.reference,
                    t=answer.t,
                    site=answer.door.site,
                    url=answer.door.url,
                    error=answer.error,
                )
            )
            return False
        if answer.status < 300:
            body = answer.body
            self._ledger.acknowledge(
                Ack(
                    client=self.name,
                    reference=text.reference,
                    id=body["id"],
                    asked_at=asked_at,
                    t=answer.t,
                    wall=answer.wall,
                    site=answer.door.site,
                    live_site=body.get("live_site"),
                    term=body["term"],
                    durability=body["durability"],
                    duplicate=bool(body.get("duplicate")),
                )
            )
            return True
        self._ledger.refuse(
            Refusal(
                client=self.name,
                reference=text.reference,
                t=answer.t,
                site=answer.door.site,
                status=answer.status,
                title=str(answer.body.get("title", "")),
            )
        )
        return answer.status in FINAL_REFUSALS

    async def _post(self, door: Door, text: Text) -> Answer:
        assert self._session is not None, "started before it sends"  # noqa: S101 # ours to keep
        body = {"program": self._program, "to": text.to, "body": text.body, "reference": text.reference}
        error = ""
        try:
            async with self._session.post(door.url + "/v1/messages", json=body) as response:
                told: Any = await response.json(content_type=None)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as failure:
            told, status, error = {}, 0, type(failure).__name__
        return Answer(door=door, status=status, body=told, t=now(), wall=time.time(), error=error)


async def _cancel(tasks: set[asyncio.Task[Answer]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
