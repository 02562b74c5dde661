"""Steady traffic: clients at both sites, each sending on schedule whether or not answers came."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from sitecontrol.drills.client import Client, Door
from sitecontrol.drills.ledger import Ledger, Text, now
from sitecontrol.lab.errors import LabRefusedError
from sitecontrol.lab.numbers import fictional_number
from sitecontrol.lab.plan import Plan
from sitecontrol.lab.ports import SITES
from sitecontrol.lab.status import accounts_of

BEGINS = "Drill "  # each text of a drill
SEND_WITHIN = 40.0  # seconds for which a client tries to have a text accepted


@dataclass(frozen=True, kw_only=True)
class Access:
    """How clients get in: the lab's account, and the dispatchers of each site, its own site's first."""

    key: str
    program: str
    doors: dict[str, tuple[tuple[Door, ...], ...]]


def access_to(plan: Plan) -> Access:
    accounts = accounts_of(plan)
    if not accounts:
        raise LabRefusedError("the lab has no account yet: `sitectl lab up` was cut off; run it again")
    account = accounts[0]
    at = {
        site: tuple(Door(site=site, url=f"http://127.0.0.1:{port}") for _, port in plan.dispatchers(site))
        for site in SITES
    }
    doors = {site: (at[site], *(at[other] for other in SITES if other != site)) for site in SITES}
    return Access(key=account["key"], program=account["program"], doors=doors)


class Traffic:
    """`rate` texts a second in all, half of them by a client at each site. With 0, idle: none but `send_last`."""

    def __init__(self, access: Access, ledger: Ledger, *, rate: float, run: str, rng: random.Random) -> None:
        self._ledger = ledger
        self._clients = [
            Client(site, doors, key=access.key, program=access.program, ledger=ledger)
            for site, doors in access.doors.items()
        ]
        self._every = len(self._clients) / rate if rate else float("inf")
        self._run = run
        self._rng = rng
        self._stopping = asyncio.Event()
        self._schedules: list[asyncio.Task[None]] = []
        self._sending: set[asyncio.Task[bool]] = set()

    @property
    def clients(self) -> Sequence[str]:
        return [client.name for client in self._clients]

    async def start(self) -> None:
        for client in self._clients:
            await client.start()
            if self._every < float("inf"):
                self._schedules.append(asyncio.create_task(self._schedule(client)))

    async def send_last(self) -> None:
        """One text from each site, when all is over: it must be taken and delivered as any other."""
        await asyncio.gather(
            *(client.send(self._text(client.name, -1), within=SEND_WITHIN) for client in self._clients)
        )

    async def stop(self) -> None:
        """Send no more; wait for what is under way. Stopping twice is safe."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        await asyncio.gather(*self._schedules)
        await asyncio.gather(*self._sending)
        for client in self._clients:
            await client.stop()

    async def _schedule(self, client: Client) -> None:
        due = now()
        for number in range(2**31):
            due += self._every
            try:
                async with asyncio.timeout(max(0.0, due - now())):
                    await self._stopping.wait()
                break
            except TimeoutError:
                pass
            task = asyncio.create_task(client.send(self._text(client.name, number), within=SEND_WITHIN))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[bool]) -> None:
        if not self._stopping.is_set():
            self._sending.discard(task)
            task.result()

    def _text(self, client: str, number: int) -> Text:
        reference = f"{self._run}-{client}-{number}"
        return Text(
            reference=reference,
            to=fictional_number(self._rng.randrange(10**6)),
            body=f"{BEGINS}{reference}: power will be back at 18:30.",
        )
