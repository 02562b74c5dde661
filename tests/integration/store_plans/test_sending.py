"""What claiming, sending, settling and waiting read."""

from datetime import UTC, datetime, timedelta

import pytest

from dispatcher.model import MessageClass, ReplyPart, State, SubmitOutcome
from tests.integration.store_plans.conftest import FEW, GROUP, MANY, MOST_PER_ROW, Scene, groups
from tests.message_scenes import BODY, CARRIER, SHORT_CODE, receipt, result, submitted
from tests.message_store import TERM

AGED = """
    update hotsite.submission set submitted_at = submitted_at - interval '73 hours';
    update hotsite.delivery set submitted_at = submitted_at - interval '73 hours'
"""
NAMED = """
    update hotsite.submission as s set canonical = p.canonical, written = p.written
    from hotsite.parked_receipt as p, hotsite.message as m
    where m.message_id = s.message_id and right(m.recipient, length(p.customer)) = p.customer
"""


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
