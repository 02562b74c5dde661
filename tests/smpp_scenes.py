"""A link under test, and a carrier that does exactly what a test tells it to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from dispatcher.smpp.conversation import Conversation
from dispatcher.smpp.link import Answer, Deliver, Link, LinkState, Submission
from dispatcher.smpp.pdu import (
    Bind,
    BindResp,
    EnquireLink,
    EnquireLinkResp,
    Pdu,
    SubmitSm,
    Unbind,
    UnbindResp,
)
from dispatcher.smpp.reader import Received
from dispatcher.smpp.session import Role
from sitecontrol.clock import SystemClock
from sitecontrol.settings_carriers import Carrier

WITHIN_S = 5.0
PASSWORD = "secret12"
CLOCK = SystemClock()
SUBMIT = SubmitSm(source="12345", destination="15550001111", short_message=b"hello", registered_delivery=1)


def soon(seconds: float = WITHIN_S) -> float:
    """A deadline for the link."""
    return CLOCK.now() + seconds


async def within(awaitable: Awaitable[Any], seconds: float = WITHIN_S) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


class Told:
    """Everything that a link told, and a way to wait for it."""

    def __init__(self) -> None:
        self.states: list[LinkState] = []
        self.delivered: list[Deliver] = []
        self.late: list[tuple[Submission, Answer]] = []
        self.commit: Callable[[Sequence[Deliver]], bool] = lambda _: True
        self._waiters: list[asyncio.Future[None]] = []

    def on_change(self, state: LinkState) -> None:
        self.states.append(state)
        self._wake()

    async def on_deliver(self, arrived: Sequence[Deliver]) -> bool:
        self.delivered += arrived
        self._wake()
        return self.commit(arrived)

    def on_late(self, submission: Submission, answer: Answer) -> None:
        self.late.append((submission, answer))
        self._wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


def carrier(port: int, **changed: Any) -> Carrier:
    return Carrier.model_validate(
        {
            "name": "aurora",
            "address": f"127.0.0.1:{port}",
            "system_id": "hotsite",
            "window": 10,
            "enquire_every": 60.0,
            "response_timeout": 2.0,
            "reconnect_min": 0.02,
            "reconnect_max": 0.1,
        }
        | changed
    )


@asynccontextmanager
async def linked(
    settings: Carrier, told: Told | None = None, password: str = PASSWORD, **arguments: Any
) -> AsyncIterator[Link]:
    """A started link, stopped in the end."""
    told = told or Told()
    link = Link(
        settings,
        password,
        on_deliver=told.on_deliver,
        on_late=told.on_late,
        on_change=told.on_change,
        clock=CLOCK,
        **arguments,
    )
    await link.start()
    try:
        yield link
    finally:
        await link.stop(drain=0.05)


@dataclass(eq=False)
class Visit(asyncio.Protocol):
    """One connection to the scripted carrier."""

    carrier: "ScriptedCarrier"
    transport: asyncio.Transport | None = None
    conversation: Conversation = field(default_factory=lambda: Conversation(Role.SMSC))
    enquiries: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    lost_by: Exception | None = None  # None: it was closed in order

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.carrier.visits.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_by = exc
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        for received in self.conversation.feed(data):
            match received.pdu:
                case Bind(mode=mode) if self.carrier.answers_binds:
                    self.send(BindResp(mode=mode, system_id="script"), received.sequence)
                case EnquireLink() if self.carrier.answers_enquiries:
                    self.send(EnquireLinkResp(), received.sequence)
                    self.enquiries += 1
                    if self.enquiries == 2:
                        self.carrier.enquired_twice.set()
                case Unbind():
                    self.carrier.received.put_nowait(received)
                    if self.carrier.answers_unbinds:
                        self.send(UnbindResp(), received.sequence)
                case _:
                    self.carrier.received.put_nowait(received)

    def send(self, pdu: Pdu, sequence: int, status: int = 0) -> None:
        self.raw(self.conversation.frame(pdu, sequence, status))

    def raw(self, octets: bytes) -> None:
        assert self.transport
        self.transport.write(octets)

    def cut(self) -> None:
        assert self.transport
        self.transport.abort()


class ScriptedCarrier:
    """Binds whoever comes, and leaves everything else to the test."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.received: asyncio.Queue[Received] = asyncio.Queue()  # all that is not answered by itself
        self.enquired_twice = asyncio.Event()
        self.answers_binds = True
        self.answers_enquiries = True
        self.answers_unbinds = True
        self.port = 0

    @property
    def visit(self) -> Visit:
        """The latest connection."""
        return self.visits[-1]

    async def take(self, count: int) -> list[Received]:
        """The next PDUs."""
        return [await within(self.received.get()) for _ in range(count)]


@asynccontextmanager
async def scripted_carrier(tls: Any = None) -> AsyncIterator[ScriptedCarrier]:
    script = ScriptedCarrier()
    server = await asyncio.get_running_loop().create_server(lambda: Visit(script), "127.0.0.1", 0, ssl=tls)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for visit in script.visits:
            visit.cut()
