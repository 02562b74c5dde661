"""Campaigns over HTTP: from the template to the report."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from dispatcher.campaigns.feeder import Feeder
from dispatcher.http import list_upload
from dispatcher.http.app import FEEDER
from dispatcher.model import State
from tests.api_server import NUMBER, OTHER_KEY, TERM, Api, serving
from tests.message_scenes import submitted
from tests.waiting import eventually

VARIABLES = [{"name": "name", "max_length": 20}, {"name": "eta", "type": "time"}]
TEXT = "Dear {name}, power is back by {eta}."
HEADER = "to,name,eta\n"
OTHERS = {"Authorization": f"Bearer {OTHER_KEY}"}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serving() as served:
        yield served


def rows(number: int, start: int = 0) -> str:
    return "".join(
        f"+1614{n:07},Ann {n},17:30\n" for n in range(2_000_000 + start, 2_000_000 + start + number)
    )


async def ask(api: Api, method: str, path: str, status: int = 200, **request: Any) -> Any:
    async with api.client.request(method, path, **request) as answer:
        assert answer.status == status, await answer.text()
        raw = await answer.read()
        return json.loads(raw) if "json" in answer.content_type else raw


async def draft(api: Api, **changes: Any) -> str:
    asked = {"program": "outages", "name": "Storm", "text": TEXT, "variables": VARIABLES, **changes}
    made = await ask(api, "POST", "/v1/campaigns", 201, json=asked)
    assert made["state"] == "draft"
    return f"/v1/campaigns/{made['id']}"


async def upload(api: Api, campaign: str, data: Any, status: int = 200, **query: str) -> Any:
    headers = {"Content-Type": query.pop("content_type", "text/csv")}
    return await ask(api, "PUT", f"{campaign}/list", status, data=data, headers=headers, params=query)


def fields(problem: dict[str, Any]) -> list[str]:
    return [error["field"] for error in problem["errors"]]


async def run_feeder(api: Api, campaign: str) -> None:
    """Feed and send until it is done."""
    feeder = api.app[FEEDER]
    await feeder.start()
    try:

        async def done() -> bool:
            claims = await api.store.claim(TERM, "columbus-1", 10_000, 5.0)
            await api.store.settle([submitted(c, str(c.message_id)) for c in claims])
            feeder.wake()
            return (await ask(api, "GET", campaign))["state"] == "done"

        await eventually(done)
    finally:
        await feeder.stop()


# -- templates


async def test_a_template_is_stored_shown_listed_and_deleted(api: Api) -> None:
    stored = await ask(api, "PUT", "/v1/templates/eta", json={"text": TEXT, "variables": VARIABLES})
    assert stored["at_most"] == {"encoding": "ucs2", "segments": 2}
    assert await ask(api, "GET", "/v1/templates/eta") == stored
    await ask(api, "PUT", "/v1/templates/b%20c", json={"text": "Plain"})
    first = await ask(api, "GET", "/v1/templates", params={"limit": "1"})
    assert [one["name"] for one in first["templates"]] == ["b c"]
    rest = await ask(api, "GET", "/v1/templates", params={"cursor": first["next_cursor"]})
    assert (rest["templates"], rest["next_cursor"]) == ([stored], None)
    await ask(api, "GET", "/v1/templates/eta", 404, headers=OTHERS)
    await ask(api, "DELETE", "/v1/templates/eta", 404, headers=OTHERS)
    await ask(api, "DELETE", "/v1/templates/eta", 204)
    await ask(api, "DELETE", "/v1/templates/eta", 404)


async def test_a_template_that_cannot_work_is_refused_by_every_wrong_field(api: Api) -> None:
    asked = {"text": "{a} {b}", "variables": [{"name": "a", "style": "iso"}, {"name": "c"}]}
    refused = await ask(api, "PUT", "/v1/templates/x", 422, json=asked)
    assert fields(refused) == ["text", "variables.a.style", "variables.c"]
    refused = await ask(
        api, "PUT", "/v1/templates/x", 422, json={"text": "{a}", "variables": [{"name": "a", "type": "?"}]}
    )
    assert fields(refused) == ["variables.0.type"]


async def test_a_preview_shows_the_text_and_names_what_is_missing_or_unknown(api: Api) -> None:
    asked: dict[str, Any] = {"text": TEXT, "variables": VARIABLES, "vars": {"name": "Zoë ş", "eta": "17:00"}}
    shown = await ask(api, "POST", "/v1/templates/preview", json=asked)
    assert (shown["text"], shown["encoding"]) == ("Dear Zoë ş, power is back by 5 pm.", "ucs2")
    assert [one["character"] for one in shown["offending"]] == ["ë", "ş"]
    asked["vars"] = {"nme": "A", "eta": "soon"}
    refused = await ask(api, "POST", "/v1/templates/preview", 422, json=asked)
    assert sorted(fields(refused)) == ["vars.eta", "vars.name", "vars.nme"]
    refused = await ask(api, "POST", "/v1/templates/preview", 422, json={"template": "none"})
    assert fields(refused) == ["template"]
    refused = await ask(api, "POST", "/v1/templates/preview", 422, json={})
    assert fields(refused) == ["template"]


# -- a campaign's life


async def test_a_campaign_from_its_template_to_its_report(api: Api) -> None:
    await ask(api, "PUT", "/v1/templates/eta", json={"text": TEXT, "variables": VARIABLES})
    campaign = await draft(api, template="eta", text=None, variables=[])
    listed = await upload(api, campaign, HEADER + rows(1_200) + "+1614,x,17:30\n")
    assert (listed["texts"], listed["bad_rows"], listed["segments"]) == (1_200, 1, 1_200)
    assert listed["bad"][0]["line"] == 1_202
    assert listed["bad"][0]["column"] == "to"
    assert (await ask(api, "POST", f"{campaign}/start"))["state"] == "running"
    before = await ask(api, "GET", f"{campaign}/progress")
    assert (before["waiting"], before["left"], before["seconds_left"]) == (1_200, 0, None)
    await run_feeder(api, campaign)
    report = await ask(api, "GET", f"{campaign}/report")
    assert report["progress"]["by_state"] == {"submitted": 1_200}
    assert report["refused"] == 0
    assert [done["act"] for done in report["campaign"]["acts"]] == ["create", "list", "start", "done"]
    table = list(
        csv.DictReader(io.StringIO((await ask(api, "GET", f"{campaign}/report.csv")).decode("utf-8-sig")))
    )
    assert [int(row["line"]) for row in table] == list(range(2, 1_203))
    assert {row["outcome"] for row in table[:-1]} == {"submitted"}
    assert table[0]["to"] == "+16142000000"
    assert table[-1]["outcome"] == "bad row"
    message = await ask(api, "GET", f"/v1/messages/{table[0]['id']}")
    assert message["body"] == "Dear Ann 2000000, power is back by 5:30 pm."
    picture = ET.fromstring(await ask(api, "GET", f"{campaign}/report.svg"))  # noqa: S314 # our own
    words = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["Storm", "1,201 rows", "submitted", "1,200 (over 99.9 %)", "bad rows", "1 (under 0.1 %)"]


async def test_acts_may_be_repeated_and_what_cannot_be_done_is_told_with_the_reason(api: Api) -> None:
    campaign = await draft(api)
    assert "no list yet" in (await ask(api, "POST", f"{campaign}/start", 409))["detail"]
    await upload(api, campaign, HEADER)
    assert "nothing to send" in (await ask(api, "POST", f"{campaign}/start", 409))["detail"]
    await upload(api, campaign, HEADER + rows(3))
    for act, state in (
        ("start", "running"),
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "canceled"),
    ):
        for _ in range(2):
            assert (await ask(api, "POST", f"{campaign}/{act}"))["state"] == state
    refused = await ask(api, "POST", f"{campaign}/resume", 409)
    assert refused["type"] == "/docs#not-in-this-state"
    refused = await upload(api, campaign, HEADER + rows(3), 409)
    assert "only a draft takes a list" in refused["detail"]


async def test_what_is_canceled_is_canceled_in_the_queue_by_the_feeder(api: Api) -> None:
    campaign = await draft(api)
    await upload(api, campaign, HEADER + rows(10))
    await ask(api, "POST", f"{campaign}/start")
    feeder = api.app[FEEDER]
    await feeder.start()
    try:

        async def fed() -> bool:
            return bool((await ask(api, "GET", f"{campaign}/progress"))["in_queue"])

        await eventually(fed)
        await ask(api, "POST", f"{campaign}/cancel")

        async def canceled() -> bool:
            return (await ask(api, "GET", f"{campaign}/progress"))["by_state"] == {"canceled": 10}

        await eventually(canceled)
    finally:
        await feeder.stop()


async def test_a_campaign_is_its_own_accounts(api: Api) -> None:
    campaign = await draft(api)
    assert (await ask(api, "GET", "/v1/campaigns", headers=OTHERS))["campaigns"] == []
    for call in (
        "GET ", "PUT /list", "POST /start", "POST /pause", "POST /cancel", "POST /preview", "POST /test",
        "GET /progress", "GET /report", "GET /report.csv", "GET /report.svg",
    ):  # fmt: skip
        method, _, path = call.partition(" ")
        await ask(api, method, campaign + path, 404, headers=OTHERS)


async def test_campaigns_are_listed_in_pages_newest_first(api: Api) -> None:
    made = [await draft(api, name=f"c{n}") for n in range(3)]
    first = await ask(api, "GET", "/v1/campaigns", params={"limit": "2"})
    rest = await ask(api, "GET", "/v1/campaigns", params={"cursor": first["next_cursor"]})
    assert [one["name"] for one in first["campaigns"] + rest["campaigns"]] == ["c2", "c1", "c0"]
    assert rest["next_cursor"] is None
    assert made


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"program": "none"}, ["program"]),
        ({"program": "winter"}, ["program"]),
        ({"text": "{x}"}, ["text", "variables.name", "variables.eta"]),
        ({"template": "x"}, ["template"]),
        ({"expires_at": "2020-01-01T00:00:00Z"}, ["expires_at"]),
        ({"start_at": "2200-01-01T00:00:00Z"}, ["start_at"]),
        ({"name": ""}, ["name"]),
        ({"name": "a\nb"}, ["name"]),
        ({"rows": 1}, ["rows"]),
    ],
)
async def test_a_campaign_that_cannot_be_is_refused_by_its_fields(
    api: Api, changes: dict[str, Any], wrong: list[str]
) -> None:
    asked = {"program": "outages", "name": "Storm", "text": TEXT, "variables": VARIABLES} | changes
    assert fields(await ask(api, "POST", "/v1/campaigns", 422, json=asked)) == wrong


async def test_a_test_goes_out_at_once_and_belongs_to_no_list(api: Api) -> None:
    campaign = await draft(api)
    asked = {"to": NUMBER, "vars": {"name": "Ann", "eta": "17:30"}}
    sent = await ask(api, "POST", f"{campaign}/test", 202, json=asked)
    assert sent["state"] == State.QUEUED
    message = await ask(api, "GET", f"/v1/messages/{sent['id']}")
    assert (message["to"], message["body"]) == (NUMBER, "Dear Ann, power is back by 5:30 pm.")
    assert (await ask(api, "GET", f"{campaign}/report"))["progress"]["by_state"] == {}
    refused = await ask(
        api, "POST", f"{campaign}/test", 422, json={"to": "x", "vars": {"name": "A", "eta": "5 pm"}}
    )
    assert fields(refused) == ["to"]
    shown = await ask(api, "POST", f"{campaign}/preview", json={"vars": asked["vars"]})
    assert shown["text"] == message["body"]


async def test_a_reference_of_campaigns_is_for_campaigns(api: Api) -> None:
    asked = {"program": "outages", "to": NUMBER, "body": "Hello", "reference": "campaign/1/2"}
    assert fields(await ask(api, "POST", "/v1/messages", 422, json=asked)) == ["reference"]


# -- the list


async def test_a_header_that_cannot_be_used_leaves_the_list_before_as_it_was(api: Api) -> None:
    campaign = await draft(api)
    await upload(api, campaign, HEADER + rows(3))
    refused = await upload(api, campaign, "phone,name\n" + rows(3), 422)
    assert fields(refused) == ["eta", "to"]
    assert (await ask(api, "GET", campaign))["texts"] == 3


async def test_a_list_may_be_in_other_dress(api: Api) -> None:
    campaign = await draft(api)
    data = "Name;Phone;ETA;Meter\nZoë;(614) 555-0123;17:00;7\n".encode("cp1252")
    listed = await upload(
        api, campaign, data, to="phone", country="US", content_type="text/csv; charset=windows-1252"
    )
    assert (listed["texts"], listed["ignored_columns"]) == (1, ["Meter"])


@pytest.mark.parametrize("content_type", ["application/json", "text/csv; charset=shift_jis"])
async def test_a_list_of_another_type_is_refused(api: Api, content_type: str) -> None:
    campaign = await draft(api)
    await upload(api, campaign, HEADER, 415, content_type=content_type)


async def test_an_empty_list_is_refused(api: Api) -> None:
    campaign = await draft(api)
    assert "the list is empty" in (await upload(api, campaign, b"", 422))["detail"]


async def test_a_list_of_too_many_rows_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_upload, "MOST_ROWS", 10)
    campaign = await draft(api)
    await upload(api, campaign, HEADER + rows(10))
    refused = await upload(api, campaign, HEADER + rows(11), 413)
    assert "more than 10 rows" in refused["detail"]


async def test_a_list_that_broke_off_counts_for_nothing_and_may_be_sent_again(api: Api) -> None:
    campaign = await draft(api)

    async def broken() -> AsyncIterator[bytes]:
        yield (HEADER + rows(3_000)).encode()
        raise OSError

    with pytest.raises(OSError):
        async with api.client.put(f"{campaign}/list", data=broken(), headers={"Content-Type": "text/csv"}):
            pass
    assert (await ask(api, "GET", campaign))["uploaded"] is False
    await ask(api, "POST", f"{campaign}/start", 409)
    assert (await upload(api, campaign, HEADER + rows(3_000)))["texts"] == 3_000
    assert (await ask(api, "POST", f"{campaign}/start"))["state"] == "running"


async def test_a_list_waits_while_nobody_leads(api: Api) -> None:
    campaign = await draft(api)

    async def slow() -> AsyncIterator[bytes]:
        yield (HEADER + rows(2_500)).encode()
        api.leadership.gate.clear()
        yield rows(2_500, start=2_500).encode()
        await api.leadership.held.wait()
        api.leadership.gate.set()

    assert (await upload(api, campaign, slow()))["texts"] == 5_000


async def test_of_two_lists_at_once_the_one_begun_later_counts(api: Api) -> None:
    campaign = await draft(api)
    second_is_done = asyncio.Event()

    async def first() -> AsyncIterator[bytes]:
        yield (HEADER + rows(2_100)).encode()
        await second_is_done.wait()
        yield rows(2_100, start=2_100).encode()

    sending = asyncio.create_task(upload(api, campaign, first(), 409))

    async def begun() -> bool:
        [row] = api.store._kept_campaigns.values()  # type: ignore[attr-defined]
        return row.upload == 1

    await eventually(begun)
    assert (await upload(api, campaign, HEADER + rows(5)))["texts"] == 5
    second_is_done.set()
    assert "another list" in (await sending)["detail"]
    assert (await ask(api, "GET", campaign))["texts"] == 5


async def test_an_account_sends_so_many_lists_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_upload, "UPLOADS_PER_ACCOUNT", 0)
    refused = await upload(api, await draft(api), HEADER, 429)
    assert refused["type"] == "/docs#too-many-streams"


async def test_odd_bytes_are_bad_rows_and_no_defect(api: Api) -> None:
    campaign = await draft(api)
    data = HEADER.encode() + b'+16145550123,"a\0b",17:00\n+16145550123,\xff,17:00\n"' + rows(2).encode()
    listed = await upload(api, campaign, data)
    assert [row["line"] for row in listed["bad"]] == [2, 3, 4]
    assert listed["texts"] == 1
    table = (await ask(api, "GET", f"{campaign}/report.csv")).decode("utf-8-sig")
    assert len(table.splitlines()) == 5


async def test_a_cell_that_would_be_a_formula_is_none_in_the_report(api: Api) -> None:
    campaign = await draft(api)
    await upload(api, campaign, f"{HEADER}{NUMBER},=cmd|x,=1+1\n")
    table = list(
        csv.DictReader(io.StringIO((await ask(api, "GET", f"{campaign}/report.csv")).decode("utf-8-sig")))
    )
    assert table[0]["value"] == "'=1+1"


# -- progress


async def test_progress_is_told_as_events_until_the_end(api: Api) -> None:
    campaign = await draft(api)
    await upload(api, campaign, HEADER + rows(3))
    await ask(api, "POST", f"{campaign}/start")
    async with api.client.get(f"{campaign}/progress", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.content_type == "text/event-stream"
        first = await answer.content.readuntil(b"\n\n")
        assert first.startswith(b"event: progress\ndata: {")
        assert json.loads(first.partition(b"data: ")[2])["waiting"] == 3
        await ask(api, "POST", f"{campaign}/cancel")
        last = (await answer.content.read()).split(b"\n\n")[-2]
    assert json.loads(last.partition(b"data: ")[2])["state"] == "canceled"


async def test_a_feeder_that_may_not_send_feeds_nothing(api: Api) -> None:
    campaign = await draft(api)
    await upload(api, campaign, HEADER + rows(3))
    await ask(api, "POST", f"{campaign}/start")
    api.leadership.gate.clear()
    feeder: Feeder = api.app[FEEDER]
    await feeder.start()
    for _ in range(3):  # it looks who may send, and looks again when woken
        api.leadership.looked.clear()
        feeder.wake()
        await eventually(api.leadership.looked.is_set)
    api.leadership.gate.set()
    assert feeder.fed == 0
    await feeder.stop()
