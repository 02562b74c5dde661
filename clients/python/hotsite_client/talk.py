"""The calls, as conversations: generators that say whom to ask what and how long to wait, and are told the answer.

They do no I/O: `client` carries them out, for threads and for asyncio alike.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from hotsite_client import decoding, hearing
from hotsite_client.errors import (
    ApiError,
    HotsiteError,
    OutcomeUnknown,
    Problem,
    ReferenceConflict,
    Unreachable,
    refusal,
)
from hotsite_client.hearing import Again, Answer, Good, Refused
from hotsite_client.model import Accepted, Message, Page, Preview, Result, SentMessage
from hotsite_client.retry import Policy, Rotation

T = TypeVar("T")

NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    params: Mapping[str, str] | None = None
    content: bytes | None = None
    content_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ask:
    site: int  # index of its address
    request: Request
    silence_s: float  # longest wait for something to come
    within_s: float  # for all of it


@dataclass(frozen=True, kw_only=True)
class Wait:
    seconds: float


Talk = Generator[Ask | Wait, Answer | Again | None, T]


@dataclass(frozen=True, kw_only=True)
class Means:
    """What the conversations of a client reckon with."""

    sites: Sequence[str]  # their addresses
    policy: Policy
    clock: Callable[[], float]  # monotonic
    dice: Callable[[], float]  # from 0 to 1


class Talks:
    """The conversations of one client. `preferred` is the site that answered last: the next call begins there."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self.preferred = 0

    def send(self, message: Message) -> Talk[Accepted]:
        """Raises ApiError, Unreachable or OutcomeUnknown; all carry the reference."""
        named = message.with_reference()
        request = posted("/v1/messages", json_bytes(named.as_json()))
        reference = named.reference

        def unsettled(heard: str) -> HotsiteError:
            return OutcomeUnknown(heard, reference=reference)

        return (yield from self._settle(request, decoding.accepted, unsettled, reference))

    def cancel(self, message_id: UUID) -> Talk[SentMessage]:
        def unsettled(heard: str) -> HotsiteError:
            return OutcomeUnknown(heard, message_id=message_id)

        request = Request(method="DELETE", path=f"/v1/messages/{message_id}")
        return (yield from self._settle(request, decoding.sent_message, unsettled))

    def get(self, message_id: UUID) -> Talk[SentMessage]:
        return self._look(Request(method="GET", path=f"/v1/messages/{message_id}"), decoding.sent_message)

    def page(self, query: Mapping[str, str]) -> Talk[Page]:
        return self._look(Request(method="GET", path="/v1/messages", params=query), decoding.page)

    def preview(self, body: str) -> Talk[Preview]:
        return self._look(posted("/v1/preview", json_bytes({"body": body})), decoding.preview)

    def _look(self, request: Request, decode: Callable[[Any], T]) -> Talk[T]:
        """Of what changes nothing, no outcome is unknown."""
        return (yield from self._settle(request, decode, Unreachable))

    def _settle(
        self,
        request: Request,
        decode: Callable[[Any], T],
        unsettled: Callable[[str], HotsiteError],
        reference: str | None = None,
    ) -> Talk[T]:
        """Ask until a site answers. `unsettled` makes the error when one may have carried it out untold."""
        turns = Turns(self._means, self.preferred)
        unsure = False
        while (turn := (yield from turns.ask(request))) is not None:
            site, answer = turn
            heard = hearing.hear(answer, decode, reference)
            if isinstance(heard, Again):
                unsure |= not heard.unsent
                turns.failed(site, heard)
                continue
            self.preferred = site
            if isinstance(heard, Good):
                return heard.value
            # A later no says nothing of an earlier try that was not heard of; but a reference that stands for
            # another text does: ours was never stored.
            if unsure and not isinstance(heard.error, ReferenceConflict):
                raise unsettled(f"{turns.heard()}; then {heard.error}") from heard.error
            raise heard.error
        raise unsettled(turns.heard()) if unsure else Unreachable(turns.heard(), reference)

    def bulk(self, lines: Sequence[tuple[int, Message]]) -> Talk[list[Result]]:
        """Settle these messages, each with its reference, in one request if it goes well.

        Each next request has only those that are not settled. Raises ApiError when the whole is refused.
        """
        open_: list[tuple[int, Message]] = list(lines)
        results: list[Result] = []
        unsure: set[int] = set()  # lines that may have been stored untold
        turns = Turns(self._means, self.preferred)
        refused: ApiError | None = None
        while open_ and refused is None and (turn := (yield from turns.ask(many(open_)))) is not None:
            site, answer = turn
            heard: Refused | Again
            if isinstance(answer, Answer) and answer.status == 200 and is_ndjson(answer):
                settled, heard = read_results(open_, answer, unsure)
                results += settled
                self.preferred = site if settled else self.preferred
                done = {result.line for result in settled}
                open_ = [line for line in open_ if line[0] not in done]
            else:
                heard = answer if isinstance(answer, Again) else hearing.told(answer, None)
                if isinstance(heard, Again) and not heard.unsent:
                    unsure |= {number for number, _ in open_}
            if isinstance(heard, Refused):
                refused = heard.error
            elif open_:
                turns.failed(site, heard)
        if refused is not None and not results and not unsure:
            raise refused
        heard_last = str(refused) if refused is not None else turns.heard()
        for number, message in open_:
            error: HotsiteError = refused or Unreachable(heard_last, message.reference)
            if number in unsure:
                error = OutcomeUnknown(heard_last, reference=message.reference)
            results.append(Result(line=number, message=message, error=error))
        return sorted(results, key=lambda result: result.line)


