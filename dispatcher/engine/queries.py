"""Asks carriers what became of texts whose receipts do not come (query_sm), where a carrier's settings want it.

Rules:

* A text is asked for `query_after` seconds after the carrier took it, and not at all once its receipt has come over a
  link of this process. One that is still under way is asked for again, each time after twice as long, `ASKED_MAX` times
  in all.
* A final answer is stored as the receipt that it stands for. Nothing hangs on who is first: receipts may be repeated.
* What is remembered is small and bounded, and lost with the process: then receipts, or the end of waiting for them,
  settle a text as they do everywhere else.
* Queries are few at a time, beside the window of submits and not within it.
"""

import asyncio
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

import structlog

from dispatcher.carrier_ids import carrier_id
from dispatcher.model import Receipt, State
from dispatcher.owned import Tasks
from dispatcher.smpp.link import Deliver, OnDeliver, QueryRefusedError
from dispatcher.smpp.pdu import QuerySm, QuerySmResp
from dispatcher.smpp.receipts import state_of, time_of
from dispatcher.smpp.submission import Answer, Submit
from sitecontrol.clock import Clock
from sitecontrol.settings_carriers import Carrier

log = structlog.get_logger()

EVERY_S: Final = 0.5
AT_ONCE: Final = 10  # queries in each round
REMEMBERED_MAX: Final = 50_000
ASKED_MAX: Final = 5
NOT_FINAL: Final = frozenset({State.ACCEPTED, State.SUBMITTED})


class AskedLink(Protocol):
    """What is used of `dispatcher.smpp.link.Link`."""

    @property
    def bound(self) -> bool: ...

    async def query(self, query: QuerySm) -> QuerySmResp: ...


@dataclass(frozen=True, slots=True)
class _Text:
    carrier: Carrier
    submit: Submit
    message_id: str
    asked: int = 0


Key = tuple[str, str]  # carrier, canonical id


class Queries:
    def __init__(self, *, store: OnDeliver, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._links: list[tuple[Carrier, AskedLink]] = []
        self._open: dict[Key, _Text] = {}
        self._due: list[tuple[float, int, Key]] = []
        self._order = count()
        self._asks = False
        self.tasks = Tasks("queries")

    @property
    def open(self) -> int:
        """Texts that will be asked for unless their receipts come."""
        return len(self._open)

    async def start(self, links: Sequence[tuple[Carrier, AskedLink]]) -> None:
        """`links`: those that send."""
        self.use(links)

    def use(self, links: Sequence[tuple[Carrier, AskedLink]]) -> None:
        """From now on. Nothing is started where no carrier is to be asked."""
        self._links = [(carrier, link) for carrier, link in links if carrier.query_after is not None]
        if self._links and not self._asks:
            self._asks = True
            self.tasks.spawn(self._ask_forever(), "ask")

    async def stop(self) -> None:
        await self.tasks.stop()

    def taken(self, carrier: Carrier, submit: Submit, answer: Answer) -> None:
        """A carrier has answered a submit."""
        if carrier.query_after is None or answer.command_status or not answer.message_id:
            return
        if len(self._open) < REMEMBERED_MAX:
            self._wait(_Text(carrier, submit, answer.message_id), carrier.query_after)

    async def deliver(self, rows: Sequence[Deliver]) -> bool:
        """`OnDeliver` for the links: what is stored needs no query any more."""
        stored = await self._store(rows)
        if stored and self._open:
            for row in rows:
                if isinstance(row, Receipt) and row.state not in NOT_FINAL:
                    for reading in carrier_id(row.carrier_message_id).readings:
                        self._open.pop((row.carrier, reading), None)
        return stored

    def _wait(self, text: _Text, seconds: float) -> None:
        key = text.carrier.name, carrier_id(text.message_id).canonical
        self._open[key] = text
        heapq.heappush(self._due, (self._clock.now() + seconds, next(self._order), key))

    async def _ask_forever(self) -> None:
        while True:
            await self._clock.sleep(EVERY_S)
            await asyncio.gather(*(self._ask(text) for text in self._take_due()))

    def _take_due(self) -> list[_Text]:
        now = self._clock.now()
        due: list[_Text] = []
        while self._due and self._due[0][0] <= now and len(due) < AT_ONCE:
            text = self._open.pop(heapq.heappop(self._due)[2], None)
            if text is not None:
                due.append(text)
        return due

    async def _ask(self, text: _Text) -> None:
        link = next((link for c, link in self._links if c.name == text.carrier.name and link.bound), None)
        if link is None:
            self._wait(text, EVERY_S)
            return
        try:
            answer = await link.query(
                QuerySm(
                    message_id=text.message_id,
                    source=text.submit.source,
                    source_ton=text.submit.source_ton,
                    source_npi=text.submit.source_npi,
                )
            )
        except QueryRefusedError as error:
            log.info(
                "query_refused", carrier=text.carrier.name, message_id=text.message_id, reason=str(error)
            )
            state = None
        else:
            state = state_of(answer.message_state)
            if (
                state is not None
                and state not in NOT_FINAL
                and await self._store([_receipt(text, answer, state)])
            ):
                return
        if text.asked + 1 < ASKED_MAX and text.carrier.query_after is not None:
            again = _Text(text.carrier, text.submit, text.message_id, text.asked + 1)
            self._wait(again, text.carrier.query_after * 2.0**again.asked)


def _receipt(text: _Text, answer: QuerySmResp, state: State) -> Receipt:
    return Receipt(
        carrier=text.carrier.name,
        carrier_message_id=text.message_id,
        state=state,
        source=text.submit.destination,
        destination=text.submit.source,
        text="",
        error=f"{answer.error_code:03}",
        done_at=time_of(answer.final_date[:12]),
    )
