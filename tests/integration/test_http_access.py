"""Who is let in: keys over a real socket."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.http.doorkeeper import FAILURES_AT_ONCE
from tests.api_server import KEY, Api, furnished_store, key, serving, text

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
async def api():
    async with serving() as served:
        yield served


async def status(api: Api, authorization: str) -> tuple[int, str]:
    headers = {"Authorization": authorization}
    async with api.client.post("/v1/messages", json=text(), headers=headers) as answer:
        return answer.status, answer.headers.get("WWW-Authenticate", "")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic aHM6", KEY, f"Token {KEY}", "Bearer " + "x" * 5_000]
)
async def test_a_request_without_a_bearer_key_is_answered_401_with_a_challenge(api, authorization):
    assert await status(api, authorization) == (401, 'Bearer realm="hotsite"')


async def test_a_wrong_key_is_answered_401(api):
    code, challenge = await status(api, "Bearer wrong")
    assert code == 401
    assert 'error="invalid_token"' in challenge


@pytest.mark.parametrize("changed", [{"revoked": True}, {"expires_at": YESTERDAY}])
async def test_a_key_that_was_revoked_or_has_expired_is_answered_401(changed):
    store = furnished_store()
    store.add_key(key("hs_old", 9, 1, **changed))
    async with serving(store=store) as api:
        assert (await status(api, "Bearer hs_old"))[0] == 401


async def test_the_scheme_is_read_in_any_case(api):
    assert (await status(api, f"bearer {KEY}"))[0] == 202


async def test_whoever_keeps_guessing_is_slowed_down_and_good_keys_behind_the_same_address_are_not(api):
    guesses = await asyncio.gather(*(status(api, f"Bearer guess-{n}") for n in range(FAILURES_AT_ONCE)))
    assert {code for code, _ in guesses} == {401}
    async with api.client.post(
        "/v1/messages", json=text(), headers={"Authorization": "Bearer guess"}
    ) as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await status(api, f"Bearer {KEY}"))[0] == 202


async def test_a_request_that_comes_before_anybody_leads_is_held():
    async with serving(closed=True) as api:
        held = asyncio.create_task(status(api, f"Bearer {KEY}"))
        await asyncio.wait_for(api.leadership.held.wait(), 5)
        api.leadership.gate.set()
        assert (await held)[0] == 202
