"""An operator who makes anew what etcd has lost (`sitectl cluster adopt`), by the agents' own API.

He first asks what the nodes know by themselves, and says no more than is refused without it: which node holds
everything, who never comes back (of none whose PostgreSQL runs, and after a while only), which term was the last.
Sometimes he names a node that is not the one: then whatever that one lacks is lost by his word, if he was told of it.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sitecontrol.agent.adopt_api import AdoptApi, AdoptRequest
from sitecontrol.agent.state import AgentState
from sitecontrol.etcd.api import EtcdError, Put
from sitecontrol.leadership.adopting import lost
from sitecontrol.leadership.transactions import Transaction, Writer
from tests.simulation.clients import Ledger
from tests.simulation.operators import BY, writer_of
from tests.simulation.postgres import Database
from tests.simulation.scene import Site
from tests.simulation.scheduler import Scheduler

ASKS_EVERY = 0.4  # seconds
PATIENCE = (
    2.0,
    12.0,
)  # seconds in which a node that is not heard may come back, before he says that it never does
TAKEN, REFUSED = 200, 409
REASON = "etcd has lost its data"
LOSES = (
    "are lost",
    "may have more",
)  # what is said of a node that may hold more than the one that is adopted


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What was said by whom: by a person's word, or by what the nodes know alone; and what he was told would come."""

    by_word: bool
    comes: tuple[str, ...]

    @property
    def told_of_loss(self) -> bool:
        return any(word in said for said in self.comes for word in LOSES)


@dataclass(kw_only=True)
class Desk:
    """As the agent's API is to its acts: its way to etcd."""

    site: Site
    state: AgentState
    told: Adopted | None  # None: it is only asked what would come
    adopted: dict[str, Adopted]

    def writer(self) -> Writer:
        return writer_of(self.state.facts)

    async def write(self, transaction: Transaction) -> bool:
        assert self.site.node is not None
        words = (put.key for put in transaction.writes if isinstance(put, Put) and "-adopted-" in put.key)
        assert self.told is not None
        self.adopted |= {key.rpartition("/")[2]: self.told for key in words}
        return (await self.site.node.etcd.txn(transaction.compares, transaction.writes)).succeeded

    async def would_write(self, transaction: Transaction) -> bool:
        raise NotImplementedError


@dataclass(kw_only=True)
class Adopter:
    scheduler: Scheduler
    databases: Mapping[str, Database]
    sites: Mapping[str, Site]
    ledger: Ledger
    rng: random.Random
    say: Callable[[str], None]
    adopted: dict[str, Adopted] = field(default_factory=dict)  # by the key of its entry in the history

    async def adopt(self, wrong: str, last_term: int) -> None:
        """Until nothing is lost any more. `wrong`: the site whose node he says holds everything; empty: whichever does.
        `last_term`: the last that was granted before.
        """
        patience = self.scheduler.now + self.rng.uniform(*PATIENCE)
        while True:
            await self.scheduler.wait(ASKS_EVERY)
            site = self.rng.choice(list(self.sites.values()))
            state = self._state_of(site)
            if state is None or not lost(state.facts):
                continue
            state.ask_others = partial(self._ask_others, site)
            asked = AdoptRequest(reason=REASON, by=BY, dry_run=True)
            if wrong:
                asked = self._said(asked, self.sites[wrong].database.node, last_term)
            status, told = await self._ask(site, state, asked)
            if status == REFUSED and wrong:  # whoever serves holds everything: he was mistaken
                wrong = ""
            elif status == REFUSED and self.scheduler.now > patience:
                asked = self._said(asked, self.who_holds_all(), last_term)
                status, told = await self._ask(site, state, asked)
            if status == TAKEN:
                by_word = bool(asked.node or asked.gone)
                comes = Adopted(by_word=by_word, comes=tuple(told["consequences"]))
                status, _ = await self._ask(site, state, asked.model_copy(update={"dry_run": False}), comes)
                word = (
                    f"{asked.node}, gone: {', '.join(asked.gone) or '-'}"
                    if by_word
                    else "what the nodes know"
                )
                self.say(
                    f"ADOPTS     {told['leader']} in term {told['term']}, by {word}: {status or 'unknown'}"
                )

    def _state_of(self, site: Site) -> AgentState | None:
        """Of an agent that answers."""
        node = site.node
        return None if node is None or self.scheduler.is_stopped(node.owner) else node.agent.state

    async def _ask(
        self, site: Site, state: AgentState, asked: AdoptRequest, told: Adopted | None = None
    ) -> tuple[int, dict[str, Any]]:
        """The status of the answer, 0 when nobody knows; and what it tells."""
        desk = Desk(site=site, state=state, told=told, adopted=self.adopted)
        try:
            answer = await AdoptApi(state, desk)._try(asked, "")
        except EtcdError:
            return 0, {}
        return (0, {}) if answer is None else (answer.status, json.loads(answer.text or "{}"))

    def _said(self, asked: AdoptRequest, node: str, last_term: int) -> AdoptRequest:
        """He says of no node that it never comes back while its PostgreSQL runs, nor while its agent is heard."""
        gone = tuple(
            site.database.node
            for site in self.sites.values()
            if self._state_of(site) is None and site.database.server is None and site.database.node != node
        )
        return asked.model_copy(update={"node": node, "gone": gone, "term": last_term})

    def who_holds_all(self) -> str:
        """Whoever was let in last."""
        return max(self.ledger.opened)[1]

    async def _ask_others(self, asks: Site) -> Mapping[str, Mapping[str, Any] | None]:
        await self.scheduler.wait(self.rng.uniform(0.02, 0.1))
        return {
            site.database.node: self._status(asks, site) for site in self.sites.values() if site is not asks
        }

    def _status(self, asks: Site, other: Site) -> dict[str, Any] | None:
        """None: it is not heard."""
        state = self._state_of(other)
        heard = self.databases[asks.database.node].world.network.talk(asks.place, other.place)
        return state.status() if state is not None and heard else None
