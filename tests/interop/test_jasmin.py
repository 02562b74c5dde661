"""Our link beside Jasmin's SMPP server: it binds, sends, and understands what that brings."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.alphabets import text_of
from dispatcher.encoding import choose, encode, read_header
from dispatcher.model import Receipt, Reply, ReplyPart, State
from dispatcher.replies import join
from dispatcher.smpp.link import Link, LinkState
from dispatcher.smpp.pdu import BindMode
from sitecontrol.settings_carriers import LongText
from tests.interop.peers import Peer, jasmin, running_jasmin
from tests.interop.texts import CUSTOMER, LONG_TEXTS, SHORT_CODE, TEXTS, submits
from tests.smpp_links import bound
from tests.smpp_scenes import Told, carrier, linked, soon, within
from tests.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]  # the first test may have to install it


@pytest.fixture(scope="module")
def python() -> Path:
    return jasmin()


@pytest.fixture
async def peer(python: Path, tmp_path: Path) -> AsyncIterator[Peer]:
    async with running_jasmin(python, tmp_path) as peer:
        yield peer


async def send(link: Link, peer: Peer, body: str, **settings: Any) -> list[dict[str, Any]]:
    """Send a text; what Jasmin got, part by part, in the order of sending, as it was answered."""
    got = []
    for submit in submits(carrier(peer.port, **settings), body):
        submission = await (await bound(link)).submit(submit, soon())
        answer = await within(submission.answer)
        part = await peer.got("submit_sm")
        assert (answer.doubt, answer.command_status, answer.message_id) == (False, 0, part["id"])
        got.append(part)
    return got


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS)
async def test_a_text_arrives_as_it_was_written(peer: Peer, body: str) -> None:
    async with linked(carrier(peer.port)) as link:
        [got] = await send(link, peer, body)
        assert (got["source"], got["destination"]) == (SHORT_CODE, CUSTOMER)
        assert got["coding"] == ("SMSC_DEFAULT_ALPHABET" if choose(body) == "gsm" else "UCS2")
        assert bytes.fromhex(got["octets"]) == encode(body, choose(body))


@pytest.mark.parametrize("body", LONG_TEXTS.values(), ids=LONG_TEXTS)
@pytest.mark.parametrize("long_text", LongText)
async def test_a_long_text_arrives_in_parts(peer: Peer, body: str, long_text: LongText) -> None:
    async with linked(carrier(peer.port)) as link:
        parts = await send(link, peer, body, long_text=long_text)
    text = ""
    for number, got in enumerate(parts, 1):
        octets = bytes.fromhex(got["octets"])
        if long_text is LongText.SAR:
            assert got["sar"] == [0xA7, len(parts), number]
            assert not got["udhi"]
        else:
            told, octets = read_header(octets)
            assert told
            assert (got["udhi"], told.reference, told.total, told.number) == (True, 0xA7, len(parts), number)
        text += text_of(octets, 0 if choose(body) == "gsm" else 8)
    assert text == body


async def test_how_long_a_text_is_worth_delivering_is_understood(peer: Peer) -> None:
    async with linked(carrier(peer.port)) as link:
        [submit] = submits(carrier(peer.port), "hi", expires_in_s=3_723)
        await within((await (await bound(link)).submit(submit, soon())).answer)
        got = await peer.got("submit_sm")
        assert got["validity"] == [0, 0, 0, 1, 2, 3]  # years, months, days, hours, minutes, seconds


@pytest.mark.parametrize("by", ["deliver_sm", "data_sm"])
@pytest.mark.parametrize(
    ("stat", "state"),
    [
        ("DELIVRD", State.DELIVERED),
        ("UNDELIV", State.UNDELIVERED),
        ("EXPIRED", State.EXPIRED),
        ("REJECTD", State.REJECTED),
        ("ESME_ROK", State.SUBMITTED),
    ],
)
async def test_its_receipts_are_understood(peer: Peer, by: str, stat: str, state: State) -> None:
    told = Told()
    async with linked(carrier(peer.port), told) as link:
        [got] = await send(link, peer, "hello")
        peer.do("receipt", by=by, id=got["id"], source=SHORT_CODE, destination=CUSTOMER, stat=stat)
        assert (await peer.got("answer"))["status"] == "ESME_ROK"
        [receipt] = told.delivered
        assert isinstance(receipt, Receipt)
        assert (receipt.carrier_message_id, receipt.state) == (got["id"], state)
        assert (receipt.source, receipt.destination) == (CUSTOMER, SHORT_CODE)


async def test_a_receipt_that_cannot_be_stored_now_is_put_off(peer: Peer) -> None:
    told = Told()
    told.commit = lambda _: False
    async with linked(carrier(peer.port), told) as link:
        [got] = await send(link, peer, "hello")
        peer.do(
            "receipt", by="deliver_sm", id=got["id"], source=SHORT_CODE, destination=CUSTOMER, stat="DELIVRD"
        )
        assert "ESME_RX_T_APPN" in (await peer.got("error"))["error"]


@pytest.mark.parametrize(
    ("text", "coding"), [("YES", "SMSC_DEFAULT_ALPHABET"), ("Ünï", "LATIN_1"), ("да ✓", "UCS2")]
)
async def test_a_customers_reply_is_read(peer: Peer, text: str, coding: str) -> None:
    told = Told()
    octets = text.encode("utf-16-be" if coding == "UCS2" else "latin-1")
    async with linked(carrier(peer.port), told) as link:
        await bound(link)
        peer.do(
            "deliver", source=CUSTOMER, destination=SHORT_CODE, octets=octets.hex(), coding=coding, udhi=False
        )
        assert (await peer.got("answer"))["status"] == "ESME_ROK"
        [reply] = told.delivered
        assert isinstance(reply, Reply)
        assert (reply.source, reply.destination, reply.text) == (CUSTOMER, SHORT_CODE, text)


@pytest.mark.parametrize("by", ["udh", "sar"])
async def test_a_reply_in_parts_is_put_together(peer: Peer, by: str) -> None:
    told = Told()
    async with linked(carrier(peer.port), told) as link:
        await bound(link)
        for number, text in ((2, "and it sparks"), (1, "The line is down ")):
            header = b"\x05\x00\x03\x09\x02" + bytes((number,)) if by == "udh" else b""
            sar = {"sar_msg_ref_num": 9, "sar_total_segments": 2, "sar_segment_seqnum": number}
            peer.do(
                "deliver",
                source=CUSTOMER,
                destination=SHORT_CODE,
                octets=(header + text.encode()).hex(),
                coding="SMSC_DEFAULT_ALPHABET",
                udhi=by == "udh",
                sar=sar if by == "sar" else {},
            )
            assert (await peer.got("answer"))["status"] == "ESME_ROK"
        parts = [part for part in told.delivered if isinstance(part, ReplyPart)]
        assert join(parts).text == "The line is down and it sparks"


async def test_a_transmitter_sends_and_a_receiver_gets_the_receipt(peer: Peer) -> None:
    told = Told()
    async with (
        linked(carrier(peer.port), told, mode=BindMode.RECEIVER) as receiver,
        linked(carrier(peer.port), mode=BindMode.TRANSMITTER) as sender,
    ):
        await bound(receiver)
        [got] = await send(sender, peer, "hello")
        peer.do(
            "receipt", by="deliver_sm", id=got["id"], source=SHORT_CODE, destination=CUSTOMER, stat="DELIVRD"
        )
        await peer.got("answer")
        assert [one.carrier_message_id for one in told.delivered if isinstance(one, Receipt)] == [got["id"]]


async def test_a_wrong_password_is_told_as_the_reason(peer: Peer) -> None:
    told = Told()
    async with linked(carrier(peer.port), told, password="wrong") as link:
        await told.until(lambda: LinkState.DOWN in told.states)
        assert "ESME_RINVPASWD" in link.last_error


async def test_signs_of_life_are_answered_and_the_session_is_ended_in_order(peer: Peer) -> None:
    told = Told()
    async with linked(carrier(peer.port, enquire_every=0.1), told) as link:
        await bound(link)
        await eventually(lambda: link.rtt_s is not None)
        await link.stop(drain=2.0)
        assert (link.counters.malformed, link.counters.unexpected) == (0, 0)
    assert told.states[-1] is LinkState.STOPPED


async def test_when_it_ends_the_session_the_link_comes_back(peer: Peer) -> None:
    told = Told()
    async with linked(carrier(peer.port), told) as link:
        await bound(link)
        peer.do("unbind")
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)
        await send(link, peer, "hello again")


async def test_a_hundred_texts_are_each_answered_once(peer: Peer) -> None:
    async with linked(carrier(peer.port, window=20)) as link:
        await bound(link)
        [submit] = submits(carrier(peer.port), "hello")
        submissions = [await link.submit(submit, soon()) for _ in range(100)]
        answers = [await within(submission.answer) for submission in submissions]
        assert len({answer.message_id for answer in answers if not answer.doubt}) == 100
