"""The server that the application runs on: who may connect, and for how long a slow client is borne with.

A slow client is nobody else's trouble, and none stays for ever:

* Headers must be complete within `IDLE_S` of the connection or of the last answer; a body has its own deadlines
  (`body`, `bulk`); a refused body is read on only for `LINGER_S`, so that the refusal reaches a client which looks
  for it only after sending.
* A body whose chunks break off is told to whoever reads it, at once (aiohttp would only answer the next request).
* An answer of which nothing is taken for `UNREAD_S` ends its connection.
* How many connections there are is the `door`'s business. Who is refused is told so once it has asked for
  something (most clients hear nothing before), or after `LINGER_S` without a word.
"""

import asyncio
import fcntl
import resource
import termios
from array import array
from contextlib import suppress
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.web_protocol import _ErrInfo

from dispatcher.http import answers
from dispatcher.http.door import Bound, Door
from dispatcher.http.problem import NOT_HTTP, TOO_MANY_CONNECTIONS, Problem
from dispatcher.http.request_id import HEADER
from dispatcher.uuid7 import Ids
from sitecontrol.settings import SettingsError

log = structlog.get_logger()

IDLE_S: Final = 30.0
UNREAD_S: Final = 30.0
LINGER_S: Final = 3.0
STOP_WITHIN_S: Final = 1.0
RETRY_AFTER_S: Final = 5.0
TURNED_AWAY: Final = 100  # so many at once are told that they are refused; the others are just cut off
TELL_EVERY_S: Final = 60.0  # at most one line to the log
USUAL_CONNECTIONS: Final = 4_000
OTHER_FILES: Final = 256  # that this process opens: connections to databases, carriers and etcd, logs

DOOR: Final = web.AppKey("door", Door)
IDS: Final = web.AppKey("ids", Ids)


def connections_for(asked: int | None) -> int:
    """How many connections may be open at once. Raises SettingsError when more are asked for than files can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # The usual soft limit of 1,024 is soon used up by a client that only opens connections.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return room(asked, None if hard == resource.RLIM_INFINITY else hard)


def room(asked: int | None, files: int | None) -> int:
    """The same, when this process may open so many files (None: as many as it likes)."""
    most = None if files is None else max(1, files - OTHER_FILES)
    if asked is None:
        return USUAL_CONNECTIONS if most is None else min(USUAL_CONNECTIONS, most)
    if most is not None and asked > most:
        raise SettingsError(
            f"dispatcher.max_connections = {asked}: this process may open {files} files, and needs {OTHER_FILES} of"
            f" them for others; for example: max_connections = {most}, or raise the limit (LimitNOFILE, ulimit -n)"
        )
    return asked


async def serve(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listen. Raises OSError when the address cannot be had. End with `runner.cleanup()`."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_WITHIN_S)
    entrance = Entrance(runner, app[DOOR], app[IDS])
    app.on_shutdown.append(entrance.close)
    await runner.setup()
    try:
        await Listening(runner, entrance, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


class Listening(web.BaseSite):
    """As `web.TCPSite`, but each connection comes in by the entrance."""

    __slots__ = ("_entrance", "_host", "_port")

    def __init__(self, runner: web.AppRunner, entrance: "Entrance", host: str, port: int) -> None:
        super().__init__(runner)
        self._entrance = entrance
        self._host = host
        self._port = port

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._entrance.connection, self._host, self._port, reuse_address=True, backlog=1_024
        )


class Entrance:
    """Makes a protocol for each connection, and words what is said to those that are not let in."""

    def __init__(self, runner: web.AppRunner, door: Door, ids: Ids) -> None:
        self._runner = runner
        self._door = door
        self._ids = ids
        self._loop = asyncio.get_running_loop()
        self._turned_away: set[asyncio.Transport] = set()
        self._tell_again_at = 0.0

    async def close(self, _: web.Application) -> None:
        for transport in tuple(self._turned_away):
            transport.abort()

    def connection(self) -> "Connection":
        if self._runner.server is None:
            raise RuntimeError("the runner is not set up")
        return Connection(
            self,
            self._runner.server,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            auto_decompress=False,  # a compressed body is refused: a small one can be huge
        )

    def admits(self, connection: "Connection", transport: asyncio.Transport) -> bool:
        """Whether it may come in; if not, it is seen to."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        bound = self._door.enter(connection, address, self._loop.time())
        if bound is None:
            return True
        self._tell(bound, address)
        if len(self._turned_away) >= TURNED_AWAY:
            transport.abort()
        else:
            self._turned_away.add(transport)
            transport.set_protocol(TurnedAway(self, transport, bound))
        return False

    def left(self, connection: "Connection") -> None:
        self._door.leave(connection)

    def gone(self, transport: asyncio.Transport) -> None:
        self._turned_away.discard(transport)

    def refusal(self, bound: Bound) -> bytes:
        whose = "from this address" if bound is Bound.SOURCE else "here"
        problem = Problem(
            kind=TOO_MANY_CONNECTIONS,
            detail=f"too many connections are open {whose}",
            retry_after_s=RETRY_AFTER_S,
            close=True,
        )
        return answers.on_the_wire(self._worded(problem))

    def not_http(self, why: str) -> web.Response:
        """For what cannot be read as a request."""
        detail = f"not read as HTTP: {' '.join(why.split())}"[:200]
        return self._worded(Problem(kind=NOT_HTTP, detail=detail, close=True))

    def _worded(self, problem: Problem) -> web.Response:
        request_id = self._ids.new()
        response = answers.problem_response(problem, request_id)
        response.headers[HEADER] = str(request_id)
        return response

    def _tell(self, bound: Bound, address: str) -> None:
        now = self._loop.time()
        if now >= self._tell_again_at:
            self._tell_again_at = now + TELL_EVERY_S
            log.warning(
                "connections_refused",
                bound=bound,
                source=address,
                open=self._door.open,
                so_far=self._door.refused.total(),
            )


