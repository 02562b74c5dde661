"""The forms that carriers have for one thing: receipts, texts and their parts; and what they may be asked."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatcher.model import State
from dispatcher.simulator.faults import Brought, Form
from dispatcher.simulator.submit_log import read_log
from dispatcher.smpp.compose import sar
from dispatcher.smpp.link import QueryRefusedError
from dispatcher.smpp.pdu import DataSm, QuerySm, Tag
from tests.smpp_scenes import Told, carrier, linked, soon, within
from tests.smsc_scenes import Scene, bound, send, simulator


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with simulator(tmp_path / "carrier.jsonl") as scene:
        yield scene


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("bring_as", Brought)
async def test_a_receipt_is_understood_in_every_form_that_carriers_give_it(tmp_path, form, bring_as):
    told = Told()
    async with (
        simulator(tmp_path / "log", receipt_form=form, bring_as=bring_as) as scene,
        linked(carrier(scene.port), told) as link,
    ):
        answer = await send(await bound(link))
        await told.until(lambda: bool(told.delivered))
        (receipt,) = told.delivered
        assert (receipt.carrier_message_id, receipt.state) == (answer.message_id, State.DELIVERED)
        assert receipt.text == ("" if form is Form.TLV else "hello")


async def test_a_text_in_data_sm_is_taken_logged_and_its_receipt_brought(tmp_path):
    told = Told()
    async with simulator(tmp_path / "log") as scene, linked(carrier(scene.port), told) as link:
        await bound(link)
        data = DataSm(
            source="12345",
            destination="15550001111",
            registered_delivery=1,
            tlvs=(*sar(7, 2, 1), (Tag.MESSAGE_PAYLOAD, b"hello")),
        )
        answer = await within((await link.submit(data, soon())).answer)
        await told.until(lambda: bool(told.delivered))
        assert told.delivered[0].carrier_message_id == answer.message_id
    (logged,) = read_log(scene.log)
    assert (logged["text"], logged["ref"], logged["part"], logged["parts"]) == ("hello", 7, 1, 2)


async def test_what_became_of_a_text_can_be_asked(scene):
    told = Told()
    scene.smsc.behave(scene.smsc.faults.changed({"receipt_delay_ms": 50, "outcome": {"UNDELIV": 1}}))
    async with linked(carrier(scene.port), told) as link:
        answer = await send(await bound(link))
        query = QuerySm(message_id=answer.message_id, source="12345")
        under_way = await link.query(query)
        assert (under_way.message_state, under_way.final_date) == (1, "")
        await told.until(lambda: bool(told.delivered))
        assert (await link.query(query)).message_state == 5
        with pytest.raises(QueryRefusedError, match="ESME_RQUERYFAIL"):
            await link.query(replace(query, message_id="none"))


async def test_a_carrier_may_tell_no_ids_and_bring_each_receipt_twice(scene):
    told = Told()
    scene.smsc.behave(scene.smsc.faults.changed({"no_ids": True, "receipts_twice": True}))
    async with linked(carrier(scene.port), told) as link:
        answer = await send(await bound(link))
        assert (answer.doubt, answer.command_status, answer.message_id) == (False, 0, "")
        await told.until(lambda: len(told.delivered) == 2)
        assert told.delivered[0] == told.delivered[1]
