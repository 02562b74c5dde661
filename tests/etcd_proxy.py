"""Between a client and a real etcd: what goes wrong with calls and with their bytes, to order.

`CallProxy` speaks gRPC on both sides and passes messages on as bytes. Its `fault` sees each call: before it is passed
on, and each answer. `ByteProxy` passes TCP on, looks into etcd's HTTP/2 frames, and spoils them.

Both take what they do from `fault`, which may be changed at any moment and counts for what comes then.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import grpc
import grpc.aio

from tests.ports import free_ports

FRAME_HEADER = 9  # bytes: length, type, flags, stream
DATA = 0
MESSAGE_PREFIX = 5  # bytes of gRPC: compressed or not, length


def raw(message: bytes) -> bytes:
    return message


# -- calls ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call under way. `refuse` ends it with a status."""

    method: str  # "/etcdserverpb.KV/Txn"
    metadata: dict[str, str]
    refuse: Callable[[grpc.StatusCode, str], Awaitable[None]]


class Fault:
    """Nothing goes wrong. Override what should."""

    async def before(self, call: Call) -> None:
        """Before etcd hears of it."""

    async def answer(self, call: Call, answer: bytes) -> bytes:
        """After etcd has done it."""
        del call
        return answer


class CallProxy(grpc.GenericRpcHandler):
    def __init__(self, target: str) -> None:
        self.fault = Fault()
        self._channel = grpc.aio.insecure_channel(target)
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._server.add_insecure_port(self.address)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)
        await self._channel.close(None)

    def service(self, details: Any) -> Any:
        method = details.method
        metadata = {key: value for key, value in details.invocation_metadata if key in ("token", "hasleader")}

        async def passed_on(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            call = Call(method=method, metadata=metadata, refuse=context.abort)
            await self.fault.before(call)
            upstream = self._channel.stream_stream(method, raw, raw)(
                requests, metadata=tuple(metadata.items()), timeout=context.time_remaining()
            )
            try:
                async for answer in upstream:
                    yield await self.fault.answer(call, answer)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")

        return grpc.stream_stream_rpc_method_handler(passed_on, raw, raw)


@asynccontextmanager
async def call_proxy(url: str) -> AsyncIterator[CallProxy]:
    proxy = CallProxy(url.partition("://")[2])
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


# -- bytes ---------------------------------------------------------------------------------------------------------


class Spoil(Enum):
    NOTHING = auto()
    CUT = auto()  # the connection ends in the middle of an answer
    RESET = auto()  # it ends at once
    WRONG_LENGTH = auto()  # a message says that it is longer than it is
    NO_MESSAGE = auto()  # a call ends well, without one
    EMPTY_MESSAGE = auto()  # a message of no bytes
    UNREADABLE = auto()  # a message that does not decode
    NO_HTTP = auto()  # bytes that are no frames
    HALF_OPEN = auto()  # connections stand, and nothing comes through any more
    SLOW = auto()  # the first byte takes longer than the deadline


class ByteProxy:
    def __init__(self, url: str) -> None:
        host, _, port = url.partition("://")[2].rpartition(":")
        self._target = host, int(port)
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.fault = Spoil.NOTHING
        self.met = 0  # how often the present fault has struck
        self._mended = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def start(self) -> None:
        host, _, port = self.address.rpartition(":")
        self._server = await asyncio.start_server(self._accept, host, int(port))

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def drop(self) -> None:
        """End every connection that stands."""
        for connection in self._connections:
            connection.cancel()

    def begin(self, fault: Spoil) -> None:
        self.met = 0
        self._mended.clear()
        self.fault = fault

    def mend(self) -> None:
        self.fault = Spoil.NOTHING
        self._mended.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        up_writer: asyncio.StreamWriter | None = None
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
            ways = [
                asyncio.create_task(self._requests(reader, up_writer)),
                asyncio.create_task(self._answers(up_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the stop of this proxy ends it so
        finally:
            for end in filter(None, (writer, up_writer)):
                end.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            if self.fault is Spoil.RESET:
                self.met += 1
                return
            if self.fault is Spoil.HALF_OPEN:
                self.met += 1
                await self._mended.wait()
                return
            writer.write(chunk)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                header = await reader.readexactly(FRAME_HEADER)
                body = await reader.readexactly(int.from_bytes(header[:3]))
                if self.fault in (Spoil.HALF_OPEN, Spoil.SLOW):
                    self.met += 1
                    await (
                        self._mended.wait()
                    )  # what comes then is late, and answers nobody's question any more
                writer.write(self._spoilt(header, body))
                await writer.drain()
                if self.fault in (Spoil.CUT, Spoil.RESET, Spoil.NO_HTTP) and header[3] == DATA:
                    return

    def _spoilt(self, header: bytes, body: bytes) -> bytes:
        if header[3] != DATA or len(body) < MESSAGE_PREFIX:
            return header + body
        self.met += self.fault is not Spoil.NOTHING
        match self.fault:
            case Spoil.CUT:
                return header + body[: len(body) // 2]
            case Spoil.WRONG_LENGTH:
                longer = int.from_bytes(body[1:MESSAGE_PREFIX]) + 1_000
                return header + body[:1] + longer.to_bytes(4) + body[MESSAGE_PREFIX:]
            case Spoil.NO_MESSAGE:
                return _frame(header, b"")
            case Spoil.EMPTY_MESSAGE:
                return _frame(header, bytes(MESSAGE_PREFIX))
            case Spoil.UNREADABLE:
                return header + body[:MESSAGE_PREFIX] + b"\xff" * (len(body) - MESSAGE_PREFIX)
            case Spoil.NO_HTTP:
                return b"\xde\xad\xbe\xef" * 64
            case _:
                return header + body


def _frame(header: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(3) + header[3:] + body


@asynccontextmanager
async def byte_proxy(url: str) -> AsyncIterator[ByteProxy]:
    proxy = ByteProxy(url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
