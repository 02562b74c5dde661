"""The link over real sockets: what is certain, what is in doubt, and what it does to carriers that misbehave."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from dispatcher.model import Receipt, Reply, State
from dispatcher.smpp.link import Link, LinkState, Submission
from dispatcher.smpp.pdu import (
    BindMode,
    BindResp,
    Command,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EsmClass,
    GenericNack,
    SubmitSm,
    SubmitSmResp,
    Tag,
    Unbind,
    UnbindResp,
)
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.writer import encode
from tests.certificates import Certificates, make_certificates
from tests.smpp_scenes import SUBMIT, ScriptedCarrier, Told, carrier, linked, scripted_carrier, soon, within

# When octets leave depends on the loop's transports, so what is certain about that is tested on both loops.
on_both_loops = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story)


@pytest.fixture
async def script() -> AsyncIterator[ScriptedCarrier]:
    async with scripted_carrier() as script:
        yield script


def numbered(count: int) -> list[SubmitSm]:
    return [replace(SUBMIT, short_message=b"text %d" % n) for n in range(count)]


async def bound(link: Link) -> Link:
    assert await link.wait_bound(soon()), link.last_error
    return link


async def write(link: Link, count: int) -> list[Submission]:
    """Write so many, all of them."""
    assert await link.room(count, soon()) == count
    submissions = link.write(numbered(count), soon())
    assert all(submission.written for submission in submissions)
    return submissions


# -- binding


async def test_it_binds_and_says_so(script):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        assert told.states == [LinkState.BINDING, LinkState.BOUND]
        assert (link.counters.binds, link.last_error) == (1, "")


async def test_it_keeps_trying_while_nobody_listens():
    async with scripted_carrier() as gone:
        port = gone.port
    told = Told()
    async with linked(carrier(port), told) as link:
        await told.until(lambda: told.states.count(LinkState.DOWN) >= 3)
        assert not link.bound
        assert link.last_error


async def test_it_gives_up_a_carrier_that_does_not_answer_the_bind(script):
    script.answers_binds = False
    told = Told()
    async with linked(carrier(script.port, response_timeout=0.1), told) as link:
        await told.until(lambda: LinkState.DOWN in told.states)
        await within(script.visits[0].gone.wait())
        assert link.last_error == "no answer to connect or bind in time"


async def test_a_bind_that_is_answered_under_another_number_is_not_answered(script):
    script.answers_binds = False
    told = Told()
    async with linked(carrier(script.port, response_timeout=0.2), told) as link:
        (asked,) = await script.take(1)
        script.visit.send(BindResp(mode=BindMode.TRANSCEIVER, system_id="script"), asked.sequence + 1)
        await told.until(lambda: LinkState.DOWN in told.states)
        await within(script.visits[0].gone.wait())
        assert LinkState.BOUND not in told.states
        assert link.last_error == "no answer to connect or bind in time"


async def test_waiting_for_the_bind_ends_at_the_deadline(script):
    script.answers_binds = False
    async with linked(carrier(script.port)) as link:
        assert not await link.wait_bound(soon(0.05))


@pytest.mark.parametrize("password", ["123456789", "a\0b", "пароль"])
def test_a_password_that_does_not_fit_is_refused_when_the_link_is_made(password):
    with pytest.raises(ValueError):
        Link(carrier(1), password, on_deliver=Told().on_deliver, clock=object.__new__(_Never))


class _Never:
    def now(self) -> float:
        return 0.0


# -- the window


async def test_the_window_is_never_exceeded(script):
    async with linked(carrier(script.port, window=5)) as link:
        await bound(link)
        submissions = link.write(numbered(8), soon())
        assert [submission.written for submission in submissions] == [True] * 5 + [False] * 3
        assert (link.in_flight, await link.room(1, soon(0.05))) == (5, 0)
        received = await script.take(5)
        assert script.received.empty()
        script.visit.send(SubmitSmResp(message_id="a"), received[0].sequence)
        assert await link.room(5, soon()) == 1


async def test_answers_in_any_order_find_their_submits(script):
    async with linked(carrier(script.port)) as link:
        submissions = await write(await bound(link), 10)
        received = await script.take(10)
        for one in reversed(received):
            script.visit.send(SubmitSmResp(message_id=one.pdu.short_message.decode()), one.sequence)
        answers = [await within(submission.answer) for submission in submissions]
        assert [answer.message_id for answer in answers] == [f"text {n}" for n in range(10)]
        assert not any(answer.doubt for answer in answers)
        assert (link.in_flight, link.counters.answers) == (0, 10)


async def test_what_was_not_written_has_a_cancelled_answer(script):
    async with linked(carrier(script.port, window=1)) as link:
        await bound(link)
        _, unwritten = link.write(numbered(2), soon())
        assert unwritten.answer.cancelled()


async def test_many_tasks_may_submit_at_once(script):
    async with linked(carrier(script.port, window=3)) as link:
        await bound(link)
        tasks = [asyncio.create_task(link.submit(one, soon())) for one in numbered(30)]
        for _ in range(30):
            (received,) = await script.take(1)
            assert link.in_flight <= 3
            script.visit.send(SubmitSmResp(message_id="x"), received.sequence)
        assert all([(await within(task)).written for task in tasks])


async def test_the_rate_is_kept_per_segment(script):
    async with linked(carrier(script.port, rate=10.0, window=100)) as link:
        await bound(link)
        assert await link.room(100, soon()) == 1  # a bucket of 20 ms holds one at this rate
        link.write(numbered(1), soon())
        assert await link.room(100, soon(0.02)) == 0
        assert await link.room(100, soon()) == 1


# -- never written


@on_both_loops
def test_nothing_is_written_past_the_deadline(new_loop):
    async def story() -> None:
        async with scripted_carrier() as script, linked(carrier(script.port)) as link:
            await bound(link)
            (submission,) = link.write((SUBMIT,), soon(-0.001))
            assert not submission.written
            assert await link.room(1, soon(-0.001)) == 0
            await write(link, 1)
            (received,) = await script.take(1)
            assert received.pdu.short_message == b"text 0"

    run(new_loop, story())


async def test_nothing_is_written_while_not_bound(script):
    script.answers_binds = False
    async with linked(carrier(script.port)) as link:
        assert await link.room(1, soon()) == 0
        (submission,) = link.write((SUBMIT,), soon())
        assert not submission.written
        assert not (await link.submit(SUBMIT, soon())).written


async def test_a_submit_that_cannot_be_encoded_raises_and_nothing_is_written(script):
    async with linked(carrier(script.port)) as link:
        await bound(link)
        with pytest.raises(ValueError, match="destination_addr"):
            link.write((SUBMIT, replace(SUBMIT, destination="1" * 30)), soon())
        assert (link.in_flight, link.counters.submits) == (0, 0)


LARGE = replace(SUBMIT, short_message=b"", tlvs=((Tag.MESSAGE_PAYLOAD, bytes(60_000)),))


async def fill_the_socket(link: Link, deadline: float) -> int:
    """Write to a carrier that does not read, until octets lie in our own buffer; how many submits."""
    for count in range(1, 2000):
        (submission,) = link.write((LARGE,), deadline)
        if not submission.written:
            return count - 1
    raise AssertionError("a socket without end")


@on_both_loops
def test_while_octets_lie_in_the_buffer_no_submit_is_written(new_loop):
    async def story() -> None:
        async with scripted_carrier() as script, linked(carrier(script.port, window=1000, rate=1e6)) as link:
            await bound(link)
            script.visit.transport.pause_reading()
            written = await fill_the_socket(link, soon(30))
            assert await link.room(1, soon(0.05)) == 0
            assert link.in_flight == written
            script.visit.transport.resume_reading()
            assert await link.room(1, soon()) == 1
            assert len(await script.take(written)) == written

    run(new_loop, story())


@on_both_loops
def test_octets_still_in_the_buffer_at_the_deadline_are_aborted_and_in_doubt(new_loop):
    async def story() -> None:
        async with scripted_carrier() as script:
            told = Told()
            async with linked(carrier(script.port, window=1000, rate=1e6), told) as link:
                await bound(link)
                script.visit.transport.pause_reading()
                (first,) = link.write((SUBMIT,), soon(30))
                await fill_the_socket(link, soon(0.1))
                answer = await within(first.answer)
                assert answer.doubt
                assert answer.reason == "octets of a claim that has ended still lay in the buffer"
                await told.until(lambda: LinkState.DOWN in told.states)

    run(new_loop, story())


# -- doubt


@on_both_loops
def test_a_cut_in_the_middle_of_the_window_leaves_the_written_in_doubt(new_loop):
    async def story() -> None:
        async with scripted_carrier() as script, linked(carrier(script.port, window=5)) as link:
            await bound(link)
            submissions = link.write(numbered(8), soon())
            received = await script.take(5)
            script.visit.send(SubmitSmResp(message_id="a"), received[0].sequence)
            assert not (await within(submissions[0].answer)).doubt
            script.visit.cut()
            for submission in submissions[1:5]:
                assert (await within(submission.answer)).doubt
            assert not any(submission.written for submission in submissions[5:])
            assert link.counters.doubts == 4

    run(new_loop, story())


async def test_no_answer_in_time_is_doubt_and_stops_the_writing(script):
    told = Told()
    async with linked(carrier(script.port, response_timeout=0.1), told) as link:
        (submission,) = await write(await bound(link), 1)
        answer = await within(submission.answer)
        assert answer.doubt
        assert answer.reason == "no answer within 0.1 s"
        assert link.state is LinkState.STALLED
        assert await link.room(1, soon()) == 0


async def test_an_answer_after_the_doubt_is_told_and_the_writing_goes_on(script):
    told = Told()
    async with linked(carrier(script.port, response_timeout=0.5), told) as link:
        (submission,) = await write(await bound(link), 1)
        submission.tag = "claim 7"
        (received,) = await script.take(1)
        assert (await within(submission.answer)).doubt
        script.visit.send(SubmitSmResp(message_id="late"), received.sequence)
        await told.until(lambda: bool(told.late))
        ((late, answer),) = told.late
        assert (late.tag, answer.message_id, answer.doubt) == ("claim 7", "late", False)
        assert link.bound
        assert await link.room(1, soon()) == 1


async def test_one_lost_answer_among_others_does_not_stop_the_link(script):
    async with linked(carrier(script.port, response_timeout=0.6)) as link:
        lost, _ = await write(await bound(link), 2)
        _, second = await script.take(2)
        script.visit.send(SubmitSmResp(message_id="b"), second.sequence)
        assert (await within(lost.answer)).doubt
        assert link.bound
        assert link.in_flight == 0


async def test_a_carrier_that_never_answers_submits_is_left_and_tried_again(script):
    told = Told()
    async with linked(carrier(script.port, response_timeout=0.1), told) as link:
        await write(await bound(link), 1)
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)
        assert LinkState.STALLED in told.states
        assert link.counters.disconnects == 1
        assert len(script.visits) == 2


async def test_a_caller_that_gave_up_its_answer_disturbs_nothing(script):
    async with linked(carrier(script.port)) as link:
        first, second = await write(await bound(link), 2)
        first.answer.cancel()
        for received in await script.take(2):
            script.visit.send(SubmitSmResp(message_id="x"), received.sequence)
        assert not (await within(second.answer)).doubt


async def test_aborting_leaves_the_window_in_doubt_at_once(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        link.abort("the gate closed")
        answer = await within(submission.answer)
        assert (answer.doubt, answer.reason) == (True, "the gate closed")


# -- answers


async def test_an_error_is_an_answer_and_not_doubt(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.send(SubmitSmResp(), received.sequence, CommandStatus.ESME_RINVDSTADR)
        answer = await within(submission.answer)
        assert (answer.doubt, answer.command_status) == (False, CommandStatus.ESME_RINVDSTADR)


async def test_a_generic_nack_answers_the_submit_with_its_number(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.send(GenericNack(), received.sequence, CommandStatus.ESME_RINVCMDLEN)
        answer = await within(submission.answer)
        assert (answer.doubt, answer.command_status) == (False, CommandStatus.ESME_RINVCMDLEN)


async def test_an_answer_with_an_unreadable_id_still_says_that_the_text_was_taken(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.raw(struct.pack(">IIII", 86, Command.SUBMIT_SM_RESP, 0, received.sequence) + b"x" * 70)
        answer = await within(submission.answer)
        assert (answer.doubt, answer.command_status, answer.message_id) == (False, 0, "")
        assert link.counters.malformed == 1


@pytest.mark.parametrize(("characters", "kept"), [(64, 64), (65, 65), (66, 0)])
async def test_a_text_is_taken_however_long_the_id_of_its_answer_and_the_id_kept_that_a_receipt_can_name(
    script, characters, kept
):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        octets = b"f" * characters + b"\0"
        script.visit.raw(
            struct.pack(">IIII", 16 + len(octets), Command.SUBMIT_SM_RESP, 0, received.sequence) + octets
        )
        answer = await within(submission.answer)
        assert (answer.doubt, answer.command_status, answer.message_id) == (False, 0, "f" * kept)


async def test_a_submit_that_is_answered_under_another_number_is_in_doubt_and_the_carrier_is_left(script):
    told = Told()
    async with linked(carrier(script.port, response_timeout=0.2), told) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.send(SubmitSmResp(message_id="a"), received.sequence + 1)
        assert (await within(submission.answer)).doubt
        assert (link.counters.answers, link.counters.unexpected) == (0, 1)
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)


async def test_answers_to_nothing_are_counted(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.send(SubmitSmResp(message_id="?"), 999_999)
        script.visit.send(SubmitSmResp(message_id="a"), received.sequence)
        assert (await within(submission.answer)).message_id == "a"
        assert link.counters.unexpected == 1


@pytest.mark.parametrize("status", [CommandStatus.ESME_RTHROTTLED, CommandStatus.ESME_RMSGQFUL])
async def test_throttling_pauses_the_link_slows_it_down_and_then_goes_on(script, status):
    async with linked(carrier(script.port, rate=1000.0)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.send(SubmitSmResp(), received.sequence, status)
        assert (await within(submission.answer)).command_status == status
        assert link.counters.throttled == 1
        assert link.rate < 1000
        assert link.paused_for > 0
        assert not link.write((SUBMIT,), soon())[0].written
        assert await link.room(1, soon()) == 1


# -- receipts and replies


def receipt(text: bytes = b"id:7 stat:DELIVRD") -> DeliverSm:
    return DeliverSm(
        source="15550001111", destination="12345", esm_class=EsmClass.RECEIPT, short_message=text
    )


async def test_a_receipt_is_acknowledged_only_when_it_is_committed(script):
    told = Told()
    committed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def on_deliver(_arrived: object) -> bool:
        return await committed

    told.on_deliver = on_deliver  # type: ignore[method-assign] # this test decides when
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        script.visit.send(receipt(), 41)
        script.visit.send(EnquireLink(), 42)
        (first,) = await script.take(1)  # the link has read the receipt before it answered this
        assert first.command is Command.ENQUIRE_LINK_RESP
        committed.set_result(True)
        (acknowledged,) = await script.take(1)
        assert (acknowledged.pdu, acknowledged.sequence, acknowledged.status) == (DeliverSmResp(), 41, 0)
        assert link.counters.receipts == 1


@pytest.mark.parametrize("how", ["false", "raises"])
async def test_what_is_not_committed_is_asked_for_again(script, how):
    def fail(_arrived: object) -> bool:
        if how == "raises":
            raise ConnectionError("no leader")
        return False

    told = Told()
    told.commit = fail
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        script.visit.send(receipt(), 41)
        (refused,) = await script.take(1)
        assert refused.status == CommandStatus.ESME_RX_T_APPN
        assert link.counters.deliveries_refused == 1
        told.commit = lambda _: True
        script.visit.send(receipt(), 42)
        (acknowledged,) = await script.take(1)
        assert acknowledged.status == CommandStatus.ESME_ROK


async def test_what_arrives_together_is_committed_together_and_each_is_acknowledged(script):
    told = Told()
    batches: list[int] = []

    def commit(arrived):
        batches.append(len(arrived))
        return True

    told.commit = commit
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        frames = [
            script.visit.conversation.frame(receipt(b"id:%d stat:DELIVRD" % n), n) for n in range(1, 21)
        ]
        script.visit.raw(b"".join(frames))
        acknowledged = await script.take(20)
        assert [one.sequence for one in acknowledged] == list(range(1, 21))
        assert [one.carrier_message_id for one in told.delivered] == [str(n) for n in range(1, 21)]
        assert len(batches) < 20


async def test_of_ten_thousand_receipts_at_once_each_is_answered_by_whether_it_was_committed(script):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        frames = [encode(receipt(b"id:unknown-%d stat:DELIVRD" % n), n) for n in range(1, 10_001)]
        script.visit.raw(b"".join(frames))
        answers = await script.take(10_000)
        assert {one.sequence for one in answers} == set(range(1, 10_001))
        assert {one.status for one in answers} <= {CommandStatus.ESME_ROK, CommandStatus.ESME_RX_T_APPN}
        committed = {one.sequence for one in answers if one.status == CommandStatus.ESME_ROK}
        assert {f"unknown-{n}" for n in committed} == {one.carrier_message_id for one in told.delivered}
        assert committed
        assert link.bound


async def test_replies_and_receipts_are_told_apart(script):
    told = Told()
    async with linked(carrier(script.port), told) as link:
        await bound(link)
        script.visit.send(DeliverSm(source="15550001111", destination="12345", short_message=b"YES"), 1)
        script.visit.send(receipt(), 2)
        await script.take(2)
        reply, found = told.delivered
        assert isinstance(reply, Reply)
        assert (reply.carrier, reply.text) == ("aurora", "YES")
        assert isinstance(found, Receipt)
        assert found.state is State.DELIVERED
        assert (link.counters.replies, link.counters.receipts) == (1, 1)


async def test_a_receipt_that_tells_nothing_is_refused_for_good(script):
    async with linked(carrier(script.port)) as link:
        await bound(link)
        script.visit.send(receipt(b"nothing"), 1)
        (refused,) = await script.take(1)
        assert refused.status == CommandStatus.ESME_RX_P_APPN
        assert link.counters.malformed == 1


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
    never = Link(carrier(script.port), "secret", on_deliver=Told().on_deliver, clock=object.__new__(_Never))
    await never.stop()
    assert never.state is LinkState.STOPPED


async def test_stopping_during_the_wait_for_a_reconnect_is_quick():
    async with scripted_carrier() as gone:
        port = gone.port
    told = Told()
    async with linked(carrier(port, reconnect_min=60.0, reconnect_max=60.0), told) as link:
        await told.until(lambda: LinkState.DOWN in told.states)
        await within(link.stop(), 1.0)


# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.path("server.crt"), certificates.path("server.key"))
    return context


@on_both_loops
def test_over_tls_texts_and_answers_pass(new_loop, certificates):
    async def story() -> None:
        async with (
            scripted_carrier(server_context(certificates)) as script,
            linked(carrier(script.port, tls=True), tls=certificates.client_context()) as link,
        ):
            await bound(link)
            for _ in range(5):
                submissions = await write(link, 10)
                for received in await script.take(10):
                    script.visit.send(SubmitSmResp(message_id="x"), received.sequence)
                assert not any([(await within(submission.answer)).doubt for submission in submissions])

    run(new_loop, story())


@on_both_loops
def test_over_tls_too_no_submit_is_written_while_octets_lie_in_a_buffer(new_loop, certificates):
    async def story() -> None:
        async with (
            scripted_carrier(server_context(certificates)) as script,
            linked(
                carrier(script.port, window=1000, rate=1e6, tls=True), tls=certificates.client_context()
            ) as link,
        ):
            await bound(link)
            script.visit.transport.pause_reading()
            written = await fill_the_socket(link, soon(30))
            while await link.room(1, soon(0.1)):  # the other end's TLS has room for some more
                written += await fill_the_socket(link, soon(30))
            script.visit.transport.resume_reading()
            assert await link.room(1, soon()) == 1
            assert len(await script.take(written)) == written

    run(new_loop, story())


@on_both_loops
def test_over_tls_too_octets_in_a_buffer_at_the_deadline_are_aborted(new_loop, certificates):
    async def story() -> None:
        async with (
            scripted_carrier(server_context(certificates)) as script,
            linked(
                carrier(script.port, window=1000, rate=1e6, tls=True), tls=certificates.client_context()
            ) as link,
        ):
            await bound(link)
            script.visit.transport.pause_reading()
            (first,) = link.write((SUBMIT,), soon(30))
            await fill_the_socket(link, soon(1.0))
            while await link.room(1, soon(0.1)):
                await fill_the_socket(link, soon(1.0))
            assert (await within(first.answer)).reason.startswith("octets of a claim")

    run(new_loop, story())


async def test_a_carrier_with_an_unknown_certificate_is_not_trusted(certificates):
    told = Told()
    async with (
        scripted_carrier(server_context(certificates)) as script,
        linked(carrier(script.port, tls=True), told) as link,
    ):
        await told.until(lambda: LinkState.DOWN in told.states)
        assert "certificate" in link.last_error.lower()
        assert script.received.empty()
