"""Takes a campaign's list as a stream: read, checked and stored a few batches at a time.

* What is held of it is bounded: a group of batches that is being stored, and one that is being read. While production
  moves, storing waits, and so does reading.
* A list counts when it has come whole. One that broke off, in whatever way, is sent again and takes the place of what
  there was of it; nothing can be sent from a part of a list.
* A header that cannot be used is told before anything of an earlier list is given up.
"""

import asyncio
from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from aiohttp import web

from dispatcher.campaigns.lists import ListReader, Reading
from dispatcher.campaigns.model import BATCH_TEXTS, MOST_ROWS, BadRow, Batch, Campaign, Text
from dispatcher.campaigns.records import Charset
from dispatcher.campaigns.states import CampaignState
from dispatcher.campaigns.templates import Faulty, Template
from dispatcher.campaigns.variables import from_json
from dispatcher.http import answers, body, checking
from dispatcher.http.bulk import PAUSE_S, next_chunk
from dispatcher.http.problem import (
    INVALID,
    MEDIA_TYPE,
    NOT_NOW,
    TOO_LARGE,
    TOO_MANY_STREAMS,
    UNAVAILABLE,
    Problem,
)
from dispatcher.http.schemas_campaigns import ListUploadQuery
from dispatcher.http.template_calls import problem_of
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane
from dispatcher.store import Store

UPLOADS: Final = 4  # at once
UPLOADS_PER_ACCOUNT: Final = 2
GROUP: Final = 4  # batches stored in one commit
HOLD_S: Final = 60.0  # while nobody leads: a list waits for longer than a text, for it is sent again whole
TURN_ROWS: Final = 50  # read in one turn of the loop, so that requests are not held up
ALIVE_BYTES: Final = 65_536  # in PAUSE_S, when no row comes to its end
BAD_TOLD: Final = 1_000
RETRY_AFTER_S: Final = 5.0
CSV: Final = frozenset({"text/csv"})
DELIMITERS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
CHARSETS: Final = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "utf-16"), Charset.UTF_8),
    **dict.fromkeys(("windows-1252", "cp1252", "iso-8859-1", "latin1"), Charset.WINDOWS_1252),
}


@dataclass(kw_only=True)
class Packer:
    """Makes batches of rows."""

    full: list[Batch] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    batches: int = 0  # made so far
    rows: int = 0
    good: int = 0
    segments: int = 0
    told: list[BadRow] = field(default_factory=list)

    def add(self, row: Text | BadRow) -> None:
        self.rows += 1
        if isinstance(row, Text):
            self.good += 1
            self.segments += row.segments
            self.texts.append(row)
        else:
            self.bad.append(row)
            if len(self.told) < BAD_TOLD:
                self.told.append(row)
        if len(self.texts) >= BATCH_TEXTS or len(self.bad) >= BATCH_TEXTS:
            self.close()

    def close(self) -> None:
        """Make a batch of what there is."""
        if self.texts or self.bad:
            self.batches += 1
            self.full.append(Batch(number=self.batches, texts=self.texts, bad=self.bad))
            self.texts, self.bad = [], []

    def take(self) -> list[Batch]:
        full, self.full = self.full, []
        return full


