"""Many messages in one request: one JSON object a line in, one result line out for each, in order.

Both ways are streams. Lines are committed in groups while others still arrive, and results are written while
others are still on their way. A window bounds how many lines have no written result yet, so a request of any
length takes bounded memory: a caller that does not read its results is not read from either. A request may last
for as long as it goes on: a line has to end in every `PAUSE_S`, and what is written has to be taken (`server`).

A broken line gets a result that says so, and the others go on.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
import structlog
from aiohttp import web

from dispatcher.http import answers, body
from dispatcher.http.access import Access
from dispatcher.http.lines import LineCutter, Overlong
from dispatcher.http.messages import Messages, refused_row
from dispatcher.http.problem import (
    MALFORMED,
    TIMEOUT,
    TOO_MANY_STREAMS,
    UNAVAILABLE,
    FieldError,
    Problem,
    invalid,
)
from dispatcher.http.request_id import HEADER, REQUEST_ID
from dispatcher.intake import Answer, Intake, RowRefused, settled
from dispatcher.leadership import Unavailable
from dispatcher.model import NewMessage, Program
from sitecontrol.settings import DispatcherSettings, Durability

log = structlog.get_logger()

STREAMS: Final = 16  # at once
STREAMS_PER_ACCOUNT: Final = 8  # of these: no account takes all the room
PAUSE_S: Final = 30.0  # longest time of reading without a line's end: a line that drips in is as bad as none
TURN_LINES: Final = 50  # read in one turn of the loop, so that single requests are not held up
WRITE_LINES: Final = 500  # written at once
# Results kept for a caller that sends everything before it reads, beyond what the sockets hold.
WRITE_BUFFER_BYTES: Final = 4_000_000
RETRY_AFTER_S: Final = 5.0
EMPTY: Final = (
    "the body is empty; send `Content-Type: application/x-ndjson` and a line for each message, each a JSON object: "
    "`curl --data-binary @messages.ndjson`"
)
# What `curl -d @FILE` makes of a file: one line of all its objects.
JOINED: Final = (
    "; a line holds one JSON object (curl: `--data-binary @FILE` keeps the lines' ends, `-d` removes them)"
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that was refused when it was read."""

    number: int
    problem: Problem
    ready: Literal[True] = True


@dataclass(frozen=True, slots=True)
class Sent:
    """A line on its way with a group."""

    number: int
    row: NewMessage
    answer: asyncio.Future[Answer]

    @property
    def ready(self) -> bool:
        return self.answer.done()


Line = Refused | Sent


class Bulk:
    def __init__(
        self, *, messages: Messages, intake: Intake, access: Access, settings: DispatcherSettings
    ) -> None:
        self._messages = messages
        self._intake = intake
        self._access = access
        self._most_line_bytes = settings.max_bulk_line_bytes
        self._window = 2 * settings.group_max
        self._durability = settings.durability
        self._streams: Tally[int] = Tally()  # by account

    async def send(self, request: web.Request) -> web.StreamResponse:
        key = await self._access.caller(request)
        body.check_type(request, body.NDJSON)
        if request.content.at_eof():  # known with the headers: whoever forgot the file would be told 200
            raise Problem(kind=MALFORMED, detail=EMPTY)
        account_id = key.account_id
        self._check_room(account_id)
        self._streams[account_id] += 1
        try:
            return await self._stream(request, account_id)
        finally:
            self._streams[account_id] -= 1
            if not self._streams[account_id]:
                del self._streams[account_id]

    def _check_room(self, account_id: int) -> None:
        mine, all_ = self._streams[account_id], self._streams.total()
        if mine >= STREAMS_PER_ACCOUNT:
            kind, detail = TOO_MANY_STREAMS, f"{mine} bulk requests of this account are being served already"
        elif all_ >= STREAMS:
            kind, detail = UNAVAILABLE, f"{all_} bulk requests are being served already"
        else:
            return
        raise Problem(kind=kind, detail=detail, retry_after_s=RETRY_AFTER_S, close=True)

    async def _stream(self, request: web.Request, account_id: int) -> web.StreamResponse:
        first = await next_chunk(request.content, asyncio.get_running_loop().time() + PAUSE_S)
        if not first:  # sent in chunks, and none came
            raise Problem(kind=MALFORMED, detail=EMPTY)
        response = web.StreamResponse(
            headers={"Content-Type": "application/x-ndjson", HEADER: str(REQUEST_ID.get())}
        )
        await response.prepare(request)
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        reader = Reader(
            first=first,
            content=request.content,
            take=LineTaker(
                messages=self._messages,
                intake=self._intake,
                account_id=account_id,
                most_bytes=self._most_line_bytes,
            ),
            cutter=LineCutter(self._most_line_bytes),
            window=self._window,
        )
        reading = asyncio.create_task(reader.run())
        try:
            await self._write(response, reader)
            await reading
        except ConnectionError as gone:
            # What was read goes on to be stored; the caller repeats with the same references.
            log.info("bulk_abandoned", lines=reader.lines, reason=f"{type(gone).__name__}: {gone}")
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if reader.broke_off:
            response.force_close()
        return response

    async def _write(self, response: web.StreamResponse, reader: "Reader") -> None:
        """Write results in order, as many together as are ready."""
        ready: list[bytes] = []
        while True:
            if ready and reader.results.empty():
                await flush(response, ready)
            line = await reader.results.get()
            if line is None:
                break
            if ready and not line.ready:
                await flush(response, ready)
            ready.append(await result(line, self._durability))
            reader.room.release()
            if len(ready) >= WRITE_LINES:
                await flush(response, ready)
        await flush(response, ready)
        await response.write_eof()


