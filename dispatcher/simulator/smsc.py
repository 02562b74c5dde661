"""The simulated carrier: what it makes of a submit, which receipts follow, and who gets them."""

import asyncio
import hmac
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, Protocol

from dispatcher.encoding import decode
from dispatcher.model import Encoding
from dispatcher.simulator.due import Due
from dispatcher.simulator.faults import Brought, Faults, PartsAs, Stat
from dispatcher.simulator.mailbox import Delivery, Mailbox, MailboxCounters, Receiver
from dispatcher.simulator.receipts import Taken, as_data_sm, receipt, reply_parts, told_of
from dispatcher.simulator.submit_log import Line, SubmitLog, text_hash
from dispatcher.smpp.pace import Pace
from dispatcher.smpp.parts import part_of
from dispatcher.smpp.pdu import AlertNotification, DataSm, DeliverSm, QuerySm, QuerySmResp
from dispatcher.smpp.status import CommandStatus
from dispatcher.smpp.submission import Submit

_UCS2: Final = 8
KNOWN_MAX: Final = 10_000  # texts whose state can be asked for


class Link(Receiver, Protocol):
    """A connection, as the carrier sees it."""

    number: int
    system_id: str

    def tell(self, pdu: AlertNotification) -> bool:
        """Write what wants no answer; False when the connection is not bound to receive."""
        ...

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
        self._due: Due[Taken] = Due(self._bring_receipts)
        self.deliveries = MailboxCounters()
        self._mailboxes = {system_id: Mailbox(self.deliveries) for system_id in passwords}
        self.links: set[Link] = set()  # every connection that is bound
        self._nobody_bound = asyncio.Event()
        self._nobody_bound.set()
        self.answers: Counter[str] = Counter()  # submits by command_status
        self._known: dict[str, Stat | None] = {}  # by message id; None while it is under way
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

    def submit(self, link: Link, submit: Submit, sequence: int) -> Judgement:
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
        if message_id:
            self._know(message_id)
            taken = Taken(
                link=link,
                submit=submit,
                message_id=message_id,
                text=text,
                at=datetime.now(UTC),
                receipt=bool(submit.registered_delivery & 0x03 and self.faults.receipts),
            )
            self._due.add(self.faults.receipt_delay_ms / 1000, taken)
        if cut:
            link.cut()
        told = "" if self.faults.no_ids else message_id
        return Judgement(status=status, message_id=told, answered=answered)

    def query(self, query: QuerySm) -> tuple[CommandStatus, QuerySmResp]:
        """What became of a text."""
        if query.message_id not in self._known:
            return CommandStatus.ESME_RQUERYFAIL, QuerySmResp(message_id=query.message_id)
        return CommandStatus.ESME_ROK, told_of(query.message_id, self._known[query.message_id])

    def alert(self, pdu: AlertNotification) -> int:
        """Tell every receiver that a number is reachable; how many there were."""
        return sum(link.tell(pdu) for link in self.links)

    def answer_delay_s(self) -> float:
        faults = self.faults
        return (faults.answer_delay_ms + self._random.uniform(0, faults.answer_jitter_ms)) / 1000

    def reply(
        self,
        *,
        source: str,
        destination: str,
        text: str,
        system_id: str | None = None,
        parts_as: PartsAs = PartsAs.UDH,
        only: Collection[int] | None = None,
    ) -> int:
        """A customer texts back; returns in how many parts. `only` these arrive, if given.

        Raises KeyError for an unknown system_id.
        """
        mailbox = self._mailboxes[system_id] if system_id else next(iter(self._mailboxes.values()))
        reference = self._random.randrange(256)
        parts = reply_parts(
            source=source, destination=destination, text=text, reference=reference, parts_as=parts_as
        )
        arriving = [part for number, part in enumerate(parts, 1) if only is None or number in only]
        mailbox.put([Delivery(pdu=self._as_brought(part)) for part in arriving])
        return len(parts)

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

    def _refusal(self, submit: Submit) -> CommandStatus:
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

    def _write_line(self, link: Link, submit: Submit, sequence: int, judgement: Judgement) -> str:
        part, octets = part_of(submit)
        text = decode(octets, Encoding.UCS2 if submit.data_coding == _UCS2 else Encoding.GSM)
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

    def _know(self, message_id: str) -> None:
        self._known[message_id] = None
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def _as_brought(self, pdu: DeliverSm) -> DeliverSm | DataSm:
        return as_data_sm(pdu) if self.faults.bring_as is Brought.DATA_SM else pdu

    def _bring_receipts(self, taken: Sequence[Taken]) -> None:
        by_system: dict[str, list[Delivery]] = {}
        now = datetime.now(UTC)
        for one in taken:
            stat = self._outcome(one.submit.destination)
            if one.message_id in self._known:
                self._known[one.message_id] = stat
            if not one.receipt:
                continue
            pdu = self._as_brought(receipt(one, stat, now, self.faults.receipt_form))
            times = 2 if self.faults.receipts_twice else 1
            by_system.setdefault(one.link.system_id, []).extend(
                Delivery(pdu=pdu, preferred=one.link) for _ in range(times)
            )
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
