"""Talking to a running lab over HTTP: its supervisor, its lines, its agents and dispatchers.

Everything that faults, drills, the demo and the status do goes through here, as it would from outside.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from replication.errors import ReplicationError
from replication.session import Session, Target
from sitecontrol.lab.errors import LabUnreachableError
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.pidfiles import read_pid
from sitecontrol.lab.plan import Lab, LabNode, Plan, Process
from sitecontrol.lab.remains import Remains
from sitecontrol.lab.wan_routes import Shape

TIMEOUT = aiohttp.ClientTimeout(total=3.0)
ASK_AGAIN = 0.2  # seconds
SQL_WITHIN = 3.0  # seconds

Json = dict[str, Any]


def read_lab(directory: Path) -> Plan:
    """The plan of the lab in a folder. Raises LabUnreachableError when there is none."""
    lab_dir = LabDir.at(directory)
    try:
        lab = Lab.model_validate_json(lab_dir.identity_file.read_bytes())
    except OSError as error:
        raise LabUnreachableError(f"no lab in {lab_dir.root}: `sitectl lab up` starts one") from error
    except ValueError as error:
        raise LabUnreachableError(
            f"{lab_dir.identity_file} is damaged: `sitectl lab down` ends what still runs of that lab, and then"
            " `sitectl lab up --fresh` forgets its data and makes it anew"
        ) from error
    return Plan(lab, lab_dir)


class LabControl:
    def __init__(self, plan: Plan, session: aiohttp.ClientSession, *, patience: float = 0.0) -> None:
        """`patience`: seconds for which a lab's own process that does not answer is asked again."""
        self.plan = plan
        self.session = session
        self._patience = patience
        self.struck: list[str] = []  # processes that were killed or stopped through here, by name
        token = plan.directory.token_file.read_text().strip()
        self._authorization = {"Authorization": f"Bearer {token}"}

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, *, patience: float = 0.0) -> AsyncIterator["LabControl"]:
        plan = read_lab(directory)
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            yield cls(plan, session, patience=patience)

    # -- the lab's own processes -------------------------------------------------------------------------------

    async def state(self) -> Json:
        return await self._control("GET", self.plan.ports.supervisor, "/state")

    async def processes(self) -> dict[str, Json]:
        """By name, as the supervisor sees them."""
        return {process["name"]: process for process in (await self.state())["processes"]}

    async def kill(
        self,
        processes: Sequence[Process],
        *,
        postgres: Sequence[str] = (),
        hold: bool,
        postmaster_only: bool = False,
    ) -> None:
        self.struck += [p.name for p in processes]
        await self._control(
            "POST",
            self.plan.ports.supervisor,
            "/kill",
            {
                "processes": [p.name for p in processes],
                "postgres": list(postgres),
                "hold": hold,
                "postmaster_only": postmaster_only,
            },
        )

    async def signal(self, processes: Sequence[Process], postgres: Sequence[str], name: str) -> None:
        self.struck += [p.name for p in processes]
        body = {"processes": [p.name for p in processes], "postgres": list(postgres), "signal": name}
        await self._control("POST", self.plan.ports.supervisor, "/signal", body)

    async def release(self) -> None:
        await self._control("POST", self.plan.ports.supervisor, "/release", {})

    async def cut(self, source: str, destination: str, *, both: bool = True) -> None:
        body = {"source": source, "destination": destination, "both": both}
        await self._control("POST", self.plan.ports.wan, "/cut", body)

    async def heal_lines(self) -> None:
        await self._control("POST", self.plan.ports.wan, "/heal", {})

    async def lines(self) -> Json:
        return await self._control("GET", self.plan.ports.wan, "/state")

    async def shape_lines(self, shape: Shape) -> None:
        """Make every line between two places as bad as told; `heal_lines` mends them."""
        await self._control("POST", self.plan.ports.wan, "/shape", shape.model_dump())

    async def sql(self, node: LabNode, statement: str, *, within: float = SQL_WITHIN) -> Any:
        """Run one statement on a node's PostgreSQL, as its superuser; the first value of its first row, or None. Raises
        LabUnreachableError, also when it takes more than `within` seconds.
        """
        socket_dir = self.plan.lab.installation.postgres_home(node.key) / "socket"
        target = Target(
            host=str(socket_dir),
            port=node.postgres,
            user="hotsite_agent",
            database="hotsite",
            application_name="hotsite-lab",
        )
        try:
            session = await Session.connect(target, timeout=SQL_WITHIN)
            try:
                rows = await session.read(statement, timeout=within)
                return rows[0][0] if rows else None
            finally:
                session.terminate()
        except (ReplicationError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise LabUnreachableError(
                f"PostgreSQL of {node.name} did not run {statement!r}: {error}"
            ) from error

    async def _control(self, method: str, port: int, path: str, body: Json | None = None) -> Json:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return await self._once(method, f"http://127.0.0.1:{port}{path}", body)
            except (aiohttp.ClientError, TimeoutError) as error:
                running = read_pid(self.plan.directory.supervisor_pidfile) is not None
                if time.monotonic() >= deadline or not running:
                    raise LabUnreachableError(self._silence(port)) from error
            await asyncio.sleep(ASK_AGAIN)

    async def _once(self, method: str, url: str, body: Json | None) -> Json:
        """With patience it has all of it for its answer: what is killed twice may have been started in between."""
        within = aiohttp.ClientTimeout(total=max(self._patience, TIMEOUT.total or 0.0))
        headers = self._authorization
        async with self.session.request(method, url, json=body, headers=headers, timeout=within) as answer:
            if answer.status >= 400:
                raise LabUnreachableError(f"{url}: {answer.status} {(await answer.text()).strip()}")
            return dict(await answer.json())

    def _silence(self, port: int) -> str:
        if port == self.plan.ports.wan:
            return (
                "the WAN emulator does not answer, so no line can be cut or mended: `sitectl lab status` tells "
                "whether it runs, `sitectl lab logs wan` what it said last"
            )
        directory = self.plan.directory
        again = f"`sitectl lab down --dir {directory.root}` ends what runs of it, and then `sitectl lab up` starts it"
        if (
            read_pid(directory.supervisor_pidfile) is not None
        ):  # not by its lock: it may be about to take that
            return f"the supervisor of the lab in {directory.root} does not answer: {again}"
        if Remains.of(directory).processes():
            return f"the supervisor of the lab in {directory.root} is gone, and its processes run on: {again}"
        return f"the lab in {directory.root} does not run: `sitectl lab up` starts it"

    # -- the processes of the system ---------------------------------------------------------------------------

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Json | None:
        """A JSON answer of any status, or None when there was none."""
        try:
            async with self.session.get(url, headers=headers) as answer:
                body = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        return body if isinstance(body, dict) else None

    async def is_ready(self, url: str, path: str = "/ready") -> bool:
        try:
            async with self.session.get(url + path) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def agent_url(self, site: str) -> str:
        """Of the site's first node."""
        return f"http://127.0.0.1:{self.plan.ports.place(site).agent}"

    async def agents_of_nodes(self) -> dict[LabNode, Json]:
        """The status of each agent that answers."""
        nodes = self.plan.all_nodes
        answers = await asyncio.gather(*(self.get(f"http://127.0.0.1:{node.agent}/status") for node in nodes))
        return {node: answer for node, answer in zip(nodes, answers, strict=True) if answer is not None}

    async def agents(self) -> dict[str, Json]:
        """What a site's agents tell, by site: that of the node that is open, else of the first that answers."""
        found: dict[str, Json] = {}
        for node, told in (await self.agents_of_nodes()).items():
            if node.site not in found or told.get("is_open"):
                found[node.site] = told
        return found

    async def leading_in(self, site: str) -> LabNode:
        """The node of a site that leads, or its first one."""
        nodes = self.plan.nodes(site)
        if len(nodes) == 1:
            return nodes[0]
        told = await self.agents_of_nodes()
        return next((node for node in nodes if told.get(node, {}).get("leader") == node.name), nodes[0])

    async def cluster(self) -> Json:
        """The cluster as the agent sees it that knows best: the one that is open, then any that answers."""
        agents = await self.agents_of_nodes()
        for node in sorted(agents, key=lambda node: not agents[node].get("is_open")):
            answer = await self.get(f"http://127.0.0.1:{node.agent}/cluster")
            if answer is not None and "term" in answer:
                return answer
        return {}

    async def is_two_site(self) -> bool:
        return (await self.cluster()).get("durability") == "two-site"
