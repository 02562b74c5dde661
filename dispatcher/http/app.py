"""The dispatcher's HTTP application; `server.serve` runs it.

`create_app` puts the parts together. What goes wrong below a handler is worded in one place, `answer`, which also
numbers each request and writes its one line to the log (at debug level: at thousands of requests a second nobody
reads them all).
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from dispatcher.campaigns.feeder import Feeder
from dispatcher.campaigns.states import Act
from dispatcher.engine.router import Router
from dispatcher.engine.routing import Table
from dispatcher.http import answers, body, docs, openapi
from dispatcher.http.access import Access
from dispatcher.http.bulk import Bulk
from dispatcher.http.campaign_calls import Campaigns
from dispatcher.http.carriers import Carriers
from dispatcher.http.directory import Directory
from dispatcher.http.door import Door
from dispatcher.http.doubts import Doubts
from dispatcher.http.list_upload import Uploads
from dispatcher.http.messages import Messages
from dispatcher.http.problem import INTERNAL, METHOD, NOT_FOUND, TOO_LARGE, Problem
from dispatcher.http.request_id import HEADER, REQUEST_ID
from dispatcher.http.routes import CALLS, VERSION
from dispatcher.http.server import DOOR, IDS, connections_for
from dispatcher.http.template_calls import Templates
from dispatcher.http.template_shelf import TemplateShelf
from dispatcher.http.webhook_calls import Webhooks
from dispatcher.intake import Intake, LeadershipLike
from dispatcher.leadership import Unavailable
from dispatcher.uuid7 import Ids
from sitecontrol.clock import Clock
from sitecontrol.settings import Settings

log = structlog.get_logger()

INTAKE: Final = web.AppKey("intake", Intake)
DIRECTORY: Final = web.AppKey("directory", Directory)
FEEDER: Final = web.AppKey("feeder", Feeder)  # started and stopped by whoever serves the application

STREAMED: Final = ("/bulk", "/list")  # read as they come, whatever they announce

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(
    leadership: LeadershipLike, settings: Settings, clock: Clock, *, router: Router | None = None
) -> web.Application:
    """The application. Further routes may be added to it before it starts; `answer` words their problems too.

    `router` tells of carriers and routes as they are; without one, of the settings' carriers, none of them bound.

    Raises SettingsError when this process cannot have as many connections as it is to have.
    """
    ids = Ids(clock)
    if router is None:
        router = Router(clock=clock)
        router.use(Table(settings.carrier, settings.dispatcher.route_by, settings.dispatcher.route_wait), ())
    carriers = Carriers(router, leadership, settings.site.name)
    intake = Intake(leadership, settings.dispatcher, clock)
    directory = Directory(leadership, clock, hold_for=settings.dispatcher.hold_for)
    access = Access(directory, clock)
    messages = Messages(
        leadership=leadership,
        intake=intake,
        directory=directory,
        access=access,
        settings=settings,
        clock=clock,
        ids=ids,
        shelf=TemplateShelf(leadership, clock),
        carriers=carriers,
    )
    bulk = Bulk(messages=messages, intake=intake, access=access, settings=settings.dispatcher)
    feeder = Feeder(leadership=leadership, ids=ids)
    app = web.Application(
        middlewares=[answer(ids, clock)], client_max_size=settings.dispatcher.max_body_bytes
    )
    app[INTAKE] = intake
    app[DIRECTORY] = directory
    app[FEEDER] = feeder
    app[IDS] = ids
    app[DOOR] = Door(
        most=connections_for(settings.dispatcher.max_connections),
        most_per_source=settings.dispatcher.max_connections_per_source,
        uncapped=settings.dispatcher.uncapped_sources,
    )
    handlers: dict[str, Handler] = {
        "send": messages.send,
        "bulk": bulk.send,
        "list": messages.list,
        "read": messages.read,
        "cancel": messages.cancel,
        "doubts": Doubts(leadership=leadership, access=access).list,
        "preview": messages.preview,
        **_on_campaigns(
            leadership,
            settings,
            clock,
            access=access,
            messages=messages,
            carriers=carriers,
            feeder=feeder,
            ids=ids,
        ),
        **_on_webhooks(leadership, settings, clock, access=access, ids=ids),
        **_descriptions(),
    }
    for call in CALLS:
        app.router.add_route(call.method, call.path, handlers[call.name], expect_handler=expect)
    app.cleanup_ctx.append(_running)
    return app


def _on_campaigns(
    leadership: LeadershipLike,
    settings: Settings,
    clock: Clock,
    *,
    access: Access,
    messages: Messages,
    carriers: Carriers,
    feeder: Feeder,
    ids: Ids,
) -> dict[str, Handler]:
    """The handlers of `routes_campaigns`."""
    bodies = body.Bodies(settings.dispatcher.max_body_bytes)
    templates = Templates(leadership=leadership, access=access, bodies=bodies, carriers=carriers)
    campaigns = Campaigns(
        leadership=leadership,
        access=access,
        messages=messages,
        templates=templates,
        uploads=Uploads(leadership=leadership, any_possible_number=settings.dispatcher.consent == "assumed"),
        feeder=feeder,
        bodies=bodies,
        clock=clock,
        ids=ids,
    )
    return {
        "list_templates": templates.list,
        "preview_template": templates.preview,
        "save_template": templates.save,
        "read_template": templates.read,
        "delete_template": templates.delete,
        "create_campaign": campaigns.create,
        "list_campaigns": campaigns.list,
        "read_campaign": campaigns.read,
        "upload_list": campaigns.upload,
        "preview_campaign": campaigns.preview,
        "test_campaign": campaigns.test,
        **{f"{act}_campaign": campaigns.act(act) for act in Act},
        "progress_campaign": campaigns.progress,
        "report_campaign": campaigns.report,
        "report_campaign_csv": campaigns.report_csv,
        "report_campaign_chart": campaigns.report_chart,
    }


def _on_webhooks(
    leadership: LeadershipLike, settings: Settings, clock: Clock, *, access: Access, ids: Ids
) -> dict[str, Handler]:
    """The handlers of `routes_webhooks`."""
    webhooks = Webhooks(
        leadership=leadership,
        access=access,
        bodies=body.Bodies(settings.dispatcher.max_body_bytes),
        settings=settings,
        clock=clock,
        ids=ids,
    )
    return {
        "list_events": webhooks.events,
        "create_webhook": webhooks.create,
        "list_webhooks": webhooks.list,
        "read_webhook": webhooks.read,
        "change_webhook": webhooks.change,
        "delete_webhook": webhooks.delete,
        "rotate_webhook": webhooks.rotate,
        "test_webhook": webhooks.test,
        "list_deliveries": webhooks.deliveries,
        "list_dead_letters": webhooks.dead_letters,
        "replay_dead_letters": webhooks.replay,
    }


async def _running(app: web.Application) -> AsyncIterator[None]:
    await app[DIRECTORY].start()
    yield
    await app[DIRECTORY].stop()
    await app[INTAKE].stop()


def _descriptions() -> dict[str, Handler]:
    """The handlers that show the API; both answers are made once."""
    document = openapi.describe(CALLS, VERSION)
    as_json = orjson.dumps(document)
    html, html_headers = docs.page(document)

    async def show_openapi(_: web.Request) -> web.Response:
        return web.Response(body=as_json, headers=answers.JSON_HEADERS)

    async def show_docs(_: web.Request) -> web.Response:
        return docs.response(html, html_headers)

    return {"openapi": show_openapi, "docs": show_docs}


def answer(ids: Ids, clock: Clock) -> Middleware:
    """The middleware: numbers requests, words problems, writes the log's line."""
    canonical = log.bind()  # bound once: an unbound logger is put together anew for every line

    @web.middleware
    async def numbered(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = clock.now()
        request_id = ids.new()
        REQUEST_ID.set(request_id)
        response: web.StreamResponse
        try:
            response = await handler(request)
        except Problem as problem:
            response = answers.problem_response(problem, request_id)
        except Unavailable as reason:
            response = answers.problem_response(answers.unavailable(reason), request_id)
        except web.HTTPException as error:
            response = answers.problem_response(of_http(error), request_id)
        except Exception:
            log.exception(
                "request_failed", request_id=str(request_id), method=request.method, path=request.path
            )
            failed = Problem(kind=INTERNAL, detail="the request met a defect; it was not acknowledged")
            response = answers.problem_response(failed, request_id)
        if not response.prepared:
            response.headers[HEADER] = str(request_id)
        canonical.debug(
            "request",
            request_id=request_id,
            method=request.method,
            path=request.path,
            status=response.status,
            seconds=clock.now() - began,
        )
        return response

    return numbered


def of_http(error: web.HTTPException) -> Problem:
    """What aiohttp refuses by itself, in our form; an answer that it raises (a redirect) passes as it is."""
    if isinstance(error, web.HTTPNotFound):
        return Problem(kind=NOT_FOUND, detail="nothing is served at this address; /docs lists what is")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        verb = "is" if len(error.allowed_methods) == 1 else "are"
        return Problem(
            kind=METHOD,
            detail=f"{error.method} is not served here; {allowed} {verb}",
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(kind=TOO_LARGE, detail=error.text or "", close=True)
    raise error


async def expect(request: web.Request) -> None:
    """Answer `Expect: 100-continue`, unless the announced body would be refused: then it need not be sent."""
    announced = request.content_length
    if announced is None or announced <= request.client_max_size or request.path.endswith(STREAMED):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
