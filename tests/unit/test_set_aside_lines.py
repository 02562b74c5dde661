"""What is told of a message that one node alone holds."""

from typing import Any
from uuid import UUID

from dispatcher.http.schemas import MessageRequest
from dispatcher.http.schemas_campaigns import RenderedMessage
from dispatcher.http.submission import fingerprint
from dispatcher.model import MessageClass, OnDoubt, Program
from dispatcher.set_aside import message_line

ROW = {
    "message_id": str(UUID(int=1)), "recipient": "+16145550123", "body": "Back by 5 pm.", "send_at": None,
    "expires_at": None, "class": 1, "on_doubt": "hold",
}  # fmt: skip


PROGRAM = Program(
    id=1,
    account_id=1,
    name="outages",
    source="77001",
    on_doubt=OnDoubt.HOLD,
    message_class=MessageClass.SERVICE,
    enabled=True,
)


def fingerprint_of(template: str, **values: str) -> bytes:
    """Of a request that names a template."""
    asked = RenderedMessage(
        program="outages",
        to=ROW["recipient"],
        body=ROW["body"],
        reference="o-1",
        template=template,
        vars=values,
    )
    return fingerprint(asked, PROGRAM)


def about(**changes: Any) -> dict[str, Any]:
    return {
        "account": "utility", "account_id": 1, "program_id": 1, "program": "outages", "source": "77001",
        "program_on_doubt": "hold", "program_class": 1, "reference": "o-1", "fingerprint": b"", "states": ["queued"],
    } | changes  # fmt: skip


def test_a_message_that_has_not_left_may_be_sent_again():
    assert message_line(ROW, about())["withheld"] is None


def test_a_row_of_a_campaign_is_withheld_for_its_list_is_at_the_leader():
    line = message_line(ROW, about(reference="campaign/1/2"))
    assert "feeds from there" in line["withheld"]


def test_that_a_carrier_may_have_it_is_the_graver_reason():
    assert (
        "a carrier may have it"
        in message_line(ROW, about(reference="campaign/1/2", states=["submitting"]))["withheld"]
    )


def test_a_text_that_was_made_of_a_template_keeps_the_fingerprint_of_its_senders_words():
    told = fingerprint_of("Back by {eta}.", eta="17:00")
    request = message_line(ROW, about(fingerprint=told))["request"]
    assert (request["body"], request["fingerprint"]) == ("Back by 5 pm.", told.hex())


def test_a_text_in_its_senders_own_words_needs_none_nor_does_one_without_a_reference():
    own = MessageRequest(program="outages", to=ROW["recipient"], body=ROW["body"], reference="o-1")
    for changes in ({"fingerprint": fingerprint(own, PROGRAM)}, {"reference": None, "fingerprint": None}):
        assert "fingerprint" not in message_line(ROW, about(**changes))["request"]
