"""The simulator as carriers are: our own link binds to it, and it misbehaves as it is told."""

import asyncio
import os
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner

from dispatcher.encoding import choose, segment_octets
from dispatcher.model import Receipt, Reply, State
from dispatcher.replies import join
from dispatcher.simulator.__main__ import main
from dispatcher.simulator.control import create_app
from dispatcher.simulator.faults import Faults, PartsAs
from dispatcher.simulator.submit_log import read_log, text_hash
from dispatcher.smpp.link import LinkState
from dispatcher.smpp.pdu import BindMode, EsmClass
from dispatcher.smpp.status import CommandStatus
from tests.ports import free_port
from tests.smpp_scenes import PASSWORD, SUBMIT, Told, carrier, linked, soon, within
from tests.smsc_scenes import Scene, bound, send, simulator


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with simulator(tmp_path / "carrier.jsonl") as scene:
        yield scene


# -- a healthy carrier


async def test_a_text_is_taken_logged_and_its_receipt_brought(tmp_path):
    told = Told()
    async with simulator(tmp_path / "log") as scene, linked(carrier(scene.port), told) as link:
        answer = await send(await bound(link))
        await told.until(lambda: bool(told.delivered))
        (receipt,) = told.delivered
    assert isinstance(receipt, Receipt)
    assert (receipt.carrier_message_id, receipt.state) == (answer.message_id, State.DELIVERED)
    assert (receipt.source, receipt.destination, receipt.text) == ("15550001111", "12345", "hello")
    (logged,) = read_log(scene.log)
    assert logged["id"] == answer.message_id
    assert (logged["destination"], logged["text"], logged["sha256"]) == (
        "15550001111",
        "hello",
        text_hash("hello"),
    )
    assert (logged["status"], logged["answered"], logged["parts"]) == (0, True, 1)


async def test_parts_of_a_text_are_logged_with_their_reference(tmp_path):
    body = "ж" * 100
    async with simulator(tmp_path / "log") as scene, linked(carrier(scene.port)) as link:
        await bound(link)
        for number in (1, 2):
            octets = segment_octets(body, choose(body), number=number, reference=9)
            await send(link, short_message=octets, esm_class=EsmClass.UDHI, data_coding=8)
    lines = list(read_log(scene.log))
    assert [(one["ref"], one["part"], one["parts"]) for one in lines] == [(9, 1, 2), (9, 2, 2)]
    assert "".join(one["text"] for one in lines) == body


async def test_no_receipt_comes_for_a_text_that_asked_for_none(scene):
    told = Told()
    async with linked(carrier(scene.port), told) as link:
        await send(await bound(link), registered_delivery=0)
        asked = await send(link, registered_delivery=1)
        await told.until(lambda: bool(told.delivered))
        assert [one.carrier_message_id for one in told.delivered] == [asked.message_id]


@pytest.mark.parametrize(
    ("system_id", "password", "refusal"),
    [("hotsite", "wrong", "ESME_RINVPASWD"), ("nobody", PASSWORD, "ESME_RINVSYSID")],
)
async def test_who_may_not_bind_is_told_why(scene, system_id, password, refusal):
    told = Told()
    async with linked(carrier(scene.port, system_id=system_id), told, password=password) as link:
        await told.until(lambda: LinkState.DOWN in told.states)
        assert refusal in link.last_error
        assert (link.bound, link.counters.binds, len(scene.smsc.links)) == (False, 0, 0)


async def test_several_links_of_one_account_each_get_their_own_receipts(scene):
    tolds = [Told(), Told()]
    async with linked(carrier(scene.port), tolds[0]) as one, linked(carrier(scene.port), tolds[1]) as two:
        answers = [await send(await bound(link)) for link in (one, two)]
        for told, answer in zip(tolds, answers, strict=True):
            await told.until(lambda told=told: bool(told.delivered))
            assert [r.carrier_message_id for r in told.delivered] == [answer.message_id]
        assert answers[0].message_id != answers[1].message_id


async def test_a_transmitter_sends_and_a_receiver_gets_the_receipts(scene):
    told = Told()
    async with (
        linked(carrier(scene.port), mode=BindMode.TRANSMITTER) as sender,
        linked(carrier(scene.port), told, mode=BindMode.RECEIVER) as receiver,
    ):
        await bound(receiver)
        answer = await send(await bound(sender))
        await told.until(lambda: bool(told.delivered))
        assert told.delivered[0].carrier_message_id == answer.message_id


