"""The simulated carrier: what it makes of a submit, which receipts follow, and who gets them."""

import asyncio
import hmac
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, Protocol

from dispatcher.encoding import choose, data_coding, decode, read_header, segment_octets, split
from dispatcher.model import Encoding
from dispatcher.simulator.due import Due
from dispatcher.simulator.faults import Faults, Stat
from dispatcher.simulator.mailbox import Delivery, Mailbox, MailboxCounters, Receiver
from dispatcher.simulator.submit_log import Line, SubmitLog, text_hash
from dispatcher.smpp.pace import Pace
from dispatcher.smpp.pdu import DeliverSm, EsmClass, SubmitSm, Tag
from dispatcher.smpp.status import CommandStatus

_MESSAGE_STATE: Final = {
    Stat.DELIVRD: 2,
    Stat.EXPIRED: 3,
    Stat.DELETED: 4,
    Stat.UNDELIV: 5,
    Stat.ACCEPTD: 6,
    Stat.UNKNOWN: 7,
    Stat.REJECTD: 8,
}
_UCS2: Final = 8
_UDHI: Final = int(EsmClass.UDHI)  # as a plain number: this is asked of every submit
_PRINTABLE: Final = bytes(octet if 32 <= octet < 127 else ord("?") for octet in range(256))


class Link(Receiver, Protocol):
    """A connection, as the carrier sees it."""

    number: int
    system_id: str

    def cut(self) -> None:
        """Break the connection at once."""
        ...

    def end(self) -> None:
        """Unbind and close."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What to answer to a submit."""

    status: CommandStatus
    message_id: str
    answered: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class _Taken:
    """A text that a receipt will be about."""

    link: Link
    submit: SubmitSm
    message_id: str
    text: str
    at: datetime


