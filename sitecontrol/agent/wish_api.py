"""What an operator wants of the whole cluster: `POST /pause`, `/resume`, `/maintenance/begin`, `/maintenance/end`,
`/swap/plan`, `/swap/cancel`.

Answered with all that is wanted from then on. A dry run asks etcd whether it would be written, writes nothing, and is
answered with what would change and what comes of it.
"""

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, timedelta
from typing import Annotated, Any, Self

import structlog
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sitecontrol.agent.asking import MEANWHILE, Desk, Line, Why, decided_anew, source_of
from sitecontrol.agent.problems import problem
from sitecontrol.agent.state import AgentState
from sitecontrol.etcd.api import EtcdError
from sitecontrol.leadership import wishes
from sitecontrol.leadership.audit import Act
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.wishes import Wish
from sitecontrol.records import Desired, Planned
from sitecontrol.settings_types import Name

log = structlog.get_logger()


class WishRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by: Line = "operator"
    dry_run: bool = False


class PauseRequest(WishRequest):
    reason: Why = Field(default="", validate_default=True)


class ResumeRequest(WishRequest):
    reason: Line = ""


class MaintenanceRequest(WishRequest):
    site: Name
    for_s: Annotated[int, Field(ge=1, le=30 * 86_400)]
    reason: Why = Field(default="", validate_default=True)


class MaintenanceEnd(WishRequest):
    site: Name


class PlanRequest(WishRequest):
    """`at`, or so many seconds from now."""

    to: Name
    at: AwareDatetime | None = None
    in_s: Annotated[int, Field(ge=1, le=7 * 86_400)] | None = None
    reason: Line = ""

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.at is None) == (self.in_s is None):
            raise PydanticCustomError("one_time", "give either `at` or `in_s`")
        try:
            self.at = self.at.astimezone(UTC) if self.at else None
        except OverflowError as error:
            raise PydanticCustomError("no_time", "there is no such time in UTC") from error
        return self


class WishApi:
    def __init__(self, state: AgentState, desk: Desk) -> None:
        self._state = state
        self._desk = desk

    @property
    def acts(self) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
        return {
            "/pause": self.pause,
            "/resume": self.resume,
            "/maintenance/begin": self.begin_maintenance,
            "/maintenance/end": self.end_maintenance,
            "/swap/plan": self.plan_swap,
            "/swap/cancel": self.cancel_swap,
        }

    async def pause(self, request: web.Request) -> web.Response:
        asked = PauseRequest.model_validate_json(await request.read() or b"{}")
        return await self._want(
            request, "pause", asked, lambda f: wishes.pause(f, by=asked.by, reason=asked.reason)
        )

    async def resume(self, request: web.Request) -> web.Response:
        asked = ResumeRequest.model_validate_json(await request.read() or b"{}")
        return await self._want(
            request, "resume", asked, lambda f: wishes.resume(f, by=asked.by, reason=asked.reason)
        )

    async def begin_maintenance(self, request: web.Request) -> web.Response:
        asked = MaintenanceRequest.model_validate_json(await request.read())
        if (refused := self._no_such_site(asked.site)) is not None:
            return refused

        def wish(f: Facts) -> Wish:
            return wishes.begin_maintenance(f, asked.site, asked.for_s, by=asked.by, reason=asked.reason)

        return await self._want(request, "maintenance begin", asked, wish)

    async def end_maintenance(self, request: web.Request) -> web.Response:
        asked = MaintenanceEnd.model_validate_json(await request.read())
        if (refused := self._no_such_site(asked.site)) is not None:
            return refused
        return await self._want(
            request, "maintenance end", asked, lambda f: wishes.end_maintenance(f, asked.site)
        )

    async def plan_swap(self, request: web.Request) -> web.Response:
        asked = PlanRequest.model_validate_json(await request.read())
        if (
            asked.to not in self._state.facts.site_of
            and (refused := self._no_such_site(asked.to)) is not None
        ):
            return refused
        chosen = uuid.uuid4().hex[:12]

        def wish(f: Facts) -> Wish:
            at = asked.at or f.wall + timedelta(seconds=asked.in_s or 0)
            wanted = Planned(id=chosen, to=asked.to, at=at, asked_at=f.wall, by=asked.by, reason=asked.reason)
            return wishes.plan_swap(f, wanted)

        return await self._want(request, "swap plan", asked, wish)

    async def cancel_swap(self, request: web.Request) -> web.Response:
        asked = WishRequest.model_validate_json(await request.read() or b"{}")
        return await self._want(request, "swap cancel", asked, wishes.cancel_swap)

    def _no_such_site(self, site: str) -> web.Response | None:
        sites = sorted(set(self._state.facts.site_of.values()))
        if site in sites:
            return None
        return problem(422, "No such site", f"{site!r} is no site; sites: {', '.join(sites)}")

    async def _want(
        self, request: web.Request, what: str, asked: WishRequest, wish: Callable[[Facts], Wish]
    ) -> web.Response:
        source = source_of(request)

        async def decide() -> web.Response | None:
            return await self._try(what, asked, source, wish(self._state.facts))

        def overtaken() -> web.Response:
            return problem(409, f"The {what} is refused", MEANWHILE, obstacles=[], dry_run=asked.dry_run)

        return await decided_anew(decide, overtaken)

    async def _try(self, what: str, asked: WishRequest, source: str, wish: Wish) -> web.Response | None:
        """None: what it was decided from has changed meanwhile."""
        if wish.obstacles:
            told = {"obstacles": list(wish.obstacles), "dry_run": asked.dry_run}
            return problem(409, f"The {what} is refused", "; ".join(wish.obstacles), **told)
        facts = self._state.facts
        desired = wish.desired(facts)
        act = Act(
            what=wish.deed, by=asked.by, at=facts.wall, about=wish.about, reason=wish.reason, source=source
        )
        transaction = self._desk.writer().want(desired, act)
        if asked.dry_run:
            try:
                would = await self._desk.would_write(transaction)
            except EtcdError as error:
                return problem(
                    503, "etcd does not answer", f"whether it would be written is unknown: {error}"
                )
            return web.json_response(_checked(what, facts, wish, desired)) if would else None
        if not await self._desk.write(transaction):
            return None
        log.info("desired_changed", by=asked.by, **desired.model_dump(mode="json", include=set(wish.changes)))
        return web.json_response(desired.model_dump(mode="json"))


def _checked(what: str, f: Facts, wish: Wish, desired: Desired) -> dict[str, Any]:
    """What a dry run tells: which fields of `desired` would change, from what to what."""
    before = (f.cluster.desired.record if f.cluster.desired else Desired()).model_dump(mode="json")
    after = desired.model_dump(mode="json")
    return {
        "obstacles": [],
        "consequences": list(wish.comes),
        "changes": {name: [before[name], after[name]] for name in after if before[name] != after[name]},
        "wanted": after,
        "dry_run": True,
        "would": what,
    }