async def test_receipts_wait_for_the_link_to_come_back(scene):
    async with linked(carrier(scene.port)) as link:
        scene.smsc.behave(scene.smsc.faults.changed({"receipt_delay_ms": 50}))
        answer = await send(await bound(link))
    told = Told()
    async with linked(carrier(scene.port), told) as link:
        await told.until(lambda: bool(told.delivered))
        assert told.delivered[0].carrier_message_id == answer.message_id


async def test_a_receipt_that_was_not_committed_is_brought_until_it_is(scene):
    told = Told()
    told.commit = lambda _: len(told.delivered) >= 3
    async with linked(carrier(scene.port), told) as link:
        await send(await bound(link))
        await told.until(lambda: len(told.delivered) == 3)
        assert len({receipt.carrier_message_id for receipt in told.delivered}) == 1
        assert (link.counters.deliveries_refused, scene.smsc.deliveries.put_off) == (2, 2)


# -- misbehaviour


async def test_throttling_is_answered_and_over_when_it_is_switched_off(scene):
    scene.smsc.behave(Faults(throttle=True))
    async with linked(carrier(scene.port)) as link:
        assert (await send(await bound(link))).command_status == CommandStatus.ESME_RTHROTTLED
        scene.smsc.behave(Faults())
        assert (await send(link)).command_status == CommandStatus.ESME_ROK


async def test_a_link_finds_the_rate_that_the_carrier_takes(scene):
    scene.smsc.behave(Faults(rate=200, receipts=False))
    async with linked(carrier(scene.port, window=50)) as link:
        await bound(link)
        taken = 0
        for _ in range(100):
            taken += (await send(link)).command_status == CommandStatus.ESME_ROK
        assert taken >= 60


async def test_silence_is_doubt_but_the_text_was_taken_and_its_receipt_comes(tmp_path):
    told = Told()
    async with (
        simulator(tmp_path / "log", silent=True) as scene,
        linked(carrier(scene.port, response_timeout=0.2), told) as link,
    ):
        assert (await send(await bound(link))).doubt
        await told.until(lambda: bool(told.delivered))
    (logged,) = read_log(scene.log)
    assert (logged["status"], logged["answered"]) == (0, False)
    assert told.delivered[0].carrier_message_id == logged["id"]


async def test_late_answers_out_of_order_still_match(scene):
    scene.smsc.behave(Faults(answer_delay_ms=10, answer_jitter_ms=60, receipts=False))
    async with linked(carrier(scene.port)) as link:
        await bound(link)
        assert await link.room(10, soon()) == 10
        submits = [replace(SUBMIT, destination=f"1555000{n:04}") for n in range(10)]
        answers = [await within(one.answer) for one in link.write(submits, soon())]
    scene.smsc._log.flush()
    by_id = {line["id"]: line["destination"] for line in read_log(scene.log)}
    assert [by_id[answer.message_id] for answer in answers] == [submit.destination for submit in submits]


async def test_a_cut_on_the_nth_submit_leaves_exactly_that_much_in_the_log(scene):
    scene.smsc.behave(Faults(disconnect_after=4, receipts=False))
    async with linked(carrier(scene.port)) as link:
        await bound(link)
        assert await link.room(10, soon()) == 10
        submissions = link.write([SUBMIT] * 10, soon())
        answers = [await within(submission.answer) for submission in submissions]
        assert sum(answer.doubt for answer in answers) >= 7
        await bound(link)
        assert not (await send(link)).doubt
    scene.smsc._log.flush()
    assert len(list(read_log(scene.log))) == 5


async def test_through_any_number_of_cuts_each_text_is_what_the_link_says_it_is(scene):
    """Never written: not in the carrier's log. Answered: in it, once. In doubt: perhaps."""
    numbers = iter(f"1555{n:07}" for n in range(2_000))
    fates: dict[str, set[str]] = {"unwritten": set(), "answered": set(), "doubt": set()}
    async with linked(carrier(scene.port, window=20)) as link:
        for cut in range(30):
            scene.smsc.behave(Faults(disconnect_after=1 + cut * 7 % 45, receipts=False))
            await bound(link)
            while link.bound and (room := await link.room(20, soon())):
                batch = [replace(SUBMIT, destination=next(numbers)) for _ in range(room + 3)]
                for submission in link.write(batch, soon()):
                    number = submission.submit.destination
                    if not submission.written:
                        fates["unwritten"].add(number)
                        continue
                    answer = await within(submission.answer)
                    fates["doubt" if answer.doubt else "answered"].add(number)
    scene.smsc._log.flush()
    logged = Counter(line["destination"] for line in read_log(scene.log))
    assert max(logged.values()) == 1
    assert not fates["unwritten"] & set(logged)
    assert fates["answered"] <= set(logged) <= fates["answered"] | fates["doubt"]
    assert all(fates.values())


