"""How long is waited, what an answer means, and the signature."""

import base64
import hashlib
import hmac
from uuid import UUID

import pytest

from dispatcher.model import State
from dispatcher.webhooks import signing
from dispatcher.webhooks.model import ENDS_TOLD, EventKind, is_told, kind_of
from dispatcher.webhooks.pacing import (
    DIES_AFTER_S,
    FIRST_S,
    LONGEST_ASKED_S,
    LONGEST_S,
    SPREAD,
    Outcome,
    of_status,
    wait_s,
)


def test_each_wait_is_twice_the_one_before_up_to_an_hour() -> None:
    assert [wait_s(n, 0.5) for n in (1, 2, 3)] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert wait_s(30, 0.5) == wait_s(10_000, 0.5) == LONGEST_S


def test_waits_are_spread_to_either_side() -> None:
    assert wait_s(1, 0.0) == FIRST_S * (1 - SPREAD)
    assert wait_s(1, 1.0) == FIRST_S * (1 + SPREAD)


def test_seventy_two_hours_are_filled_with_about_eighty_tries() -> None:
    waits, tries = 0.0, 1
    while waits < DIES_AFTER_S:
        waits += wait_s(tries, 0.5)
        tries += 1
    assert 70 < tries < 90


def test_what_an_answer_asks_for_is_waited_within_bounds() -> None:
    assert wait_s(1, 0.5, 60.0) == 60.0
    assert wait_s(1, 0.5, 1.0) == FIRST_S
    assert wait_s(1, 0.5, 1e9) == LONGEST_ASKED_S


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.TAKEN), (202, Outcome.TAKEN), (204, Outcome.TAKEN), (299, Outcome.TAKEN),
        (301, Outcome.REDIRECTED), (302, Outcome.REDIRECTED), (307, Outcome.REDIRECTED), (304, Outcome.REDIRECTED),
        (400, Outcome.REFUSED), (401, Outcome.REFUSED), (404, Outcome.REFUSED), (410, Outcome.GONE),
        (429, Outcome.REFUSED), (500, Outcome.REFUSED), (503, Outcome.REFUSED), (101, Outcome.REFUSED),
    ],
)  # fmt: skip
def test_only_2xx_is_taken(status: int, outcome: Outcome) -> None:
    answer = of_status(status, None)
    assert answer.outcome is outcome
    assert (answer.failure is None) == answer.taken


@pytest.mark.parametrize(
    ("status", "header", "asked"),
    [
        (429, "30", 30.0), (503, " 7 ", 7.0), (503, "0", 0.0),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", None), (503, "-1", None), (503, "1e9", None), (503, "²", None),
        (503, "9" * 400, None), (500, "30", None), (503, None, None),
    ],
)  # fmt: skip
def test_retry_after_counts_in_seconds_with_429_and_503(
    status: int, header: str | None, asked: float | None
) -> None:
    assert of_status(status, header).retry_after_s == asked


def test_the_signature_is_that_of_the_standard() -> None:
    # The example of the specification's reference libraries.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    event_id, at, body = UUID(int=7), 1_614_265_330, b'{"test": 2432232314}'
    told = signing.headers([secret], event_id, at, body)
    expected = hmac.new(secret, f"{event_id}.{at}.".encode() + body, hashlib.sha256).digest()
    assert told == {
        "webhook-id": str(event_id),
        "webhook-timestamp": "1614265330",
        "webhook-signature": f"v1,{base64.b64encode(expected).decode()}",
    }


def test_each_secret_signs() -> None:
    first, second = signing.headers([b"a", b"b"], UUID(int=1), 1, b"{}")["webhook-signature"].split(" ")
    assert first.startswith("v1,")
    assert second.startswith("v1,")
    assert first != second


def test_secrets_differ_and_are_shown_as_the_standard_has_them() -> None:
    assert signing.new_secret() != signing.new_secret()
    assert base64.b64decode(signing.shown(b"x" * 32).removeprefix("whsec_")) == b"x" * 32


def test_each_end_of_a_text_is_told_and_has_a_kind() -> None:
    ends = set(State) - {
        State.ACCEPTED, State.HELD, State.SCHEDULED, State.QUEUED, State.SUBMITTING, State.SUBMITTED,
    }  # fmt: skip
    assert ends == ENDS_TOLD
    for state in ENDS_TOLD:
        assert kind_of(state) in EventKind
        assert is_told(State.QUEUED, state)


def test_what_happens_to_every_text_is_not_told_and_what_comes_of_doubt_is() -> None:
    assert not is_told(State.QUEUED, State.SUBMITTING)
    assert not is_told(State.SUBMITTING, State.SUBMITTED)
    assert is_told(State.IN_DOUBT, State.SUBMITTED)
    assert is_told(State.IN_DOUBT, State.QUEUED)
    assert not is_told(State.DELIVERED, State.DELIVERED)
