"""HAProxy: its own checks of `/live` move requests (configs/haproxy.cfg); this saves the wait for the next check.

By the runtime API the servers of our site are called healthy and those of other sites not. That is no more than a
word ahead of the checks: the next one that says otherwise wins, so neither a late nor an old word does lasting harm,
and nothing is left behind that somebody would have to undo. The same API tells where HAProxy sends requests to.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from sitecontrol.settings import HaproxyTraffic
from sitecontrol.traffic.api import AdapterFailed, Move

RUNNING = "2"  # srv_op_state in `show servers state`
LONGEST_ANSWER = 1_000_000  # bytes

Servers = Mapping[str, Sequence[str]]
"""Site -> its dispatchers, by the names that HAProxy has for them."""


class HaproxyAdapter:
    name = "haproxy"

    def __init__(self, settings: HaproxyTraffic, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers
        self.deadline = settings.deadline

    async def point_to(self, move: Move) -> None:
        said = commands(self._settings.backend, self._servers, move.site)
        # Each is answered by an empty line, or by what is wrong.
        faults = await self._at_all("; ".join(said), lambda answer: " ".join(answer.split()))
        if faults:
            raise AdapterFailed("; ".join(faults))

    async def check(self, move: Move) -> str | None:
        faults = await self._at_all(
            f"show servers state {self._settings.backend}",
            lambda answer: what_is_wrong(answer, self._servers, move.site),
        )
        return "; ".join(faults) or None

    def plan(self, move: Move) -> list[str]:
        said = commands(self._settings.backend, self._servers, move.site)
        return [f"{socket}: {line}" for socket in self._settings.sockets for line in said]

    async def _at_all(self, said: str, judge: Callable[[str], str]) -> list[str]:
        """What `judge` finds wrong with each HAProxy's answer. One that is silent keeps no other waiting."""
        found = await asyncio.gather(*(self._at(socket, said, judge) for socket in self._settings.sockets))
        return [fault for fault in found if fault]

    async def _at(self, socket: str, said: str, judge: Callable[[str], str]) -> str:
        try:
            async with asyncio.timeout(self.deadline):
                fault = judge(await ask(socket, said))
        except TimeoutError:
            fault = f"no answer within {self.deadline:g} s"
        except (OSError, ValueError) as error:
            fault = f"not reached ({error})"
        return fault and f"{socket}: {fault}"


async def ask(socket: str, said: str) -> str:
    """HAProxy's answer to one line of its runtime API. Raises OSError."""
    if socket.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(socket)
    else:
        host, _, port = socket.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(f"{said}\n".encode())
        answer = bytearray()
        while len(answer) < LONGEST_ANSWER and (chunk := await reader.read(65_536)):
            answer += chunk
    finally:
        writer.close()
    return answer.decode(errors="replace")


def commands(backend: str, servers: Servers, site: str) -> list[str]:
    """Ours first: between two of them nobody is left without a server."""
    ours = [f"set server {backend}/{name} health up" for name in servers[site]]
    others = [name for other, names in servers.items() if other != site for name in names]
    return ours + [f"set server {backend}/{name} health down" for name in others]


def what_is_wrong(answer: str, servers: Servers, site: str) -> str:
    """From `show servers state`, whose second line names the columns; empty when requests come to `site` alone."""
    _version, header, *rows = [*answer.splitlines(), "", ""]
    columns = header.removeprefix("# ").split(" ")
    if not {"srv_name", "srv_op_state"} <= set(columns):
        return " ".join(answer.split()) or "an empty answer"
    told = [dict(zip(columns, row.split(" "), strict=False)) for row in rows if row]
    running = {row["srv_name"] for row in told if row.get("srv_op_state") == RUNNING}
    known = {row["srv_name"] for row in told}
    missing = [name for names in servers.values() for name in names if name not in known]
    astray = [name for other, names in servers.items() if other != site for name in names if name in running]
    if missing:
        return f"has no server {', '.join(missing)}"
    if astray:
        return f"takes {', '.join(astray)} for live"
    return "" if running.intersection(servers[site]) else f"takes no dispatcher of {site} for live"