class Smsc:
    """One carrier with all its connections."""

    def __init__(
        self, *, passwords: Mapping[str, str], log: SubmitLog, faults: Faults, random: Random | None = None
    ) -> None:
        self._passwords = dict(passwords)
        self._log = log
        self._random = random or Random()  # noqa: S311 # simulated misfortune
        self._ids = f"{time.time_ns() // 1_000_000:x}"  # ids of an earlier run are never given again
        self._pace: Pace | None = None
        self._submits_left: int | None = None
        self._refuse: list[tuple[re.Pattern[str], CommandStatus]] = []
        self._outcome_for: list[tuple[re.Pattern[str], Stat]] = []
        self._due: Due[_Taken] = Due(self._bring_receipts)
        self.deliveries = MailboxCounters()
        self._mailboxes = {system_id: Mailbox(self.deliveries) for system_id in passwords}
        self.links: set[Link] = set()  # every connection that is bound
        self._nobody_bound = asyncio.Event()
        self._nobody_bound.set()
        self.answers: Counter[str] = Counter()  # submits by command_status
        self.unanswered = 0
        self.malformed = 0
        self.faults = faults
        self.behave(faults)

    @property
    def waiting(self) -> int:
        """Receipts and replies that are due and not acknowledged."""
        return sum(mailbox.waiting + mailbox.open for mailbox in self._mailboxes.values())

    @property
    def not_due(self) -> int:
        return len(self._due)

    def behave(self, faults: Faults) -> None:
        """From now on."""
        self.faults = faults
        self._pace = Pace(faults.rate, time.monotonic()) if faults.rate else None
        self._submits_left = faults.disconnect_after
        self._refuse = [(re.compile(p), CommandStatus[name]) for p, name in faults.refuse.items()]
        self._outcome_for = [(re.compile(p), stat) for p, stat in faults.outcome_for.items()]
        for mailbox in self._mailboxes.values():
            mailbox.retry_s = faults.retry_ms / 1000

    def bind(self, system_id: str, password: str) -> CommandStatus:
        """What to answer to a bind."""
        if self.faults.refuse_binds:
            return CommandStatus.ESME_RBINDFAIL
        if (expected := self._passwords.get(system_id)) is None:
            return CommandStatus.ESME_RINVSYSID
        if not hmac.compare_digest(expected.encode(), password.encode()):
            return CommandStatus.ESME_RINVPASWD
        return CommandStatus.ESME_ROK

    def attach(self, link: Link, *, receives: bool) -> None:
        """The connection was bound (and told so)."""
        self.links.add(link)
        self._nobody_bound.clear()
        if receives:
            self._mailboxes[link.system_id].attach(link)

    def detach(self, link: Link) -> None:
        if link in self.links:
            self.links.remove(link)
            self._mailboxes[link.system_id].detach(link)
            if not self.links:
                self._nobody_bound.set()

    def acknowledged(self, link: Link, sequence: int, status: int) -> None:
        self._mailboxes[link.system_id].answered(link, sequence, status)

    def pump(self, system_id: str) -> None:
        """There may be room for deliveries again."""
        self._mailboxes[system_id].pump()

    def submit(self, link: Link, submit: SubmitSm, sequence: int) -> Judgement:
        """Log it, and decide its fate. May cut the link."""
        status = self._refusal(submit)
        message_id = "" if status else f"{self._ids}{self.answers[CommandStatus.ESME_ROK.name]:08x}"
        cut = self._submits_left == 1
        if self._submits_left is not None:
            self._submits_left = None if cut else self._submits_left - 1
        answered = not (self.faults.silent or cut)
        text = self._write_line(link, submit, sequence, Judgement(
            status=status, message_id=message_id, answered=answered
        ))  # fmt: skip
        self.answers[status.name] += 1
        self.unanswered += not answered
        if message_id and submit.registered_delivery & 0x03 and self.faults.receipts:
            taken = _Taken(link=link, submit=submit, message_id=message_id, text=text, at=datetime.now(UTC))
            self._due.add(self.faults.receipt_delay_ms / 1000, taken)
        if cut:
            link.cut()
        return Judgement(status=status, message_id=message_id, answered=answered)

    def answer_delay_s(self) -> float:
        faults = self.faults
        return (faults.answer_delay_ms + self._random.uniform(0, faults.answer_jitter_ms)) / 1000

    def reply(self, *, source: str, destination: str, text: str, system_id: str | None = None) -> int:
        """A customer texts back; returns in how many parts. Raises KeyError for an unknown system_id."""
        mailbox = self._mailboxes[system_id] if system_id else next(iter(self._mailboxes.values()))
        encoding = choose(text)
        parts = len(split(text, encoding))
        reference = self._random.randrange(256)
        mailbox.put([
            Delivery(pdu=DeliverSm(
                source=source,
                destination=destination,
                esm_class=EsmClass.UDHI if parts > 1 else EsmClass.DEFAULT,
                data_coding=data_coding(encoding),
                short_message=segment_octets(text, encoding, number=number, reference=reference),
            ))
            for number in range(1, parts + 1)
        ])  # fmt: skip
        return parts

    def disconnect(self, system_id: str | None = None) -> int:
        """Cut the bound connections, all or those of one system_id; how many."""
        links = [link for link in self.links if system_id in {None, link.system_id}]
        for link in links:
            link.cut()
        return len(links)

    async def goodbye(self, within: float) -> None:
        """Unbind every connection, and give the ESMEs a moment to close theirs."""
        for link in list(self.links):
            link.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._nobody_bound.wait()

    def status(self) -> dict[str, Any]:
        deliveries = self.deliveries
        return {
            "binds": dict(Counter(link.system_id for link in self.links)),
            "submits": self.answers.total(),
            "taken": self.answers[CommandStatus.ESME_ROK.name],
            "answers": dict(self.answers),
            "unanswered": self.unanswered,
            "malformed": self.malformed,
            "receipts_not_due": self.not_due,
            "deliveries": {
                "waiting": self.waiting,
                "brought": deliveries.brought,
                "acknowledged": deliveries.acknowledged,
                "put_off": deliveries.put_off,
                "unanswered": deliveries.unanswered,
                "refused": deliveries.refused,
            },
            "faults": self.faults.model_dump(mode="json"),
        }

    def close(self) -> None:
        self._due.close()
        for mailbox in self._mailboxes.values():
            mailbox.close()
        self._log.close()

    def _refusal(self, submit: SubmitSm) -> CommandStatus:
        faults = self.faults
        for pattern, status in self._refuse:
            if pattern.fullmatch(submit.destination):
                return status
        if faults.throttle and self._random.random() < faults.throttle:
            return CommandStatus.ESME_RTHROTTLED
        if faults.queue_full and self._random.random() < faults.queue_full:
            return CommandStatus.ESME_RMSGQFUL
        if self._pace:
            if not self._pace.available(time.monotonic()):
                return CommandStatus.ESME_RTHROTTLED
            self._pace.take(1)
        return CommandStatus.ESME_ROK

    def _write_line(self, link: Link, submit: SubmitSm, sequence: int, judgement: Judgement) -> str:
        user_data = submit.user_data
        part = None
        if submit.esm_class & _UDHI:
            part, user_data = read_header(user_data)
        text = decode(user_data, Encoding.UCS2 if submit.data_coding == _UCS2 else Encoding.GSM)
        self._log.append(
            Line(
                t=time.time(),
                seq=sequence,
                link=link.number,
                system_id=link.system_id,
                source=submit.source,
                destination=submit.destination,
                ref=part.reference if part else None,
                part=part.number if part else 1,
                parts=part.total if part else 1,
                coding=submit.data_coding,
                sha256=text_hash(text),
                text=text,
                id=judgement.message_id or None,
                status=judgement.status,
                answered=judgement.answered,
            )
        )
        return text

    def _bring_receipts(self, taken: Sequence[_Taken]) -> None:
        by_system: dict[str, list[Delivery]] = {}
        now = datetime.now(UTC)
        for one in taken:
            delivery = Delivery(
                pdu=_receipt(one, self._outcome(one.submit.destination), now), preferred=one.link
            )
            by_system.setdefault(one.link.system_id, []).append(delivery)
        for system_id, deliveries in by_system.items():
            self._mailboxes[system_id].put(deliveries)

    def _outcome(self, destination: str) -> Stat:
        for pattern, stat in self._outcome_for:
            if pattern.fullmatch(destination):
                return stat
        weights = self.faults.outcome
        if len(weights) == 1:
            return next(iter(weights))
        return self._random.choices(list(weights), list(weights.values()))[0]


def _receipt(taken: _Taken, stat: Stat, now: datetime) -> DeliverSm:
    """A delivery receipt in text form with the optional parameters (appendix B and 5.3.2.12, 5.3.2.35)."""
    delivered = stat is Stat.DELIVRD
    beginning = taken.text[:20].encode("ascii", "replace").translate(_PRINTABLE)
    head = (
        f"id:{taken.message_id} sub:001 dlvrd:{int(delivered):03} submit date:{taken.at:%y%m%d%H%M} "
        f"done date:{now:%y%m%d%H%M} stat:{stat} err:{'000' if delivered else '001'} text:"
    )
    return DeliverSm(
        source=taken.submit.destination,
        source_ton=taken.submit.destination_ton,
        source_npi=taken.submit.destination_npi,
        destination=taken.submit.source,
        destination_ton=taken.submit.source_ton,
        destination_npi=taken.submit.source_npi,
        esm_class=EsmClass.RECEIPT,
        data_coding=1,
        short_message=head.encode("ascii") + beginning,
        tlvs=(
            (Tag.RECEIPTED_MESSAGE_ID, taken.message_id.encode() + b"\0"),
            (Tag.MESSAGE_STATE, bytes((_MESSAGE_STATE[stat],))),
        ),
    )
