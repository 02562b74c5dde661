"""What a drill's story may do: strike, wait for a fact, let traffic run, ask for a swap, heal."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sitecontrol.drills.ledger import now
from sitecontrol.drills.watch import Watch
from sitecontrol.lab import faults
from sitecontrol.lab.control import Json, LabControl
from sitecontrol.lab.ports import SITES

POLL = 0.05  # seconds


class DrillFailedError(Exception):
    """The lab did not do what the story waits for; the message is the sentence that stayed untrue."""


@dataclass
class Stage:
    control: LabControl
    watch: Watch
    live_before: str
    term_before: int
    quick: bool = False  # what a story may do for a shorter time, it does
    blows: list[float] = field(default_factory=list)  # when it struck, or asked for a swap
    killed: set[str] = field(default_factory=set)  # processes, by name
    healed_at: float | None = None  # None: the story mends nothing
    missed: list[str] = field(default_factory=list)  # facts that were waited for in vain

    async def strike(self, name: str, site: str) -> None:
        """One of the lab's faults."""
        fault = faults.FAULTS[name]
        self.blows.append(now())
        before = len(self.control.struck)
        await fault.strike(self.control, site)
        self.killed.update(self.control.struck[before:])
        self.watch.note(fault.summary, site)

    async def heal(self) -> None:
        await faults.heal(self.control)
        self.healed_at = now()
        self.watch.note("everything is mended", "lab", self.healed_at)

    @property
    def fault_at(self) -> float | None:
        """The moment from which everything counts."""
        return self.blows[0] if self.blows else None

    @property
    def killed_doors(self) -> set[str]:
        """Addresses of the dispatchers among what was killed."""
        doors = (door for site in SITES for door in self.control.plan.dispatchers(site))
        return {f"http://127.0.0.1:{port}" for name, port in doors if name in self.killed}

    @property
    def back_since(self) -> list[float]:
        """From when on the way back to two sites counts: the healing; where nothing is healed, each blow."""
        return self.blows if self.healed_at is None else [self.healed_at]

    def lasting(self, seconds: float, *, quick: float) -> float:
        """How long something lasts in this run."""
        return quick if self.quick else seconds

    async def tidy(self) -> None:
        """Whatever the story left broken is mended: it did not come to its end, or there was nothing to mend."""
        await faults.heal(self.control)

    async def steady(self, seconds: float) -> None:
        """Let the traffic run."""
        await asyncio.sleep(seconds)

    async def swap(self, to: str) -> None:
        """Ask for a planned swap, as an operator would, and wait until it is done."""
        self.blows.append(now())
        self.watch.note(f"an operator asks for a swap to {to}", to)
        token = self.control.plan.secret("operator-token").read_text().strip()
        url = self.control.agent_url(to) + "/swap"
        body = {"to": to, "reason": "a drill", "by": "sitectl drill"}
        async with self.control.session.post(
            url, json=body, headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            if answer.status >= 300:
                raise DrillFailedError(f"the swap to {to} was refused: {await answer.text()}")
        await self.until(f"{to} is live", self.is_live(to), within=30)
        await self.until("both sites are in step", self.control.is_two_site, within=60)
        await self.until("the swap is done", self.no_swap, within=30)

    async def until(self, fact: str, holds: Callable[[], Awaitable[bool]], *, within: float) -> bool:
        """Wait for a fact. What stays untrue is remembered and fails the drill, but the story goes on."""
        deadline = now() + within
        while not await holds():
            if now() > deadline:
                self.missed.append(f"not within {within:.0f} s: {fact}")
                self.watch.note(f"still untrue after {within:.0f} s: {fact}", "drill")
                return False
            await asyncio.sleep(POLL)
        return True

    def is_live(self, site: str) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            agent = (await self.control.agents()).get(site, {})
            return bool(agent.get("live")) and agent.get("live_site") == site

        return holds

    async def no_swap(self) -> bool:
        cluster: Json = await self.control.cluster()
        return bool(cluster) and not cluster.get("swap")

    async def is_one_site(self) -> bool:
        return (await self.control.cluster()).get("durability") == "one-site"
