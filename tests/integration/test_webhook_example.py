"""The receiver in docs/webhooks.md, run as it stands there."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from uuid import UUID

import pytest

from dispatcher.webhooks import signing
from dispatcher.webhooks.deliverer import Deliverer
from dispatcher.webhooks.pacing import Answer, Outcome
from tests.ports import free_port
from tests.waiting import eventually

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
SECRET = bytes(range(32))
BODY = b'{"id": "00000000-0000-0000-0000-000000000007", "type": "webhook.test", "data": {"message": "hello"}}'


class Example:
    def __init__(self, process: asyncio.subprocess.Process, url: str, posting: Deliverer) -> None:
        self.process, self.url, self.posting = process, url, posting

    async def post(self, secret: bytes = SECRET, *, body: bytes = BODY, at: float | None = None) -> Answer:
        signed = signing.headers([b"the new one", secret], UUID(int=7), int(at or time.time()), BODY)
        return await self.posting.post(self.url, signed, body)

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 10)).decode()


@pytest.fixture
async def example(tmp_path: Path) -> AsyncIterator[Example]:
    [source] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "receiver.py"
    file.write_text(source)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(file),
        env={**os.environ, "WEBHOOK_SECRET": signing.shown(SECRET), "PORT": str(port)},
        stdout=asyncio.subprocess.PIPE,
    )
    posting = Deliverer(allowed=[ip_network("127.0.0.0/8")], plain=True)
    await posting.start()
    found = Example(process, f"http://127.0.0.1:{port}/hotsite", posting)

    async def listens() -> bool:
        return (await found.post(b"not the secret")).outcome is Outcome.REFUSED

    await eventually(listens)
    yield found
    await posting.stop()
    with suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def test_a_genuine_post_is_taken_and_told_once_however_often_it_comes(example: Example) -> None:
    for _ in range(3):
        answer = await example.post()
        assert (answer.outcome, answer.status) == (Outcome.TAKEN, 204)
    kind, _, data = (await example.line()).partition(" ")
    assert (kind, json.loads(data)) == ("webhook.test", {"message": "hello"})
    example.process.terminate()
    assert await example.line() == ""


async def test_what_is_not_genuine_is_refused(example: Example) -> None:
    for answer in (
        await example.post(b"another secret"),
        await example.post(body=BODY.replace(b"hello", b"jello")),
        await example.post(at=time.time() - 600),
        await example.posting.post(example.url, {}, BODY),
    ):
        assert answer.status == 400