class Connection(web.RequestHandler):
    """One connection, from its first byte to its last. A `door.Guest`."""

    __slots__ = ("_entrance", "_over", "_watch", "_wire")

    def __init__(self, entrance: Entrance, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._entrance = entrance
        self._wire: asyncio.Transport | None = None  # for as long as it is open, also while it closes
        self._over = False  # nothing more will be said
        self._watch: asyncio.TimerHandle | None = None

    @property
    def asked(self) -> bool:
        return self._request_count > 0

    def drop(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast("asyncio.Transport", transport)
        if self._entrance.admits(self, wire):
            self._wire = wire
            super().connection_made(wire)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            self._break_off(self._messages[-1][0])

    def _break_off(self, error: _ErrInfo) -> None:
        """What came could not be parsed: the bodies that have not ended will not."""
        bodies = [payload for _, payload in self._messages]
        if self._current_request is not None:
            bodies.append(self._current_request.content)
        for payload in bodies:
            if not payload.is_eof() and payload.exception() is None:
                payload.set_exception(web.RequestPayloadError(error.message))
                self._lingering_time = 0.0  # there is nothing to read on for

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        self._unwatch()
        self._entrance.left(self)
        super().connection_lost(exc)

    async def start(self) -> None:
        """The whole conversation. What is still to be sent when it is over must not wait for ever either."""
        try:
            await super().start()
        finally:
            self._over = True
            self._see_to_progress()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._see_to_progress()

    def resume_writing(self) -> None:
        if not self._over:
            self._unwatch()
        super().resume_writing()

    def _see_to_progress(self) -> None:
        self._unwatch()
        if self._wire is not None:
            self._watch = self._loop.call_later(UNREAD_S, self._look, unsent(self._wire))

    def _look(self, before: int) -> None:
        if self._wire is None:
            return
        if unsent(self._wire) >= before:
            log.info("answer_not_taken", bytes=before)
            self.drop()
        else:
            self._see_to_progress()

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Word what aiohttp cannot read. It is the client's fault, so it is no error of ours to log."""
        if status != 400 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.debug("not_http", remote=request.remote, why=message)
        return self._entrance.not_http(message or type(exc).__name__)


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not confirmed. Most lie in the kernel: megabytes, before any wait with us."""
    count = array("i", [0])
    with suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    return transport.get_write_buffer_size() + count[0]


class TurnedAway(asyncio.Protocol):
    """A connection that was not let in: hears so once it asks, and is gone within `LINGER_S`."""

    def __init__(self, entrance: Entrance, transport: asyncio.Transport, bound: Bound) -> None:
        self._entrance = entrance
        self._transport = transport
        self._bound = bound
        self._told = False
        self._end = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def data_received(self, _: bytes) -> None:
        if not self._told:
            self._told = True
            self._transport.write(self._entrance.refusal(self._bound))
            # What it goes on to send is read and let go: closed at once, the answer could be lost on its way.
            self._transport.write_eof()

    def connection_lost(self, _: BaseException | None) -> None:
        self._end.cancel()
        self._entrance.gone(self._transport)
