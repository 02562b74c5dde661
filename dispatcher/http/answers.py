"""Words and shapes of what is told to a caller. Pure. The shapes are described in `schemas`."""

import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import web

from dispatcher import encoding
from dispatcher.http.problem import (
    CONFLICT,
    CONTENT_TYPE,
    ONE_SITE,
    UNAVAILABLE,
    FieldError,
    Problem,
    shorten,
)
from dispatcher.http.schemas import CLASS_NAMES, MAX_SEGMENTS
from dispatcher.intake import Acknowledgement
from dispatcher.leadership import Unavailable
from dispatcher.model import DoubtPage, MessageView, NewMessage, SegmentView, StoredDurability, Verdict
from dispatcher.smpp.status import describe
from sitecontrol.settings import Durability
from sitecontrol.settings_carriers import Carrier

JSON_HEADERS: Final[Mapping[str, str]] = {"Content-Type": "application/json"}
OFFENDING_SHOWN: Final = 100
RETRY_AFTER_S: Final = 1.0


def json_response(
    document: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] = JSON_HEADERS
) -> web.Response:
    # `str` is for asyncpg's own kind of UUID, which orjson does not take for one.
    body = orjson.dumps(document, default=str, option=orjson.OPT_UTC_Z)
    return web.Response(body=body, status=status, headers=headers)


def problem_response(problem: Problem, request_id: UUID) -> web.Response:
    headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store", **problem.headers}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    response = json_response(
        {**problem.as_json(), "instance": request_id.urn}, status=problem.kind.status, headers=headers
    )
    if problem.close:
        response.force_close()
    return response


def on_the_wire(response: web.Response) -> bytes:
    """An answer as bytes, for a connection that is told this and nothing else."""
    body = (response.text or "").encode()
    headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {response.reason}\r\n{head}\r\n".encode() + body


def unavailable(reason: Unavailable) -> Problem:
    return Problem(kind=UNAVAILABLE, detail=str(reason), retry_after_s=reason.retry_after_s)


def acknowledgement(row: NewMessage, told: Acknowledgement, durability: Durability) -> dict[str, Any]:
    """What both a single request and a line of a bulk are told. Raises Problem when it is no acceptance."""
    if told.verdict is Verdict.CONFLICT:
        detail = f"the reference {row.reference!r} stands for message {told.id}, which has other content"
        message = (
            "was used for other content; give a new message a new reference, or repeat the first as it was"
        )
        error = FieldError(field="reference", message=message, value=shorten(row.reference))
        raise Problem(kind=CONFLICT, detail=detail, errors=(error,))
    if durability is Durability.STRICT and told.durability is not StoredDurability.TWO_SITE:
        raise Problem(
            kind=ONE_SITE,
            detail="the other site does not confirm; a repeat with the same reference settles it",
            retry_after_s=RETRY_AFTER_S,
        )
    document: dict[str, Any] = {
        "id": told.id,
        "state": told.state,
        "reference": row.reference,
        "segments": row.segments,
        "encoding": row.encoding,
        "durability": told.durability,
    }
    if told.verdict is Verdict.DUPLICATE:
        document["duplicate"] = True
    return document


def status_of(told: Acknowledgement) -> int:
    return 200 if told.verdict is Verdict.DUPLICATE else 202


def message(view: MessageView) -> dict[str, Any]:
    return {
        "id": view.id,
        "state": view.state,
        "program": view.program,
        "to": view.to,
        "body": view.body,
        "reference": view.reference,
        "class": CLASS_NAMES[view.message_class],
        "encoding": view.encoding,
        "segments": len(view.segments),
        "attempts": sum(segment.attempts for segment in view.segments),
        "accepted_at": view.accepted_at,
        "send_at": view.send_at,
        "expires_at": view.expires_at,
        "on_doubt": view.on_doubt,
        "topic": view.topic,
        "topic_at": view.topic_at,
        "superseded_by": view.superseded_by,
        "parts": [_part(segment) for segment in view.segments],
        "events": [
            {"at": event.at, "state": event.state, "segment": event.segment, "detail": event.detail}
            for event in view.events
        ],
    }


def doubts(term: int, page: DoubtPage) -> dict[str, Any]:
    return {
        "term": term,
        "doubts": [
            {
                "id": one.message_id,
                "reference": one.reference,
                "segment": one.segment,
                "attempt": one.attempt,
                "carrier": one.carrier,
                "at": one.at,
                "state": one.state,
            }
            for one in page.doubts
        ],
        "next_cursor": None if page.reached is None else str(page.reached),
    }


def _part(segment: SegmentView) -> dict[str, Any]:
    status = segment.command_status
    return {
        "segment": segment.segment,
        "state": segment.state,
        "attempts": segment.attempts,
        "carrier": segment.carrier,
        "carrier_message_id": segment.carrier_message_id,
        "command_status": status,
        "command_status_text": None if status is None else describe(status).sentence,
        "error": segment.error,
    }


def preview(body: str, carriers: Sequence[Carrier]) -> dict[str, Any]:
    chosen = encoding.choose(body)
    segments = encoding.count_segments(body, chosen)
    return {
        "encoding": chosen,
        "segments": segments,
        "units": encoding.units(body, chosen),
        "parts": list(encoding.split(body, chosen)),
        "offending": [
            {
                "index": offender.index,
                "character": offender.char,
                "code_point": f"U+{ord(offender.char):04X}",
                "name": unicodedata.name(offender.char, "unnamed").lower(),
            }
            for offender in encoding.offending(body)[:OFFENDING_SHOWN]
        ],
        "cost": cost(segments, carriers),
        "too_long": segments > MAX_SEGMENTS,
    }


def cost(segments: int, carriers: Sequence[Carrier]) -> dict[str, Any]:
    prices = [
        {
            "carrier": carrier.name,
            "per_segment": carrier.price.per_segment,
            "total": str(Decimal(carrier.price.per_segment) * segments),
            "currency": carrier.price.currency,
        }
        for carrier in carriers
        if carrier.price is not None
    ]
    return {"segments": segments, **({"prices": prices} if prices else {})}