class Turns:
    """The attempts of one call, and what was last heard from each site."""

    def __init__(self, means: Means, first: int) -> None:
        self._means = means
        self._rotation = Rotation(means.policy, sites=len(means.sites), first=first, now=means.clock())
        self._last: dict[int, str] = {}

    def ask(self, request: Request) -> Talk[tuple[int, Answer | Again] | None]:
        """One attempt, at the site whose turn it is; None when there is none left."""
        means = self._means
        turn = self._rotation.next(means.clock())
        if turn is None:
            return None
        site, wait_s = turn
        if wait_s:
            yield Wait(seconds=wait_s)
        left_s = self._rotation.left_s(means.clock())
        silence_s = min(means.policy.answer_s, left_s)
        answer = yield Ask(site=site, request=request, silence_s=silence_s, within_s=left_s)
        if answer is None:
            raise RuntimeError("an Ask was not answered")
        return site, answer

    def failed(self, site: int, heard: Again) -> None:
        self._last[site] = heard.why
        self._rotation.failed(
            site, now=self._means.clock(), dice=self._means.dice(), retry_after_s=heard.retry_after_s
        )

    def heard(self) -> str:
        told = [f"{self._means.sites[site]}: {why}" for site, why in self._last.items()]
        return "; ".join(told) or "there was no time to ask"


def read_results(
    lines: Sequence[tuple[int, Message]], answer: Answer, unsure: set[int]
) -> tuple[list[Result], Again]:
    """The lines that an answer to a bulk settles, and why others are open; `unsure` gets what may have been stored."""
    settled: list[Result] = []
    why = answer.broken or "lines were left without an answer"
    open_ = {number for number, _ in lines}
    unread: set[int] = set()
    *whole, _ = answer.body.split(b"\n")  # what follows the last line's end broke off
    for place, (raw, (number, message)) in enumerate(zip(whole, lines, strict=False), start=1):
        try:
            accepted, problem = read_line(json.loads(raw), place, message)
        except (ValueError, KeyError, TypeError, AttributeError):
            why = "a result line is not as Hotsite writes them"
            break
        if problem is not None and hearing.worth_another_try(problem):
            why = f"{problem.title} ({problem.status}): {problem.detail}"
            if hearing.unread(problem):
                unread.add(number)
            continue
        error: HotsiteError | None = None if problem is None else refusal(problem, message.reference)
        if error is not None and number in unsure and not isinstance(error, ReferenceConflict):
            error = OutcomeUnknown(f"then {error}", reference=message.reference)
        settled.append(Result(line=number, message=message, accepted=accepted, error=error))
        open_.discard(number)
    unsure |= open_ - unread
    return settled, Again(why=why)


def read_line(
    document: Mapping[str, Any], place: int, message: Message
) -> tuple[Accepted | None, Problem | None]:
    """Raises ValueError, KeyError or TypeError for what is not the result of this very line."""
    if document["line"] != place or document.get("reference", message.reference) != message.reference:
        raise ValueError("it is about another line")
    if "problem" in document:
        return None, decoding.problem(document["problem"])
    return decoding.accepted(document), None


def is_ndjson(answer: Answer) -> bool:
    return answer.headers.get("content-type", "").startswith(NDJSON)


def posted(path: str, content: bytes, content_type: str = "application/json") -> Request:
    return Request(method="POST", path=path, content=content, content_type=content_type)


def many(lines: Sequence[tuple[int, Message]]) -> Request:
    content = b"".join(json_bytes(message.as_json()) + b"\n" for _, message in lines)
    return posted("/v1/messages/bulk", content, NDJSON)


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """ASCII: a text that is no sound Unicode is then refused by Hotsite, with its line, and not by an exception."""
    return json.dumps(document, separators=(",", ":")).encode()
