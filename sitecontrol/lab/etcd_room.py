"""Fills the store of a lab's etcd up to its quota, and makes room again as etcd's manual says; over etcd's own HTTP."""

import asyncio
import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import aiohttp

from sitecontrol.lab.errors import LabUnreachableError

BALLAST = base64.b64encode(b"/ballast").decode()  # the key that fills it
BLOCK = 1024 * 1024  # bytes; etcd takes requests of one and a half times that
FULL = "database space exceeded"
SMALL = 4 * BLOCK  # bytes: a member that has given back what it held is smaller
WITHIN = aiohttp.ClientTimeout(total=10.0)
ROOM_WITHIN = 30.0  # seconds
POLL = 0.1

Json = dict[str, Any]


async def fill(urls: Sequence[str]) -> None:
    """Write until etcd takes no more: it raises its alarm then, and refuses whatever needs room."""
    block = base64.b64encode(bytes(BLOCK)).decode()
    async with aiohttp.ClientSession(timeout=WITHIN) as session:
        while FULL not in str(
            (await _call(session, urls[0], "kv/put", key=BALLAST, value=block)).get("error")
        ):
            pass


async def make_room(urls: Sequence[str]) -> None:
    """Compact, defragment, end the alarm. A store that was not filled is left as it is; all members must run then."""
    async with aiohttp.ClientSession(timeout=WITHIN) as session:
        found = await _call(session, urls[0], "kv/range", key=BALLAST, count_only=True)
        if not int(found.get("count", 0)):
            return
        gone = await _done(session, urls[0], "kv/deleterange", key=BALLAST)
        await _done(session, urls[0], "kv/compaction", revision=gone["header"]["revision"], physical=True)
        try:
            async with asyncio.timeout(ROOM_WITHIN):
                for url in urls:
                    await _defragment(session, url)
        except TimeoutError as error:
            raise LabUnreachableError("etcd gives back nothing of what it held") from error
        for alarm in (await _done(session, urls[0], "maintenance/alarm", action="GET")).get("alarms", ()):
            await _done(session, urls[0], "maintenance/alarm", **{**alarm, "action": "DEACTIVATE"})


async def _defragment(session: aiohttp.ClientSession, url: str) -> None:
    """Again and again: a member compacts when it comes to it, and gives nothing back before."""
    while True:
        await _done(session, url, "maintenance/defragment")
        if int((await _done(session, url, "maintenance/status"))["dbSize"]) < SMALL:
            return
        await asyncio.sleep(POLL)


async def _done(session: aiohttp.ClientSession, url: str, path: str, **body: object) -> Json:
    """Raises LabUnreachableError when etcd refuses it."""
    answer = await _call(session, url, path, **body)
    if "error" in answer:
        raise LabUnreachableError(f"etcd at {url} refuses {path}: {answer['error']}")
    return answer


async def _call(session: aiohttp.ClientSession, url: str, path: str, **body: object) -> Json:
    """Its answer, a refusal included. Raises LabUnreachableError when there is none."""
    try:
        async with session.post(f"{url}/v3/{path}", json=body) as answer:
            told: Json = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise LabUnreachableError(f"etcd at {url} does not answer {path}: {error!r}") from error
    if answer.status != HTTPStatus.OK and "error" not in told:
        raise LabUnreachableError(f"etcd at {url} answers {path} with {answer.status}")
    return told
