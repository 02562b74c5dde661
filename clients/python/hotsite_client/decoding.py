"""From JSON to the model. Raises KeyError, TypeError or ValueError for what Hotsite would not have written."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from hotsite_client.errors import FieldProblem, Problem
from hotsite_client.model import Accepted, Event, Page, Part, Preview, SentMessage

Json = Mapping[str, Any]


def problem(document: Json) -> Problem:
    return Problem(
        type=str(document["type"]),
        title=str(document["title"]),
        status=int(document["status"]),
        detail=str(document["detail"]),
        instance=document.get("instance"),
        errors=tuple(
            FieldProblem(field=str(error["field"]), message=str(error["message"]), value=error.get("value"))
            for error in document.get("errors", ())
        ),
    )


def accepted(document: Json) -> Accepted:
    return Accepted(
        id=UUID(document["id"]),
        reference=str(document["reference"]),
        state=str(document["state"]),
        segments=int(document["segments"]),
        encoding=str(document["encoding"]),
        durability=str(document["durability"]),
        duplicate=document.get("duplicate") is True,
        site=document.get("site"),
        live_site=document.get("live_site"),
        term=document.get("term"),
    )


def sent_message(document: Json) -> SentMessage:
    return SentMessage(
        id=UUID(document["id"]),
        state=str(document["state"]),
        program=str(document["program"]),
        to=str(document["to"]),
        body=str(document["body"]),
        reference=document["reference"],
        class_=str(document["class"]),
        encoding=str(document["encoding"]),
        segments=int(document["segments"]),
        attempts=int(document["attempts"]),
        accepted_at=datetime.fromisoformat(document["accepted_at"]),
        send_at=_time(document["send_at"]),
        expires_at=_time(document["expires_at"]),
        on_doubt=str(document["on_doubt"]),
        parts=tuple(
            Part(**{name: part[name] for name in Part.__dataclass_fields__}) for part in document["parts"]
        ),
        events=tuple(
            Event(
                at=datetime.fromisoformat(event["at"]),
                state=str(event["state"]),
                segment=event["segment"],
                detail=str(event["detail"]),
            )
            for event in document["events"]
        ),
        topic=document.get("topic"),
        topic_at=_time(document.get("topic_at")),
        superseded_by=None if document.get("superseded_by") is None else UUID(document["superseded_by"]),
    )


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def page(document: Json) -> Page:
    return Page(
        messages=tuple(sent_message(message) for message in document["messages"]),
        next_cursor=document["next_cursor"],
    )


def preview(document: Json) -> Preview:
    return Preview(
        encoding=str(document["encoding"]),
        segments=int(document["segments"]),
        too_long=bool(document["too_long"]),
        offending=tuple(str(offender["character"]) for offender in document["offending"]),
    )
