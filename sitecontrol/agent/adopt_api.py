"""What an operator does about records that etcd has lost: `POST /cluster/adopt`, to any node's agent.

It asks the agents of all nodes what they hold, and writes what follows from that (`leadership.adopting`).
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from sitecontrol.agent.asking import MEANWHILE, Desk, Line, Why, decided_anew, source_of
from sitecontrol.agent.problems import problem
from sitecontrol.agent.state import AgentState
from sitecontrol.leadership.adopting import Adoption, Node, Word, adoption
from sitecontrol.leadership.audit import Act
from sitecontrol.records import Deed, TermNumber
from sitecontrol.settings_types import Name

log = structlog.get_logger()


class AdoptRequest(BaseModel):
    """`node` holds everything, `gone` never come back, no term was after `term`: by the word of who asks."""

    model_config = ConfigDict(extra="forbid")
    node: Name | None = None
    gone: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    term: TermNumber | None = None
    reason: Why = Field(default="", validate_default=True)
    by: Line = "operator"
    dry_run: bool = False


class AdoptApi:
    def __init__(self, state: AgentState, desk: Desk) -> None:
        self._state = state
        self._desk = desk

    @property
    def acts(self) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
        return {"/cluster/adopt": self.adopt}

    async def adopt(self, request: web.Request) -> web.Response:
        asked = AdoptRequest.model_validate_json(await request.read())
        source = source_of(request)

        def overtaken() -> web.Response:
            return problem(409, "The adoption is refused", MEANWHILE, obstacles=[], dry_run=asked.dry_run)

        return await decided_anew(lambda: self._try(asked, source), overtaken)

    async def _try(self, asked: AdoptRequest, source: str) -> web.Response | None:
        """None: what it was decided from has changed meanwhile."""
        others = await self._state.ask_others()
        facts = self._state.facts
        unknown = {*asked.gone, *([asked.node] if asked.node else [])} - facts.site_of.keys()
        if unknown:
            known = ", ".join(sorted(facts.site_of))
            return problem(422, "No such node", f"{', '.join(sorted(unknown))}: no node; nodes: {known}")
        told = {**others, facts.node: self._state.status()}
        nodes = [
            Node(node=name, site=site, told=told.get(name), canary_max_age=facts.settings.canary_max_age)
            for name, site in sorted(facts.site_of.items())
        ]
        word = Word(node=asked.node, gone=asked.gone, term=asked.term)
        found = adoption(facts, nodes, word)
        document = _document(asked, nodes, found)
        if found.obstacles:
            return problem(409, "The adoption is refused", "; ".join(found.obstacles), **document)
        if asked.dry_run:
            return web.json_response({**document, "would": "adopt"})
        act = Act(
            what=Deed.ADOPTED,
            by=asked.by,
            at=facts.wall,
            about=f"{document['leader']} holds everything, term {document['term']}",
            reason=asked.reason,
            source=source,
            evidence={
                **{f"{node['node']} told": _in_words(node) for node in document["nodes"]},
                "by word": f"holds everything: {asked.node or '-'}; gone: {', '.join(asked.gone) or '-'};"
                f" last term: {asked.term or '-'}",
            },
        )
        if not await self._desk.write(self._desk.writer().adopt(found, act)):
            return None
        log.warning("cluster_adopted", by=asked.by, reason=asked.reason, leader=document["leader"])
        return web.json_response(document, status=202)


def _document(asked: AdoptRequest, nodes: list[Node], found: Adoption) -> dict[str, Any]:
    written = {"initialize": found.initialize, "term": found.term, "sync": found.sync}
    return {
        "leader": found.node.node if found.node else None,
        "term": found.term.term if found.term else None,
        "nodes": [node.document() for node in nodes],
        "writes": {name: record.model_dump(mode="json") for name, record in written.items() if record},
        "obstacles": list(found.obstacles),
        "consequences": list(found.comes),
        "dry_run": asked.dry_run,
    }


def _in_words(node: dict[str, Any]) -> str:
    return ", ".join(f"{name} {said}" for name, said in node.items() if name not in ("node", "site"))[:500]
