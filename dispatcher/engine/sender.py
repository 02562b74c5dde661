"""Claims queued segments ahead of need and writes them to the carriers' links.

Theory: one batch is being written while the next is being claimed, so a claim's commit to both sites costs
latency and not rate. A claim is good until its deadline: counted on our own clock from before the claim was
asked for, less a margin. Each link takes from the common backlog as it has room, of what its carrier may carry and
whose turn it is (`routing`), so nothing waits behind a slow or dead link.

An emergency overtakes: it is claimed first and written first, and it is looked for also while a whole batch of others
still waits to be written, which at a contract's rate may take more than a second.

Rules (messaging.md, "Claiming, sending, doubt"):

* Nothing is written past its deadline or its expiry, nor while the gate does not let this site send. Right
  before the write is the only place where that counts (`_write`). What has expired goes back to the queue like
  anything unwritten: that it is late for good is said by the database, by its own clock.
* What was provably never written goes back to the queue at once; what was written gets the carrier's answer,
  or is in doubt. Nothing is ever written twice under one claim.
* What no carrier can take now goes back to the queue with a time, before its claim ends and before it fills the
  backlog (`router`).
* A short code with a rate of its own never goes faster than that, over all links together (`short_codes`).
* Claims whose commit was unknown never reached us: `issued` tells them from those that did.
* What is about to be written stands in the journal first, so that the next life can tell it from what never was.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Protocol

import asyncpg
import structlog

from dispatcher.engine import outcome
from dispatcher.engine.backlog import Backlog, Claimed
from dispatcher.engine.results import Results
from dispatcher.engine.router import Router
from dispatcher.engine.routing import Table
from dispatcher.engine.schema import SchemaSeen
from dispatcher.engine.short_codes import ShortCodes
from dispatcher.journal import Journal
from dispatcher.leadership import Lane, Leadership, Unavailable
from dispatcher.metrics import Metrics
from dispatcher.model import Claim, MessageClass
from dispatcher.owned import Tasks, nap
from dispatcher.smpp.compose import compose
from dispatcher.smpp.link import Answer, Submission
from dispatcher.smpp.submission import Submit, unwritten
from dispatcher.store import Store
from sitecontrol.clock import Clock
from sitecontrol.settings import DispatcherSettings
from sitecontrol.settings_carriers import Carrier

log = structlog.get_logger()

WINDOWS_AHEAD = 4  # a batch is this many times what the carriers' windows hold
MARGIN = 0.1  # of the claim's length: what a write, and our clock against theirs, may be late
BUSY_PAUSE_S = 0.04  # between claims while less comes than was asked for
IDLE_PAUSE_S = 0.2  # the longest between claims while nothing comes and nobody wakes us
WRITE_MAX = 100  # segments in one write
ROOM_WITHIN_S = 0.25  # how long a link is waited for before looking round again
REFUSED_PAUSE_S = 0.01  # after a write of which a link took nothing
TURN_PAUSE_S = 0.002  # while it is another carrier's turn: its link has room, and takes it at once
HELD_PAUSE_S = 0.05  # at most, while every text waits for its short code: one of another may come meanwhile
TROUBLE_PAUSE_S = 0.5
FORGET_CLAIMS_AFTER_S = 900.0  # far beyond any claim's length


class SendingLink(Protocol):
    """What is used of `dispatcher.smpp.link.Link`."""

    @property
    def bound(self) -> bool: ...

    @property
    def free(self) -> bool: ...

    @property
    def throttled(self) -> bool: ...

    async def wait_bound(self, deadline: float) -> bool: ...

    async def room(self, most: int, deadline: float) -> int: ...

    def write(self, submits: Sequence[Submit], deadline: float) -> list[Submission]: ...


class Sender:
    def __init__(
        self,
        *,
        leadership: Leadership,
        results: Results,
        journal: Journal,
        identity: str,
        settings: DispatcherSettings,
        clock: Clock,
        metrics: Metrics,
        router: Router | None = None,
    ) -> None:
        self.router = router or Router(clock=clock)
        self._carriers: dict[SendingLink, Carrier] = {}
        self._feeding: dict[SendingLink, asyncio.Task[None]] = {}
        self._leadership = leadership
        self._results = results
        self._journal = journal
        self._identity = identity
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._links: list[tuple[Carrier, SendingLink]] = []
        self._backlog = Backlog()
        self._short_codes = ShortCodes()
        self._wake = asyncio.Event()
        self._looked_at = -inf  # when a claim was last asked for
        self._stopping = False
        self.tasks = Tasks("sender")
        self.claiming = asyncio.Lock()  # held while a claim is asked for
        self.issued: dict[int, float] = {}  # claims that reached us, and when
        self.schema = SchemaSeen()
        self.unanswered = 0  # segments written and without an answer
        self.all_answered = asyncio.Event()
        self.all_answered.set()

    @property
    def may_send(self) -> bool:
        return self._leadership.gate.may_send and not self._stopping

    @property
    def stopped(self) -> bool:
        """Whether nothing is being claimed and nothing will be written until the gate opens again."""
        return not self.may_send and not self.claiming.locked() and not len(self._backlog)

    @property
    def _bound_carriers(self) -> list[Carrier]:
        """That of each bound link over which new texts may go."""
        return [carrier for carrier, link in self._links if link.bound and carrier.weight]

    @property
    def unwritten(self) -> int:
        return len(self._backlog)

    async def start(self, links: Sequence[tuple[Carrier, SendingLink]], table: Table | None = None) -> None:
        """`table`: what the carriers may carry; else what the links' own say."""
        self.use(links, table or self._table_of(links))
        self._leadership.subscribe(self._wake)
        self.tasks.spawn(self._claim_forever(), "claim")
        self._feed_links()

    def use(self, links: Sequence[tuple[Carrier, SendingLink]], table: Table | None = None) -> None:
        """From now on these links, and no others, are written to. What waits finds its way anew."""
        self._links = list(links)
        self._carriers = {link: carrier for carrier, link in links}
        self._short_codes.use([carrier for carrier, _ in links], self._clock.now())
        self.router.use(table or self._table_of(links), links)
        waiting = self._backlog.withdraw()
        self._admit([replace(item, lane=self.router.lane(item.claim)) for item in waiting], again=True)

    async def change(self, links: Sequence[tuple[Carrier, SendingLink]], table: Table) -> None:
        """As `use`, while texts are being sent. When it returns, nothing is written to a link that is left out."""
        self.use(links, table)
        kept = {link for _, link in links}
        gone = [self._feeding.pop(link) for link in list(self._feeding) if link not in kept]
        await self.tasks.dismiss(*gone)
        self._feed_links()
        self._wake.set()

    def _table_of(self, links: Sequence[tuple[Carrier, SendingLink]]) -> Table:
        carriers = list({carrier.name: carrier for carrier, _ in links}.values())
        return Table(carriers, self._settings.route_by, self._settings.route_wait)

    def _feed_links(self) -> None:
        for carrier, link in self._links:
            if link not in self._feeding:
                task = self.tasks.spawn(self._feed(link), f"feed {carrier.name}")
                self._feeding[link] = task

    async def stop(self, *, drain: float = 0.0) -> None:
        """Claim and write no more, give back what was not written, wait up to `drain` seconds for answers."""
        self._stopping = True
        self._withdraw()
        try:
            async with asyncio.timeout(drain):
                async with self.claiming:  # a claim that is cut off here would have to be waited out
                    self._withdraw()
                await self.all_answered.wait()
        except TimeoutError:
            log.info("stopped_with_unanswered", segments=self.unanswered)
        await self.tasks.stop()
        self._withdraw()

    def late_answer(self, submission: Submission, answer: Answer) -> None:
        """An answer that came after its segment was called in doubt: it settles that doubt."""
        carrier, item = self._tag(submission)
        self._results.put(outcome.of_answer(item.claim, carrier.name, answer))

    # -- claiming

    async def _claim_forever(self) -> None:
        idle = BUSY_PAUSE_S
        while True:
            self._wake.clear()
            self._withdraw()
            self._give_back_stranded()
            wanted = self._wanted()
            claimed = await self._claim(wanted) if wanted else 0
            if claimed and claimed == wanted:
                continue
            if claimed:
                idle = BUSY_PAUSE_S
                await self._clock.sleep(BUSY_PAUSE_S)
                continue
            if wanted:
                await nap(self._wake, idle)
                idle = min(IDLE_PAUSE_S, idle * 2)
            else:
                await self._let_emergencies_in()
                await nap(self._wake, BUSY_PAUSE_S)

    async def _let_emergencies_in(self) -> None:
        """Look for emergencies, but not all the time: whoever accepts one elsewhere tells nobody here."""
        urgent = self._wanted_urgently()
        if urgent and self._clock.now() >= self._looked_at + BUSY_PAUSE_S:
            await self._claim(urgent, MessageClass.EMERGENCY)

    def _wanted(self) -> int:
        """How many to claim now: nothing while a whole batch still waits to be written, or may not be: others can."""
        batch, bound = self._batch(), self._bound_carriers
        return batch if len(self._backlog) < batch or (batch and self._somebody_has_less(batch, bound)) else 0

    def _somebody_has_less(self, than: int, bound: Sequence[Carrier]) -> bool:
        """Whether so few texts wait that one of these carriers may take, however many wait for others."""
        if self.router.plain:
            return False
        lanes = self._backlog.lanes.items()
        return any(
            sum(w.texts for lane, w in lanes if lane is None or carrier.name in lane.carriers) < than
            for carrier in bound
        )

    def _wanted_urgently(self) -> int:
        """How many emergencies to claim although a whole batch waits to be written: they go in front of it."""
        return max(0, self._batch() - self._backlog.emergencies)

    def _batch(self) -> int:
        """How many to claim at once; none when nothing may be written."""
        if not self.may_send or self._journal.blocks:
            return 0
        return batch_size(self._bound_carriers, self._settings)

    async def _claim(self, limit: int, down_to: MessageClass = MessageClass.MARKETING) -> int:
        async def op(store: Store, term: int) -> tuple[float, Sequence[Claim]]:
            if not self.may_send:  # it may have changed while this waited for its connection
                return 0.0, ()
            before = self._clock.now()
            claims = await store.claim(term, self._identity, limit, self._settings.claim_for, down_to=down_to)
            self.schema.works()
            return before, claims

        async with self.claiming:
            self._looked_at = self._clock.now()
            try:
                before, claims = await self._leadership.run(op, lane=Lane.CLAIM, hold_for=0.0)
            except Unavailable:
                return 0
            except asyncpg.PostgresError as error:
                if not self.schema.is_awaited(error):
                    log.error("claim_failed", error=str(error))  # noqa: TRY400 # the database's words say it
                await self._clock.sleep(TROUBLE_PAUSE_S)
                return 0
            now = self._clock.now()
            self.issued.update((claim.claim_id, now) for claim in claims)
        deadline = before + self._settings.claim_for * (1.0 - MARGIN)
        lane_of = self.router.lane
        self._admit(
            [
                Claimed(
                    claim,
                    deadline,
                    inf if claim.expires_in_s is None else before + claim.expires_in_s,
                    lane_of(claim),
                )
                for claim in claims
            ]
        )
        if claims:
            self._metrics.group("claim", len(claims))
        return len(claims)

    def _admit(self, items: Sequence[Claimed], *, again: bool = False) -> None:
        """Keep what can be written in time, and give back the rest with the time of its turn: what no carrier can take,
        and what its short code's rate leaves for later. `again`: the short codes have counted them before.
        """
        claim_for = self._settings.claim_for
        kept, away = self.router.admit(items, self._backlog.lanes, self._room_of, claim_for)
        if not again:
            kept, later = self._short_codes.admit(
                kept, self._bound_carriers, claim_for / 2, self._clock.now()
            )
            away += later
        self._backlog.add(kept)
        self._give_back(away)

    def _room_of(self, carriers: Collection[str]) -> int:
        bound = [carrier for carrier in self._bound_carriers if carrier.name in carriers]
        return batch_size(bound, self._settings)

    def _give_back(self, away: Sequence[tuple[Claimed, float]]) -> None:
        for item, seconds in away:
            self._results.put(replace(outcome.never_written(item.claim), retry_after_s=seconds))

    def _give_back_stranded(self) -> None:
        """What waits for carriers that have all gone, while others could take what is behind it."""
        if self.router.plain or not self._bound_carriers:
            return
        for lane in self.router.stranded(self._backlog.lanes):
            self._give_back(
                self.router.give_back(self._backlog.withdraw_lane(lane), self._settings.claim_for)
            )

    def forget_old_claims(self) -> None:
        limit = self._clock.now() - FORGET_CLAIMS_AFTER_S
        self.issued = {claim: at for claim, at in self.issued.items() if at > limit}

    def _withdraw(self) -> None:
        """Give back what may not be written any more: all of it when this site may not send."""
        gone = self._backlog.withdraw(self._clock.now()) if self.may_send else self._backlog.withdraw()
        for item in gone:
            self._results.put(outcome.never_written(item.claim))

    # -- writing

    async def _feed(self, link: SendingLink) -> None:
        """Write to one link, as long as it is ours, whatever it has room for."""
        while True:
            await self._backlog.wait()
            soon = self._clock.now() + ROOM_WITHIN_S
            if not link.bound:
                await link.wait_bound(soon)
                continue
            room = await link.room(min(WRITE_MAX, len(self._backlog)), soon)
            if room and (pause := self._write(self._carriers[link], link, room)):
                await self._clock.sleep(pause)
                continue
            self._wake.set()

    def _write(self, carrier: Carrier, link: SendingLink, room: int) -> float:
        """Write up to `room` segments; returns for how many seconds to pause: 0 when there may be more to write.

        Nothing here waits: what was checked is still so when it is written.
        """
        self._withdraw()
        turn = self._short_codes.turn(carrier, self._clock.now())
        quotas = self.router.quotas(carrier.name, self._settings.claim_for * (1.0 - MARGIN))
        taken = self._backlog.take(room, turn.may if turn else None, quotas)
        made = self._compose(carrier, self._unexpired(taken))
        written, unwritten = [], []
        for item, submission in self._hand_over(carrier, link, made) if made else ():
            if submission.written:
                self._written(carrier, item, submission)
                written.append(item)
                if turn:
                    turn.written(item)
            else:
                unwritten.append(item)
        self._backlog.put_back(unwritten)
        self.router.wrote(carrier.name, written)
        if written:
            return 0.0
        if quotas and quotas.turn:
            return TURN_PAUSE_S
        held = turn.wait_s if turn and not taken else 0.0
        return max(REFUSED_PAUSE_S, min(held, HELD_PAUSE_S))

    def _unexpired(self, items: Sequence[Claimed]) -> list[Claimed]:
        """Those that may still be sent; the others are given back."""
        now = self._clock.now()
        for item in items:
            if item.expires <= now:
                self._results.put(outcome.never_written(item.claim))
        return [item for item in items if item.expires > now]

    def _hand_over(
        self, carrier: Carrier, link: SendingLink, made: Sequence[tuple[Claimed, Submit]]
    ) -> list[tuple[Claimed, Submission]]:
        """Write these in one piece, or one by one when an odd one among them cannot be encoded."""
        deadline = min(item.deadline for item, _ in made)
        claims = [item.claim for item, _ in made]
        if not self._journal.about_to_write(claims, carrier.name):
            return [(item, unwritten(submit)) for item, submit in made]
        try:
            submissions = link.write([submit for _, submit in made], deadline)
        except ValueError as error:
            self._not_written(claims)
            if len(made) == 1:
                self._cannot_be_made(made[0][0], error)
                return []
            return [pair for one in made for pair in self._hand_over(carrier, link, [one])]
        self._not_written(
            [claim for claim, submission in zip(claims, submissions, strict=True) if not submission.written]
        )
        return [(item, submission) for (item, _), submission in zip(made, submissions, strict=True)]

    def _not_written(self, claims: Sequence[Claim]) -> None:
        if claims:
            self._journal.not_written(claims)

    def _compose(self, carrier: Carrier, items: Sequence[Claimed]) -> list[tuple[Claimed, Submit]]:
        made = []
        now = self._clock.now()
        for item in items:
            left = None if item.expires == inf else item.expires - now
            try:
                made.append((item, compose(item.claim, carrier, expires_in_s=left)))
            except ValueError as error:
                self._cannot_be_made(item, error)
        return made

    def _cannot_be_made(self, item: Claimed, error: ValueError) -> None:
        log.error("text_cannot_be_made", message_id=str(item.claim.message_id), error=str(error))
        self._results.put(outcome.cannot_be_made(item.claim))

    def _written(self, carrier: Carrier, item: Claimed, submission: Submission) -> None:
        submission.tag = (carrier, item)
        self.unanswered += 1
        self.all_answered.clear()
        submission.answer.add_done_callback(partial(self._answered, carrier, item))

    def _answered(self, carrier: Carrier, item: Claimed, answer: asyncio.Future[Answer]) -> None:
        self.unanswered -= 1
        if self.unanswered == 0:
            self.all_answered.set()
        told = answer.result()
        self.router.answered(carrier.name, item.claim, told)
        self._results.put(outcome.of_answer(item.claim, carrier.name, told))

    @staticmethod
    def _tag(submission: Submission) -> tuple[Carrier, Claimed]:
        tag = submission.tag
        if not isinstance(tag, tuple):
            raise TypeError("a late answer to a submit that the sender did not write")
        return tag


def batch_size(bound: Sequence[Carrier], settings: DispatcherSettings) -> int:
    """How many to claim at once for these links: enough to keep them busy, and no more than they can send."""
    window = WINDOWS_AHEAD * sum(carrier.window for carrier in bound)
    in_time = int(settings.claim_for / 4 * sum(carrier.rate for carrier in bound))
    return min(settings.claim_max, window, max(in_time, len(bound)))
