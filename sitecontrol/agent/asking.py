"""What all acts of an operator share: their words, the API's way to etcd, and that an act which another writer came
before is decided anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from aiohttp import web
from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

from sitecontrol.leadership.transactions import Transaction, Writer

TRIES = 3
SEEN_AFTER = 0.2  # seconds until our picture shows what another has written
MEANWHILE = "The cluster changed meanwhile, again and again; look at /cluster and ask again."


def _said(reason: str) -> str:
    if not reason:
        raise PydanticCustomError("reason_missing", "say why, for those who look at the status")
    return reason


Line = Annotated[str, StringConstraints(max_length=300)]
Why = Annotated[str, StringConstraints(max_length=300, strip_whitespace=True), AfterValidator(_said)]


class Desk(Protocol):
    """What the API lends: its way to etcd."""

    def writer(self) -> Writer: ...

    async def write(self, transaction: Transaction) -> bool:
        """False: something that it was reasoned from has changed. Raises EtcdError."""

    async def would_write(self, transaction: Transaction) -> bool:
        """Whether `write` would do it now; nothing is written. Raises EtcdError."""


def source_of(request: web.Request) -> str:
    """The address that asked."""
    return request.remote or "unknown"


async def decided_anew(
    decide: Callable[[], Awaitable[web.Response | None]], overtaken: Callable[[], web.Response]
) -> web.Response:
    """The answer of `decide`, which reasons from the picture of that moment. It gives None when what it reasoned from
    has changed meanwhile, were it only that somebody wrote in the audit log: then it is asked again, a moment later.
    """
    for turn in range(TRIES):
        if turn:
            await asyncio.sleep(SEEN_AFTER)
        answer = await decide()
        if answer is not None:
            return answer
    return overtaken()
