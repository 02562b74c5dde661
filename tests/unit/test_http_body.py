"""Reading a request's body, without a network."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.streams import StreamReader

from dispatcher.http.body import Bodies
from dispatcher.http.problem import NOT_HTTP, Problem


def asked(body: bytes, *, gone: bool) -> Any:
    """A request whose body came whole, with its headers; its client may have gone before anybody looked at it."""
    content = StreamReader(Mock(), limit=1_000, loop=asyncio.get_running_loop())
    content.feed_data(body)
    content.feed_eof()
    if gone:
        content.set_exception(ConnectionResetError("Connection lost"))
    return SimpleNamespace(content=content, content_length=len(body))


async def test_a_body_that_came_with_its_headers_is_read():
    assert await Bodies(1_000).read(asked(b"{}", gone=False)) == b"{}"


async def test_a_client_that_hung_up_before_its_body_was_looked_at_is_no_defect():
    with pytest.raises(Problem) as refusal:
        await Bodies(1_000).read(asked(b"{}", gone=True))
    assert refusal.value.kind is NOT_HTTP
