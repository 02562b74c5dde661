"""From a checked request to a message; what is refused on the way is in tests/integration/test_http_bad_input."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.http import numbers
from dispatcher.http.problem import Problem
from dispatcher.http.schemas import MAX_SEGMENTS, MessageRequest
from dispatcher.http.submission import Terms, compose, fingerprint, sized
from dispatcher.model import Encoding, MessageClass, OnDoubt
from tests.api_server import program

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROGRAM = program()


def request(**changed: object) -> MessageRequest:
    return MessageRequest.model_validate(
        {"program": "outages", "to": "+16145550123", "body": "x", **changed}, strict=False
    )


def composed(**changed: object):
    return compose(
        request(**changed), PROGRAM, new_id=uuid4(), now=NOW, terms=Terms(any_possible_number=False)
    )


def test_what_the_caller_leaves_out_the_program_decides():
    message = composed()
    assert (message.message_class, message.on_doubt) == (MessageClass.SERVICE, OnDoubt.HOLD)


def test_what_the_caller_says_wins():
    message = composed(**{"class": "emergency", "on_doubt": "resend"})
    assert (message.message_class, message.on_doubt) == (MessageClass.EMERGENCY, OnDoubt.RESEND)


@pytest.mark.parametrize(
    "changed",
    [
        {"to": "+16145550124"},
        {"body": "y"},
        {"class": "emergency"},
        {"send_at": NOW},
        {"expires_at": NOW},
        {"on_doubt": "hold"},
        {"topic": "outage-17"},
    ],
)
def test_each_part_of_the_content_is_in_the_fingerprint(changed):
    assert fingerprint(request(**changed), PROGRAM) != fingerprint(request(), PROGRAM)


def test_a_text_without_a_topic_has_the_fingerprint_that_it_had_before_there_were_topics():
    """References are kept for long, and a repeat may come after the version changed."""
    known = "98879eae"
    assert fingerprint(request(reference="a"), PROGRAM).hex().startswith(known)


def test_as_of_when_it_holds_is_part_of_the_content():
    told = request(topic="outage-17", topic_at=NOW)
    assert fingerprint(told, PROGRAM) != fingerprint(request(topic="outage-17"), PROGRAM)


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"topic": "outage\n17"}, "topic", "printable"),
        ({"topic_at": NOW}, "topic_at", "give one"),
        ({"topic": "outage-17", "topic_at": NOW + timedelta(minutes=6)}, "topic_at", "must not lie ahead"),
    ],
)
def test_a_topic_that_cannot_be_is_refused_by_name(changed, field, words):
    with pytest.raises(Problem) as raised:
        composed(**changed)
    [error] = raised.value.errors
    assert error.field == field
    assert words in error.message


def test_a_callers_clock_may_be_some_minutes_ahead():
    at = NOW + timedelta(minutes=4)
    assert composed(topic="outage-17", topic_at=at).topic_at == at


def test_a_changed_default_of_the_program_does_not_make_a_repeat_a_conflict():
    changed = replace(PROGRAM, message_class=MessageClass.EMERGENCY, on_doubt=OnDoubt.RESEND)
    assert fingerprint(request(), changed) == fingerprint(request(), PROGRAM)


def test_the_reference_is_not_part_of_the_content():
    assert fingerprint(request(reference="a"), PROGRAM) == fingerprint(request(reference="b"), PROGRAM)


def test_the_longest_text_taken_has_ten_segments():
    assert sized("x" * 153 * MAX_SEGMENTS) == (Encoding.GSM, MAX_SEGMENTS, None)
    assert sized("x" * 153 * MAX_SEGMENTS + "x")[2] is not None


@given(st.from_regex(r"\+1[2-9][0-9]{9}", fullmatch=True))
@example("+16145550123")
@example("+18005551212")
@example("+15550001234")
def test_the_shortcut_for_north_american_numbers_says_what_the_library_says(number):
    valid = phonenumbers.is_valid_number(phonenumbers.parse(number))
    assert (numbers.fault(number, any_possible=False) is None) == valid


@given(st.from_regex(r"\+[1-9][0-9]{5,16}", fullmatch=True) | st.text(max_size=20))
@example("+930700000000")  # with the zero that is dialled within the country
def test_what_is_taken_in_a_production_site_is_a_valid_number_in_e164(number):
    if numbers.fault(number, any_possible=False) is None:
        parsed = phonenumbers.parse(number)
        assert phonenumbers.is_valid_number(parsed)
        assert phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == number
