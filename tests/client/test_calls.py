"""Single calls against the API on a real socket, and against sites that fail. All of it for both clients."""

import logging
import time
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta

import pytest

from hotsite_client import (
    AlreadyLeft,
    ApiError,
    AsyncClient,
    Client,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    ReferenceConflict,
    Unauthorized,
    Unreachable,
)
from tests.api_server import KEY, NUMBER, TERM, Api
from tests.client.sites import (
    IMPATIENT,
    QUICK,
    SHORT,
    Either,
    cuts,
    hangs,
    passes,
    says,
    site,
    stores_and_cuts,
    text,
)
from tests.ports import free_port

NOWHERE = "http://127.0.0.1:1"


async def stored(api: Api) -> list[str]:
    async with api.client.get("/v1/messages", params={"limit": 200}) as answer:
        return [message["reference"] for message in (await answer.json())["messages"]]


async def test_an_accepted_text_is_told_with_its_durability_and_a_reference_of_its_own(
    api: Api, either: Either
):
    accepted = await either.call("send", [api.url], text())
    assert (accepted.state, accepted.segments, accepted.encoding) == ("queued", 1, "gsm")
    assert (accepted.two_site, accepted.site, accepted.live_site, accepted.term) == (
        True, "columbus", "columbus", TERM,
    )  # fmt: skip
    assert await stored(api) == [accepted.reference]
    assert len(accepted.reference) == 36
    with pytest.raises(FrozenInstanceError):
        accepted.state = "sent"


async def test_all_fields_of_a_message_arrive(api: Api, either: Either):
    at = datetime.now(UTC) + timedelta(hours=1)
    message = text(
        reference="Größe “1” 🙂",
        class_="emergency",
        send_at=at,
        expires_at=at + timedelta(hours=1),
        on_doubt="hold",
    )
    accepted = await either.call("send", [api.url], message)
    seen = await either.call("get", [api.url], accepted.id)
    assert (seen.reference, seen.class_, seen.send_at, seen.on_doubt) == (
        message.reference, "emergency", at, "hold",
    )  # fmt: skip
    assert (seen.body, seen.to, seen.state, seen.is_final) == (message.body, NUMBER, "scheduled", False)
    assert seen.parts[0].attempts == 0
    assert seen.events[0].at.tzinfo is not None


async def test_a_newer_text_of_a_topic_takes_the_place_of_an_older_one(api: Api, either: Either):
    at = datetime.now(UTC)
    older = await either.call("send", [api.url], text(topic="outage-17", topic_at=at - timedelta(hours=1)))
    newer = await either.call("send", [api.url], text(topic="outage-17", topic_at=at))
    seen = await either.call("get", [api.url], older.id)
    assert seen.state == "canceled"
    assert str(newer.id) in seen.events[-1].detail
    assert (seen.topic, seen.topic_at, seen.superseded_by) == (
        "outage-17",
        at - timedelta(hours=1),
        newer.id,
    )


async def test_a_repeat_is_told_as_one(api: Api, either: Either):
    first = await either.call("send", [api.url], text(reference="r"))
    again = await either.call("send", [api.url], text(reference="r"))
    assert (first.duplicate, again.duplicate, again.id == first.id) == (False, True, True)


async def test_another_text_under_a_known_reference_is_a_conflict_that_is_explained(api: Api, either: Either):
    await either.call("send", [api.url], text(reference="r"))
    with pytest.raises(
        ReferenceConflict, match=r"other content.*find\(reference\) shows the first"
    ) as raised:
        await either.call("send", [api.url], text(reference="r", body="Other"))
    assert raised.value.reference == "r"
    assert raised.value.problem.errors[0].field == "reference"


async def test_a_refusal_names_each_field_and_the_request(api: Api, either: Either):
    with pytest.raises(InvalidRequest, match="did you mean") as raised:
        await either.call("send", [api.url], text(to="(614) 555-0123", body=""))
    problem = raised.value.problem
    assert [error.field for error in problem.errors] == ["to", "body"]
    assert problem.instance.startswith("urn:uuid:")
    assert all(words in str(raised.value) for words in ("to: is not a", "body: must not", problem.instance))


async def test_a_wrong_key_is_told_and_nothing_else_is_tried(api: Api):
    async with AsyncClient([api.url, NOWHERE], "wrong") as client:
        with pytest.raises(Unauthorized):
            await client.send(text())


