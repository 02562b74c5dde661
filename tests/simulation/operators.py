"""What an operator asks of the agents, as their API does it: by the facts of the agent that is asked, by the same
questions (`leadership.trusting`, `leadership.wishes`) and the same transactions, over the same etcd.

He is careful, as docs/failover.md asks him to be: he asks for nothing that is refused, says of no node that it is
stopped while its PostgreSQL runs, and asks again after an answer that did not come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from sitecontrol.etcd.api import EtcdError
from sitecontrol.leadership import trusting, wishes
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.records import Deed, Planned
from tests.simulation.etcd import PREFIX
from tests.simulation.postgres import Database
from tests.simulation.scene import Site
from tests.simulation.scheduler import EPOCH, Scheduler

ASKS_EVERY = 0.3  # seconds
BY = "op"


@dataclass(kw_only=True)
class Operator:
    scheduler: Scheduler
    databases: Mapping[str, Database]
    say: Callable[[str], None]
    planned: dict[str, float]  # the swaps that were planned, and for when

    async def force(self, site: Site, until: float) -> None:
        """Again and again until then: that this node leads on, as soon as nothing speaks against it."""
        while self.scheduler.now < until:
            facts = facts_of(site)
            act = self._forced(facts) if facts is not None else None
            if facts is not None and act is not None:
                self.say(f"ASKS       {facts.node} leads on: {act.what.value}")
                await self._write(site, writer_of(facts).trust(act, facts.pg.timeline))
            await self.scheduler.wait(ASKS_EVERY)

    def _forced(self, f: Facts) -> Act | None:
        if f.recorded_leader:  # it leads by itself, or was told to already
            return None
        act = Act(what=Deed.FORCED, by=BY, at=f.wall, about=f.node)
        if not trusting.in_the_way_of_force(f, self._stopped()):
            return replace(act, evidence=trusting.evidence_of_force(f, BY))
        if not trusting.in_the_way_of_trust(f) and set(trusting.unproved(f)) <= self._stopped():
            return replace(act, what=Deed.TRUSTED, evidence=trusting.evidence(f))
        return None

    def _stopped(self) -> set[str]:
        return {node for node, database in self.databases.items() if database.server is None}

    async def plan(self, site: Site, swap: str, to: str, in_s: float) -> None:
        """Production is to move there, so many seconds from now. Once."""
        facts = facts_of(site)
        if facts is None:
            return
        at = facts.wall + timedelta(seconds=in_s)
        self.planned[swap] = (at - EPOCH).total_seconds()
        wish = wishes.plan_swap(facts, Planned(id=swap, to=to, at=at, asked_at=facts.wall, by=BY))
        if wish.obstacles:
            return
        if await self._wish(site, facts, wish):
            self.say(f"PLANNED    {swap} to {to}, in {in_s:.2f} s")

    async def announce(self, site: Site, for_s: float) -> None:
        """There is work at this site for so long; in the end he says that it is over."""
        facts = facts_of(site)
        if facts is None:
            return
        begun = wishes.begin_maintenance(facts, site.place, round(for_s), by=BY, reason="work")
        if not await self._wish(site, facts, begun):
            return
        self.say(f"ANNOUNCED  work at {site.place}, for {for_s:.2f} s")
        await self.scheduler.wait(for_s)
        while (facts := facts_of(site)) is None or not await self._ended(site, facts):
            await self.scheduler.wait(ASKS_EVERY)

    async def _ended(self, site: Site, facts: Facts) -> bool:
        over = wishes.end_maintenance(facts, site.place)
        return bool(over.obstacles) or await self._wish(site, facts, over)

    async def _wish(self, site: Site, facts: Facts, wish: wishes.Wish) -> bool:
        act = Act(what=wish.deed, by=BY, at=facts.wall, about=wish.about, reason=wish.reason)
        return await self._write(site, writer_of(facts).want(wish.desired(facts), act))

    async def _write(self, site: Site, transaction: Transaction) -> bool:
        """False: it was not written, or nobody knows."""
        if site.node is None:
            return False
        try:
            return (await site.node.etcd.txn(transaction.compares, transaction.writes)).succeeded
        except EtcdError:
            return False


def facts_of(site: Site) -> Facts | None:
    """What the agent there knows, if one runs."""
    return None if site.node is None else site.node.agent.state.facts


def writer_of(f: Facts) -> Writer:
    """As the API's."""
    incarnation = f.pg.incarnation or "unknown"
    return Writer(
        prefix=PREFIX,
        cluster=f.cluster,
        node=f.node,
        site=f.site,
        incarnation=incarnation,
        lease=f.lease.id,
    )
