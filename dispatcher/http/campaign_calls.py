"""The calls on campaigns. Each handler reads as its story."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import orjson
import structlog
from aiohttp import web

from dispatcher.campaigns.feeder import Feeder
from dispatcher.campaigns.model import Campaign, Counts, NewCampaign, ReportRow
from dispatcher.campaigns.states import STEPS, Act, CampaignState, why_not
from dispatcher.campaigns.templates import Template
from dispatcher.campaigns.variables import from_json
from dispatcher.http import answers, body, campaign_answers, checking, submission
from dispatcher.http.access import Access
from dispatcher.http.chart import chart
from dispatcher.http.list_upload import HOLD_S, Uploads
from dispatcher.http.messages import Messages, cursor, cursor_id
from dispatcher.http.problem import NOT_FOUND, NOT_NOW, UNAVAILABLE, FieldError, Problem, invalid, shorten
from dispatcher.http.request_id import HEADER, REQUEST_ID
from dispatcher.http.schemas import CLASS_NAMES, CLASSES, MessageRequest
from dispatcher.http.schemas_campaigns import CampaignRequest, CampaignsQuery, TestRequest, VarsRequest
from dispatcher.http.template_calls import Templates, rendered, stored
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane, Unavailable
from dispatcher.model import OnDoubt
from dispatcher.store import Store
from dispatcher.uuid7 import Ids
from sitecontrol.clock import Clock

log = structlog.get_logger()

COUNTED: Final = 25  # batches that one look counts anew: more than are fed in a second, twice over
ROUNDS: Final = 150  # of these, for a report: a million rows have no more
REPORTED: Final = 10  # batches in one piece of a report
TELL_EVERY_S: Final = 1.0
LISTENERS: Final = 16  # who are told the progress as it goes
RETRY_AFTER_S: Final = 5.0


class Campaigns:
    def __init__(
        self,
        *,
        leadership: LeadershipLike,
        access: Access,
        messages: Messages,
        templates: Templates,
        uploads: Uploads,
        feeder: Feeder,
        bodies: body.Bodies,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._leadership = leadership
        self._access = access
        self._messages = messages
        self._templates = templates
        self._uploads = uploads
        self._feeder = feeder
        self._bodies = bodies
        self._clock = clock
        self._ids = ids
        self._listeners = 0

    async def create(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(CampaignRequest, await self._bodies.read(request))
        self._check_times(asked)
        program = await self._messages.program(key.account_id, asked.program)
        template, name = await self._templates.chosen(
            key.account_id, asked.template, asked.text, asked.variables
        )
        new = NewCampaign(
            id=self._ids.new(),
            account_id=key.account_id,
            program_id=program.id,
            name=asked.name,
            template=name,
            text=template.text,
            variables=stored(template.variables),
            message_class=program.message_class if asked.class_ is None else CLASSES[asked.class_],
            on_doubt=program.on_doubt if asked.on_doubt is None else OnDoubt(asked.on_doubt),
            start_at=asked.start_at,
            expires_at=asked.expires_at,
            created_by=key.prefix,
        )

        async def op(store: Store, term: int) -> Campaign:
            return await store.create_campaign(term, new)

        made = await self._leadership.run(op, lane=Lane.READ)
        return answers.json_response(campaign_answers.campaign(made), status=201)

    def _check_times(self, asked: CampaignRequest) -> None:
        now = self._clock.wall()
        faults = (
            (
                "name",
                asked.name,
                None if asked.name.isprintable() else "must be made of printable characters",
            ),
            ("start_at", asked.start_at, submission.send_at_fault(asked.start_at, now)),
            (
                "expires_at",
                asked.expires_at,
                submission.expires_at_fault(asked.expires_at, asked.start_at, now),
            ),
        )
        errors = [
            FieldError(field=field, message=fault.replace("send_at", "start_at"), value=shorten(value))
            for field, value, fault in faults
            if fault is not None
        ]
        if errors:
            raise invalid(*errors)

    async def list(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        query = checking.read_query(CampaignsQuery, request.query.items())
        before = None if query.cursor is None else cursor_id(query.cursor)

        async def op(store: Store, term: int) -> Sequence[Campaign]:
            return await store.campaigns(term, key.account_id, before=before, limit=query.limit + 1)

        found = await self._leadership.run(op, lane=Lane.READ)
        page = found[: query.limit]
        return answers.json_response(
            {
                "campaigns": [campaign_answers.campaign(told) for told in page],
                "next_cursor": cursor(page[-1].id) if len(found) > query.limit else None,
            }
        )

    async def read(self, request: web.Request) -> web.Response:
        found, _ = await self._asked_for(request)
        return answers.json_response(campaign_answers.campaign(found))

    async def upload(self, request: web.Request) -> web.Response:
        found, by = await self._asked_for(request)
        return await self._uploads.take(request, found, by)

    async def preview(self, request: web.Request) -> web.Response:
        found, _ = await self._asked_for(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(VarsRequest, await self._bodies.read(request))
        return answers.json_response(self._templates.shown(template_of(found), asked.vars))

    async def test(self, request: web.Request) -> web.Response:
        found, _ = await self._asked_for(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(TestRequest, await self._bodies.read(request))
        text = MessageRequest.model_validate(
            {
                "program": found.program,
                "to": asked.to,
                "body": rendered(template_of(found), asked.vars),
                "class": CLASS_NAMES[found.message_class],
                "on_doubt": found.on_doubt.value,
            }
        )
        program = await self._messages.program(found.account_id, found.program)
        return await self._messages.submit(await self._messages.composed(text, program))

    def act(self, what: Act) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The handler of one act."""

        async def handler(request: web.Request) -> web.Response:
            key = await self._access.caller(request)
            campaign_id = campaign_id_in(request)

            async def op(store: Store, term: int) -> Campaign | None:
                return await store.change_campaign(term, key.account_id, campaign_id, what, key.prefix)

            changed = await self._leadership.run(op, lane=Lane.READ)
            if changed is None:
                raise not_there()
            if changed.state not in STEPS[what].already:
                raise Problem(kind=NOT_NOW, detail=why_not(what, changed.state) or unready(changed))
            self._feeder.wake()
            return answers.json_response(campaign_answers.campaign(changed))

        return handler

    # -- progress and report

    async def progress(self, request: web.Request) -> web.StreamResponse:
        found, _ = await self._asked_for(request)
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await self._tell(request, found)
        return answers.json_response(campaign_answers.progress(found, await self._counts(found)))

    async def _tell(self, request: web.Request, found: Campaign) -> web.StreamResponse:
        if self._listeners >= LISTENERS:
            raise Problem(
                kind=UNAVAILABLE,
                detail=f"{self._listeners} are being told the progress already; ask for it without `Accept`",
                retry_after_s=RETRY_AFTER_S,
            )
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                HEADER: str(REQUEST_ID.get()),
            }
        )
        await response.prepare(request)
        self._listeners += 1
        try:
            while True:
                told = campaign_answers.progress(found, await self._counts(found))
                await response.write(b"event: progress\ndata: " + orjson.dumps(told, default=str) + b"\n\n")
                if found.state in {CampaignState.DONE, CampaignState.CANCELED}:
                    break
                await self._clock.sleep(TELL_EVERY_S)
                found = await self._find(found.account_id, found.id)
            await response.write_eof()
        except (ConnectionError, Unavailable) as ended:
            log.debug("progress_ended", reason=f"{type(ended).__name__}: {ended}")
            response.force_close()
        finally:
            self._listeners -= 1
        return response

    async def report(self, request: web.Request) -> web.Response:
        found, _ = await self._asked_for(request)
        counts = await self._newest_counts(found)
        return answers.json_response(campaign_answers.report(found, counts))

    async def report_chart(self, request: web.Request) -> web.Response:
        found, _ = await self._asked_for(request)
        counts = await self._newest_counts(found)
        picture = chart(found.name, campaign_answers.outcomes(found, counts))
        return web.Response(
            body=picture.encode(),
            headers={
                "Content-Type": "image/svg+xml",
                "Content-Security-Policy": "default-src 'none'",
                "X-Content-Type-Options": "nosniff",
            },
        )

    async def report_csv(self, request: web.Request) -> web.StreamResponse:
        found, _ = await self._asked_for(request)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/csv; charset=utf-8",
                "Content-Disposition": f'attachment; filename="campaign-{found.id}.csv"',
                HEADER: str(REQUEST_ID.get()),
            }
        )
        await response.prepare(request)
        try:
            await response.write(campaign_answers.csv_header())
            for after in range(0, found.batches, REPORTED):
                rows = await self._rows(found, after)
                await response.write(campaign_answers.csv_lines(rows, found.state))
            await response.write_eof()
        except (ConnectionError, Unavailable, asyncpg.PostgresError) as broken:
            # Cut off, so that nobody takes the part for the whole.
            log.info("report_broke_off", reason=f"{type(broken).__name__}: {broken}")
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _rows(self, found: Campaign, after: int) -> Sequence[ReportRow]:
        async def op(store: Store, term: int) -> Sequence[ReportRow]:
            return await store.campaign_rows(term, found.account_id, found.id, after, REPORTED)

        return await self._leadership.run(op, lane=Lane.READ, hold_for=HOLD_S)

    async def _newest_counts(self, found: Campaign) -> Counts:
        """All that is not final counted anew."""
        counts = await self._counts(found)
        since = counts.at
        for _ in range(ROUNDS):
            counts = await self._counts(found, since)
            if not counts.due:
                break
        return counts

    async def _counts(self, found: Campaign, since: datetime | None = None) -> Counts:
        async def op(store: Store, term: int) -> Counts:
            return await store.count_campaign(term, found.account_id, found.id, COUNTED, since=since)

        return await self._leadership.run(op, lane=Lane.READ)

    # -- which one

    async def _asked_for(self, request: web.Request) -> tuple[Campaign, str]:
        """The campaign in the path, and who asks. Raises Problem when the account has none of that id."""
        key = await self._access.caller(request)
        return await self._find(key.account_id, campaign_id_in(request)), key.prefix

    async def _find(self, account_id: int, campaign_id: UUID) -> Campaign:
        async def op(store: Store, term: int) -> Sequence[Campaign]:
            return await store.campaigns(term, account_id, campaign_id=campaign_id, limit=1)

        found = await self._leadership.run(op, lane=Lane.READ)
        if not found:
            raise not_there()
        return found[0]


def template_of(campaign: Campaign) -> Template:
    return Template(campaign.text, [from_json(one) for one in campaign.variables])


def unready(campaign: Campaign) -> str:
    if not campaign.uploaded:
        return "the campaign has no list yet, or it did not come whole: send it to …/list"
    return "no row of the campaign's list is good: there is nothing to send"


def campaign_id_in(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise not_there() from None


def not_there() -> Problem:
    return Problem(kind=NOT_FOUND, detail="there is no campaign with this id")