class Uploads:
    def __init__(self, *, leadership: LeadershipLike, any_possible_number: bool) -> None:
        self._leadership = leadership
        self._any_possible = any_possible_number
        self._open: Tally[int] = Tally()  # by account

    async def take(self, request: web.Request, campaign: Campaign, by: str) -> web.Response:
        """Read the list in the body of `request`. Raises Problem, or Unavailable."""
        reading = self._reading(request)
        if campaign.state is not CampaignState.DRAFT:
            raise not_a_draft(campaign.state)
        account_id = campaign.account_id
        self._check_room(account_id)
        self._open[account_id] += 1
        try:
            return await self._read(request, campaign, reading, by)
        finally:
            self._open[account_id] -= 1
            if not self._open[account_id]:
                del self._open[account_id]

    def _reading(self, request: web.Request) -> Reading:
        body.check_type(request, CSV)
        query = checking.read_query(ListUploadQuery, request.query.items())
        named = (request.charset or "utf-8").lower()
        if named not in CHARSETS:
            raise Problem(
                kind=MEDIA_TYPE,
                detail=f"the list is said to be in {named[:30]}; UTF-8, UTF-16 with a byte order mark, and "
                "windows-1252 are read",
                close=True,
            )
        return Reading(
            charset=CHARSETS[named],
            delimiter=None if query.delimiter is None else DELIMITERS[query.delimiter],
            number_column=query.to,
            north_american=query.country is not None,
            any_possible_number=self._any_possible,
            topic_column=query.topic,
        )

    def _check_room(self, account_id: int) -> None:
        mine, all_ = self._open[account_id], self._open.total()
        if mine >= UPLOADS_PER_ACCOUNT:
            kind, detail = TOO_MANY_STREAMS, f"{mine} lists of this account are being read already"
        elif all_ >= UPLOADS:
            kind, detail = UNAVAILABLE, f"{all_} lists are being read already"
        else:
            return
        raise Problem(kind=kind, detail=detail, retry_after_s=RETRY_AFTER_S, close=True)

    async def _read(
        self, request: web.Request, campaign: Campaign, reading: Reading, by: str
    ) -> web.Response:
        template = Template(campaign.text, [from_json(one) for one in campaign.variables])
        reader, packer = ListReader(template, reading), Packer()
        shelf = Shelf(self._leadership, campaign)
        now = asyncio.get_running_loop().time
        due, silent = now() + PAUSE_S, 0
        try:
            while chunk := await next_chunk(request.content, due):
                rows, silent = packer.rows, silent + len(chunk)
                for row in reader.feed(chunk):
                    await self._row(row, packer, shelf)
                if packer.rows > rows or silent >= ALIVE_BYTES:
                    due, silent = now() + PAUSE_S, 0
            for row in reader.end():
                await self._row(row, packer, shelf)
            packer.close()
            ended = await shelf.end(packer.take(), packer.batches, by)
        except Faulty as faulty:
            problem = problem_of(faulty)
            raise Problem(kind=INVALID, detail=problem.detail, errors=problem.errors, close=True) from None
        finally:
            await shelf.aclose()
        return answers.json_response(
            {
                "texts": ended.texts,
                "segments": ended.segments,
                "bad_rows": ended.bad,
                "bad": [
                    {"line": row.line, "column": row.column, "reason": row.reason, "value": row.value}
                    for row in packer.told
                ],
                "blank_lines": reader.blank_lines,
                "ignored_columns": list(reader.ignored),
            }
        )

    async def _row(self, row: Text | BadRow, packer: Packer, shelf: "Shelf") -> None:
        packer.add(row)
        if packer.rows > MOST_ROWS:
            raise Problem(
                kind=TOO_LARGE,
                detail=f"the list has more than {MOST_ROWS:,} rows; make a campaign of each part",
                close=True,
            )
        if len(packer.full) >= GROUP:
            await shelf.store(packer.take())
        if packer.rows % TURN_ROWS == 0:
            await asyncio.sleep(0)


class Shelf:
    """Where the batches go: one group is being stored while the next is read."""

    def __init__(self, leadership: LeadershipLike, campaign: Campaign) -> None:
        self._leadership = leadership
        self._campaign = campaign
        self._upload: int | None = None
        self._storing: asyncio.Task[None] | None = None

    async def store(self, batches: list[Batch]) -> None:
        """Hand over; waits for the group before this one."""
        await self._stored()
        self._storing = asyncio.create_task(self._add(batches))

    async def end(self, batches: list[Batch], total: int, by: str) -> Campaign:
        await self._stored()
        await self._add(batches)
        upload = await self._begun()

        async def op(store: Store, term: int) -> Campaign | None:
            return await store.end_list(term, *self._key, upload, total, by)

        ended = await self._leadership.run(op, lane=Lane.INTAKE, hold_for=HOLD_S)
        if ended is None or not ended.uploaded:
            raise superseded()
        return ended

    async def aclose(self) -> None:
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.gather(self._storing, return_exceptions=True)

    @property
    def _key(self) -> tuple[int, UUID]:
        return self._campaign.account_id, self._campaign.id

    async def _stored(self) -> None:
        storing, self._storing = self._storing, None
        if storing is not None:
            await storing

    async def _add(self, batches: list[Batch]) -> None:
        upload = await self._begun()

        async def op(store: Store, term: int) -> bool:
            return await store.add_to_list(term, *self._key, upload, batches)

        if batches and not await self._leadership.run(op, lane=Lane.INTAKE, hold_for=HOLD_S):
            raise superseded()

    async def _begun(self) -> int:
        """The number of our list, which is begun with its first batch."""
        if self._upload is None:

            async def op(store: Store, term: int) -> int | None:
                return await store.begin_list(term, *self._key)

            self._upload = await self._leadership.run(op, lane=Lane.INTAKE, hold_for=HOLD_S)
            if self._upload is None:
                raise superseded()
        return self._upload


def not_a_draft(state: CampaignState) -> Problem:
    return Problem(
        kind=NOT_NOW,
        detail=f"the campaign is {state}, and only a draft takes a list; make a new campaign",
        close=True,
    )


def superseded() -> Problem:
    return Problem(
        kind=NOT_NOW,
        detail="another list was begun for this campaign, or it was started or canceled, while this one came",
        close=True,
    )
