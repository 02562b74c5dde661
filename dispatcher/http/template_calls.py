"""The calls on templates, and the checks that campaigns share with them."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from dispatcher.campaigns.model import StoredTemplate
from dispatcher.campaigns.templates import Faulty, Template
from dispatcher.campaigns.variables import Variable, from_json
from dispatcher.http import answers, body, checking
from dispatcher.http.access import Access
from dispatcher.http.carriers import Carriers
from dispatcher.http.problem import NOT_FOUND, FieldError, Problem, invalid, shorten
from dispatcher.http.schemas_campaigns import (
    TemplatePreviewRequest,
    TemplateRequest,
    TemplatesQuery,
    VariableShape,
)
from dispatcher.http.submission import body_fault
from dispatcher.intake import LeadershipLike
from dispatcher.leadership import Lane
from dispatcher.store import Store

LONGEST_NAME = 100


class Templates:
    def __init__(
        self,
        *,
        leadership: LeadershipLike,
        access: Access,
        bodies: body.Bodies,
        carriers: Carriers,
    ) -> None:
        self._leadership = leadership
        self._access = access
        self._bodies = bodies
        self._carriers = carriers

    async def save(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        name = name_in(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(TemplateRequest, await self._bodies.read(request))
        template = made(asked.text, asked.variables)

        async def op(store: Store, term: int) -> StoredTemplate:
            return await store.save_template(
                term, key.account_id, name, asked.text, stored(template.variables), key.prefix
            )

        return answers.json_response(told(await self._leadership.run(op, lane=Lane.READ)))

    async def read(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        return answers.json_response(told(await self.find(key.account_id, name_in(request))))

    async def list(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        query = checking.read_query(TemplatesQuery, request.query.items())

        async def op(store: Store, term: int) -> Sequence[StoredTemplate]:
            return await store.templates(term, key.account_id, after=query.cursor, limit=query.limit + 1)

        found = list(await self._leadership.run(op, lane=Lane.READ))
        page = found[: query.limit]
        return answers.json_response(
            {
                "templates": [told(template) for template in page],
                "next_cursor": page[-1].name if len(found) > query.limit else None,
            }
        )

    async def delete(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        name = name_in(request)

        async def op(store: Store, term: int) -> bool:
            return await store.delete_template(term, key.account_id, name)

        if not await self._leadership.run(op, lane=Lane.READ):
            raise not_there(name)
        return web.Response(status=204)

    async def preview(self, request: web.Request) -> web.Response:
        key = await self._access.caller(request)
        body.check_type(request, body.JSON)
        asked = checking.read_json(TemplatePreviewRequest, await self._bodies.read(request))
        template, _ = await self.chosen(key.account_id, asked.template, asked.text, asked.variables)
        return answers.json_response(self.shown(template, asked.vars))

    def shown(self, template: Template, values: Mapping[str, str]) -> dict[str, Any]:
        text = rendered(template, values)
        if (fault := body_fault(text)) is not None:
            raise invalid(FieldError(field="vars", message=f"make a text that {fault}", value=shorten(text)))
        return {"text": text, "at_most": at_most(template), **answers.preview(text, self._carriers.all)}

    async def chosen(
        self,
        account_id: int,
        name: str | None,
        text: str | None,
        variables: Sequence[VariableShape],
    ) -> tuple[Template, str | None]:
        """The template that is meant, and its name if it has one. Raises Problem."""
        if (name is None) == (text is None):
            raise invalid(
                FieldError(
                    field="template", message="give either the name of one, or `text` with its `variables`"
                )
            )
        if text is not None:
            return made(text, variables), None
        if variables:
            raise invalid(
                FieldError(field="variables", message="come with `text`; a stored template has its own")
            )
        try:
            found = await self.find(account_id, name or "")
        except Problem as problem:
            raise invalid(FieldError(field="template", message=problem.detail, value=shorten(name))) from None
        return Template(found.text, [from_json(one) for one in found.variables]), found.name

    async def find(self, account_id: int, name: str) -> StoredTemplate:
        async def op(store: Store, term: int) -> Sequence[StoredTemplate]:
            return await store.templates(term, account_id, name=name, limit=1)

        found = await self._leadership.run(op, lane=Lane.READ)
        if not found:
            raise not_there(name)
        return found[0]


def made(text: str, variables: Sequence[VariableShape]) -> Template:
    """Raises Problem that names every fault."""
    try:
        return Template(text, [Variable(**one.model_dump()) for one in variables])
    except Faulty as faulty:
        raise problem_of(faulty) from None


def rendered(template: Template, values: Mapping[str, str]) -> str:
    try:
        return template.render(values)
    except Faulty as faulty:
        raise problem_of(faulty, prefix="vars.") from None


def problem_of(faulty: Faulty, *, prefix: str = "") -> Problem:
    return invalid(*(FieldError(field=prefix + one.field, message=one.message) for one in faulty.faults))


def stored(variables: Sequence[Variable]) -> list[dict[str, object]]:
    return [variable.as_json() for variable in variables]


def told(template: StoredTemplate) -> dict[str, Any]:
    variables = [from_json(one) for one in template.variables]
    return {
        "name": template.name,
        "text": template.text,
        "variables": shapes(template.variables),
        "at_most": at_most(Template(template.text, variables)),
        "created_at": template.created_at,
        "changed_at": template.changed_at,
        "changed_by": template.changed_by,
    }


def shapes(variables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [VariableShape(**one).model_dump() for one in variables]


def at_most(template: Template) -> dict[str, Any]:
    size = template.at_most()
    return {"encoding": size.encoding, "segments": size.segments}


def name_in(request: web.Request) -> str:
    """Raises Problem for what no template is called."""
    name = request.match_info["name"]
    if len(name) > LONGEST_NAME or not name.isprintable() or not name.strip():
        raise invalid(
            FieldError(
                field="name",
                message=f"must be printable, at most {LONGEST_NAME} characters",
                value=shorten(name),
            )
        )
    return name


def not_there(name: str) -> Problem:
    return Problem(kind=NOT_FOUND, detail=f"there is no template {shorten(name)}")
