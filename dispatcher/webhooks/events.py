"""An event as it is posted, and as `GET /v1/events` tells it. Pure."""

from typing import Any
from uuid import UUID

import orjson

from dispatcher.smpp.status import describe
from dispatcher.webhooks.model import TEST, FeedEvent, ReplyReceived, SegmentChange
from sitecontrol.clock import Clock


def document(event: FeedEvent) -> dict[str, Any]:
    data = _of_message(event.message) if event.message is not None else _of_reply(event.reply)
    return {"id": event.id, "type": event.kind, "timestamp": event.at, "data": data}


def as_posted(event: FeedEvent) -> str:
    return _dumped(document(event))


def test_as_posted(event_id: UUID, clock: Clock) -> str:
    told = {"message": "This is a test: nothing happened to any text."}
    return _dumped({"id": event_id, "type": TEST, "timestamp": clock.wall(), "data": told})


def _dumped(value: dict[str, Any]) -> str:
    # `str` is for asyncpg's own kind of UUID, which orjson does not take for one.
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode()


def _of_message(change: SegmentChange) -> dict[str, Any]:
    return {
        "message_id": change.message_id,
        "reference": change.reference,
        "program": change.program,
        "to": change.to,
        "segment": change.segment,
        "segments": change.segments,
        "state": change.state,
        "previous_state": change.before,
        "message_state": change.message_state,
        "attempt": change.attempt,
        "carrier": change.carrier,
        "carrier_message_id": change.carrier_message_id,
        "error": change.error,
        "command_status": change.command_status,
        "detail": describe(change.command_status).sentence if change.command_status else None,
    }


def _of_reply(reply: ReplyReceived | None) -> dict[str, Any]:
    if reply is None:  # it is not kept any more
        return {}
    return {
        "reply_id": reply.reply_id,
        "from": reply.source,
        "to": reply.destination,
        "text": reply.text,
        "received_at": reply.received_at,
        "carrier": reply.carrier,
    }
