"""The table of session states, row by row, and that nothing outside it changes anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.smpp.pdu import Command
from dispatcher.smpp.session import TABLE, NotInThisStateError, Role, Session, State
from dispatcher.smpp.status import CommandStatus

ROWS = [
    (state, sender, command, row.then or state)
    for row in TABLE
    for state in sorted(row.states)
    for sender in sorted(row.sender)
    for command in sorted(row.commands)
]
LEGAL = {(state, sender, command) for state, sender, command, _ in ROWS}


def session_in(state, role=Role.ESME):
    session = Session(role)
    session.state = state
    return session


@pytest.mark.parametrize(("state", "sender", "command", "then"), ROWS)
def test_both_ends_agree_on_every_row(state, sender, command, then):
    ours, theirs = session_in(state, sender), session_in(state, other(sender))
    ours.sending(command)
    theirs.received(command)
    assert ours.state is theirs.state is then


def other(role):
    return Role.SMSC if role is Role.ESME else Role.ESME


def test_no_two_rows_contradict_each_other():
    assert len(LEGAL) == len(ROWS)


@given(st.sampled_from(State), st.sampled_from(Role), st.sampled_from(Command), st.booleans())
def test_what_the_table_does_not_allow_raises_and_changes_nothing(state, sender, command, sending):
    if (state, sender, command) in LEGAL:
        return
    session = session_in(state, sender if sending else other(sender))
    with pytest.raises(NotInThisStateError):
        (session.sending if sending else session.received)(command)
    assert session.state is state


@given(st.lists(st.tuples(st.sampled_from(Role), st.sampled_from(Command), st.sampled_from([0, 8]))))
def test_no_sequence_leads_out_of_the_known_states_and_closed_is_final(events):
    session = Session(Role.ESME)
    for sender, command, status in events:
        was_closed = session.state is State.CLOSED
        try:
            (session.sending if sender is Role.ESME else session.received)(command, status)
        except NotInThisStateError:
            continue
        assert not was_closed


def test_a_refused_bind_leaves_the_session_open():
    session = Session(Role.ESME)
    session.sending(Command.BIND_TRANSCEIVER)
    session.received(Command.BIND_TRANSCEIVER_RESP, CommandStatus.ESME_RINVPASWD)
    assert session.state is State.OPEN


def test_a_second_bind_is_answered_already_bound():
    session = session_in(State.BOUND_TRX, Role.SMSC)
    with pytest.raises(NotInThisStateError) as caught:
        session.received(Command.BIND_TRANSMITTER)
    assert caught.value.answer is CommandStatus.ESME_RALYBND


def test_a_submit_before_the_bind_is_answered_with_the_wrong_bind_status():
    with pytest.raises(NotInThisStateError, match="submit_sm from the ESME while open") as caught:
        Session(Role.SMSC).received(Command.SUBMIT_SM)
    assert caught.value.answer is CommandStatus.ESME_RINVBNDSTS


def test_a_receiver_may_not_submit_and_a_transmitter_gets_no_deliveries():
    with pytest.raises(NotInThisStateError):
        session_in(State.BOUND_RX, Role.SMSC).received(Command.SUBMIT_SM)
    with pytest.raises(NotInThisStateError):
        session_in(State.BOUND_TX, Role.ESME).received(Command.DELIVER_SM)


def test_while_unbinding_only_answers_pass():
    session = session_in(State.UNBINDING)
    session.received(Command.SUBMIT_SM_RESP)
    session.sending(Command.DELIVER_SM_RESP)
    with pytest.raises(NotInThisStateError):
        session.sending(Command.SUBMIT_SM)
    session.received(Command.UNBIND_RESP)
    assert session.state is State.CLOSED


def test_every_row_has_a_sentence():
    assert all(row.sentence.endswith(".") for row in TABLE)
