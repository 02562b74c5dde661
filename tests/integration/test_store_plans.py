"""PostgreSQL looks at the rows that a call is about, and at few others, whatever it believes of the tables' sizes.

Work lists run empty all the time. One that is vacuumed in that moment is believed to be empty until it is vacuumed
again, and a plan that is fine for no rows (all of them, for each row of the call) takes a minute for ten thousand.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.campaigns.states import Act
from dispatcher.model import Claim, MessageClass, OnDoubt, ReplyPart, State, SubmitOutcome
from dispatcher.postgres_store import PostgresStore
from replication.session import Session, Target
from tests.campaign_scenes import IDS, act, started, uploaded
from tests.message_scenes import BODY, CARRIER, SHORT_CODE, Stage, receipt, result, submitted
from tests.message_store import TERM, admin, as_role

MANY, FEW = 3_000, 20
GROUP = 500
MOST_PER_ROW = 30  # entries of indexes and rows of tables that one row of a call may cost
EMPTIED = (
    "queue",
    "agenda",
    "claim",
    "submission",
    "doubt",
    "parked_receipt",
    "event",
    "tally",
    "reply_part",
    "unnamed",
    "campaign_batch",
    "topic",
    "topical",
)
AGED = """
    update hotsite.submission set submitted_at = submitted_at - interval '73 hours';
    update hotsite.delivery set submitted_at = submitted_at - interval '73 hours'
"""
NAMED = """
    update hotsite.submission as s set canonical = p.canonical, written = p.written
    from hotsite.parked_receipt as p, hotsite.message as m
    where m.message_id = s.message_id and right(m.recipient, length(p.customer)) = p.customer
"""
SHARED = """
    with last as (
        select message_id, 1000 + row_number() over () as account_id
        from (select message_id from hotsite.queue order by message_id desc limit $1) as q
    ), a as (
        update hotsite.queue as q set account_id = l.account_id from last as l where q.message_id = l.message_id
    ), b as (
        update hotsite.message as m set account_id = l.account_id from last as l where m.message_id = l.message_id
    )
    update hotsite.delivery as d set account_id = l.account_id from last as l where d.message_id = l.message_id
"""
READ = """
    select sum(pg_stat_get_xact_tuples_returned(c.oid)) from pg_class as c
    where c.relnamespace = 'hotsite'::regnamespace and c.relkind in ('r', 'i')
    and c.relname <> 'transition' -- which never grows, and is read by the tests' own guard
"""


class MeteredSession:
    """Runs each statement in a transaction of its own, and counts the rows and index entries that were read."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self.looked_at = 0

    async def commit(self, sql: str, *args: object, timeout: float) -> Any:
        async with self._connection.transaction():
            before = await self._connection.fetchval(READ)
            rows = await self._connection.fetch(sql, *args, timeout=timeout)
            self.looked_at += await self._connection.fetchval(READ) - before
        return rows

    read = commit


