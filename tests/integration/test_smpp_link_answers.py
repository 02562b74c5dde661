"""The link over real sockets: what a carrier's answers say, and how receipts and replies are answered."""

import asyncio
import struct

import pytest

from dispatcher.model import Receipt, Reply, State
from dispatcher.smpp.link import LinkState, QueryRefusedError
from dispatcher.smpp.pdu import (
    BindMode,
    Command,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EsmClass,
    GenericNack,
    QuerySm,
    QuerySmResp,
    SubmitSmResp,
    Tag,
    Ton,
)
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.writer import encode
from tests.smpp_links import bound, write
from tests.smpp_scenes import SUBMIT, Told, carrier, linked, soon, within

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


async def test_a_generic_nack_that_names_no_error_does_not_say_that_the_text_was_taken(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.send(GenericNack(), received.sequence)
        answer = await within(submission.answer)
        assert (answer.doubt, answer.command_status) == (False, CommandStatus.ESME_RUNKNOWNERR)


async def test_an_answer_with_an_unreadable_id_still_says_that_the_text_was_taken(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.raw(struct.pack(">IIII", 86, Command.SUBMIT_SM_RESP, 0, received.sequence) + b"x" * 70)
        answer = await within(submission.answer)
        assert (answer.doubt, answer.command_status, answer.message_id) == (False, 0, "")
        assert link.counters.malformed == 1


async def test_an_answer_without_an_id_still_says_that_the_text_was_taken(script):
    async with linked(carrier(script.port)) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.raw(struct.pack(">IIII", 16, Command.SUBMIT_SM_RESP, 0, received.sequence))
        answer = await within(submission.answer)
        assert (answer.doubt, answer.command_status, answer.message_id) == (False, 0, "")
        assert link.counters.malformed == 0


async def test_a_text_in_data_sm_is_answered_by_data_sm_resp(script):
    async with linked(carrier(script.port)) as link:
        data = DataSm(source="12345", destination="15550001111", tlvs=((Tag.MESSAGE_PAYLOAD, b"hi"),))
        submission = await (await bound(link)).submit(data, soon())
        (received,) = await script.take(1)
        assert received.pdu == data
        script.visit.send(DataSmResp(message_id="d-1"), received.sequence)
        assert (await within(submission.answer)).message_id == "d-1"


async def test_parameters_of_a_vendor_are_passed_over_wherever_they_stand(script):
    told = Told()
    vendor = struct.pack(">HH3s", 0x1400, 3, b"xyz")
    async with linked(carrier(script.port), told) as link:
        (submission,) = await write(await bound(link), 1)
        (received,) = await script.take(1)
        script.visit.raw(
            struct.pack(">IIII", 16 + 3 + 7, Command.SUBMIT_SM_RESP, 0, received.sequence) + b"77\0" + vendor
        )
        assert (await within(submission.answer)).message_id == "77"
        receipt = DeliverSm(
            source="15550001111",
            destination="12345",
            esm_class=EsmClass.RECEIPT,
            short_message=b"id:77 stat:DELIVRD",
            tlvs=((0x1400, b"xyz"), (0x3FFF, b""), (Tag.MESSAGE_STATE, b"\x02"), (0x0010, b"?")),
        )
        script.visit.send(receipt, 501)
        (answer,) = await script.take(1)
        assert (answer.sequence, answer.status) == (501, 0)
        assert (told.delivered[0].carrier_message_id, told.delivered[0].state) == ("77", State.DELIVERED)
        assert link.counters.malformed == 0


# -- queries


async def test_a_query_is_answered_beside_the_submits(script):
    async with linked(carrier(script.port, window=1)) as link:
        (submission,) = await write(await bound(link), 1)
        query = QuerySm(message_id="77", source="12345", source_ton=Ton.ABBREVIATED)
        asking = asyncio.create_task(link.query(query))
        submit, asked = await script.take(2)
        assert asked.pdu == query
        found = QuerySmResp(message_id="77", final_date="261127083000000+", message_state=2)
        script.visit.send(found, asked.sequence)
        assert await within(asking) == found
        assert not submission.answer.done()
        script.visit.send(SubmitSmResp(message_id="78"), submit.sequence)
        assert (await within(submission.answer)).message_id == "78"
        assert (link.counters.queries, link.counters.unexpected) == (1, 0)


@pytest.mark.parametrize(
    ("refusal", "status", "told"),
    [
        (QuerySmResp(), CommandStatus.ESME_RQUERYFAIL, "ESME_RQUERYFAIL"),
        (GenericNack(), CommandStatus.ESME_RINVCMDID, "ESME_RINVCMDID"),
    ],
)
async def test_a_carrier_that_will_not_answer_a_query_is_told_of(script, refusal, status, told):
    async with linked(carrier(script.port)) as link:
        asking = asyncio.create_task((await bound(link)).query(QuerySm(message_id="77", source="12345")))
        (asked,) = await script.take(1)
        script.visit.send(refusal, asked.sequence, status)
        with pytest.raises(QueryRefusedError, match=told):
            await within(asking)


async def test_a_query_without_an_answer_ends(script):
    async with linked(carrier(script.port, response_timeout=0.2)) as link:
        with pytest.raises(QueryRefusedError, match=r"no answer within 0\.2 s"):
            await within((await bound(link)).query(QuerySm(message_id="77", source="12345")))


async def test_a_receiver_cannot_ask(script):
    async with linked(carrier(script.port), mode=BindMode.RECEIVER) as link:
        with pytest.raises(QueryRefusedError, match="query_sm"):
            await (await bound(link)).query(QuerySm(message_id="77", source="12345"))


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
