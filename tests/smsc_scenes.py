"""The simulated carrier in this process, and a text sent to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dispatcher.simulator.faults import Faults
from dispatcher.simulator.server import Esme
from dispatcher.simulator.smsc import Smsc
from dispatcher.simulator.submit_log import SubmitLog
from dispatcher.smpp.link import Answer, Link
from tests.smpp_scenes import PASSWORD, SUBMIT, soon, within


@dataclass(frozen=True, kw_only=True)
class Scene:
    smsc: Smsc
    port: int
    log: Path


@asynccontextmanager
async def simulator(path: Path, **behaviour: Any) -> AsyncIterator[Scene]:
    behaviour = {"receipt_delay_ms": 1, "retry_ms": 10} | behaviour
    smsc = Smsc(passwords={"hotsite": PASSWORD}, log=SubmitLog(path), faults=Faults(**behaviour))
    server = await asyncio.get_running_loop().create_server(lambda: Esme(smsc), "127.0.0.1", 0)
    try:
        yield Scene(smsc=smsc, port=server.sockets[0].getsockname()[1], log=path)
    finally:
        server.close()
        smsc.disconnect()
        smsc.close()


async def bound(link: Link) -> Link:
    assert await link.wait_bound(soon()), link.last_error
    return link


async def send(link: Link, **changed: Any) -> Answer:
    submission = await link.submit(replace(SUBMIT, **changed), soon())
    assert submission.written
    return await within(submission.answer)
