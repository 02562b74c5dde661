"""The link over real sockets: what it does to carriers that misbehave, and how it stops."""

import asyncio
import socket
import struct

import pytest

from dispatcher.smpp.link import Link, LinkState
from dispatcher.smpp.pdu import (
    AlertNotification,
    BindResp,
    Command,
    DeliverSm,
    EnquireLink,
    Outbind,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from dispatcher.smpp.writer import encode
from tests.smpp_links import Never, bound, write
from tests.smpp_scenes import SUBMIT, Told, carrier, linked, scripted_carrier, soon, within

# -- carriers that misbehave


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(64), b"\xff" * 64, struct.pack(">IIII", 16, 0x99, 0, 1) * 30],
    ids=["http", "zeros", "ones", "unknown commands"],
)
async def test_garbage_ends_the_connection_and_the_link_comes_back(script, garbage):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        (submission,) = await write(await bound(link), 1)
        script.visit.raw(garbage)
        assert (await within(submission.answer)).doubt
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)
        assert link.counters.malformed >= 1


async def test_a_carrier_that_tells_of_numbers_that_are_reachable_keeps_its_link(script):
    async with linked(carrier(script.port)) as link:
        await bound(link)
        for number in range(60):
            script.visit.send(AlertNotification(source="15550001111", esme="12345"), number + 1)
        (submission,) = await write(link, 1)
        (received,) = await script.take(1)
        script.visit.send(SubmitSmResp(message_id="x"), received.sequence)
        assert not (await within(submission.answer)).doubt
        assert (link.counters.alerts, link.counters.malformed, link.counters.disconnects) == (60, 0, 0)


async def test_a_carrier_that_asks_to_be_bound_to_is_bound_to_as_ever(script):
    script.answers_binds = False
    async with linked(carrier(script.port)) as link:
        (bind,) = await script.take(1)
        script.visit.raw(encode(Outbind(system_id="smsc", password="secret"), 1))
        script.visit.send(BindResp(mode=bind.pdu.mode), bind.sequence)
        await bound(link)
        assert (link.counters.alerts, link.counters.malformed) == (1, 0)


async def test_it_comes_back_after_every_cut_and_goes_on(script):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        for visit in range(1, 4):
            await told.until(lambda visit=visit: told.states.count(LinkState.BOUND) == visit)
            (submission,) = await write(link, 1)
            (received,) = await script.take(1)
            script.visit.send(SubmitSmResp(message_id="x"), received.sequence)
            assert not (await within(submission.answer)).doubt
            script.visit.cut()
        await told.until(lambda: told.states.count(LinkState.BOUND) == 4)
        assert link.counters.disconnects == 3


async def test_the_carriers_unbind_is_answered_and_the_link_comes_back(script):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        script.visit.send(Unbind(), 77)
        (answer,) = await script.take(1)
        assert (answer.command, answer.sequence) == (Command.UNBIND_RESP, 77)
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)


@pytest.mark.parametrize(
    ("after", "answered"),
    [
        (encode(EnquireLink(), 78), []),  # the session is over with the answer to unbind
        (encode(Unbind(), 78), []),  # answered, too; the carrier has closed its session by then
        (encode(DeliverSm(source="15550001111", destination="12345"), 78), [78]),  # refused
        (encode(UnbindResp(), 78), []),
        (struct.pack(">IIII", 16, 0x99, 0, 78), [78]),  # a command that nobody knows
    ],
    ids=["enquire_link", "unbind", "deliver_sm", "unbind_resp", "unknown"],
)
async def test_what_follows_the_carriers_unbind_in_the_same_read_upsets_nothing(script, after, answered):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        visit = script.visit
        visit.raw(visit.conversation.frame(Unbind(), 77) + after)
        await within(visit.gone.wait())
        replies = [script.received.get_nowait() for _ in range(script.received.qsize())]
        assert [reply.sequence for reply in replies] == [*answered, 77]
        assert replies[-1].command is Command.UNBIND_RESP
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)
        assert link.counters.disconnects == 1


async def test_an_answer_that_comes_with_the_carriers_unbind_counts(script):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        visit = script.visit
        answer = encode(SubmitSmResp(message_id="last"), received.sequence)
        visit.raw(visit.conversation.frame(Unbind(), 77) + answer)
        assert (await within(submission.answer)).message_id == "last"
        (unbound,) = await script.take(1)
        assert (unbound.command, unbound.sequence) == (Command.UNBIND_RESP, 77)
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)
        assert (link.counters.disconnects, link.counters.doubts) == (1, 0)