class LineTaker:
    """Checks the lines of one request and sends them on their way."""

    def __init__(self, *, messages: Messages, intake: Intake, account_id: int, most_bytes: int) -> None:
        self._messages = messages
        self._intake = intake
        self._account_id = account_id
        self._most_bytes = most_bytes
        self._may_look_up = True  # an unknown program is worth one look into the database, not one a line

    async def __call__(self, number: int, raw: bytes | Overlong) -> Line:
        try:
            asked = await self._messages.asked(self._account_id, self._sound(raw))
            row = await self._messages.composed(asked, await self._program(asked.program))
            return Sent(number, row, await self._intake.offer(row))
        except Problem as problem:
            return Refused(number, hinted(problem))
        except Unavailable as reason:
            return Refused(number, answers.unavailable(reason))

    def _sound(self, raw: bytes | Overlong) -> bytes:
        if isinstance(raw, Overlong):
            raise body.too_large(raw.size, self._most_bytes, close=False)
        if not raw.strip():
            raise invalid(FieldError(field="", message="the line is empty"))
        return raw

    async def _program(self, name: str) -> Program:
        program = self._messages.known_program(self._account_id, name)
        if program is None and self._may_look_up:
            self._may_look_up = False
            return await self._messages.program(self._account_id, name)
        return self._messages.usable(program, self._account_id, name)


def hinted(problem: Problem) -> Problem:
    """What is wrong with a line, and the likely cause when more follows its object."""
    if problem.kind is MALFORMED and problem.detail.startswith("trailing characters"):
        problem.detail += JOINED
    return problem


class Reader:
    """Reads lines for as long as the window has room. `results` gets each line in order, then None."""

    def __init__(
        self,
        *,
        first: bytes,
        content: Any,
        take: Callable[[int, bytes | Overlong], Awaitable[Line]],
        cutter: LineCutter,
        window: int,
    ) -> None:
        self._first = first
        self._content = content
        self._take = take
        self._cutter = cutter
        self.room = asyncio.Semaphore(window)
        self.results: asyncio.Queue[Line | None] = asyncio.Queue()
        self.lines = 0
        self.broke_off = False

    async def run(self) -> None:
        now = asyncio.get_running_loop().time
        due = now() + PAUSE_S
        chunk = self._first
        try:
            while chunk:
                ended = self._cutter.feed(chunk)
                for raw in ended:
                    await self._line(raw)
                if ended:  # counted from when we read on, not from when the line came: the wait was ours
                    due = now() + PAUSE_S
                chunk = await next_chunk(self._content, due)
            last = self._cutter.end()
            if last is not None:
                await self._line(last)
        except Problem as problem:
            self.broke_off = True
            self.results.put_nowait(Refused(self.lines + 1, problem))
        finally:
            self.results.put_nowait(None)

    async def _line(self, raw: bytes | Overlong) -> None:
        await self.room.acquire()
        self.lines += 1
        self.results.put_nowait(await self._take(self.lines, raw))
        if self.lines % TURN_LINES == 0:
            await asyncio.sleep(0)


async def next_chunk(content: Any, due: float) -> bytes:
    """What came next, or nothing at the end. Raises Problem when the body breaks off, or `due` comes first."""
    try:
        async with asyncio.timeout_at(due):
            chunk: bytes = await content.readany()
    except TimeoutError:
        detail = f"no line ended within {PAUSE_S:g} s; what came before is answered above"
        raise Problem(kind=TIMEOUT, detail=detail) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise body.broken(error) from None
    return chunk


async def result(line: Line, durability: Durability) -> bytes:
    """The result line, once the line's fate is known."""
    document: dict[str, Any] = {"line": line.number}
    if isinstance(line, Refused):
        document |= refusal(line.problem, None)
    else:
        reference = line.row.reference
        try:
            told = settled(await line.answer)
            document["status"] = answers.status_of(told)
            document |= answers.acknowledgement(line.row, told, durability)
        except Problem as problem:
            document |= refusal(problem, reference)
        except Unavailable as reason:
            document |= refusal(answers.unavailable(reason), reference)
        except RowRefused as reason:
            document |= refusal(refused_row(reason), reference)
    return orjson.dumps(document, default=str, option=orjson.OPT_APPEND_NEWLINE)


def refusal(problem: Problem, reference: str | None) -> dict[str, Any]:
    known = {} if reference is None else {"reference": reference}
    return {"status": problem.kind.status, **known, "problem": problem.as_json()}


async def flush(response: web.StreamResponse, ready: list[bytes]) -> None:
    """Write what is ready and empty the list. Raises ConnectionError when the caller is gone, or does not read."""
    if not ready:
        return
    data = b"".join(ready)
    ready.clear()
    await response.write(data)
