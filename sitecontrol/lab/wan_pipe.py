"""One connection through the WAN emulator: bytes read on one side are written on the other side later.

Rules:
- Order is kept; bandwidth is unlimited unless the line is shaped; a chunk leaves `delay` after it came in. Chunks that
  are due together leave in one write: one timer for each direction at most.
- The end of a stream and a reset travel like bytes: with the delay, and not at all while the line is cut.
- A cut direction delivers nothing. What comes in meanwhile waits here up to `HIGH_WATER`, then in the
  sender's socket, as it would in front of a dead line.
- An end that has sent its last and hears nothing of the other's end for `HALF_CLOSED` is gone: both are reset.
- A connection is set up as TCP would: the far end hears of it after one delay, and no byte reaches it sooner
  than three delays after the near end called. (The near end believes itself connected at once: a program in
  user space cannot leave a SYN unanswered.)
"""

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

HIGH_WATER = 4 * 1024 * 1024
HALF_CLOSED = (
    60.0  # seconds that an end which sent its last waits for the other's, as a kernel does (tcp_fin_timeout)
)
TOGETHER = 0.0006  # seconds; what is due this soon leaves now, since timers are no finer than 1 ms
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends RST


class End(Enum):
    """How a stream ends."""

    EOF = "eof"  # the peer writes no more, but still reads
    LOST = "lost"  # the connection is gone


@dataclass(eq=False)
class Direction:
    """The line from one place to another, one way. `flows` are the connections that use it now."""

    source: str
    destination: str
    delay: float
    shaped: bool = True  # it lies between two places: `shape` may change it
    jitter: float = 0.0
    bits_per_s: float | None = None
    cut_at: float | None = None
    free_at: float = 0.0  # when the last chunk has left the sender, at `bits_per_s`
    carried: int = 0  # bytes delivered
    flows: set["Flow"] = field(default_factory=set)
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.healed.set()

    def arrival(self, now: float, size: int) -> float:
        """When a chunk that is sent now arrives."""
        if self.bits_per_s is not None:
            self.free_at = max(now, self.free_at) + size * 8 / self.bits_per_s
            now = self.free_at
        return now + self.delay + (random.uniform(0.0, self.jitter) if self.jitter else 0.0)  # noqa: S311

    def cut(self, now: float) -> None:
        if self.cut_at is None:
            self.cut_at = now
            self.healed.clear()

    def heal(self) -> None:
        self.cut_at = None
        self.healed.set()
        for flow in tuple(self.flows):
            flow.deliver()


class Flow:
    """Bytes of one connection, one way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, line: Direction, *, not_before: float) -> None:
        self._loop = loop
        self._line = line
        self._not_before = not_before
        self._queue: deque[tuple[float, bytes | End]] = deque()
        self._size = 0
        self._last = 0.0  # when the newest chunk arrives
        self._timer: asyncio.TimerHandle | None = None
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.sink_full = False
        self.twin: Flow | None = None  # the other way of the same connection
        self._paused = False
        self._ended = False
        self._give_up: asyncio.TimerHandle | None = None
        line.flows.add(self)

    def push(self, item: bytes | End) -> None:
        size = len(item) if isinstance(item, bytes) else 0
        arrival = self._line.arrival(max(self._loop.time(), self._not_before), size)
        self._last = max(self._last, arrival)  # nothing overtakes
        self._queue.append((self._last, item))
        if isinstance(item, bytes):
            self._size += len(item)
            if self._size > HIGH_WATER and not self._paused and self.source is not None:
                self._paused = True
                self.source.pause_reading()
        if self._timer is None:
            self.deliver()

    def deliver(self) -> None:
        """Write what is due, and set the timer for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.sink is None or self.sink_full or self._line.cut_at is not None or not self._queue:
            return
        if self.sink.is_closing():
            self.drop()
            return
        horizon = self._loop.time() + TOGETHER
        due: list[bytes] = []
        end: End | None = None
        while self._queue and self._queue[0][0] <= horizon:
            item = self._queue.popleft()[1]
            if isinstance(item, End):
                end = item
                break
            due.append(item)
        if due:
            data = due[0] if len(due) == 1 else b"".join(due)
            self._size -= len(data)
            self._line.carried += len(data)
            self.sink.write(data)
        if end is not None:
            self._end(end)
        if self._paused and self._size < HIGH_WATER // 2 and self.source is not None:
            self._paused = False
            self.source.resume_reading()
        if self._queue and not self.sink_full:
            self._timer = self._loop.call_at(self._queue[0][0], self._fire)

    def reset(self) -> None:
        """Give the connection up, as TCP does when nothing came through for too long."""
        for transport in (self.source, self.sink):
            if transport is not None:
                abort_with_reset(transport)

    def forget(self) -> None:
        """The sender reset the connection: what a cut line still holds will never be sent again.

        (After an orderly close it would be: the sender's kernel goes on repeating it.)
        """
        if self._line.cut_at is not None:
            self._queue.clear()
            self._size = 0

    def drop(self) -> None:
        """The sink is gone: what is left has nowhere to go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._give_up is not None:
            self._give_up.cancel()
        self._queue.clear()
        self.sink = None
        self._line.flows.discard(self)

    def _fire(self) -> None:
        self._timer = None
        self.deliver()

    def _end(self, end: End) -> None:
        if self.sink is None or self.sink.is_closing():
            return
        self._ended = True
        if end is End.LOST or (self.twin is not None and self.twin._ended):  # noqa: SLF001 # a flow's own twin
            self.sink.close()
            if self.source is not None:
                self.source.close()
        else:
            self.sink.write_eof()
            # A server that never accepts never ends a connection either: its callers' would add up here.
            self._give_up = self._loop.call_later(HALF_CLOSED, self.reset)


class Side(asyncio.Protocol):
    """One end of a connection: what it reads goes into `out`, what arrives for it comes from `into`."""

    def __init__(self, on_made: Callable[["Side"], None]) -> None:
        self._on_made = on_made
        self.transport: asyncio.Transport | None = None
        self.out: Flow | None = None
        self.into: Flow | None = None
        self.lost = asyncio.Event()
        self._early: list[bytes | End] = []  # what came before it was known where it goes

    def take(self, out: Flow) -> None:
        """From now on, what is read here goes into `out`."""
        self.out = out
        for item in self._early:
            out.push(item)
        self._early.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        self._read(bytes(data))

    def eof_received(self) -> bool:
        self._read(End.EOF)
        return True  # the other way goes on until it ends, too

    def pause_writing(self) -> None:
        if self.into is not None:
            self.into.sink_full = True

    def resume_writing(self) -> None:
        if self.into is not None:
            self.into.sink_full = False
            self.into.deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        if exc is not None and self.out is not None:
            self.out.forget()
        self._read(End.LOST)
        if self.out is not None:
            self.out.source = None
        if self.into is not None:
            self.into.drop()

    def reset(self) -> None:
        if self.transport is not None:
            abort_with_reset(self.transport)

    def _read(self, item: bytes | End) -> None:
        if self.out is not None:
            self.out.push(item)
        else:
            self._early.append(item)


def abort_with_reset(transport: asyncio.Transport) -> None:
    if transport.is_closing():
        return
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    transport.abort()