async def test_the_carriers_unbind_is_told_as_the_reason_whatever_follows_it(script):
    told = Told()
    async with linked(carrier(script.port, reconnect_min=1.0, reconnect_max=2.0), told) as link:
        await bound(link)
        script.visit.raw(encode(Unbind(), 77) + encode(EnquireLink(), 78))
        await told.until(lambda: LinkState.DOWN in told.states)
        assert link.last_error == "the carrier ended the session"


async def test_a_sign_of_life_and_the_answer_to_our_unbind_in_one_read_stop_the_link(script, caplog):
    script.answers_unbinds = False
    async with linked(carrier(script.port)) as link:
        await bound(link)
        stopping = asyncio.create_task(link.stop(drain=5.0))
        (unbind,) = await script.take(1)
        visit = script.visit
        visit.raw(encode(EnquireLink(), 5) + encode(UnbindResp(), unbind.sequence))
        await within(stopping)
        assert link.state is LinkState.STOPPED
        assert [record for record in caplog.records if record.name == "asyncio"] == []  # nothing was raised


async def test_both_ends_may_unbind_at_once(script, caplog):
    script.answers_unbinds = False
    async with linked(carrier(script.port)) as link:
        await bound(link)
        stopping = asyncio.create_task(link.stop(drain=5.0))
        (unbind,) = await script.take(1)
        script.visit.raw(encode(Unbind(), 5) + encode(UnbindResp(), unbind.sequence))
        await within(stopping)
        assert link.state is LinkState.STOPPED
        assert [record for record in caplog.records if record.name == "asyncio"] == []  # nothing was raised


async def test_a_silent_carrier_is_left_by_a_reset_so_that_nothing_written_reaches_it_later(script):
    told = Told()
    script.answers_enquiries = False
    settings = carrier(script.port, enquire_every=0.05, response_timeout=0.1)
    async with linked(settings, told) as link:
        await bound(link)
        visit = script.visit
        await told.until(lambda: LinkState.DOWN in told.states)
        assert link.counters.disconnects == 1
        assert (await script.take(1))[0].command is Command.ENQUIRE_LINK
        await within(visit.gone.wait())
        assert isinstance(visit.lost_by, ConnectionResetError)


@pytest.mark.parametrize("kind", ["killed", "closed in order"])
async def test_what_the_kernel_holds_of_a_dispatcher_that_was_killed_never_reaches_the_carrier(script, kind):
    """A killed process says nothing more; what is asked of the kernel beforehand is all there is."""
    async with linked(carrier(script.port)) as link:
        connection = (await bound(link))._connection
        sock = connection._transport.get_extra_info("socket")
        if kind == "closed in order":
            connection.close("a test")
        linger = struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
        assert linger == ((1, 0) if kind == "killed" else (0, 0))


async def test_the_round_trip_of_enquire_link_is_told(script):
    async with linked(carrier(script.port, enquire_every=0.02)) as link:
        await bound(link)
        await within(script.enquired_twice.wait())  # by then the first was answered
        assert link.rtt_s is not None
        assert 0 <= link.rtt_s < 5


# -- stopping


async def test_stopping_waits_for_the_last_answers_and_unbinds(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        stopping = asyncio.create_task(link.stop(drain=5.0))
        await asyncio.sleep(0)
        assert (link.state, link.bound) == (LinkState.UNBINDING, False)
        assert not link.write((SUBMIT,), soon())[0].written
        script.visit.send(SubmitSmResp(message_id="last"), received.sequence)
        assert (await within(submission.answer)).message_id == "last"
        (unbind,) = await script.take(1)
        assert unbind.pdu == Unbind()
        await within(stopping)
        await within(script.visit.gone.wait())
        assert (link.state, len(script.visits)) == (LinkState.STOPPED, 1)


async def test_stopping_leaves_what_is_unanswered_in_doubt(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        await within(link.stop(drain=0.05))
        assert (await within(submission.answer)).doubt


async def test_stopping_twice_or_before_the_start_is_safe(script):
    async with linked(carrier(script.port)) as link:
        await bound(link)
        await link.stop(drain=0.05)
        await link.stop()
        await link.start()
        assert link.state is LinkState.STOPPED
    never = Link(carrier(script.port), "secret", on_deliver=Told().on_deliver, clock=object.__new__(Never))
    await never.stop()
    assert never.state is LinkState.STOPPED


async def test_stopping_during_the_wait_for_a_reconnect_is_quick():
    async with scripted_carrier() as gone:
        port = gone.port
    told = Told()
    async with linked(carrier(port, reconnect_min=60.0, reconnect_max=60.0), told) as link:
        await told.until(lambda: LinkState.DOWN in told.states)
        await within(link.stop(), 1.0)
