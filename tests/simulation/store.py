"""The store of a dispatcher that sends, on one start of one server: what `PostgresStore` promises, in the model."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from dispatcher.leadership import ATTEMPT_S
from dispatcher.model import Claim, Encoding, MessageClass, OpenClaim, SubmitResult
from dispatcher.store import NotLeader
from replication.errors import CommitUnknown, SessionLost
from tests.simulation.postgres import Database, NotAllowed, Server
from tests.simulation.queue import Queue
from tests.simulation.scheduler import Scheduler

ASK_WITHIN_S = 2.0


class ModelStore:
    """Every call asks the server that it was dialled to, and no later one."""

    def __init__(self, scheduler: Scheduler, database: Database, server: Server, place: str) -> None:
        self._scheduler, self._database, self._server, self._place = scheduler, database, server, place
        self.closed = False
        self.claimed: Callable[[Database, int, float], None] = lambda _database, _term, _since: None

    @classmethod
    async def dial(cls, scheduler: Scheduler, database: Database, place: str) -> "ModelStore":
        await scheduler.wait(database.world.rng.uniform(0.002, 0.08))
        server = database.up()
        if server is None or server.closing or not database.world.network.talk(place, database.place):
            raise SessionLost("nobody answers")
        return cls(scheduler, database, server, place)

    @property
    def gone(self) -> bool:
        """As TCP tells it: the server's end has closed, and its word gets here."""
        ended = self._database.server is not self._server
        return self.closed or (ended and self._reached)

    @property
    def _reached(self) -> bool:
        return self._database.world.network.talk(self._place, self._database.place)

    async def is_open(self, term: int, canary_max_age_s: float | None = None) -> bool:
        await self._answers()
        if self._database.opened_here(self._server) != term:
            return False
        return canary_max_age_s is None or self._scheduler.now - self._server.canary_at <= canary_max_age_s

    async def claim(
        self,
        term: int,
        dispatcher: str,
        limit: int,
        claim_for_s: float,
        *,
        down_to: MessageClass = MessageClass.MARKETING,  # its texts are all of one class
    ) -> Sequence[Claim]:
        began = self._scheduler.now
        if not (await self._queue_of(term)).queued:
            return ()
        made: list[Claim] = []

        def make(queue: Queue) -> tuple[OpenClaim, tuple[int, ...]]:
            numbers = tuple(islice(queue.queued, limit))
            claim = OpenClaim(
                claim_id=queue.last_claim + 1,
                dispatcher=dispatcher,
                term=term,
                claim_for_s=claim_for_s,
                segments=len(numbers),
            )
            made.extend(_claim(claim.claim_id, n, queue.texts[n].attempt + 1) for n in numbers)
            return claim, numbers

        await self._commit("claim", make, term)
        self.claimed(self._database, term, began)
        return made

    async def settle(self, results: Sequence[SubmitResult]) -> None:
        now = self._scheduler.now
        told = tuple((r.claim_id, r.message_id.int, r.attempt, r.outcome, now) for r in results)
        await self._commit("settle", lambda _: told, None)

    async def open_claims(self, term: int) -> Sequence[OpenClaim]:
        return (await self._queue_of(term)).open_claims()

    async def give_up_claims(self, term: int, claim_ids: Sequence[int]) -> int:
        await self._commit("give-up", lambda _: (tuple(claim_ids), self._scheduler.now), term)
        return len(claim_ids)

    async def return_claims(self, term: int, dispatcher: str, claim_ids: Sequence[int]) -> int:
        await self._commit("return", lambda _: (dispatcher, tuple(claim_ids)), term)
        return len(claim_ids)

    async def resend_doubtful(self, term: int, grace_s: float, limit: int) -> int:
        del limit
        queue = await self._queue_of(term)
        if not queue.due(self._scheduler.now - grace_s):
            return 0
        await self._commit("resend", lambda queue: queue.due(self._scheduler.now - grace_s), term)
        return 1

    async def release_due(self, term: int, limit: int, *, clock_agrees: bool = True) -> int:
        del term, limit, clock_agrees
        return 0

    # -- one statement

    async def _answers(self) -> None:
        """The way there and back, for as long as anybody waits."""
        database, wait = self._database, self._scheduler.wait
        far = self._place != database.place
        await wait(database.world.rng.uniform(0.03, 0.05) if far else 0.001)
        if not self._reached or database.hung:
            await wait(ASK_WITHIN_S)
        if self.closed or not self._reached or database.hung or database.server is not self._server:
            self.closed = True
            raise ConnectionResetError("the connection is lost")

    async def _queue_of(self, term: int) -> Queue:
        await self._answers()
        if not self._leads(self._server, term):
            raise NotLeader(NotLeader.__doc__)
        return self._database.queue()

    def _leads(self, server: Server, term: int | None) -> bool:
        """As `control.assert_leader`: this very start was opened, in the caller's term."""
        opened = self._database.opened_here(server)
        return server is self._server and opened is not None and term in (None, opened)

    async def _commit(self, kind: str, make: Callable[[Queue], Any], term: int | None) -> None:
        await self._answers()
        try:
            await self._database.commit(
                kind,
                lambda: make(self._database.queue()),
                within=ATTEMPT_S,
                may=lambda server: self._leads(server, term),
            )
        except (NotAllowed, SessionLost) as error:
            raise NotLeader(NotLeader.__doc__) from error
        if not self._reached or self.closed:
            self.closed = True
            raise CommitUnknown("the answer was lost on the way")


def _claim(claim_id: int, number: int, attempt: int) -> Claim:
    return Claim(
        claim_id=claim_id,
        message_id=UUID(int=number),
        segment=1,
        segments=1,
        attempt=attempt,
        account_id=1,
        program_id=1,
        source="12345",
        to=f"+{number}",
        body="x",
        encoding=Encoding.GSM,
        message_class=MessageClass.SERVICE,
        expires_in_s=None,
    )
