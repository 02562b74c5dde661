"""Our link beside the SMPP server of the npm package `smpp`: it binds, sends, asks, understands what that brings."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.encoding import choose
from dispatcher.model import Receipt, Reply, ReplyPart, State
from dispatcher.replies import join
from dispatcher.smpp.link import Link, LinkState, QueryRefusedError
from dispatcher.smpp.pdu import BindMode, QuerySm
from dispatcher.smpp.status import CommandStatus, StatusClass, describe
from sitecontrol.settings_carriers import LongText, Request
from tests.interop.peers import Peer, npm_smpp, running_npm_smpp
from tests.interop.texts import CUSTOMER, LONG_TEXTS, SHORT_CODE, TEXTS, submits
from tests.smpp_links import bound
from tests.smpp_scenes import Told, carrier, linked, soon, within
from tests.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]  # the first test may have to install it

BOTH = {"source": CUSTOMER, "destination": SHORT_CODE}


@pytest.fixture(scope="module")
def modules() -> Path:
    return npm_smpp()


@pytest.fixture
async def peer(modules: Path) -> AsyncIterator[Peer]:
    async with running_npm_smpp(modules) as peer:
        yield peer


async def send(link: Link, peer: Peer, body: str, **settings: Any) -> list[dict[str, Any]]:
    """Send a text; what it got, part by part, in the order of sending, as it was answered."""
    got = []
    chosen = carrier(peer.port, **settings)
    for submit in submits(chosen, body):
        submission = await (await bound(link)).submit(submit, soon())
        answer = await within(submission.answer)
        part = await peer.got(chosen.request)
        assert (answer.doubt, answer.command_status, answer.message_id) == (False, 0, part["id"])
        got.append(part)
    return got


@pytest.mark.parametrize("request_by", Request)
@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
async def test_a_text_arrives_as_it_was_written(peer: Peer, body: str, request_by: Request) -> None:
    async with linked(carrier(peer.port)) as link:
        [got] = await send(link, peer, body, request=request_by)
        assert (got["source"], got["destination"], got["text"]) == (SHORT_CODE, CUSTOMER, body)
        assert (got["coding"], got["registered_delivery"]) == (0 if choose(body) == "gsm" else 8, 1)


@pytest.mark.parametrize("body", LONG_TEXTS.values(), ids=LONG_TEXTS)
@pytest.mark.parametrize(
    ("request_by", "long_text"),
    [
        (Request.SUBMIT_SM, LongText.UDH),
        (Request.SUBMIT_SM, LongText.SAR),
        (Request.SUBMIT_SM, LongText.PAYLOAD),
        (Request.DATA_SM, LongText.UDH),
        (Request.DATA_SM, LongText.SAR),
    ],
)
async def test_a_long_text_arrives_in_parts(
    peer: Peer, body: str, request_by: Request, long_text: LongText
) -> None:
    async with linked(carrier(peer.port)) as link:
        parts = await send(link, peer, body, request=request_by, long_text=long_text)
    in_payload = long_text is LongText.PAYLOAD
    assert "".join(got["payload"] if in_payload else got["text"] for got in parts) == body
    for number, got in enumerate(parts, 1):
        if long_text is LongText.SAR:
            assert (got["sar"], got["esm_class"]) == ([0xA7, len(parts), number], 0)
        else:
            assert got["esm_class"] == 0x40
        if long_text is LongText.UDH:
            assert bytes.fromhex("".join(got["udh"]))[-3:] == bytes((0xA7, len(parts), number))


async def test_how_long_a_text_is_worth_delivering_is_understood(peer: Peer) -> None:
    async with linked(carrier(peer.port)) as link:
        for request_by in Request:
            [submit] = submits(carrier(peer.port, request=request_by), "hi", expires_in_s=3_600)
            await within((await (await bound(link)).submit(submit, soon())).answer)
        assert (await peer.got("submit_sm"))["validity"]
        assert (await peer.got("data_sm"))["time_to_live"] == 3_600


@pytest.mark.parametrize("by", ["deliver_sm", "data_sm"])
@pytest.mark.parametrize(
    ("stat", "told_as", "state"),
    [
        ("DELIVRD", "DELIVERED", State.DELIVERED),
        ("UNDELIV", "UNDELIVERABLE", State.UNDELIVERED),
        ("EXPIRED", "EXPIRED", State.EXPIRED),
    ],
)
async def test_its_receipts_are_understood(
    peer: Peer, by: str, stat: str, told_as: str, state: State
) -> None:
    told = Told()
    async with linked(carrier(peer.port), told) as link:
        [got] = await send(link, peer, "hello")
        peer.do("receipt", by=by, id=got["id"], stat=stat, state=told_as, **BOTH)
        assert (await peer.got("answer"))["status"] == 0
        [receipt] = told.delivered
        assert isinstance(receipt, Receipt)
        assert (receipt.carrier_message_id, receipt.state) == (got["id"], state)
        assert (receipt.source, receipt.destination) == (CUSTOMER, SHORT_CODE)
        assert link.counters.malformed == 0


async def test_a_receipt_that_cannot_be_stored_now_is_put_off(peer: Peer) -> None:
    told = Told()
    told.commit = lambda _: False
    async with linked(carrier(peer.port), told) as link:
        await bound(link)
        peer.do("receipt", by="deliver_sm", id="1", stat="DELIVRD", state="DELIVERED", **BOTH)
        assert (await peer.got("answer"))["status"] == CommandStatus.ESME_RX_T_APPN


@pytest.mark.parametrize(("text", "coding"), [("YES @ 5€", 0), ("Ünï", 3), ("да ✓", 8)])
async def test_a_customers_reply_is_read(peer: Peer, text: str, coding: int) -> None:
    told = Told()
    async with linked(carrier(peer.port), told) as link:
        await bound(link)
        peer.do("deliver", text=text, coding=coding, **BOTH)
        assert (await peer.got("answer"))["status"] == 0
        [reply] = told.delivered
        assert isinstance(reply, Reply)
        assert (reply.source, reply.destination, reply.text) == (CUSTOMER, SHORT_CODE, text)


@pytest.mark.parametrize("by", ["udh", "sar"])
async def test_a_reply_in_parts_is_put_together(peer: Peer, by: str) -> None:
    told = Told()
    async with linked(carrier(peer.port), told) as link:
        await bound(link)
        for number, text in ((2, "and it sparks ⚡"), (1, "The line is down ")):
            if by == "udh":
                how: dict[str, Any] = {"udh": bytes((5, 0, 3, 9, 2, number)).hex()}
            else:
                names = ("sar_msg_ref_num", "sar_total_segments", "sar_segment_seqnum")
                how = {"sar": dict(zip(names, (9, 2, number), strict=True))}
            peer.do("deliver", text=text, coding=8, **BOTH, **how)
            assert (await peer.got("answer"))["status"] == 0
        parts = [part for part in told.delivered if isinstance(part, ReplyPart)]
        assert join(parts).text == "The line is down and it sparks ⚡"


async def test_each_of_its_refusals_is_an_answer(peer: Peer) -> None:
    refusals = [status for status in CommandStatus if describe(status).status_class is not StatusClass.OK]
    [submit] = submits(carrier(peer.port), "hello")
    answers = []
    async with linked(carrier(peer.port)) as link:
        await bound(link)
        for status in refusals:
            peer.do("answer_with", status=status)
            await peer.got("told")
            answers.append(await within((await link.submit(submit, soon(30.0))).answer))
            if describe(status).status_class is StatusClass.THROTTLED:
                assert link.paused_for > 0
    assert [(answer.doubt, answer.command_status) for answer in answers] == [(False, s) for s in refusals]


async def test_what_became_of_a_text_can_be_asked(peer: Peer) -> None:
    async with linked(carrier(peer.port)) as link:
        [got] = await send(link, peer, "hello")
        found = await link.query(QuerySm(message_id=got["id"], source=SHORT_CODE))
        assert (found.message_id, found.message_state) == (got["id"], 2)
        assert found.final_date.startswith("261127083000")
        with pytest.raises(QueryRefusedError, match="ESME_RQUERYFAIL"):
            await link.query(QuerySm(message_id="none", source=SHORT_CODE))


async def test_an_alert_is_passed_over_and_an_unknown_request_is_nacked(peer: Peer) -> None:
    async with linked(carrier(peer.port)) as link:
        await bound(link)
        peer.do("alert", **BOTH)
        assert (await peer.got("answer"))["command"] == "enquire_link_resp"
        peer.do("unknown", **BOTH)
        answer = await peer.got("answer")
        assert (answer["command"], answer["status"]) == ("generic_nack", CommandStatus.ESME_RINVCMDID)
        await send(link, peer, "hello")
        assert (link.counters.alerts, link.counters.malformed) == (1, 1)


async def test_a_transmitter_sends_and_a_receiver_gets_the_receipt(peer: Peer) -> None:
    told = Told()
    async with (
        linked(carrier(peer.port), told, mode=BindMode.RECEIVER) as receiver,
        linked(carrier(peer.port), mode=BindMode.TRANSMITTER) as sender,
    ):
        await bound(receiver)
        [got] = await send(sender, peer, "hello")
        peer.do("receipt", by="deliver_sm", id=got["id"], stat="DELIVRD", state="DELIVERED", **BOTH)
        await peer.got("answer")
        assert [one.carrier_message_id for one in told.delivered if isinstance(one, Receipt)] == [got["id"]]


async def test_a_wrong_password_is_told_as_the_reason(peer: Peer) -> None:
    told = Told()
    async with linked(carrier(peer.port), told, password="wrong") as link:
        await told.until(lambda: LinkState.DOWN in told.states)
        assert "ESME_RINVPASWD" in link.last_error


async def test_signs_of_life_are_answered_and_the_session_is_ended_in_order(peer: Peer) -> None:
    async with linked(carrier(peer.port, enquire_every=0.1)) as link:
        await bound(link)
        await peer.got("enquire_link")
        await eventually(lambda: link.rtt_s is not None)
        await link.stop(drain=2.0)
        await peer.got("unbind")
        assert (link.counters.malformed, link.counters.unexpected) == (0, 0)


async def test_when_it_ends_the_session_the_link_comes_back(peer: Peer) -> None:
    told = Told()
    async with linked(carrier(peer.port), told) as link:
        await bound(link)
        peer.do("unbind")
        assert (await peer.got("answer"))["command"] == "unbind_resp"
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)
        await send(link, peer, "hello again")