async def test_numbers_are_refused_and_undeliverable_by_pattern(scene):
    scene.smsc.behave(
        Faults(
            receipt_delay_ms=1, refuse={"1555666.*": "ESME_RINVDSTADR"}, outcome_for={"1555777.*": "UNDELIV"}
        )
    )
    told = Told()
    async with linked(carrier(scene.port), told) as link:
        await bound(link)
        refused = await send(link, destination="15556660000")
        assert refused.command_status == CommandStatus.ESME_RINVDSTADR
        await send(link, destination="15557770000")
        await told.until(lambda: bool(told.delivered))
        assert told.delivered[0].state is State.UNDELIVERED


async def test_outcomes_follow_their_weights(scene):
    scene.smsc.behave(Faults(receipt_delay_ms=0, outcome={"DELIVRD": 1, "UNDELIV": 1}))
    told = Told()
    async with linked(carrier(scene.port, window=100), told) as link:
        await bound(link)
        assert await link.room(100, soon()) == 100
        link.write([SUBMIT] * 100, soon())
        await told.until(lambda: len(told.delivered) == 100)
        states = Counter(receipt.state for receipt in told.delivered)
        assert set(states) == {State.DELIVERED, State.UNDELIVERED}


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(16), os.urandom(200)])
async def test_garbage_is_survived(scene, garbage):
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
    writer.write(garbage)
    writer.write_eof()
    await within(reader.read())
    writer.close()
    async with linked(carrier(scene.port)) as link:
        assert not (await send(await bound(link))).doubt


async def test_a_submit_before_the_bind_is_refused(scene):
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
    writer.write(struct.pack(">IIII", 33, 4, 0, 1) + bytes(17))
    answer = struct.unpack(">IIII", (await within(reader.readexactly(17)))[:16])
    assert answer == (17, 0x80000004, CommandStatus.ESME_RINVBNDSTS, 1)
    writer.close()
    await writer.wait_closed()


# -- the control endpoint


@pytest.fixture
async def control(scene: Scene) -> AsyncIterator[Any]:
    async with TestClient(TestServer(create_app(scene.smsc))) as client:
        yield client


async def test_faults_are_changed_and_healed_over_http(scene, control):
    changed = await control.post("/faults", json={"silent": True, "throttle": 0.5})
    assert (await changed.json())["faults"]["silent"] is True
    assert (scene.smsc.faults.silent, scene.smsc.faults.throttle) == (True, 0.5)
    await control.delete("/faults")
    assert (scene.smsc.faults.silent, scene.smsc.faults.throttle) == (False, False)


async def test_links_are_cut_over_http(scene, control):
    told = Told()
    async with linked(carrier(scene.port), told) as link:
        await bound(link)
        answer = await control.post("/faults", json={"disconnect": "all"})
        assert (await answer.json())["disconnected"] == 1
        await told.until(lambda: told.states.count(LinkState.BOUND) == 2)


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("/faults", b'{"silent": "perhaps"}', "silent"),
        ("/faults", b"{", "JSON"),
        ("/faults", b"[1]", "object"),
        ("/inbound", b'{"from": "15550001111"}', "to"),
        ("/inbound", b'{"from": "1", "to": "2", "text": "x", "system_id": "who"}', "who"),
    ],
)
async def test_mistakes_are_explained(control, path, body, complaint):
    answer = await control.post(path, data=body)
    assert answer.status == 400
    assert complaint.lower() in (await answer.json())["error"].lower()


async def test_status_and_metrics_count(scene, control):
    told = Told()
    async with linked(carrier(scene.port), told) as link:
        await send(await bound(link))
        await told.until(lambda: bool(told.delivered))
        status = await (await control.get("/status")).json()
        assert (status["submits"], status["taken"], status["binds"]) == (1, 1, {"hotsite": 1})
        metrics = await (await control.get("/metrics")).text()
        assert 'smsc_submits_total{status="ESME_ROK"} 1.0' in metrics
        assert "smsc_binds 1.0" in metrics


@pytest.mark.parametrize("text", ["YES", "да ✓"])
async def test_a_customers_reply_is_brought(scene, control, text):
    told = Told()
    async with linked(carrier(scene.port), told) as link:
        await bound(link)
        answer = await control.post("/inbound", json={"from": "15550001111", "to": "12345", "text": text})
        assert (await answer.json())["parts"] == 1
        await told.until(lambda: bool(told.delivered))
        assert isinstance(told.delivered[0], Reply)
        assert told.delivered[0].text == text


