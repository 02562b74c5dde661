"""The simulated carrier's parts: its behaviour settings, its log, and how receipts find an ESME."""

import asyncio
from collections.abc import Sequence

import pytest

from dispatcher.simulator import mailbox as mailbox_module
from dispatcher.simulator.due import Due
from dispatcher.simulator.faults import Faults, Stat, parse_outcome
from dispatcher.simulator.mailbox import WINDOW, Delivery, Mailbox, MailboxCounters
from dispatcher.simulator.submit_log import Line, SubmitLog, read_log, text_hash
from dispatcher.smpp.pdu import DeliverSm
from dispatcher.smpp.status import CommandStatus

# -- behaviour


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"throttle": 1.5}, "throttle"),
        ({"refuse": {"1555.*": "ESME_NONSENSE"}}, "ESME_NONSENSE"),
        ({"refuse": {"(": "ESME_RINVDSTADR"}}, "no regular expression"),
        ({"outcome": {"DELIVRD": 0}}, "weight above 0"),
        ({"outcome": {"LOST": 1}}, "outcome"),
        ({"rate": 0}, "rate"),
        ({"thottle": True}, "thottle"),
    ],
)
def test_a_mistake_in_the_behaviour_is_named(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        Faults().changed(given)


def test_a_change_leaves_the_rest_as_it_was():
    faults = Faults(receipt_delay_ms=7, outcome={Stat.UNDELIV: 1}).changed({"silent": True})
    assert (faults.silent, faults.receipt_delay_ms, faults.outcome) == (True, 7, {Stat.UNDELIV: 1})


def test_outcomes_are_given_alone_or_with_weights():
    assert parse_outcome("undeliv") == {Stat.UNDELIV: 1}
    assert parse_outcome("DELIVRD=0.9, UNDELIV=0.1") == {Stat.DELIVRD: 0.9, Stat.UNDELIV: 0.1}
    with pytest.raises(ValueError):
        parse_outcome("LOST")


# -- log


def line(number: int) -> Line:
    text = f"text {number} ✓"
    return Line(
        t=float(number),
        seq=number,
        link=1,
        system_id="hotsite",
        source="12345",
        destination="15550001111",
        ref=None,
        part=1,
        parts=1,
        coding=8,
        sha256=text_hash(text),
        text=text,
        id=str(number),
        status=0,
        answered=True,
    )


async def test_everything_logged_is_read_again_in_order(tmp_path):
    log = SubmitLog(tmp_path / "log")
    lines = [line(n) for n in range(500)]
    for one in lines:
        log.append(one)
    log.close()
    assert list(read_log(tmp_path / "log")) == lines


async def test_lines_reach_the_file_by_themselves(tmp_path):
    path = tmp_path / "log"
    log = SubmitLog(path)
    log.append(line(1))
    async with asyncio.timeout(5):
        while not path.read_bytes():  # noqa: ASYNC110 # a file has no event
            await asyncio.sleep(0.01)
    assert list(read_log(path)) == [line(1)]
    log.close()


async def test_a_log_is_continued_and_a_cut_last_line_is_left_out(tmp_path):
    path = tmp_path / "log"
    for number in (1, 2):
        log = SubmitLog(path)
        log.append(line(number))
        log.close()
    with path.open("ab") as file:
        file.write(b'{"t": 3.0, "se')
    assert list(read_log(path)) == [line(1), line(2)]


# -- things that become due


async def test_what_is_due_is_handed_over_in_order_of_time():
    done: list[str] = []
    everything = asyncio.Event()

    def act(items: Sequence[str]) -> None:
        done.extend(items)
        if len(done) == 3:
            everything.set()

    due = Due(act)
    due.add(0.03, "third")
    due.add(0.01, "first")
    due.add(0.02, "second")
    async with asyncio.timeout(5):
        await everything.wait()
    assert (done, len(due)) == (["first", "second", "third"], 0)


# -- mailbox


class Receiver:
    def __init__(self) -> None:
        self.got: list[str] = []
        self.arrived = asyncio.Event()

    def deliver(self, pdus: Sequence[DeliverSm]) -> Sequence[int]:
        begin = len(self.got)
        self.got += [pdu.source for pdu in pdus]
        self.arrived.set()
        return range(begin, len(self.got))


def delivery(name: str, preferred: Receiver | None = None) -> Delivery:
    return Delivery(pdu=DeliverSm(source=name, destination="12345"), preferred=preferred)


@pytest.fixture
async def counters() -> MailboxCounters:
    return MailboxCounters()


@pytest.fixture
async def mailbox(counters):
    mailbox = Mailbox(counters)
    mailbox.retry_s = 0.01
    yield mailbox
    mailbox.close()


async def test_deliveries_wait_until_somebody_is_bound(mailbox):
    mailbox.put([delivery("a"), delivery("b")])
    assert mailbox.waiting == 2
    receiver = Receiver()
    mailbox.attach(receiver)
    assert receiver.got == ["a", "b"]
    assert (mailbox.waiting, mailbox.open) == (0, 2)


async def test_a_receipt_goes_where_its_text_came_from_while_that_is_bound(mailbox):
    first, second = Receiver(), Receiver()
    mailbox.attach(first)
    mailbox.attach(second)
    mailbox.put([delivery("a", second), delivery("b", second)])
    assert (first.got, second.got) == ([], ["a", "b"])
    mailbox.detach(second)
    mailbox.put([delivery("c", second)])
    assert first.got == ["a", "b", "c"]  # what the second had not acknowledged comes first


async def test_others_go_to_the_receivers_in_turn(mailbox):
    first, second = Receiver(), Receiver()
    mailbox.attach(first)
    mailbox.attach(second)
    mailbox.put([delivery("a"), delivery("b"), delivery("c"), delivery("d")])
    assert (first.got, second.got) == (["a", "c"], ["b", "d"])


async def test_an_acknowledged_delivery_is_never_brought_again(mailbox, counters):
    receiver = Receiver()
    mailbox.attach(receiver)
    mailbox.put([delivery("a")])
    mailbox.answered(receiver, 0, CommandStatus.ESME_ROK)
    mailbox.answered(receiver, 0, CommandStatus.ESME_ROK)
    mailbox.detach(receiver)
    assert (mailbox.waiting, counters.acknowledged) == (0, 1)


async def test_what_is_put_off_is_brought_again(mailbox, counters):
    receiver = Receiver()
    mailbox.attach(receiver)
    mailbox.put([delivery("a")])
    receiver.arrived.clear()
    mailbox.answered(receiver, 0, CommandStatus.ESME_RX_T_APPN)
    async with asyncio.timeout(5):
        await receiver.arrived.wait()
    assert (receiver.got, counters.put_off) == (["a", "a"], 1)


async def test_what_is_refused_for_good_is_given_up(mailbox, counters):
    receiver = Receiver()
    mailbox.attach(receiver)
    mailbox.put([delivery("a")])
    mailbox.answered(receiver, 0, CommandStatus.ESME_RX_P_APPN)
    assert (mailbox.waiting, mailbox.open, counters.refused) == (0, 0, 1)


async def test_what_is_not_answered_in_time_is_brought_again(mailbox, counters, monkeypatch):
    monkeypatch.setattr(mailbox_module, "ANSWER_WITHIN_S", 0.02)
    receiver = Receiver()
    mailbox.attach(receiver)
    mailbox.put([delivery("a")])
    receiver.arrived.clear()
    async with asyncio.timeout(5):
        await receiver.arrived.wait()
    assert receiver.got == ["a", "a"]
    assert counters.unanswered == 1


async def test_no_more_than_the_window_is_unanswered(mailbox):
    receiver = Receiver()
    mailbox.attach(receiver)
    mailbox.put([delivery(str(n)) for n in range(WINDOW + 5)])
    assert (len(receiver.got), mailbox.waiting) == (WINDOW, 5)
    for sequence in range(3):
        mailbox.answered(receiver, sequence, CommandStatus.ESME_ROK)
    mailbox.pump()
    assert (len(receiver.got), mailbox.waiting) == (WINDOW + 3, 2)
