"""What a drill's story may do: strike, wait for a fact, let traffic run, ask for a swap, heal."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import aiohttp

from sitecontrol.drills.ledger import now
from sitecontrol.drills.watch import Watch
from sitecontrol.lab import faults
from sitecontrol.lab.control import Json, LabControl
from sitecontrol.lab.faults import other_site
from sitecontrol.lab.plan import LabNode
from sitecontrol.lab.ports import SITES
from sitecontrol.records import SWAP_PHASES

T = TypeVar("T")

POLL = 0.05  # seconds
POLL_PHASE = 0.01  # a swap may hold requests for no more than two tenths
ASKED_BY = "sitectl drill"
CLOCK_NEAR = 30.0  # seconds: a member tells its time every ten
PHASES = [phase.value for phase in SWAP_PHASES]


class Party(Enum):
    """Of a swap."""

    FROM = "from"
    TO = "to"


class DrillFailedError(Exception):
    """The lab did not do what the story waits for; the message is the sentence that stayed untrue."""


@dataclass
class Stage:
    control: LabControl
    watch: Watch
    live_before: str
    term_before: int
    in_swap: bool = False  # the first blow falls while a swap holds requests
    quick: bool = False  # what a story may do for a shorter time, it does
    patience: float = 1.0  # how many times as long as usual it waits for the lab
    blows: list[float] = field(default_factory=list)  # when it struck, or asked for a swap
    killed: set[str] = field(default_factory=set)  # processes, by name
    healed_at: float | None = None  # None: the story mends nothing
    missed: list[str] = field(default_factory=list)  # facts that were waited for in vain

    async def strike(self, name: str, site: str, *, in_phase: str = "held") -> None:
        """One of the lab's faults. The first of those that strike in the middle of a swap waits for that phase."""
        if self.in_swap and not self.blows:
            await self._begin_swap(in_phase)
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

    def in_turn(self, all_of_them: Sequence[T]) -> Sequence[T]:
        """What a story does one after the other. In the middle of a swap the first says it all: the others would find
        none.
        """
        return all_of_them[:1] if self.in_swap else all_of_them

    def times(self, count: int, *, quick: int) -> int:
        """How often something is done in this run."""
        return quick if self.quick else count

    async def swap(self, to: str) -> None:
        """Ask for a planned swap, as an operator would, and wait until it is done."""
        self.blows.append(now())
        await self._ask_for_swap(to)
        await self.until(f"{to} is live", self.is_live(to), within=30)
        await self.until("both sites are in step", self.control.is_two_site, within=60)
        await self.until("the swap is done", self.no_swap, within=30)

    async def interrupted_swap(self, phase: str, party: Party, fault: str) -> None:
        """Ask for a swap away from whoever is live; strike one of the two as soon as it is in a phase, or past it; wait
        until it has ended, whichever way.
        """
        await self.until("the other site could take over", self._could_take_over, within=60)
        live = str((await self.control.cluster()).get("live_site"))
        away = other_site(live)
        await self._reach(await self._ask_for_swap(away), away, phase)
        await self.strike(fault, live if party is Party.FROM else away)
        await self.until("the swap has ended", self.no_swap, within=90)
        await self.until("both sites are in step", self.control.is_two_site, within=90)

    async def _begin_swap(self, phase: str) -> None:
        away = other_site(self.live_before)
        await self._reach(await self._ask_for_swap(away), away, phase)

    async def _ask_for_swap(self, to: str) -> str:
        """Returns the id of the swap."""
        self.watch.note(f"an operator asks for a swap to {to}", to)
        status, told = await self._post_swap(to, dry_run=False)
        begun: list[str] = []
        if status == HTTPStatus.ACCEPTED:
            begun.append(json.loads(told)["id"])
        elif status in (0, HTTPStatus.SERVICE_UNAVAILABLE):  # as while etcd elects: it may have been written
            await self.until(f"the swap to {to} has begun", self._begun(to, begun), within=20)
        if not begun:
            raise DrillFailedError(f"the swap to {to} was not begun: {told}")
        return begun[0]

    def _begun(self, to: str, found: list[str]) -> Callable[[], Awaitable[bool]]:
        """It is under way after all, or asked for once more. Its id is added to what was found."""

        async def holds() -> bool:
            swap = (await self.control.cluster()).get("swap") or {}
            if swap.get("by") == ASKED_BY:
                found.append(swap["id"])
                return True
            status, told = await self._post_swap(to, dry_run=False)
            if status == HTTPStatus.ACCEPTED:
                found.append(json.loads(told)["id"])
            return bool(found)

        return holds

    async def _reach(self, swap: str, to: str, phase: str) -> None:
        """Wait until this very swap is in a phase, or past it. That it ends before is a missed fact."""
        seen = ended = False

        async def reached_or_ended() -> bool:
            nonlocal seen, ended
            shown = (await self.control.cluster()).get("swap") or {}
            if shown.get("id") == swap:
                seen = True
                return PHASES.index(shown["phase"]) >= PHASES.index(phase)
            ended = seen and await self.no_swap()  # no agent shows it yet just after it was written
            return ended

        fact = f"the swap to {to} is {phase}"
        if await self.until(fact, reached_or_ended, within=20, every=POLL_PHASE) and ended:
            self.miss(f"ended before: {fact}", f"the swap to {to} ended before it was {phase}")

    async def _could_take_over(self) -> bool:
        """The site that is not live now: production may move by itself after a blow."""
        live = (await self.control.cluster()).get("live_site")
        return live in SITES and (await self._post_swap(other_site(live), dry_run=True))[0] == HTTPStatus.OK

    async def _post_swap(self, to: str, *, dry_run: bool) -> tuple[int, str]:
        """Status and text of the answer; 0 when there was none."""
        token = self.control.plan.secret("operator-token").read_text().strip()
        url = self.control.agent_url(to) + "/swap"
        body = {"to": to, "reason": "a drill", "by": ASKED_BY, "dry_run": dry_run}
        try:
            async with self.control.session.post(
                url, json=body, headers={"Authorization": f"Bearer {token}"}
            ) as answer:
                return answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return 0, f"{type(error).__name__}: {error}"

    # -- a site's disk, while everything at the site is down

    async def keep_disk(self, site: str) -> None:
        """Remember what is on it."""
        kept = self._kept_disk(site)
        await asyncio.to_thread(shutil.rmtree, kept, ignore_errors=True)
        copying = await asyncio.create_subprocess_exec("cp", "-a", self._disk(site), kept)
        if await copying.wait() != 0:
            raise DrillFailedError(f"the disk of {site} could not be copied to {kept}")

    async def put_kept_disk_back(self, site: str) -> None:
        await self.lose_disk(site)
        await asyncio.to_thread(self._kept_disk(site).rename, self._disk(site))
        self.watch.note("has an older disk", site)

    def node(self, site: str) -> LabNode:
        """Of a site with one."""
        [node] = self.control.plan.nodes(site)
        return node

    def clones(self, site: str) -> int:
        """How often its agent has taken a copy of a leader, by its log."""
        return len(self._logged(site, "cloned"))

    def lost_slots(self, site: str) -> int:
        """How often its agent has made a slot anew that PostgreSQL had given up, by its log."""
        return sum(bool(event["dropped"]) for event in self._logged(site, "slots"))

    def _logged(self, site: str, event: str) -> list[Json]:
        """Events of that name, of its agent."""
        log = self.control.plan.directory.log(f"{self.node(site).key}-agent")
        lines = log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if f'"event": "{event}"' in line]

    def has_lost_slots(self, site: str, *, more_than: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return await asyncio.to_thread(self.lost_slots, site) > more_than

        return holds

    def is_cloned(self, site: str, *, times: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return await asyncio.to_thread(self.clones, site) == times

        return holds

    async def lose_disk(self, site: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._disk(site))
        self.watch.note("has an empty disk", site)

    def _disk(self, site: str) -> Path:
        return self.control.plan.lab.installation.data_dir(site)

    def _kept_disk(self, site: str) -> Path:
        disk = self._disk(site)
        return disk.with_name(disk.name + ".kept")

    async def until(
        self, fact: str, holds: Callable[[], Awaitable[bool]], *, within: float, every: float = POLL
    ) -> bool:
        """Wait for a fact. What stays untrue is remembered and fails the drill, but the story goes on."""
        within *= self.patience
        deadline = now() + within
        while not await holds():
            if now() > deadline:
                self.miss(f"not within {within:.0f} s: {fact}", f"still untrue after {within:.0f} s: {fact}")
                return False
            await asyncio.sleep(every)
        return True

    def miss(self, fact: str, told: str) -> None:
        """What the story was to bring about, or waits for, is not so: that fails the drill."""
        self.missed.append(fact)
        self.watch.note(told, "drill")

    def is_live(self, site: str) -> Callable[[], Awaitable[bool]]:
        """Of a fault in the middle of a swap nobody can tell where production ends up: there, any site is right."""

        async def holds() -> bool:
            agents = await self.control.agents()
            live = {
                name for name, agent in agents.items() if agent.get("live") and agent["live_site"] == name
            }
            return bool(live) if self.in_swap else site in live

        return holds

    def leads(self, site: str) -> Callable[[], Awaitable[bool]]:
        """Etcd names it, whether it has opened or not."""

        async def holds() -> bool:
            return (await self._agent(site)).get("live_site") == site

        return holds

    def rule_is(self, site: str, rule: str) -> Callable[[], Awaitable[bool]]:
        """What its agent decides about its PostgreSQL."""

        async def holds() -> bool:
            return ((await self._agent(site)).get("decision") or {}).get("rule") == rule

        return holds

    def is_closed(self, site: str) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return (await self._agent(site)).get("is_open") is False

        return holds

    def says(self, site: str, words: str) -> Callable[[], Awaitable[bool]]:
        """Its agent gives a reason with these words for not being ready."""

        async def holds() -> bool:
            return any(words in reason for reason in (await self._agent(site)).get("reasons") or ())

        return holds

    def in_the_way(self, site: str, words: str) -> Callable[[], Awaitable[bool]]:
        """Its agent tells, with these words, what keeps everybody from the lead if the live site were lost; `sitectl
        why` has the same.
        """

        async def holds() -> bool:
            told = (await self._agent(site)).get("if_lost") or {}
            return any(words in one for one in told.get("in_the_way") or ())

        return holds

    def names_alarm(self, site: str, alarm: str | None) -> Callable[[], Awaitable[bool]]:
        """Its agent tells of that alarm of etcd, or of none."""

        async def holds() -> bool:
            agent = await self._agent(site)
            return "etcd_alarm" in agent and agent["etcd_alarm"] == alarm

        return holds

    def swap_is_refused(self, to: str, words: str) -> Callable[[], Awaitable[bool]]:
        """Whoever asks for one is refused with these words."""

        async def holds() -> bool:
            status, told = await self._post_swap(to, dry_run=True)
            return status == HTTPStatus.CONFLICT and words in json.loads(told).get("obstacles", ())

        return holds

    def etcd_serves(self, place: str) -> Callable[[], Awaitable[bool]]:
        port = self.control.plan.ports.place(place).etcd_client

        async def holds() -> bool:
            return (await self.control.get(f"http://127.0.0.1:{port}/health") or {}).get("health") == "true"

        return holds

    def clock_is_off(self, place: str, seconds: float) -> Callable[[], Awaitable[bool]]:
        """By so much, so its health daemon says, and the agent of each of its nodes."""
        daemon = f"http://127.0.0.1:{self.control.plan.ports.place(place).healthcheck}/api/overview"
        nodes = {node.name for node in self.control.plan.nodes(place)}

        async def holds() -> bool:
            told = [(await self.control.get(daemon) or {}).get("at")]
            members = {m["node"]: m["wall"] for m in (await self.control.cluster()).get("members") or ()}
            told += [members.get(node) for node in nodes]
            return all(at is not None and is_off(at, seconds) for at in told)

        return holds

    async def _agent(self, site: str) -> Json:
        return (await self.control.agents()).get(site, {})

    async def no_swap(self) -> bool:
        """So say all agents that answer; one that was just started may not know of it yet."""
        agents = (await self.control.agents()).values()
        return bool(agents) and all(agent.get("term") and not agent.get("swap") for agent in agents)

    async def is_one_site(self) -> bool:
        return (await self.control.cluster()).get("durability") == "one-site"


def is_off(told: str, seconds: float) -> bool:
    """Whether a time (ISO 8601) is off by about so much."""
    return abs((datetime.fromisoformat(told) - datetime.now(UTC)).total_seconds() - seconds) < CLOCK_NEAR
