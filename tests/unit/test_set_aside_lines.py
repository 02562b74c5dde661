"""What is told of a message that one node alone holds."""

from typing import Any
from uuid import UUID

from dispatcher.set_aside import message_line

ROW = {
    "message_id": str(UUID(int=1)), "recipient": "+16145550123", "body": "Back by 5 pm.", "send_at": None,
    "expires_at": None, "class": 1, "on_doubt": "hold",
}  # fmt: skip


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
