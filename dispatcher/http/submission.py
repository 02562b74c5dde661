"""From a checked request to a message that can be stored. Pure, but for the clock's reading that it is given.

Everything that can be refused is refused here, before anything is promised.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import orjson

from dispatcher import encoding
from dispatcher.http import numbers
from dispatcher.http.problem import FieldError, invalid, shorten
from dispatcher.http.schemas import CLASSES, MAX_SEGMENTS, MessageRequest
from dispatcher.model import Encoding, NewMessage, OnDoubt, Program

AHEAD_AT_MOST: Final = timedelta(days=366)
TOPIC_AHEAD_AT_MOST: Final = timedelta(minutes=5)  # the caller's clock against ours
OF_CAMPAIGNS: Final = "campaign/"
# C0 controls but for tab and the line breaks: no telephone shows them, and PostgreSQL cannot store the first.
_CONTROLS: Final = frozenset(map(chr, range(0x20))) - {"\t", "\n", "\r", "\f"} | {"\x7f"}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for every message of this dispatcher."""

    any_possible_number: bool  # a lab: numbers belong to nobody


def compose(
    request: MessageRequest, program: Program, *, new_id: UUID, now: datetime, terms: Terms
) -> NewMessage:
    """The message to store. Raises Problem that names every wrong field."""
    chosen, segments, body_is = sized(request.body)
    faults = (
        ("to", request.to, numbers.fault(request.to, any_possible=terms.any_possible_number)),
        ("body", request.body, body_is),
        ("reference", request.reference, own_reference_fault(request.reference)),
        ("send_at", request.send_at, send_at_fault(request.send_at, now)),
        ("expires_at", request.expires_at, expires_at_fault(request.expires_at, request.send_at, now)),
        ("topic", request.topic, topic_fault(request.topic)),
        ("topic_at", request.topic_at, topic_at_fault(request.topic_at, request.topic, now)),
    )
    errors = [
        FieldError(field=name, message=message, value=shorten(value))
        for name, value, message in faults
        if message is not None
    ]
    if errors:
        raise invalid(*errors)
    return NewMessage(
        id=new_id,
        account_id=program.account_id,
        program_id=program.id,
        to=request.to,
        body=request.body,
        encoding=chosen,
        segments=segments,
        message_class=program.message_class if request.class_ is None else CLASSES[request.class_],
        on_doubt=program.on_doubt if request.on_doubt is None else OnDoubt(request.on_doubt),
        reference=request.reference,
        fingerprint=fingerprint(request, program),
        send_at=request.send_at,
        expires_at=request.expires_at,
        topic=request.topic,
        topic_at=request.topic_at,
    )


def was_in_time(request: MessageRequest, now: datetime) -> datetime | None:
    """If it could only be a repeat (its time has passed, and it has a reference): a time at which it was in time."""
    if request.reference is None or reference_fault(request.reference) is not None:
        return None
    if request.expires_at is None or request.expires_at > now:
        return None
    return request.expires_at - timedelta(microseconds=1)


def fingerprint(request: MessageRequest, program: Program) -> bytes:
    """What must agree when a reference is repeated: all that the caller said, as it was said.

    What the caller left out stays out, so that a program's changed default makes no conflict; a topic, so that
    references of before there were any stand for the same as ever. What is sent again in other words brings the
    fingerprint of the first ones along.
    """
    if request.fingerprint is not None:
        return bytes.fromhex(request.fingerprint)
    said = (
        program.id,
        request.to,
        request.content(),
        request.class_,
        request.send_at,
        request.expires_at,
        request.on_doubt,
    )
    about = () if request.topic is None else (request.topic, request.topic_at)
    return hashlib.sha256(orjson.dumps(said + about, option=orjson.OPT_UTC_Z)).digest()


def sized(body: str) -> tuple[Encoding, int, str | None]:
    """The text's encoding, its segments, and what is wrong with it if anything is."""
    if (fault := body_fault(body)) is not None:
        return Encoding.GSM, 0, fault
    chosen = encoding.choose(body)
    segments = encoding.count_segments(body, chosen)
    if segments > MAX_SEGMENTS:
        return (
            chosen,
            segments,
            (f"makes {segments} segments, and at most {MAX_SEGMENTS} are taken; shorten it, or send several"),
        )
    return chosen, segments, None


def body_fault(body: str) -> str | None:
    if not body or body.isspace():
        return "must not be empty"
    if not _CONTROLS.isdisjoint(body):
        index, char = next((i, char) for i, char in enumerate(body) if char in _CONTROLS)
        return f"holds the control character U+{ord(char):04X} at index {index}, which no telephone shows"
    return None


def reference_fault(reference: str | None) -> str | None:
    if reference is None or reference.isprintable():
        return None
    return "must be made of printable characters"


def own_reference_fault(reference: str | None) -> str | None:
    """Of one that a caller gives to a message."""
    if reference is not None and reference.startswith(OF_CAMPAIGNS):
        return f"begins with {OF_CAMPAIGNS}, as those of the rows of campaigns do; choose another"
    return reference_fault(reference)


def topic_fault(topic: str | None) -> str | None:
    if topic is None or topic.isprintable():
        return None
    return "must be made of printable characters"


def topic_at_fault(topic_at: datetime | None, topic: str | None, now: datetime) -> str | None:
    if topic_at is None:
        return None
    if topic is None:
        return "says as of when a `topic` stands so: give one"
    if topic_at - now > TOPIC_AHEAD_AT_MOST:
        return f"must not lie ahead: it is {now.isoformat(timespec='seconds')} here"
    return None


def send_at_fault(send_at: datetime | None, now: datetime) -> str | None:
    if send_at is not None and send_at - now > AHEAD_AT_MOST:
        return f"must lie at most {AHEAD_AT_MOST.days} days ahead"
    return None


def expires_at_fault(expires_at: datetime | None, send_at: datetime | None, now: datetime) -> str | None:
    if expires_at is None:
        return None
    if expires_at <= now:
        return f"has passed: it is {now.isoformat(timespec='seconds')} here"
    if send_at is not None and expires_at <= send_at:
        return "must come after send_at"
    return None
