"""Reads a request's body, no further than its limit and no longer than its time."""

import asyncio
from typing import Final

from aiohttp import web

from dispatcher.http.problem import MEDIA_TYPE, NOT_HTTP, TIMEOUT, TOO_LARGE, FieldError, Problem
from dispatcher.http.schemas import MAX_SEGMENTS

WITHIN_S: Final = 10.0  # a whole body
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


async def read(request: web.Request, *, at_most: int) -> bytes:
    """The whole body. Raises Problem when it is too large, late, or broken off."""
    announced = request.content_length
    if announced is not None and announced > at_most:
        raise too_large(announced, at_most)
    content = request.content
    if content.is_eof():  # it came with the headers, as nearly every body does: nothing to wait for
        body = content.read_nowait()
        if len(body) > at_most:
            raise too_large(len(body), at_most)
        return body
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(WITHIN_S):
            while chunk := await content.readany():
                size += len(chunk)
                if size > at_most:
                    raise too_large(None, at_most)
                chunks.append(chunk)
    except TimeoutError:
        raise Problem(
            kind=TIMEOUT, detail=f"the body did not arrive within {WITHIN_S:g} s", close=True
        ) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise broken(error) from None
    return b"".join(chunks)


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