async def test_when_no_site_takes_connections_nothing_was_sent(either: Either):
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with pytest.raises(Unreachable, match="nothing was sent") as raised:
        await either.call("send", urls, text(reference="mine"), policy=SHORT)
    assert raised.value.reference == "mine"
    assert all(url in str(raised.value) for url in urls)


async def test_a_site_that_takes_no_connections_is_passed_over(api: Api, either: Either):
    accepted = await either.call("send", [f"http://127.0.0.1:{free_port()}", api.url], text())
    assert not accepted.duplicate


@pytest.mark.parametrize(
    "deed",
    [
        cuts,
        stores_and_cuts,
        says(500, "internal-error"),
        says(503, "unavailable", retry_after="1"),
        says(503, "one-site-only", retry_after="1"),
        says(429, "too-many-requests", retry_after="60"),
        says(400, "bad-request"),
        says(408, "request-timeout"),
        says(502, body=b"<html>", kind="text/html"),
        says(200, body=b"<html>", kind="text/html"),
        says(302, body=b"", kind="text/html"),
        says(202, body=b'{"id": 1}', kind="application/json"),
        says(202, body=b"[]", kind="application/json"),
        says(403, body=b'{"type": 1}', kind="application/problem+json"),
    ],
)
async def test_whatever_one_site_does_the_text_is_accepted_once(api: Api, either: Either, deed):
    async with site(api, deed) as bad, site(api, passes) as good:
        began = time.monotonic()
        accepted = await either.call("send", [bad.url, good.url], text())
        assert time.monotonic() - began < 20  # whatever it says of when to come again
    assert (len(bad.asked), bad.asked) == (1, good.asked)  # the same reference at both
    assert await stored(api) == [accepted.reference]


async def test_a_site_that_hangs_is_left_after_the_time_for_an_answer(api: Api, either: Either):
    async with site(api, hangs) as bad, site(api, passes) as good:
        await either.call("send", [bad.url, good.url], text(), policy=replace(QUICK, answer_s=0.5))
    assert bad.asked == good.asked


async def test_a_lone_site_is_asked_again_until_it_answers(api: Api, either: Either):
    async with site(api, cuts, stores_and_cuts, says(503, "unavailable"), passes) as only:
        accepted = await either.call("send", [only.url], text())
    assert len(set(only.asked)) == 1
    assert accepted.duplicate
    assert await stored(api) == [accepted.reference]


async def test_no_good_answer_is_an_unknown_outcome_that_says_how_to_find_out(api: Api, either: Either):
    async with site(api, stores_and_cuts) as only:
        with pytest.raises(OutcomeUnknown, match="not known whether") as raised:
            await either.call("send", [only.url], text(), policy=SHORT)
    reference = raised.value.reference
    assert f"{reference!r}" in str(raised.value)
    assert "failed" not in str(raised.value)
    found = await either.call("find", [api.url], reference)
    assert found.reference == reference
    assert (await either.call("send", [api.url], text(reference=reference))).id == found.id


async def test_a_hanging_site_alone_is_an_unknown_outcome_within_the_deadline(api: Api, either: Either):
    async with site(api, hangs) as only:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown, match=r"nothing came for|no answer in time"):
            await either.call("send", [only.url], text(), policy=IMPATIENT)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("slug", "status", "error"),
    [
        ("unavailable", 503, OutcomeUnknown),
        ("one-site-only", 503, OutcomeUnknown),
        ("internal-error", 500, OutcomeUnknown),
        ("too-many-connections", 503, Unreachable),
        ("too-many-requests", 429, Unreachable),
    ],
)
async def test_what_was_turned_away_unread_was_not_sent_and_anything_else_may_have_been(
    api: Api, either: Either, slug: str, status: int, error: type[Exception]
):
    async with site(api, says(status, slug)) as only:
        with pytest.raises(error, match="A title"):
            await either.call("send", [only.url], text(), policy=SHORT)
    assert len(only.asked) == 4


async def test_a_refusal_after_an_unknown_outcome_does_not_say_that_the_text_was_not_sent(
    api: Api, either: Either
):
    """Its time may have run out between the two: the first try counts."""
    async with site(api, stores_and_cuts, says(422, "invalid-request")) as only:
        with pytest.raises(OutcomeUnknown) as raised:
            await either.call("send", [only.url], text())
    assert isinstance(raised.value.__cause__, InvalidRequest)


async def test_a_conflict_after_an_unknown_outcome_is_certain(api: Api, either: Either):
    await either.call("send", [api.url], text(reference="r"))
    async with site(api, stores_and_cuts, passes) as only:
        with pytest.raises(ReferenceConflict):
            await either.call("send", [only.url], text(reference="r", body="Other"))


