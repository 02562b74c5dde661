"""The calls on webhooks and on the feed of events. Each handler reads as its story."""

import re
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from aiohttp import web

from dispatcher.http import answers, body, checking
from dispatcher.http.access import Access
from dispatcher.http.doubts import position as number_of
from dispatcher.http.problem import NOT_FOUND, TOO_OLD, WEBHOOK_NOT_NOW, FieldError, Problem, invalid, shorten
from dispatcher.http.schemas_webhooks import (
    DeadLettersQuery,
    DeliveriesQuery,
    EventsQuery,
    ReplayRequest,
    RotateRequest,
    WebhookChangeRequest,
    WebhookRequest,
)
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane
from dispatcher.model import ApiKey
from dispatcher.store import Store
from dispatcher.uuid7 import Ids
from dispatcher.webhooks import addresses, events, signing
from dispatcher.webhooks.model import TEST, DeadLetter, FeedPage, NewWebhook, Position, Round, Webhook
from sitecontrol.clock import Clock
from sitecontrol.settings import Environment, Settings

MOST: Final = 20  # webhooks of an account
ROUNDS: Final = 5  # on a page of deliveries
REPLAYED: Final = 10_000
_CURSOR: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})")


class Webhooks:
    def __init__(
        self,
        *,
        leadership: LeadershipLike,
        access: Access,
        bodies: body.Bodies,
        settings: Settings,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._leadership = leadership
        self._access = access
        self._bodies = bodies
        self._plain = settings.site.environment is Environment.LAB
        self._allowed = [ip_network(network) for network in settings.dispatcher.webhook_networks]
        self._clock = clock
        self._ids = ids

    async def events(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        query = checking.read_query(EventsQuery, request.query.items())
        after = None if query.cursor is None else position_of(query.cursor)

        async def op(store: Store, term: int) -> FeedPage:
            return await store.feed_page(term, key.account_id, after, query.limit)

        page = await self._leadership.run(op, lane=Lane.READ)
        if page.lost:
            raise Problem(kind=TOO_OLD, detail="events are kept for ten days, and this cursor is older")
        return answers.json_response(
            {
                "events": [events.document(event) for event in page.events],
                "next_cursor": "{}.{}".format(*page.position),
                "more": page.more,
            }
        )

    async def create(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(WebhookRequest, await self._bodies.read(request))
        self._check(asked.url, asked.description)
        secret = signing.new_secret()
        new = NewWebhook(
            id=self._ids.new(),
            account_id=key.account_id,
            url=asked.url,
            description=asked.description,
            kinds=chosen(asked.kinds),
            secret=secret,
            created_by=key.prefix,
        )

        async def op(store: Store, term: int) -> Webhook | None:
            return await store.create_webhook(term, new, MOST)

        made = await self._leadership.run(op, lane=Lane.READ)
        if made is None:
            raise Problem(kind=WEBHOOK_NOT_NOW, detail=f"the account has {MOST} webhooks: delete one first")
        return answers.json_response({**told(made), "secret": signing.shown(secret)}, status=201)

    def _check(self, url: str | None, description: str | None) -> None:
        url_fault = None if url is None else addresses.fault(url, plain=self._plain, allowed=self._allowed)
        printable = description is None or description.isprintable()
        faults = (
            ("url", url, url_fault),
            ("description", description, None if printable else "must be made of printable characters"),
        )
        errors = [
            FieldError(field=field, message=fault, value=shorten(value))
            for field, value, fault in faults
            if fault is not None
        ]
        if errors:
            raise invalid(*errors)

    async def list(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)

        async def op(store: Store, term: int) -> Sequence[Webhook]:
            return await store.webhooks(term, key.account_id)

        found = await self._leadership.run(op, lane=Lane.READ)
        return answers.json_response({"webhooks": [told(one) for one in found]})

    async def read(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        return answers.json_response(told(await self._find(key, webhook_id_in(request))))

    async def change(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        webhook_id = webhook_id_in(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(WebhookChangeRequest, await self._bodies.read(request))
        self._check(asked.url, asked.description)

        async def op(store: Store, term: int) -> Webhook | None:
            return await store.change_webhook(
                term,
                key.account_id,
                webhook_id,
                url=asked.url,
                description=asked.description,
                kinds=None if asked.kinds is None else chosen(asked.kinds),
                enabled=asked.enabled,
                skip=asked.skip,
            )

        changed = await self._leadership.run(op, lane=Lane.READ)
        if changed is None:
            raise not_there()
        return answers.json_response(told(changed))

    async def delete(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        webhook_id = webhook_id_in(request)

        async def op(store: Store, term: int) -> bool:
            return await store.delete_webhook(term, key.account_id, webhook_id)

        # A repeat of ours, after an answer that was lost, finds nothing any more: so it is looked for first.
        await self._find(key, webhook_id)
        await self._leadership.run(op, lane=Lane.READ)
        return web.Response(status=204)

    async def rotate(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        webhook_id = webhook_id_in(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(RotateRequest, await self._bodies.read(request))
        secret = signing.new_secret()

        async def op(store: Store, term: int) -> Webhook | None:
            return await store.rotate_webhook_secret(
                term, key.account_id, webhook_id, secret, asked.overlap_s
            )

        changed = await self._leadership.run(op, lane=Lane.READ)
        if changed is None:
            raise not_there()
        return answers.json_response({**told(changed), "secret": signing.shown(secret)})

    async def test(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        webhook_id, event_id = webhook_id_in(request), uuid4()
        text = events.test_as_posted(event_id, self._clock)

        async def op(store: Store, term: int) -> bool:
            return await store.test_webhook(term, key.account_id, webhook_id, event_id, TEST, text)

        if not await self._leadership.run(op, lane=Lane.READ):
            await self._find(key, webhook_id)
            raise Problem(kind=WEBHOOK_NOT_NOW, detail="this webhook is switched off: switch it on first")
        return answers.json_response({"event_id": event_id}, status=202)

    async def deliveries(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        webhook_id = webhook_id_in(request)
        query = checking.read_query(DeliveriesQuery, request.query.items())
        before = None if query.cursor is None else number_of(query.cursor)

        async def op(store: Store, term: int) -> Sequence[Round]:
            return await store.webhook_rounds(
                term, key.account_id, webhook_id, before=before, limit=ROUNDS + 1
            )

        await self._find(key, webhook_id)
        found = await self._leadership.run(op, lane=Lane.READ)
        return answers.json_response(
            {
                "deliveries": [delivery(one, attempt) for one in found[:ROUNDS] for attempt in one.attempts],
                "next_cursor": str(found[ROUNDS - 1].number) if len(found) > ROUNDS else None,
            }
        )

    async def dead_letters(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        webhook_id = webhook_id_in(request)
        query = checking.read_query(DeadLettersQuery, request.query.items())
        after = 0 if query.cursor is None else number_of(query.cursor)

        async def op(store: Store, term: int) -> Sequence[DeadLetter]:
            return await store.dead_letters(
                term, key.account_id, webhook_id, after=after, limit=query.limit + 1
            )

        await self._find(key, webhook_id)
        found = await self._leadership.run(op, lane=Lane.READ)
        page = found[: query.limit]
        return answers.json_response(
            {
                "dead_letters": [dead_letter(one) for one in page],
                "next_cursor": str(page[-1].number) if len(found) > query.limit else None,
            }
        )

    async def replay(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        webhook_id = webhook_id_in(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(ReplayRequest, await self._bodies.read(request))

        async def op(store: Store, term: int) -> int:
            return await store.replay_letters(term, key.account_id, webhook_id, asked.event_id, REPLAYED)

        await self._find(key, webhook_id)
        return answers.json_response({"replayed": await self._leadership.run(op, lane=Lane.READ)})

    async def _find(self, key: ApiKey, webhook_id: UUID) -> Webhook:
        """Raises Problem when the account has none of that id."""

        async def op(store: Store, term: int) -> Sequence[Webhook]:
            return await store.webhooks(term, key.account_id, webhook_id)

        found = await self._leadership.run(op, lane=Lane.READ)
        if not found:
            raise not_there()
        return found[0]


def told(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "description": webhook.description,
        "kinds": list(webhook.kinds),
        "enabled": webhook.enabled,
        "disabled_why": webhook.disabled_why,
        "created_at": webhook.created_at,
        "created_by": webhook.created_by,
        "changed_at": webhook.changed_at,
        "old_secret_until": webhook.old_secret_until,
        "failing_since": webhook.failing_since,
        "next_try_at": webhook.next_try_at,
        "last_failure": webhook.last_failure,
        "last_failure_at": webhook.last_failure_at,
        "last_taken_at": webhook.last_taken_at,
        "taken": webhook.taken,
        "failed": webhook.failed,
        "waiting": webhook.waiting,
        "dead": webhook.dead,
    }


def delivery(posted: Round, attempt: Any) -> dict[str, Any]:
    return {
        "event_id": attempt["event_id"],
        "type": attempt["kind"],
        "attempt": attempt["attempt"],
        "at": posted.at,
        "taken": attempt["taken"],
        "status": attempt["status"],
        "ms": attempt["ms"],
        "failure": attempt["failure"],
    }


def dead_letter(letter: DeadLetter) -> dict[str, Any]:
    event = orjson.loads(letter.body)
    return {
        "event_id": letter.id,
        "type": letter.kind,
        "happened_at": event["timestamp"],
        "attempts": letter.attempts,
        "last_tried_at": letter.tried_at,
        "last_failure": letter.failure,
        "last_status": letter.status,
        "dead_at": letter.dead_at,
        "event": event,
    }


def chosen(kinds: Sequence[str]) -> tuple[str, ...]:
    """Each once, as it was said."""
    return tuple(dict.fromkeys(str(kind) for kind in kinds))


def position_of(cursor: str) -> Position:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise invalid(
            FieldError(
                field="cursor",
                message="is not one that was given out here; send the `next_cursor` of the page before, or none",
                value=shorten(cursor),
            )
        )
    return int(match[1]), int(match[2])


def webhook_id_in(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise not_there() from None


def not_there() -> Problem:
    return Problem(kind=NOT_FOUND, detail="there is no webhook with this id")
