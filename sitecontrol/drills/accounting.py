"""After a drill: what became of every acknowledged message, and held against the carriers' logs.

Many are read page by page, for each look ends in a commit that waits for the other site; what no page had, and the few
that are left, are asked for one by one. Asked repeatedly, since a text in doubt is settled only after its grace; given
up `within` seconds after all were asked for once, which may itself take long. A text that nobody acknowledged is looked
up by its reference: it may have been accepted by an answer that did not arrive.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from sitecontrol.drills.client import Door
from sitecontrol.drills.ledger import now
from sitecontrol.drills.traffic import Access

FINAL = frozenset(
    {"delivered", "undelivered", "rejected", "expired", "failed", "canceled", "unknown", "suppressed"}
)
IN_DOUBT = "in_doubt"
PARALLEL = 32
PAGE = 200  # messages; no page has more
FEW = 50  # are asked for one by one
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


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """An attempt of which nobody knows whether its text left."""

    id: str  # of the message
    carrier: str | None  # None: not known; whoever wrote it had no time to tell


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """What was found out about a text for which nobody had a 2xx."""

    reference: str
    known: bool  # the system could say whether it had been accepted
    fate: Fate | None  # None: it was not accepted, or that is not known
    at_carrier: bool

    @property
    def sentence(self) -> str:
        if not self.known:
            return f"{self.reference}: nobody could say whether it was accepted"
        if self.fate is not None:
            return f"{self.reference}: accepted as {self.fate.id}, {self.fate.state}"
        return f"{self.reference}: not accepted, {'but a carrier has it' if self.at_carrier else 'and never sent'}"


class Accounting:
    def __init__(self, access: Access) -> None:
        self._headers = {"Authorization": f"Bearer {access.key}"}
        doors = [door for sites in access.doors.values() for door in sites[0]]
        self._doors = itertools.cycle(doors)
        self._tries = len(doors)

    async def settle(
        self, ids: Mapping[str, str], *, within: float, progress: Progress = lambda _settled, _all: None
    ) -> dict[str, Fate]:
        """The fate of each message by id (given: its reference by its id); returns as soon as all are final."""
        deadline = None
        open_ids = dict(ids)
        total = len(open_ids)
        fates: dict[str, Fate] = {}
        async with self._session() as session:
            while open_ids:
                listed = await self._listed(session, open_ids) if len(open_ids) > FEW else {}
                others = {i: reference for i, reference in open_ids.items() if i not in listed}
                for fate in (*listed.values(), *await self._round(session, others)):
                    fates[fate.id] = fate
                    if fate.final:
                        del open_ids[fate.id]
                progress(total - len(open_ids), total)
                deadline = deadline or now() + within
                if now() > deadline:
                    break
                if open_ids:
                    await asyncio.sleep(ROUND_EVERY)
        return fates

    async def find(self, references: Iterable[str], *, within: float) -> dict[str, str | None]:
        """By reference: the id of the message that was accepted for it, or None when there is none. Left out: those
        of which nobody could say it in time.
        """
        deadline = now() + within
        still, found = list(references), dict[str, str | None]()
        async with self._session() as session:
            while still and now() < deadline:
                for reference in still:
                    known, message_id = await self._find(session, reference)
                    if known:
                        found[reference] = message_id
                    if now() > deadline:
                        break
                still = [reference for reference in still if reference not in found]
                if still:
                    await asyncio.sleep(ROUND_EVERY)
        return found

    async def doubts(self, terms: Iterable[int], *, within: float) -> list[Doubt] | None:
        """Every attempt of the account's that was made in one of these terms, and came into doubt. None: nobody could
        say.
        """
        deadline = now() + within
        found: list[Doubt] = []
        async with self._session() as session:
            for term in terms:
                query = {"term": str(term), "limit": str(PAGE)}
                while True:
                    status, body = await self._ask(session, "/v1/doubts", **query)
                    if status == HTTPStatus.OK:
                        found += [Doubt(id=one["id"], carrier=one["carrier"]) for one in body["doubts"]]
                        if body["next_cursor"] is None:
                            break
                        query["cursor"] = body["next_cursor"]
                    elif now() > deadline:
                        return None
                    else:
                        await asyncio.sleep(ROUND_EVERY)
        return found

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=15.0)
        connector = aiohttp.TCPConnector(limit=PARALLEL)
        return aiohttp.ClientSession(timeout=timeout, connector=connector, headers=self._headers)

    async def _find(self, session: aiohttp.ClientSession, reference: str) -> tuple[bool, str | None]:
        status, body = await self._ask(session, "/v1/messages", reference=reference)
        if status != HTTPStatus.OK:
            return False, None
        return True, next((str(message["id"]) for message in body["messages"]), None)

    async def _listed(self, session: aiohttp.ClientSession, ids: dict[str, str]) -> dict[str, Fate]:
        """The fates of those among `ids` that the pages have, newest first, down to the oldest of them."""
        oldest = min(ids)  # ids are in the order of time
        found: dict[str, Fate] = {}
        query = {"limit": str(PAGE)}
        while True:
            status, body = await self._ask(session, "/v1/messages", **query)
            if status != HTTPStatus.OK:
                return found
            for message in body["messages"]:
                if message["id"] in ids:
                    found[message["id"]] = fate_of(message["id"], ids[message["id"]], message)
            cursor = body["next_cursor"]
            if cursor is None or (body["messages"] and body["messages"][-1]["id"] < oldest):
                return found
            query["cursor"] = cursor

    async def _round(self, session: aiohttp.ClientSession, ids: dict[str, str]) -> list[Fate]:
        queue = iter(tuple(ids.items()))
        found: list[Fate] = []

        async def worker() -> None:
            for message_id, reference in queue:
                found.append(await self._look_up(session, message_id, reference))

        await asyncio.gather(*(worker() for _ in range(PARALLEL)))
        return found

    async def _look_up(self, session: aiohttp.ClientSession, message_id: str, reference: str) -> Fate:
        status, body = await self._ask(session, f"/v1/messages/{message_id}")
        if status == HTTPStatus.OK:
            return fate_of(message_id, reference, body)
        return _without_answer(
            message_id, reference, "missing" if status == HTTPStatus.NOT_FOUND else "unread"
        )

    async def _ask(
        self, session: aiohttp.ClientSession, path: str, **query: str
    ) -> tuple[int, dict[str, Any]]:
        """The first door's answer that tells of it, or that it is not there; status 0: nobody could say."""
        for _ in range(self._tries):
            door: Door = next(self._doors)
            try:
                async with session.get(door.url + path, params=query) as response:
                    body: dict[str, Any] = await response.json(content_type=None)
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, ValueError):
                continue
            if status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
                return status, body
        return 0, {}


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
