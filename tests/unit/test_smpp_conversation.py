"""What one end of a connection answers to a peer that misbehaves."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.smpp.conversation import MAX_MALFORMED, Conversation
from dispatcher.smpp.pdu import (
    AlertNotification,
    Bind,
    BindMode,
    BindResp,
    Command,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    SubmitSm,
    SubmitSmResp,
    Tag,
    UnbindResp,
)
from dispatcher.smpp.reader import decode
from dispatcher.smpp.session import NotInThisStateError, Role, State
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.writer import encode

BIND = Bind(mode=BindMode.TRANSCEIVER, system_id="hotsite", password="secret")
SUBMIT = SubmitSm(source="12345", destination="15550001111", short_message=b"hi")


def answers(conversation):
    found = [decode(frame) for frame in conversation.replies]
    return [(answer.command, answer.sequence, answer.status) for answer in found]


def bound(role):
    conversation = Conversation(role)
    if role is Role.SMSC:
        conversation.feed(encode(BIND, 1))
        conversation.frame(BindResp(mode=BindMode.TRANSCEIVER), 1)
    else:
        conversation.frame(BIND, 1)
        conversation.feed(encode(BindResp(mode=BindMode.TRANSCEIVER), 1))
    assert conversation.state is State.BOUND_TRX
    return conversation


def raw(command, sequence, body=b""):
    return struct.pack(">IIII", 16 + len(body), command, 0, sequence) + body


def test_an_unknown_command_is_nacked_and_the_connection_goes_on():
    smsc = bound(Role.SMSC)
    (received,) = smsc.feed(raw(0x99, 5, b"whatever") + encode(SUBMIT, 6))
    assert received.pdu == SUBMIT
    assert answers(smsc) == [(Command.GENERIC_NACK, 5, CommandStatus.ESME_RINVCMDID)]
    assert (smsc.malformed, smsc.over) == (1, "")


def test_an_impossible_length_is_nacked_and_ends_the_connection():
    smsc = bound(Role.SMSC)
    (received,) = smsc.feed(encode(SUBMIT, 5) + struct.pack(">IIII", 4_000_000, 4, 0, 6))
    assert received.sequence == 5
    assert answers(smsc) == [(Command.GENERIC_NACK, 6, CommandStatus.ESME_RINVCMDLEN)]
    assert smsc.over == "a PDU claimed to have 4000000 octets"


def test_a_field_that_does_not_fit_is_answered_by_the_requests_own_response():
    smsc = bound(Role.SMSC)
    smsc.feed(raw(Command.SUBMIT_SM, 5, b"toolong\0"))
    assert answers(smsc) == [(Command.SUBMIT_SM_RESP, 5, CommandStatus.ESME_RINVSERTYP)]


def test_a_request_out_of_place_is_answered_with_the_bind_status():
    smsc = Conversation(Role.SMSC)
    assert smsc.feed(encode(SUBMIT, 5)) == []
    assert answers(smsc) == [(Command.SUBMIT_SM_RESP, 5, CommandStatus.ESME_RINVBNDSTS)]
    assert (smsc.misplaced, smsc.malformed) == (1, 0)


def test_a_second_bind_is_answered_already_bound():
    smsc = bound(Role.SMSC)
    smsc.feed(encode(BIND, 9))
    assert answers(smsc) == [(Command.BIND_TRANSCEIVER_RESP, 9, CommandStatus.ESME_RALYBND)]
    assert smsc.state is State.BOUND_TRX


def test_responses_are_never_answered():
    esme = Conversation(Role.ESME)
    esme.feed(encode(SubmitSmResp(message_id="x"), 1))  # not bound
    esme.feed(raw(Command.SUBMIT_SM_RESP, 2, b"x" * 70))  # no end
    esme.feed(raw(0x80000099, 3))  # unknown
    esme.feed(raw(Command.GENERIC_NACK, 4, b"body"))
    assert esme.replies == []
    assert (esme.malformed, esme.misplaced) == (3, 1)


def test_an_unreadable_response_keeps_what_its_header_said():
    esme = bound(Role.ESME)
    assert esme.feed(raw(Command.SUBMIT_SM_RESP, 7, b"x" * 70)) == []
    (error,) = esme.unreadable
    assert (error.command_id, error.sequence, error.status) == (Command.SUBMIT_SM_RESP, 7, 0)


def test_a_peer_that_only_sends_garbage_is_cut_off():
    smsc = bound(Role.SMSC)
    smsc.feed(raw(0x99, 1) * (2 * MAX_MALFORMED))
    assert smsc.over == f"{MAX_MALFORMED} malformed PDUs in a row"
    assert len(smsc.replies) == MAX_MALFORMED


def test_a_peer_that_is_odd_now_and_then_is_not_cut_off():
    smsc = bound(Role.SMSC)
    for _ in range(3 * MAX_MALFORMED):
        smsc.feed(raw(0x99, 1) + encode(EnquireLink(), 2))
    assert (smsc.malformed, smsc.over) == (3 * MAX_MALFORMED, "")


def test_an_alert_notification_belongs_there_and_is_not_answered():
    esme = bound(Role.ESME)
    alert = AlertNotification(source="15550001111", esme="12345", tlvs=((Tag.MS_AVAILABILITY_STATUS, b"\0"),))
    for sequence in range(3 * MAX_MALFORMED):
        (received,) = esme.feed(encode(alert, sequence))
        assert received.pdu == alert
    assert (esme.replies, esme.malformed, esme.misplaced, esme.over) == ([], 0, 0, "")


def test_a_query_that_cannot_be_read_is_answered_as_one():
    smsc = bound(Role.SMSC)
    smsc.feed(raw(Command.QUERY_SM, 5, b"x" * 80))
    assert answers(smsc) == [(Command.QUERY_SM_RESP, 5, CommandStatus.ESME_RINVMSGID)]


def test_what_does_not_belong_into_the_state_is_not_sent():
    esme = Conversation(Role.ESME)
    with pytest.raises(NotInThisStateError):
        esme.frame(SUBMIT, 1)
    assert esme.state is State.OPEN


def test_an_unbind_and_what_follows_it_in_one_read_can_all_be_answered():
    esme = bound(Role.ESME)
    unbind, enquire, again = esme.feed(
        raw(Command.UNBIND, 7) + raw(Command.ENQUIRE_LINK, 8) + raw(Command.UNBIND, 9)
    )
    esme.reply(UnbindResp(), unbind.sequence)
    esme.reply(EnquireLinkResp(), enquire.sequence)
    esme.reply(UnbindResp(), again.sequence)
    assert answers(esme) == [(Command.UNBIND_RESP, 7, 0), (Command.UNBIND_RESP, 9, 0)]
    assert esme.state is State.CLOSED


FRAMES = st.sampled_from(
    [
        encode(BIND, 1),
        encode(SUBMIT, 2),
        encode(EnquireLink(), 3),
        encode(GenericNack(), 4),
        encode(SubmitSmResp(message_id="1"), 5),
        raw(0x99, 6),
        raw(Command.UNBIND, 7),
        raw(Command.UNBIND_RESP, 8),
    ]
)


@settings(max_examples=300)
@given(st.sampled_from(Role), st.lists(FRAMES | st.binary(max_size=40), max_size=60), st.integers(1, 70))
def test_no_stream_of_octets_crashes_an_end_or_grows_its_memory(role, pieces, step):
    conversation = bound(role)
    stream = b"".join(pieces)
    for at in range(0, len(stream), step):
        conversation.feed(stream[at : at + step])
        assert len(conversation.replies) <= 2 + step // 16
        conversation.replies.clear()
        conversation.unreadable.clear()
