"""What an operator asks of a node: `POST /node/reclone`, `/node/rejoin`, `/node/trust`, `/node/remove`, `/failover`.

Removal is asked of any agent, the others of the node's own, which must be the one that is named. What is done is told
in the audit log before it is begun, or with it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from sitecontrol.agent.asking import MEANWHILE, Desk, Line, Why, decided_anew, source_of
from sitecontrol.agent.problems import problem
from sitecontrol.agent.state import AgentState
from sitecontrol.leadership import nodes, trusting
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.effects import Clone
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.records import Deed, Desired
from sitecontrol.settings_types import Name

log = structlog.get_logger()


class NodeRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    node: Name
    reason: Line = ""
    by: Line = "operator"
    dry_run: bool = False


class ForceRequest(NodeRequest):
    """The lead for `node`. `stopped`: nodes whose PostgreSQL is stopped, by the word of who asks."""

    reason: Why = Field(default="", validate_default=True)
    stopped: Annotated[tuple[Name, ...], Field(max_length=64)] = ()


Attempt = Callable[[NodeRequest, str], Awaitable[web.Response | None]]


class NodeApi:
    def __init__(self, state: AgentState, desk: Desk) -> None:
        self._state = state
        self._desk = desk

    @property
    def acts(self) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
        return {
            "/node/reclone": self.reclone,
            "/node/rejoin": self.rejoin,
            "/node/trust": self.trust,
            "/node/remove": self.remove,
            "/failover": self.force,
        }

    async def reclone(self, request: web.Request) -> web.Response:
        return await self._decide(request, "reclone", self._reclone)

    async def rejoin(self, request: web.Request) -> web.Response:
        return await self._decide(request, "rejoin", self._rejoin)

    async def trust(self, request: web.Request) -> web.Response:
        return await self._decide(request, "trust", self._trust)

    async def remove(self, request: web.Request) -> web.Response:
        return await self._decide(request, "removal", self._remove)

    async def force(self, request: web.Request) -> web.Response:
        asked = ForceRequest.model_validate_json(await request.read())

        async def attempt(_: NodeRequest, source: str) -> web.Response | None:
            return await self._force(asked, source)

        return await self._anew(request, "failover", asked, attempt)

    async def _decide(self, request: web.Request, what: str, attempt: Attempt) -> web.Response:
        asked = NodeRequest.model_validate_json(await request.read())
        return await self._anew(request, what, asked, attempt)

    async def _anew(
        self, request: web.Request, what: str, asked: NodeRequest, attempt: Attempt
    ) -> web.Response:
        source = source_of(request)

        def overtaken() -> web.Response:
            told = {"node": asked.node, "obstacles": [], "dry_run": asked.dry_run}
            return problem(409, f"The {what} is refused", MEANWHILE, **told)

        return await decided_anew(lambda: attempt(asked, source), overtaken)

    # Each gives None when what it was decided from has changed meanwhile.

    async def _reclone(self, asked: NodeRequest, source: str) -> web.Response | None:
        facts = self._state.facts
        if (refused := _not_us(asked, facts)) is not None:
            return refused
        obstacles, comes = nodes.in_the_way_of_reclone(facts), nodes.comes_of_reclone(facts)
        document = _document(asked, facts, obstacles, comes)
        if obstacles or asked.dry_run:
            return _told(document, "reclone")
        leader = facts.leader.record.node if facts.leader else ""
        if not await self._tell(source, asked, Deed.RECLONE, f"{asked.node} from {leader}"):
            return None
        decision = Decision(
            lane=Lane.POSTGRES,
            rule="reclone-asked",
            sentence=f"{asked.by} asked for a fresh copy of the leader.",
            effect=Clone(leader=leader),
        )
        if not self._state.begin(decision):
            busy = f"{asked.node} is busy with {self._state.work() or 'something else'}: ask again when that is over"
            return problem(409, "The reclone is refused", busy, **document)
        log.warning("reclone_asked_for", by=asked.by, reason=asked.reason)
        return web.json_response(document, status=202)

    async def _rejoin(self, asked: NodeRequest, source: str) -> web.Response | None:
        facts = self._state.facts
        if (refused := _not_us(asked, facts)) is not None:
            return refused
        decision = self._state.decisions.get(Lane.POSTGRES)
        comes = (*((decision.sentence,) if decision else ()), *nodes.comes_of_rejoin(facts))
        obstacles = nodes.in_the_way_of_rejoin(facts)
        document = _document(asked, facts, obstacles, comes)
        if obstacles or asked.dry_run:
            return _told(document, "rejoin")
        if not await self._tell(source, asked, Deed.REJOIN, asked.node):
            return None
        self._state.hurry()
        log.info("rejoin_asked_for", by=asked.by, reason=asked.reason)
        return web.json_response(document, status=202)

    async def _trust(self, asked: NodeRequest, source: str) -> web.Response | None:
        facts = self._state.facts
        if (refused := _not_us(asked, facts)) is not None:
            return refused
        obstacles = trusting.in_the_way_of_trust(facts)
        document = _document(asked, facts, obstacles, trusting.comes_of_trust(facts))
        if obstacles or asked.dry_run:
            return _told(document, "trust")
        act = replace(self._act(source, asked, Deed.TRUSTED, asked.node), evidence=trusting.evidence(facts))
        if not await self._desk.write(self._desk.writer().trust(act, facts.pg.timeline)):
            return None
        log.warning("node_trusted", by=asked.by, reason=asked.reason, evidence=act.evidence)
        return web.json_response(document, status=202)

    async def _force(self, asked: ForceRequest, source: str) -> web.Response | None:
        facts = self._state.facts
        if (refused := _not_us(asked, facts)) is not None:
            return refused
        unproved = trusting.unproved(facts)
        # A dry run tells whose end has to be sworn to; nobody has to swear before.
        obstacles = trusting.in_the_way_of_force(facts, unproved if asked.dry_run else asked.stopped)
        document = _document(asked, facts, obstacles, trusting.comes_of_force(facts))
        document["unproved"] = list(unproved)
        if obstacles or asked.dry_run:
            return _told(document, "failover")
        act = replace(
            self._act(source, asked, Deed.FORCED, asked.node),
            evidence=trusting.evidence_of_force(facts, asked.by),
        )
        if not await self._desk.write(self._desk.writer().trust(act, facts.pg.timeline)):
            return None
        log.warning("lead_forced", by=asked.by, reason=asked.reason, evidence=act.evidence)
        return web.json_response(document, status=202)

    async def _remove(self, asked: NodeRequest, source: str) -> web.Response | None:
        facts = self._state.facts
        if asked.node not in facts.site_of:
            return _no_such_node(asked, facts)
        obstacles, comes = (
            nodes.in_the_way_of_removal(facts, asked.node),
            nodes.comes_of_removal(facts, asked.node),
        )
        document = _document(asked, facts, obstacles, comes)
        if obstacles or asked.dry_run:
            return _told(document, "remove")
        known = facts.cluster.desired.record if facts.cluster.desired else Desired()
        retired = tuple(sorted({*(known.retired or ()), asked.node}))
        act = self._act(source, asked, Deed.REMOVED, asked.node)
        wanted = self._desk.writer().want(known.model_copy(update={"retired": retired}), act)
        if not await self._desk.write(wanted):
            return None
        log.warning("node_removed", node=asked.node, by=asked.by, reason=asked.reason)
        return web.json_response(document, status=202)

    async def _tell(self, source: str, asked: NodeRequest, what: Deed, about: str) -> bool:
        return await self._desk.write(self._desk.writer().note(self._act(source, asked, what, about)))

    def _act(self, source: str, asked: NodeRequest, what: Deed, about: str) -> Act:
        wall = self._state.facts.wall
        return Act(what=what, by=asked.by, at=wall, about=about, reason=asked.reason, source=source)


def _document(
    asked: NodeRequest, f: Facts, obstacles: Sequence[str], consequences: Sequence[str]
) -> dict[str, Any]:
    return {
        "node": asked.node,
        "site": f.site_of[asked.node],
        "leader": f.leader.record.node if f.leader else None,
        "incarnation": f.pg.incarnation if asked.node == f.node else None,
        "obstacles": list(obstacles),
        "consequences": list(consequences),
        "dry_run": asked.dry_run,
    }


def _told(document: dict[str, Any], would: str) -> web.Response:
    """A refusal, or what a dry run found."""
    if document["obstacles"]:
        return problem(409, f"The {would} is refused", "; ".join(document["obstacles"]), **document)
    return web.json_response({**document, "would": would})


def _not_us(asked: NodeRequest, f: Facts) -> web.Response | None:
    if asked.node not in f.site_of:
        return _no_such_node(asked, f)
    if asked.node != f.node:
        detail = f"This is the agent of {f.node}: ask that of {asked.node} itself."
        return problem(422, "Another node's agent", detail)
    return None


def _no_such_node(asked: NodeRequest, f: Facts) -> web.Response:
    known = ", ".join(sorted(f.site_of))
    return problem(422, "No such node", f"{asked.node!r} is no node; nodes: {known}")