@pytest.mark.parametrize("parts_as", PartsAs)
@pytest.mark.parametrize("text", ["long " * 100, "да ✓" * 50])
async def test_a_customers_long_reply_is_brought_in_parts(scene, control, parts_as, text):
    told = Told()
    async with linked(carrier(scene.port), told) as link:
        await bound(link)
        asked = {"from": "15550001111", "to": "12345", "text": text, "parts_as": parts_as}
        parts = (await (await control.post("/inbound", json=asked)).json())["parts"]
        await told.until(lambda: len(told.delivered) == parts)
        assert {one.number for one in told.delivered} == set(range(1, parts + 1))
        assert join(told.delivered).text == text
        await control.post("/inbound", json=asked | {"only": [2]})
        await told.until(lambda: len(told.delivered) == parts + 1)
        assert told.delivered[-1].number == 2


async def test_an_alert_is_told_to_who_receives(scene, control):
    told = Told()
    async with (
        linked(carrier(scene.port), told) as link,
        linked(carrier(scene.port), mode=BindMode.TRANSMITTER) as sender,
    ):
        await bound(sender)
        await bound(link)
        answer = await control.post("/alert", json={"from": "15550001111", "to": "12345"})
        assert await answer.json() == {"receivers": 1}
        await send(link)  # its receipt comes after the alert
        await told.until(lambda: bool(told.delivered))
        assert (link.counters.alerts, sender.counters.alerts, link.counters.malformed) == (1, 0, 0)


# -- the process


@dataclass(frozen=True, kw_only=True)
class Running:
    process: asyncio.subprocess.Process
    port: int
    control: int


@asynccontextmanager
async def process(folder: Path, *more: str) -> AsyncIterator[Running]:
    (folder / "password").write_text(PASSWORD + "\n")
    port, control = free_port(), free_port()
    arguments = (
        f"--listen=127.0.0.1:{port}",
        "--system-id=hotsite",
        f"--password-file={folder / 'password'}",
        f"--log={folder / 'log'}",
        f"--control=127.0.0.1:{control}",
        *more,
    )
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatcher.simulator", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield Running(process=running, port=port, control=control)
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def test_sigterm_unbinds_and_loses_no_line_of_the_log(tmp_path):
    told = Told()
    async with process(tmp_path) as running, linked(carrier(running.port), told) as link:
        assert await link.wait_bound(soon(20))
        answers = [await send(link) for _ in range(50)]
        running.process.send_signal(signal.SIGTERM)
        assert await within(running.process.wait(), 20) == 0
        await told.until(lambda: LinkState.DOWN in told.states)
    assert [line["id"] for line in read_log(tmp_path / "log")] == [answer.message_id for answer in answers]


async def test_the_control_endpoint_of_the_process_answers(tmp_path):
    async with process(tmp_path, "--rate=100") as running:
        assert running.process.stderr
        await within(running.process.stderr.readline(), 20)  # it says that it listens
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{running.control}/status") as answer,
        ):
            assert (await answer.json())["faults"]["rate"] == 100


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    """Options that would do; a test spoils one."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return {
        "--listen": "127.0.0.1:0",
        "--system-id": "hotsite",
        "--password-file": str(tmp_path / "password"),
        "--log": str(tmp_path / "log"),
    }


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--control", "0.0.0.0:1", "loopback"),
        ("--listen", "nowhere", "HOST:PORT"),
        ("--receipt-outcome", "LOST", "DELIVRD"),
        ("--rate", "0", "--rate"),
        ("--password-file", "/nonexistent", "nonexistent"),
        ("--log", "/nonexistent/log", "nonexistent"),
    ],
)
def test_a_bad_option_ends_it_with_status_2_and_the_cure(options, option, value, complaint):
    options[option] = value
    ended = CliRunner().invoke(main, [word for pair in options.items() for word in pair])
    assert ended.exit_code == 2
    assert complaint in ended.stderr


def test_a_password_longer_than_smpp_carries_is_refused(options):
    Path(options["--password-file"]).write_text("123456789")
    ended = CliRunner().invoke(main, [word for pair in options.items() for word in pair])
    assert (ended.exit_code, "8 octets" in ended.stderr) == (2, True)


def test_a_port_in_use_ends_it_with_status_2(options):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options["--listen"] = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = CliRunner().invoke(main, [word for pair in options.items() for word in pair])
    assert ended.exit_code == 2
    assert "in use" in ended.stderr
