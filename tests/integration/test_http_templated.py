"""Single messages and lines of bulk that name a template."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dispatcher.http import submission, template_shelf
from dispatcher.http.schemas_campaigns import RenderedMessage
from dispatcher.leadership import Lane
from tests.api_server import NUMBER, OTHER_KEY, TERM, Api, serving

TEMPLATE = {"text": "Back by {eta}.", "variables": [{"name": "eta", "type": "time"}]}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serving() as served:
        async with served.client.put("/v1/templates/eta", json=TEMPLATE) as answer:
            assert answer.status == 200, await answer.text()
        yield served


def text(**changes: Any) -> dict[str, Any]:
    return {"program": "outages", "to": NUMBER, "template": "eta", "vars": {"eta": "17:30"}, **changes}


async def send(api: Api, status: int = 202, **changes: Any) -> Any:
    async with api.client.post("/v1/messages", json=text(**changes)) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def body_of(api: Api, message: dict[str, Any]) -> str:
    async with api.client.get(f"/v1/messages/{message['id']}") as answer:
        return str((await answer.json())["body"])


async def test_a_message_may_name_a_template_with_its_values(api: Api) -> None:
    assert await body_of(api, await send(api)) == "Back by 5:30 pm."


async def test_what_is_wrong_with_the_values_is_told_by_name(api: Api) -> None:
    for vars_, field in (
        ({}, "vars.eta"),
        ({"eta": "soon"}, "vars.eta"),
        ({"eta": "5 pm", "x": "1"}, "vars.x"),
    ):
        refused = await send(api, 422, vars=vars_)
        assert [error["field"] for error in refused["errors"]] == [field]
    assert [error["field"] for error in (await send(api, 422, vars={"eta": 5}))["errors"]] == ["vars.eta"]
    assert [error["field"] for error in (await send(api, 422, body="Hi"))["errors"]] == ["body"]


async def test_an_unknown_template_is_refused_and_so_is_another_accounts(api: Api) -> None:
    assert [error["field"] for error in (await send(api, 422, template="none"))["errors"]] == ["template"]
    headers = {"Authorization": f"Bearer {OTHER_KEY}"}
    async with api.client.post("/v1/messages", json=text(program="leaks"), headers=headers) as answer:
        assert answer.status == 422


async def test_a_repeat_is_the_same_message_whatever_became_of_the_template(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_shelf, "KEEP_S", 0.0)
    first = await send(api, reference="o-1")
    async with api.client.put("/v1/templates/eta", json={**TEMPLATE, "text": "By {eta}."}) as answer:
        assert answer.status == 200
    again = await send(api, 200, reference="o-1")
    assert (again["id"], again["duplicate"]) == (first["id"], True)
    await send(api, 409, reference="o-1", vars={"eta": "18:00"})
    assert await body_of(api, await send(api, reference="o-2")) == "By 5:30 pm."


async def test_a_repeat_is_the_same_message_when_the_template_is_gone_or_fits_no_more(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_shelf, "KEEP_S", 0.0)
    monkeypatch.setattr(template_shelf, "KEEP_NONE_S", 0.0)
    first = await send(api, reference="o-1")
    other = {"text": "By {at}.", "variables": [{"name": "at", "type": "time"}]}
    async with api.client.put("/v1/templates/eta", json=other) as answer:
        assert answer.status == 200
    assert (await send(api, 200, reference="o-1"))["id"] == first["id"]
    async with api.client.delete("/v1/templates/eta") as answer:
        assert answer.status == 204
    assert (await send(api, 200, reference="o-1"))["id"] == first["id"]
    await send(api, 409, reference="o-1", vars={"eta": "18:00"})
    await send(api, 409, reference="o-1", template="none")
    await send(api, 422, reference="o-2")
    await send(api, 422)


async def test_a_text_sent_again_with_the_fingerprint_of_a_template_and_its_repeat_are_one(api: Api) -> None:
    """As what was set aside is sent again, before or after its sender repeats it."""
    words = {"template": "eta", "vars": {"eta": "17:30"}}
    for reference, replay_first in (("o-1", True), ("o-2", False)):
        asked = RenderedMessage.model_validate(
            {"program": "outages", "to": NUMBER, "body": "Back by 5:30 pm.", "reference": reference, **words}
        )
        again = text(body=asked.body, reference=reference)
        del again["template"], again["vars"]
        [program] = [p for p in await api.store.programs(TERM) if p.name == "outages"]
        again["fingerprint"] = submission.fingerprint(asked, program).hex()
        requests = [again, text(reference=reference)]
        ids = set()
        for request, status in zip(requests if replay_first else requests[::-1], (202, 200), strict=True):
            async with api.client.post("/v1/messages", json=request) as answer:
                assert answer.status == status, await answer.text()
                ids.add((await answer.json())["id"])
        assert len(ids) == 1


async def test_lines_of_bulk_may_name_templates_and_cost_one_look_up(api: Api) -> None:
    before = len(api.leadership.lanes)
    lines = [text(vars={"eta": f"{hour}:00"}) for hour in range(24)] + [text(vars={})]
    data = "\n".join(map(json.dumps, lines))
    headers = {"Content-Type": "application/x-ndjson"}
    async with api.client.post("/v1/messages/bulk", data=data, headers=headers) as answer:
        results = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [result["status"] for result in results] == [202] * 24 + [422]
    assert await body_of(api, results[13]) == "Back by 1 pm."
    # For this one and for the message that was looked at; the directory may have been read meanwhile.
    assert api.leadership.lanes[before:].count(Lane.READ) <= 3


async def test_a_text_about_a_template_is_a_text(api: Api) -> None:
    for body in ("template", '"template": 1', '{"template":"eta"}'):
        data = json.dumps({"program": "outages", "to": NUMBER, "body": body})
        async with api.client.post("/v1/messages", data=data, headers=JSON) as answer:
            assert answer.status == 202, await answer.text()
            assert await body_of(api, await answer.json()) == body
