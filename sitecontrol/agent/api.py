"""The agent's HTTP API: health for load balancers, the cluster for people, and the few acts of an operator.

Reading is open to whoever reaches the port; acts need the operator's token. Everything is told from the picture
that the agent decides by; only the history is read from etcd on demand.
"""

import hmac
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from sitecontrol.agent.adopt_api import AdoptApi
from sitecontrol.agent.asking import MEANWHILE, Line, decided_anew, source_of
from sitecontrol.agent.node_api import NodeApi
from sitecontrol.agent.problems import problem
from sitecontrol.agent.state import AgentState
from sitecontrol.agent.wish_api import WishApi
from sitecontrol.etcd.api import Etcd, EtcdError, EtcdRefused
from sitecontrol.leadership import audit
from sitecontrol.leadership.facts import PgState
from sitecontrol.leadership.swapping import nobody_leads, obstacles
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.leadership.turns import target_in
from sitecontrol.records import BadRecord, HistoryEntry, Phase, Swap

log = structlog.get_logger()

MAX_BODY_BYTES = 16_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SwapRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    to: Annotated[str, StringConstraints(min_length=1, max_length=40)]  # a site or a node
    reason: Line = ""
    by: Line = "operator"
    dry_run: bool = False


@web.middleware
async def told_as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What aiohttp refuses by itself (no such path, another method, too much) is told as all else is."""
    try:
        return await handler(request)
    except web.HTTPClientError as error:
        response = problem(error.status, error.reason, f"{request.method} {request.path} is not served here")
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


class AgentApi:
    def __init__(
        self, state: AgentState, etcd: Etcd, operator_token: str, registry: CollectorRegistry
    ) -> None:
        self._state = state
        self._etcd = etcd
        self._token = operator_token.encode()
        self._registry = registry

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[told_as_problems])
        app.router.add_get("/health", self.health)
        app.router.add_get("/ready", self.ready)
        app.router.add_get("/live", self.live)
        app.router.add_get("/standby", self.standby)
        app.router.add_get("/status", self.status)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/cluster", self.cluster)
        app.router.add_get("/why", self.why)
        app.router.add_get("/history", self.history)
        app.router.add_get("/audit", self.audit)
        app.router.add_post("/swap", self.operator(self.swap))
        acts = WishApi(self._state, self).acts | NodeApi(self._state, self).acts
        acts |= AdoptApi(self._state, self).acts
        for path, act in acts.items():
            app.router.add_post(path, self.operator(act))
        return app

    # -- health ----------------------------------------------------------------------------------------------

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    async def ready(self, _: web.Request) -> web.Response:
        reasons = self._state.reasons
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def live(self, _: web.Request) -> web.Response:
        live = self._state.serving
        return web.json_response({"live": live, "term": self._state.facts.term}, status=200 if live else 503)

    async def standby(self, _: web.Request) -> web.Response:
        facts = self._state.facts
        ready = (
            facts.pg.state is PgState.STANDBY and facts.our_place_in_step is not None and facts.pg.upstream
        )
        return web.json_response({"standby": ready}, status=200 if ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        text = generate_latest(self._registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    # -- telling ---------------------------------------------------------------------------------------------

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response(self._state.status())

    async def cluster(self, _: web.Request) -> web.Response:
        return web.json_response(self._state.cluster())

    async def why(self, _: web.Request) -> web.Response:
        return web.json_response(self._state.why())

    async def history(self, _: web.Request) -> web.Response:
        try:
            answer = await self._etcd.get_prefix(self._state.prefix + "history/", serializable=True)
        except EtcdError as error:
            return problem(503, "etcd does not answer", str(error))
        entries: list[dict[str, Any]] = []
        for kv in answer.kvs:
            try:
                entries.append(HistoryEntry.decode(kv.value).model_dump(mode="json"))
            except BadRecord as error:
                entries.append({"key": kv.key, "bad": str(error)})
        return web.json_response({"history": entries})

    async def audit(self, _: web.Request) -> web.Response:
        """The log, and whether it and what it seals still are as they were written: all as of one revision."""
        try:
            answer = await self._etcd.get_prefix(self._state.prefix)
        except EtcdError as error:
            return problem(503, "etcd does not answer", str(error))
        return web.json_response(audit.document(answer.kvs, self._state.prefix))

    # -- acts of an operator ------------------------------------------------------------------------------------

    def operator(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            given = token.encode(errors="surrogateescape")  # bytes of a header that are no text
            if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._token):
                log.warning("operator_refused", path=request.path, source=request.remote)
                answer = problem(401, "Unauthorized", "This needs `Authorization: Bearer <operator-token>`.")
                answer.headers["WWW-Authenticate"] = "Bearer"
                return answer
            try:
                return await handler(request)
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False, include_context=False)
                errors = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in found]
                detail = "; ".join(
                    f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors
                )
                return problem(422, "The request is not understood", detail, errors=errors)
            except EtcdRefused as error:
                return problem(503, "etcd refuses it", f"nothing was written: {error}")
            except EtcdError as error:
                detail = f"etcd gave no answer ({error}); look at /cluster before asking again"
                return problem(503, "The outcome is unknown", detail)

        return guarded

    async def swap(self, request: web.Request) -> web.Response:
        asked = SwapRequest.model_validate_json(await request.read())

        def overtaken() -> web.Response:
            return problem(409, "The swap is refused", MEANWHILE, to=asked.to, obstacles=[], dry_run=False)

        return await decided_anew(lambda: self._try_swap(asked, source_of(request)), overtaken)

    async def _try_swap(self, asked: SwapRequest, source: str) -> web.Response | None:
        """None: what it was decided from has changed meanwhile."""
        facts = self._state.facts
        node = self._node_for(asked.to)
        if node is None:
            known = ", ".join(sorted(set(facts.site_of.values())))
            return problem(422, "No such site", f"{asked.to!r} is neither a site nor a node; sites: {known}")
        running = facts.swap
        found = list(obstacles(facts, node))
        if running is not None:
            found.append(f"swap {running.id} to {running.to_node} is in progress ({running.phase.value})")
        document = {
            "to": node,
            "to_site": facts.site_of.get(node),
            "obstacles": found,
            "dry_run": asked.dry_run,
        }
        if found:
            return problem(409, "The swap is refused", "; ".join(found), **document)
        if asked.dry_run:
            return web.json_response({**document, "would": "swap"})
        leader = facts.leader
        if leader is None:
            return problem(409, "The swap is refused", nobody_leads(facts), **document)
        swap = Swap(
            id=uuid.uuid4().hex[:12],
            from_node=leader.record.node,
            to_node=node,
            by=asked.by,
            reason=asked.reason,
            phase=Phase.REQUESTED,
            term=leader.record.term,
            requested_at=facts.wall,
        )
        if not await self.write(self.writer().request(swap, source=source)):
            return None
        log.info("swap_requested", id=swap.id, to=node, by=asked.by, reason=asked.reason)
        return web.json_response({**document, "id": swap.id, "phase": swap.phase.value}, status=202)

    # -- parts ---------------------------------------------------------------------------------------------------

    async def write(self, transaction: Transaction) -> bool:
        """False: something that it was reasoned from has changed. Raises EtcdError."""
        result = await self._etcd.txn(transaction.compares, transaction.writes)
        if result.succeeded and transaction.audited is not None:
            log.info("audited", **transaction.audited.model_dump())
        return result.succeeded

    async def would_write(self, transaction: Transaction) -> bool:
        """Whether `write` would do it now; nothing is written. Raises EtcdError."""
        return (await self._etcd.txn(transaction.compares, ())).succeeded

    def writer(self) -> Writer:
        facts = self._state.facts
        return Writer(
            prefix=self._state.prefix,
            cluster=facts.cluster,
            node=facts.node,
            site=facts.site,
            incarnation=facts.pg.incarnation or "unknown",
            lease=facts.lease.id,
        )

    def _node_for(self, name: str) -> str | None:
        """A node by its name, or the best node of a site."""
        facts = self._state.facts
        return name if name in facts.site_of else target_in(facts, name)
