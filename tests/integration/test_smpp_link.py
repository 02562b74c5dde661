"""The link over real sockets: binding, the window, what is certainly not written, and what is in doubt."""

import asyncio
from dataclasses import replace

import pytest

from dispatcher.smpp.link import Link, LinkState
from dispatcher.smpp.pdu import (
    BindMode,
    BindResp,
    SubmitSmResp,
)
from tests.smpp_links import Never, bound, fill_the_socket, numbered, on_both_loops, run, write
from tests.smpp_scenes import SUBMIT, Told, carrier, linked, scripted_carrier, soon, within

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
        Link(carrier(1), password, on_deliver=Told().on_deliver, clock=object.__new__(Never))


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
