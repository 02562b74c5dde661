"""The calls on single messages: send, look, list, cancel, preview. Each handler reads as its story."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from dispatcher.http import answers, body, checking, numbers, submission
from dispatcher.http.access import Access
from dispatcher.http.carriers import Carriers
from dispatcher.http.directory import Directory
from dispatcher.http.problem import INVALID, LEFT, NOT_FOUND, FieldError, Problem, invalid, shorten
from dispatcher.http.schemas import ListQuery, MessageRequest, PreviewRequest
from dispatcher.http.submission import Terms
from dispatcher.http.template_shelf import TemplateShelf
from dispatcher.intake import Acknowledgement, Intake, LeadershipLike, RowRefused
from dispatcher.leadership import Lane
from dispatcher.model import MessageView, NewMessage, Page, Program, State
from dispatcher.states import WAITING
from dispatcher.store import Store
from dispatcher.uuid7 import Ids
from sitecontrol.clock import Clock
from sitecontrol.settings import Settings

PROGRAMS_TOLD: Final = 10
NOT_LEFT: Final = WAITING | {State.SUBMITTING}


class Messages:
    def __init__(
        self,
        *,
        leadership: LeadershipLike,
        intake: Intake,
        directory: Directory,
        access: Access,
        settings: Settings,
        clock: Clock,
        ids: Ids,
        shelf: TemplateShelf,
        carriers: Carriers,
    ) -> None:
        self._leadership = leadership
        self._intake = intake
        self._directory = directory
        self._access = access
        self._clock = clock
        self._ids = ids
        self._shelf = shelf
        self._site = settings.site.name
        self._durability = settings.dispatcher.durability
        self._carriers = carriers
        self._bodies = body.Bodies(settings.dispatcher.max_body_bytes)
        self._terms = Terms(any_possible_number=settings.dispatcher.consent == "assumed")

    async def send(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        body.check_type(request, body.JSON)
        asked = await self.asked(key.account_id, await self._bodies.read(request))
        program = await self.program(key.account_id, asked.program)
        return await self.submit(await self.composed(asked, program))

    async def submit(self, row: NewMessage) -> web.Response:
        """Have it stored, and answer with the promise. Raises Problem, or Unavailable."""
        try:
            told = await self._intake.accept(row)
        except RowRefused as refused:
            raise refused_row(refused) from None
        return self._accepted(row, told)

    async def asked(self, account_id: int, raw: bytes) -> MessageRequest:
        """What is asked for, with its text made if it names a template. Raises Problem, or Unavailable."""
        return await self._shelf.message_in(account_id, raw)

    async def program(self, account_id: int, name: str) -> Program:
        """The account's program of that name. Raises Problem, or Unavailable when it cannot be looked up."""
        known = self.known_program(account_id, name)
        if known is None:
            await self._directory.refreshed()
            known = self.known_program(account_id, name)
        return self.usable(known, account_id, name)

    def known_program(self, account_id: int, name: str) -> Program | None:
        return self._directory.program(account_id, name)

    def usable(self, program: Program | None, account_id: int, name: str) -> Program:
        """The program, if texts may be sent under it. Raises Problem."""
        if program is not None and program.enabled:
            return program
        names = self._directory.program_names(account_id)
        others = ", ".join(names[:PROGRAMS_TOLD]) + (", …" if len(names) > PROGRAMS_TOLD else "")
        why = "is no program of this account" if program is None else "is switched off"
        message = f"{why}; what it may send under: {others or 'none'}"
        raise invalid(FieldError(field="program", message=message, value=shorten(name)))

    async def composed(self, asked: MessageRequest, program: Program) -> NewMessage:
        """The message to store. A text whose time has passed, or that no carrier may carry, is refused, unless its
        reference is known: that is a repeat of what may have been accepted before, and is answered like any. Raises
        Problem, or Unavailable.
        """
        now = self._clock.wall()
        before = submission.was_in_time(asked, now)
        if before is not None and await self._is_known(program.account_id, asked.reference):
            now = before
        row = submission.compose(asked, program, new_id=self._ids.new(), now=now, terms=self._terms)
        if (fault := self._carriers.fault(program, row.to)) is not None and not (
            row.reference is not None and await self._is_known(program.account_id, row.reference)
        ):
            raise invalid(fault)
        return row

    async def _is_known(self, account_id: int, reference: str | None) -> bool:
        async def op(store: Store, term: int) -> Page:
            return await store.find(term, account_id, reference=reference, limit=1)

        return bool((await self._leadership.run(op, lane=Lane.READ)).messages)

    def _accepted(self, row: NewMessage, told: Acknowledgement) -> web.Response:
        document = answers.acknowledgement(row, told, self._durability)
        document["site"] = self._site
        document["live_site"] = told.live_site
        document["term"] = told.term
        return answers.json_response(document, status=answers.status_of(told))

    async def read(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        message_id = message_id_in(request)

        async def op(store: Store, term: int) -> MessageView | None:
            return await store.read(term, key.account_id, message_id)

        view = found(await self._leadership.run(op, lane=Lane.READ))
        return answers.json_response({**answers.message(view), **self._way(view)})

    def _way(self, view: MessageView) -> dict[str, Any]:
        """By which carrier what has not left would go now, and why not by the others."""
        program = self._directory.program(view.account_id, view.program)
        if (
            not self._carriers.all
            or program is None
            or not any(part.state in NOT_LEFT for part in view.segments)
        ):
            return {}
        return {"route": self._carriers.route(program, view.to, view.message_class)}

    async def list(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        query = checking.read_query(ListQuery, request.query.items())
        check(query)
        after = None if query.cursor is None else cursor_id(query.cursor)

        async def op(store: Store, term: int) -> Page:
            return await store.find(
                term,
                key.account_id,
                reference=query.reference,
                state=query.state,
                to=query.to,
                since=query.since,
                after=after,
                limit=query.limit,
            )

        page = await self._leadership.run(op, lane=Lane.READ)
        return answers.json_response(
            {
                "messages": [answers.message(view) for view in page.messages],
                "next_cursor": None if page.reached is None else cursor(page.reached),
            }
        )

    async def cancel(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        message_id = message_id_in(request)

        async def op(store: Store, term: int) -> MessageView | None:
            return await store.cancel(term, key.account_id, message_id)

        view = found(await self._leadership.run(op, lane=Lane.READ))
        if not any(segment.state is State.CANCELED for segment in view.segments):
            raise Problem(kind=LEFT, detail=f"the message is {view.state.value.replace('_', ' ')}")
        return answers.json_response(answers.message(view))

    async def preview(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(PreviewRequest, await self._bodies.read(request))
        if (fault := submission.body_fault(asked.body)) is not None:
            raise invalid(FieldError(field="body", message=fault, value=shorten(asked.body)))
        document = answers.preview(asked.body, self._carriers.all)
        if asked.to is not None or asked.program is not None:
            document["route"] = await self._route(key.account_id, asked)
        return answers.json_response(document)

    async def _route(self, account_id: int, asked: PreviewRequest) -> Sequence[dict[str, Any]]:
        """Raises Problem, or Unavailable."""
        if asked.to is None or asked.program is None:
            field = "to" if asked.to is None else "program"
            raise invalid(FieldError(field=field, message="is needed, too, to tell the route"))
        if (fault := numbers.fault(asked.to, any_possible=True)) is not None:
            raise invalid(FieldError(field="to", message=fault, value=shorten(asked.to)))
        program = await self.program(account_id, asked.program)
        return self._carriers.route(program, asked.to, program.message_class)


def check(query: ListQuery) -> None:
    """Raises Problem for what no message has, and PostgreSQL could not even be asked for."""
    faults = (
        ("reference", query.reference, submission.reference_fault(query.reference)),
        ("to", query.to, None if query.to is None else numbers.fault(query.to, any_possible=True)),
    )
    errors = [
        FieldError(field=name, message=message, value=shorten(value))
        for name, value, message in faults
        if message is not None
    ]
    if errors:
        raise invalid(*errors)


def refused_row(refused: RowRefused) -> Problem:
    return Problem(kind=INVALID, detail=str(refused), errors=(FieldError(field="", message=str(refused)),))


def found(view: MessageView | None) -> MessageView:
    if view is None:
        raise Problem(kind=NOT_FOUND, detail="there is no message with this id")
    return view


def message_id_in(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise Problem(kind=NOT_FOUND, detail="there is no message with this id") from None


def cursor(last: UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def cursor_id(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, binascii.Error):
        raise invalid(
            FieldError(
                field="cursor",
                message="is not one that was given out here; send the `next_cursor` of the page before, or none",
                value=shorten(cursor),
            )
        ) from None
