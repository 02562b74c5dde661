"""Reads a request's body, no further than its limit and no longer than its time."""

import asyncio
from typing import Final

from aiohttp import StreamReader, web

from dispatcher.http.problem import (
    MEDIA_TYPE,
    NOT_HTTP,
    TIMEOUT,
    TOO_LARGE,
    UNAVAILABLE,
    FieldError,
    Problem,
)
from dispatcher.http.schemas import MAX_SEGMENTS

WITHIN_S: Final = 10.0  # a whole body
LARGE_BYTES: Final = 64_000
LARGE_AT_ONCE: Final = 32
RETRY_AFTER_S: Final = 1.0
JSON: Final = frozenset({"application/json"})
NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


def check_type(request: web.Request, types: frozenset[str]) -> None:
    """Raises Problem unless the body is of one of these types and not compressed."""
    if request.content_type not in types:
        wanted = max(types)
        raise Problem(
            kind=MEDIA_TYPE,
            detail=f"the body is {request.content_type}; send `Content-Type: {wanted}`",
            headers={"Accept-Post": ", ".join(sorted(types))},
            close=True,
        )
    coding = request.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise Problem(
            kind=MEDIA_TYPE,
            detail=f"the body is compressed ({coding[:20]}); send it as it is",
            headers={"Accept-Encoding": "identity"},
            close=True,
        )


class Bodies:
    """Reads whole bodies; one for all calls that take them.

    No text that is taken comes near `LARGE_BYTES`. Larger bodies are read only to say what is wrong with them, so they
    share a little room, and whoever has a key cannot fill the memory with them.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._large = 0  # being read

    async def read(self, request: web.Request) -> bytes:
        """The whole body. Raises Problem when it is too large, late, or broken off."""
        announced = request.content_length
        if announced is not None and announced > self._at_most:
            raise too_large(announced, self._at_most)
        content = request.content
        try:
            if content.is_eof():  # it came with the headers, as nearly every body does: nothing to wait for
                body = content.read_nowait()
                if len(body) > self._at_most:
                    raise too_large(len(body), self._at_most)
                return body
            async with asyncio.timeout(WITHIN_S):
                return await self._all_of(content)
        except TimeoutError:
            raise Problem(
                kind=TIMEOUT, detail=f"the body did not arrive within {WITHIN_S:g} s", close=True
            ) from None
        except (
            web.RequestPayloadError,
            ConnectionError,
        ) as error:  # the latter: its client has gone meanwhile
            raise broken(error) from None

    async def _all_of(self, content: StreamReader) -> bytes:
        chunks: list[bytes] = []
        size, large = 0, False
        try:
            while chunk := await content.readany():
                size += len(chunk)
                if size > self._at_most:
                    raise too_large(None, self._at_most)
                if size > LARGE_BYTES and not large:
                    self._begin_large()
                    large = True
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            self._large -= large

    def _begin_large(self) -> None:
        if self._large >= LARGE_AT_ONCE:
            detail = f"{self._large} bodies of more than {LARGE_BYTES} bytes are being read already"
            raise Problem(kind=UNAVAILABLE, detail=detail, retry_after_s=RETRY_AFTER_S, close=True)
        self._large += 1


def too_large(size: int | None, at_most: int, *, close: bool = True) -> Problem:
    """More bytes than are read; `size` is None when nobody said how many. Of all fields only the text can be it."""
    many = f"more than {at_most}" if size is None else str(size)
    error = FieldError(
        field="body",
        message=f"was not read: the request has {many} bytes, and a text has at most {MAX_SEGMENTS} segments; "
        "shorten it, or send several",
    )
    return Problem(
        kind=TOO_LARGE,
        detail=f"{many} bytes were sent, and at most {at_most} are taken here",
        errors=(error,),
        close=close,
    )


def broken(error: Exception) -> Problem:
    return Problem(
        kind=NOT_HTTP, detail=f"the body broke off: {' '.join(str(error).split())}"[:200], close=True
    )
