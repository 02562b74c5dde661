"""Watches the lab during a drill and writes the timeline: who leads, in step or not, agents that fall silent."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from sitecontrol.drills.ledger import now
from sitecontrol.lab.control import Json, LabControl

EVERY = 0.1  # seconds
FENCED = frozenset({"decided", "locked_out", "connections_ended", "postgres_ended"})  # all steps of a fencing
COUNTS_AS_SILENT = 3  # polls in a row


@dataclass
class Watch:
    """Polls the agents. `events` are (monotonic time, what, where)."""

    control: LabControl
    events: list[tuple[float, str, str]] = field(default_factory=list)
    whole: list[tuple[float, bool]] = field(
        default_factory=list
    )  # from when on two sites were in step, or not
    fencing: dict[str, Mapping[str, float]] = field(
        default_factory=dict
    )  # by site: the first one's steps, ms
    _known: dict[str, Json] = field(default_factory=dict)
    _silent: dict[str, int] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note(self, what: str, where: str, at: float | None = None) -> None:
        self.events.append((now() if at is None else at, what, where))

    async def _run(self) -> None:
        while True:
            agents = await self.control.agents()
            for site in self.control.plan.sites:
                self._look(site, agents.get(site))
            self._look_at_all(agents)
            await asyncio.sleep(EVERY)

    def _look_at_all(self, agents: dict[str, Json]) -> None:
        whole = any(agent.get("live") and agent.get("durability") == "two-site" for agent in agents.values())
        if not self.whole or self.whole[-1][1] != whole:
            self.whole.append((now(), whole))

    def _look(self, site: str, agent: Json | None) -> None:
        if agent is None:
            self._silent[site] = self._silent.get(site, 0) + 1
            if self._silent[site] == COUNTS_AS_SILENT:
                self.note("the agent is silent", site)
                self._known.pop(site, None)
            return
        if self._silent.pop(site, 0) >= COUNTS_AS_SILENT:
            self.note("the agent answers again", site)
        before = self._known.get(site)
        self._known[site] = agent
        if before is not None:
            if fenced(before) != fenced(agent) and not self.fencing.get(site, {}).keys() >= FENCED:
                self.fencing[site] = fenced(agent)
            for what in changes(before, agent):
                self.note(what, site)


def fenced(agent: Json) -> Mapping[str, float]:
    """The steps of the last fencing that an agent tells of, in milliseconds."""
    return dict((agent.get("fencing") or {}).get("last_ms") or {})


def in_words(steps: Mapping[str, float]) -> str:
    return ", ".join(f"{step.replace('_', ' ')} {took:.0f} ms" for step, took in steps.items())


def changes(before: Json, after: Json) -> list[str]:
    """What an operator would want to read about the difference between two words of one agent."""
    told = []
    for key, sentence in (
        ("role", "is {}"),
        ("term", "sees term {}"),
        ("live_site", "sees {} live"),
        ("durability", "says {}"),
    ):
        if before.get(key) != after.get(key):
            told.append(sentence.format(after.get(key) or "nobody"))
    if before.get("is_open") != after.get("is_open"):
        told.append("opens: dispatchers are let in" if after.get("is_open") else "closes")
    steps = fenced(after)
    if steps != fenced(before) and steps.keys() >= FENCED:
        told.append(f"fenced: {in_words(steps)} after its last proof of leadership was gone")
    swap_before, swap_after = before.get("swap") or {}, after.get("swap") or {}
    if swap_before.get("phase") != swap_after.get("phase") and swap_after:
        told.append(f"swap to {swap_after['to_node']}: {swap_after['phase']}")
    return told