async def test_what_is_not_hotsite_is_told_as_that_without_trying_on(api: Api, either: Either):
    async with site(api, says(404, body=b"<html>", kind="text/html")) as wrong:
        with pytest.raises(OutcomeUnknown, match=r"404 \(text/html\) and not as Hotsite does"):
            await either.call("send", [wrong.url], text())
        with pytest.raises(Unreachable, match="is the address right"):
            await either.call("find", [wrong.url], "r")
    assert len(wrong.asked) == 2


async def test_a_client_goes_on_with_the_site_that_answered(api: Api):
    async with site(api, cuts) as bad, site(api, passes) as good:
        client = AsyncClient([bad.url, good.url], KEY)
        for _ in range(3):
            await client.send(text())
        await client.aclose()
    assert (len(bad.asked), len(good.asked)) == (1, 3)


async def test_reading_is_repeated_at_the_other_site(api: Api, either: Either):
    await either.call("send", [api.url], text(reference="r"))
    async with site(api, cuts) as bad:
        assert (await either.call("find", [bad.url, api.url], "r")).reference == "r"
        assert await either.call("find", [bad.url, api.url], "none") is None


async def test_a_list_goes_on_from_page_to_page(api: Api):
    async with AsyncClient([api.url], KEY) as client:
        references = [(await client.send(text())).reference for _ in range(5)]
        page = await client.page(limit=2)
        assert (len(page.messages), page.next_cursor is None) == (2, False)
        before = datetime.now(UTC) - timedelta(hours=1)
        listed = [message.reference async for message in client.messages(to=NUMBER, since=before)]
        assert listed == references[::-1]
        assert [m async for m in client.messages(state="delivered")] == []


async def test_what_has_not_left_is_canceled_and_a_lost_answer_does_no_harm(api: Api, either: Either):
    accepted = await either.call("send", [api.url], text())
    async with site(api, stores_and_cuts, passes) as only:
        assert (await either.call("cancel", [only.url], str(accepted.id))).state == "canceled"
    with pytest.raises(NotFound):
        await either.call("cancel", [api.url], "0190f5a2-0000-7000-8000-000000000000")
    async with site(api, says(409, "already-left")) as only:
        with pytest.raises(AlreadyLeft):
            await either.call("cancel", [only.url], accepted.id)
    async with site(api, cuts) as only:
        with pytest.raises(OutcomeUnknown, match=f"message {accepted.id} was canceled"):
            await either.call("cancel", [only.url], accepted.id, policy=SHORT)


async def test_a_preview_tells_segments_and_the_dear_characters(api: Api, either: Either):
    preview = await either.call("preview", [api.url], "It\u2019s back")
    assert (preview.encoding, preview.segments, preview.offending) == ("ucs2", 1, ("\u2019",))


async def test_a_new_kind_of_problem_is_an_api_error(api: Api):
    async with site(api, says(418, "new")) as only, AsyncClient([only.url], KEY) as client:
        with pytest.raises(ApiError) as raised:
            await client.send(text())
    assert raised.value.status == 418


async def test_the_key_is_nowhere_to_be_seen(api: Api, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with site(api, cuts) as only, AsyncClient([only.url], KEY, policy=SHORT) as client:
        with pytest.raises(OutcomeUnknown) as raised:
            await client.send(text())
    assert KEY not in repr(client) + str(raised.value) + caplog.text
    assert "127.0.0.1" in repr(client)
    with pytest.raises(ValueError, match="printable") as refused:
        Client([only.url], "se cret")
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("urls", "why"),
    [
        ([], "give a list"),
        ("http://127.0.0.1", "give a list"),
        (["columbus.example"], "no address such as"),
        (["ftp://columbus.example"], "no address such as"),
        (["https://key@columbus.example"], "no user"),
        (["https://columbus.example/?a=1"], "no user, query"),
        (["http://columbus.example"], "plain http shows the key"),
        (["https://columbus.example:x"], "no address"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(urls: list[str], why: str):
    with pytest.raises(ValueError, match=why):
        Client(urls, KEY)


def test_plain_http_elsewhere_can_be_allowed():
    Client(["http://columbus.example/", "http://columbus.example"], KEY, allow_http=True).close()


def test_a_time_without_its_zone_is_refused():
    with pytest.raises(ValueError, match="send_at"):
        text(send_at=datetime(2026, 1, 31, 17))  # noqa: DTZ001 # that it is refused is the fact
