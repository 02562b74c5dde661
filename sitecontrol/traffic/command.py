"""An operator's own program: whatever else moves clients (a router, a cloud's API, a message to a partner).

It is run without a shell, with nothing on its input, and learns from its environment what is to be done:
`HOTSITE_TRAFFIC_SITE`, `HOTSITE_TRAFFIC_TERM`, `HOTSITE_TRAFFIC_REASON`. Of our own variables it gets no other: they
hold secrets. Status 0 is success; the end of what it said on stderr is told otherwise. It leads a process group of its
own, which is killed at the deadline, or when production moves on meanwhile.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from sitecontrol.settings import CommandTraffic
from sitecontrol.traffic.api import AdapterFailed, Move

TAIL = 300  # bytes of stderr that are told
CHUNK = 65_536
LAST_WORDS_WITHIN = 0.2  # seconds, for what is still in the pipe when the program has ended


class CommandAdapter:
    name = "command"

    def __init__(self, settings: CommandTraffic, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self.deadline = settings.deadline

    async def point_to(self, move: Move) -> None:
        status, tail = await self._run(self._settings.argv, move)
        if status != 0:
            raise AdapterFailed(_told(self._settings.argv, status, tail))

    async def check(self, move: Move) -> str | None:
        if not self._settings.check_argv:
            return None
        status, tail = await self._run(self._settings.check_argv, move)
        return None if status == 0 else _told(self._settings.check_argv, status, tail)

    def plan(self, move: Move) -> list[str]:
        given = [f"{name}={value}" for name, value in _variables(move).items()]
        return [*given, *(f"  {word}" for word in self._settings.argv)]

    async def _run(self, argv: Sequence[str], move: Move) -> tuple[int, str]:
        """Its status (negative: the signal that ended it) and the end of its stderr."""
        tail = bytearray()
        async with _pipe() as (stderr, write_end):
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=write_end,
                    env=_environment(self._environ, move),
                    start_new_session=True,
                )
            except OSError as error:
                raise AdapterFailed(f"{argv[0]} cannot be run: {error.strerror}") from error
            finally:
                os.close(write_end)
            reading = asyncio.create_task(_read(stderr, tail))
            try:
                async with asyncio.timeout(self._settings.deadline):
                    status = await process.wait()
                # What it started in the background may hold the pipe open: it is not waited for.
                await asyncio.wait([reading], timeout=LAST_WORDS_WITHIN)
            except TimeoutError:
                raise AdapterFailed(
                    f"{argv[0]} did not end within {self._settings.deadline:g} s and was killed"
                    + _last_words(tail)
                ) from None
            finally:
                reading.cancel()
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        return status, _last_words(tail)


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """A reader, and the other end for a program; whoever takes that closes it.

    Not asyncio's own: with that, a program has not ended for as long as anything it started holds the pipe.
    """
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
    )
    try:
        yield reader, write_end
    finally:
        transport.close()


async def _read(stream: asyncio.StreamReader, tail: bytearray) -> None:
    """Read to the end, so that the program never waits for us, and keep the last bytes."""
    while chunk := await stream.read(CHUNK):
        tail += chunk
        del tail[:-TAIL]


def _variables(move: Move) -> dict[str, str]:
    return {
        "HOTSITE_TRAFFIC_SITE": move.site,
        "HOTSITE_TRAFFIC_TERM": str(move.term),
        "HOTSITE_TRAFFIC_REASON": move.reason.replace("\0", ""),
    }


def _environment(environ: Mapping[str, str], move: Move) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not name.startswith("HOTSITE_")}
    return kept | _variables(move)


def _last_words(tail: bytearray) -> str:
    """The end of stderr in one line, or nothing."""
    line = " ".join(tail.decode(errors="replace").split())
    return f": {line}" if line else ""


def _told(argv: Sequence[str], status: int, tail: str) -> str:
    how = f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"
    return f"{argv[0]} {how}{tail}"
