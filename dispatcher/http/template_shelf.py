"""Stored templates at hand: for single messages and lines of bulk, which must not cost a look-up each.

A template that was changed at another dispatcher is seen within `KEEP_S`; one that was not there is looked for again
after a moment.

A repeat is known by the template's name and the values, not by the text that they make. So it is answered as one, too,
when the template is gone, or makes nothing of these values any more: then it stands for the text of the first message.
"""

import re
from collections.abc import Sequence
from typing import Final

from dispatcher.campaigns.model import StoredTemplate
from dispatcher.campaigns.templates import Template
from dispatcher.campaigns.variables import from_json
from dispatcher.http import checking, submission
from dispatcher.http.problem import FieldError, Problem, invalid, shorten
from dispatcher.http.schemas import MessageRequest
from dispatcher.http.schemas_campaigns import RenderedMessage, TemplatedMessageRequest
from dispatcher.http.template_calls import rendered
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane
from dispatcher.model import MessageView, Page
from dispatcher.store import Store
from sitecontrol.clock import Clock

KEEP_S: Final = 2.0
KEEP_NONE_S: Final = 0.25
KEPT: Final = 1_000
_NAMES_ONE: Final = re.compile(rb'"template"[ \t\r\n]*:')


class TemplateShelf:
    def __init__(self, leadership: LeadershipLike, clock: Clock) -> None:
        self._leadership = leadership
        self._clock = clock
        self._kept: dict[tuple[int, str], tuple[float, Template | None]] = {}  # until when

    async def message_in(self, account_id: int, raw: bytes) -> MessageRequest:
        """The request in `raw`, with its text made if it names a template. Raises Problem, or Unavailable."""
        if b'"template"' not in raw or _NAMES_ONE.search(raw) is None:
            return checking.read_json(MessageRequest, raw)
        asked = checking.read_json(TemplatedMessageRequest, raw)
        try:
            body = await self._made(account_id, asked)
        except Problem:
            first = await self._first(account_id, asked.reference)
            if first is None:
                raise
            body = first.body
        return RenderedMessage.model_validate({**asked.model_dump(by_alias=True), "body": body})

    async def _made(self, account_id: int, asked: TemplatedMessageRequest) -> str:
        template = await self._find(account_id, asked.template)
        if template is None:
            raise invalid(
                FieldError(
                    field="template", message="is no template of this account", value=shorten(asked.template)
                )
            )
        return rendered(template, asked.vars)

    async def _first(self, account_id: int, reference: str | None) -> MessageView | None:
        """The message that the reference stands for."""
        if reference is None or submission.reference_fault(reference) is not None:
            return None

        async def op(store: Store, term: int) -> Page:
            return await store.find(term, account_id, reference=reference, limit=1)

        return next(iter((await self._leadership.run(op, lane=Lane.READ)).messages), None)

    async def _find(self, account_id: int, name: str) -> Template | None:
        until, kept = self._kept.get((account_id, name), (0.0, None))
        if self._clock.now() < until:
            return kept

        async def op(store: Store, term: int) -> Sequence[StoredTemplate]:
            return await store.templates(term, account_id, name=name, limit=1)

        found = await self._leadership.run(op, lane=Lane.READ)
        template = None
        if found:
            template = Template(found[0].text, [from_json(one) for one in found[0].variables])
        if len(self._kept) >= KEPT:
            self._kept.clear()
        keep = KEEP_NONE_S if template is None else KEEP_S
        self._kept[account_id, name] = self._clock.now() + keep, template
        return template