class Scene:
    """A stage with many rows in every list, and a store whose reading is counted."""

    def __init__(
        self,
        stage: Stage,
        session: MeteredSession,
        superuser: "asyncpg.Connection[asyncpg.Record]",
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        self.stage = stage
        self.store = stage.store
        self.superuser = superuser
        self.ready = ready  # to be called when the lists are filled
        self.metered = PostgresStore(session)  # type: ignore[arg-type] # all that a store needs of one
        self._session = session
        self._numbers = itertools.count(2_000_000)

    @property
    def looked_at(self) -> int:
        return self._session.looked_at

    def _number(self, prefix: str) -> str:
        self.last_number = f"+{prefix}{next(self._numbers)}"
        return self.last_number

    async def leave_empty_pages(self) -> None:
        """Each list has had rows, has none, and was vacuumed since."""
        await self.give_up(await self.claim(FEW))
        await self.settle(await self.claim(FEW))
        await self.park(FEW)
        await self.queue(FEW, topic="storm")
        await self.stage.accept(self.stage.message(expires_at=datetime.now(UTC) + timedelta(days=1)))
        await self.superuser.execute("delete from hotsite.tally")
        for table in EMPTIED:
            await self.superuser.execute(f"delete from hotsite.{table}")  # noqa: S608 # names from above
            await self.superuser.execute(f"vacuum (analyze, truncate false) hotsite.{table}")

    async def queue(self, number: int, **changes: Any) -> None:
        for some in groups(number):
            await self.stage.accept(
                *(
                    self.stage.message(to=self._number("1202"), on_doubt=OnDoubt.RESEND, **changes)
                    for _ in some
                )
            )

    async def share(self, accounts: int) -> None:
        """Hand the newest of what is queued to so many other accounts, one text each."""
        await self.superuser.execute(SHARED, accounts)

    async def claim(self, number: int) -> list[Claim]:
        await self.queue(number)
        claims: list[Claim] = []
        while some := await self.store.claim(TERM, "columbus-1", 50, 5.0):
            claims += some
        return claims

    async def park(self, number: int) -> list[str]:
        """Receipts whose ids nobody knows; returns the ids."""
        ids = [f"{next(self._numbers):x}" for _ in range(number)]
        for some in groups(number):
            await self.store.receipts([receipt(ids[n], source=self._number("1303")) for n in some])
        return ids

    async def settle(self, claims: Sequence[Claim]) -> list[str]:
        """All of them submitted; returns the carrier's ids."""
        ids = [f"{next(self._numbers):x}" for _ in claims]
        for some in groups(len(claims)):
            await self.store.settle([submitted(claims[n], ids[n]) for n in some])
        return ids

    async def give_up(self, claims: Sequence[Claim]) -> None:
        await self.store.give_up_claims(TERM, sorted({claim.claim_id for claim in claims}))


def groups(number: int) -> list[range]:
    return [range(start, min(start + GROUP, number)) for start in range(0, number, GROUP)]


@pytest.fixture(params=["believed to be empty", "just analyzed"])
async def scene(store_database: Target, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source="12345")
    await session.aclose()
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    [program] = await store.programs(TERM)
    superuser, metered = await admin(store_database), await admin(store_database)
    await superuser.execute("update control.canary set written_at = clock_timestamp()")
    await metered.execute("set role hotsite_dispatch")

    async def pass_time(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    async def ready() -> None:
        if request.param == "just analyzed":
            await superuser.execute("analyze")

    stage = Stage(store, TERM, program, program, pass_time, lambda: datetime.now(UTC))
    made = Scene(stage, MeteredSession(metered), superuser, ready)
    await made.leave_empty_pages()
    yield made
    await store.aclose()
    await metered.close()
    await superuser.close()


async def test_accepting(scene: Scene) -> None:
    await scene.queue(MANY)
    await scene.ready()
    await scene.metered.accept(TERM, [scene.stage.message(reference=f"o-{n}") for n in range(FEW)])
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_claiming(scene: Scene) -> None:
    await scene.queue(MANY)
    await scene.ready()
    assert len(await scene.metered.claim(TERM, "columbus-1", FEW, 5.0)) == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_claiming_from_one_account_of_many_bills_and_many_accounts_of_one(scene: Scene) -> None:
    await scene.queue(MANY)
    await scene.share(MANY // 2)
    await scene.ready()
    claims = await scene.metered.claim(TERM, "columbus-1", FEW, 5.0)
    assert len(claims) == FEW
    assert len({claim.account_id for claim in claims}) > FEW // 2
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_looking_for_emergencies_behind_many_bills(scene: Scene) -> None:
    await scene.queue(MANY)
    await scene.ready()
    assert not await scene.metered.claim(TERM, "columbus-1", FEW, 5.0, down_to=MessageClass.EMERGENCY)
    assert scene.looked_at <= MOST_PER_ROW


async def test_superseding_some_of_many(scene: Scene) -> None:
    older = [scene.stage.message(topic=f"outage-{n}") for n in range(FEW)]
    await scene.queue(MANY // 2, topic="storm")
    await scene.stage.accept(*older)
    await scene.queue(MANY // 2, topic="storm")
    await scene.ready()
    await scene.metered.accept(TERM, [scene.stage.message(topic=f"outage-{n}") for n in range(FEW)])
    assert {await scene.stage.state(message.id) for message in older} == {State.CANCELED}
    assert scene.looked_at <= 2 * FEW * MOST_PER_ROW


@pytest.mark.parametrize("outcome", SubmitOutcome)
async def test_settling_beside_receipts_that_are_not_its_own(scene: Scene, outcome: SubmitOutcome) -> None:
    claims = await scene.claim(MANY)
    await scene.park(MANY)
    await scene.ready()
    results = [result(c, outcome, carrier_message_id=f"own-{n}") for n, c in enumerate(claims[:FEW])]
    await scene.metered.settle(results)
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_settling_what_has_its_receipts_already(scene: Scene) -> None:
    claims = (await scene.claim(MANY))[:FEW]
    await scene.park(MANY)
    await scene.store.receipts([receipt(f"own-{n}", source=c.to) for n, c in enumerate(claims)])
    await scene.ready()
    await scene.metered.settle([submitted(c, f"own-{n}") for n, c in enumerate(claims)])
    assert await scene.stage.state(claims[0].message_id) is State.DELIVERED
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_settling_late(scene: Scene) -> None:
    claims = await scene.claim(MANY)
    await scene.give_up(claims)
    await scene.park(MANY)
    await scene.ready()
    await scene.metered.settle([submitted(c, f"own-{n}") for n, c in enumerate(claims[:FEW])])
    assert await scene.stage.state(claims[0].message_id) is State.SUBMITTED
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_receipts_whose_answers_are_known(scene: Scene) -> None:
    claims = await scene.claim(MANY)
    ids = await scene.settle(claims)
    await scene.park(MANY)
    await scene.ready()
    await scene.metered.receipts(
        [receipt(id_, source=c.to) for id_, c in zip(ids[:FEW], claims, strict=False)]
    )
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_receipts_that_nobody_waits_for(scene: Scene) -> None:
    await scene.settle(await scene.claim(MANY))
    await scene.give_up(await scene.claim(MANY))
    await scene.park(MANY)
    await scene.ready()
    await scene.metered.receipts([receipt(f"own-{n}", source=f"+1404{n:07}") for n in range(FEW)])
    assert scene.looked_at <= FEW * MOST_PER_ROW


@pytest.mark.parametrize("parked", [0, MANY])
async def test_giving_claims_up(scene: Scene, parked: int) -> None:
    claims = await scene.claim(MANY)
    await scene.park(parked)
    await scene.ready()
    given_up = await scene.metered.give_up_claims(TERM, [claims[0].claim_id])
    assert scene.looked_at <= given_up * MOST_PER_ROW


async def test_returning_claims(scene: Scene) -> None:
    claims = await scene.claim(MANY)
    await scene.ready()
    returned = await scene.metered.return_claims(TERM, "columbus-1", [claims[0].claim_id])
    assert scene.looked_at <= returned * MOST_PER_ROW


async def test_the_open_claims(scene: Scene) -> None:
    await scene.settle(await scene.claim(MANY))
    await scene.store.release_due(TERM, GROUP)
    claims = await scene.claim(FEW)
    await scene.ready()
    assert len(await scene.metered.open_claims(TERM)) == 1
    assert scene.looked_at <= len(claims) * MOST_PER_ROW


async def test_a_receipt_for_one_of_many_doubts_beside_many_that_are_parked(scene: Scene) -> None:
    await scene.give_up(await scene.claim(FEW))
    in_doubt = scene.last_number
    await scene.park(MANY)
    await scene.ready()
    await scene.metered.receipts([receipt("own", source=in_doubt, text=BODY[:20])])
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_a_receipt_for_one_of_many_texts_without_an_id(scene: Scene) -> None:
    await scene.store.settle([submitted(claim, "") for claim in await scene.claim(MANY)])
    number = scene.last_number
    await scene.store.release_due(TERM, GROUP)  # ends the claims
    await scene.park(MANY)
    await scene.ready()
    await scene.metered.receipts([receipt("own", source=number, text=BODY[:20])])
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_answers_without_an_id_beside_many_that_are_parked(scene: Scene) -> None:
    await scene.park(MANY)
    claims = await scene.claim(FEW)
    await scene.ready()
    await scene.metered.settle([submitted(claim, "") for claim in claims])
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_parts_of_a_reply_among_many_that_wait(scene: Scene) -> None:
    def part(source: int, number: int) -> ReplyPart:
        return ReplyPart(
            carrier=CARRIER,
            source=f"+1303{source:07}",
            destination=SHORT_CODE,
            reference=7,
            total=2,
            number=number,
            coding=0,
            octets=b"STOP",
            received_at=datetime.now(UTC),
            fingerprint=f"{source}/{number}".encode(),
        )

    for some in groups(MANY):
        await scene.store.reply_parts([part(n, 1) for n in some])
    await scene.ready()
    await scene.metered.reply_parts([part(n, 2) for n in range(FEW)])
    assert scene.looked_at <= FEW * MOST_PER_ROW
    assert await scene.superuser.fetchval("select count(*) from hotsite.reply") == FEW


async def test_sending_again(scene: Scene) -> None:
    await scene.give_up(await scene.claim(MANY))
    await scene.ready()
    assert await scene.metered.resend_doubtful(TERM, -1.0, FEW) == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_what_is_due(scene: Scene) -> None:
    await scene.settle(await scene.claim(FEW))
    await scene.queue(MANY)
    now = datetime.now(UTC)
    for some in groups(MANY):
        await scene.stage.accept(*(scene.stage.message(expires_at=now + timedelta(days=1)) for _ in some))
    await scene.stage.accept(*(scene.stage.message(expires_at=now) for _ in range(FEW)))
    await scene.ready()
    assert await scene.metered.release_due(TERM, GROUP) == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_receipts_and_answers_that_were_committed_side_by_side(scene: Scene) -> None:
    claims = await scene.claim(MANY)
    await scene.settle(claims)
    await scene.store.release_due(TERM, GROUP)  # clears the claims away
    await scene.store.receipts([receipt(f"late-{n}", source=c.to) for n, c in enumerate(claims[:FEW])])
    await scene.superuser.execute(NAMED)
    await scene.ready()
    await scene.metered.release_due(TERM, GROUP)
    assert await scene.stage.state(claims[0].message_id) is State.DELIVERED
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_what_has_waited_long_enough(scene: Scene) -> None:
    await scene.settle(await scene.claim(MANY))
    await scene.store.release_due(TERM, GROUP)
    await scene.superuser.execute(AGED)
    await scene.ready()
    assert await scene.metered.release_due(TERM, FEW) == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_the_counts(scene: Scene) -> None:
    await scene.queue(MANY)
    await scene.ready()
    await scene.metered.counts(TERM)
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_feeding_a_long_list_beside_others(scene: Scene) -> None:
    for _ in range(3):
        await uploaded(scene.stage, MANY // 2)
    await started(scene.stage, MANY // 2)
    for _ in range(FEW):
        await scene.store.feed_campaign(TERM, IDS.new(), 50, 10_000)
    await scene.ready()
    fed = await scene.metered.feed_campaign(TERM, IDS.new(), FEW // 2, 10_000)
    assert fed is not None
    assert fed.texts == FEW
    assert scene.looked_at <= FEW * MOST_PER_ROW


async def test_canceling_looks_through_its_own_batches(scene: Scene) -> None:
    await started(scene.stage, MANY // 2)
    for _ in range(FEW):
        await scene.store.feed_campaign(TERM, IDS.new(), 50, 10_000)
    [campaign] = await scene.store.campaigns(TERM, scene.stage.program.account_id)
    await act(scene.stage, campaign, Act.CANCEL)
    await scene.ready()
    await scene.metered.sweep_campaigns(TERM, None, FEW // 2)
    assert scene.looked_at <= FEW * 2 * MOST_PER_ROW
