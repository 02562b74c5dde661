"""What every store promises of campaigns: lists that come in parts, texts that enter the queue once and in step."""

from datetime import timedelta

import asyncpg
import pytest

from dispatcher.campaigns.model import Fed
from dispatcher.campaigns.states import Act, CampaignState
from dispatcher.model import OnDoubt, State, SubmitOutcome
from dispatcher.store import NotLeader
from tests.campaign_scenes import IDS, KEY_SHOWN, act, batch, feed, look, new_campaign, started, uploaded
from tests.message_scenes import Stage, new_id, receipt, result, submitted
from tests.message_store import TERM

MINUTE = timedelta(minutes=1)


async def send_all(stage: Stage) -> int:
    """Claim what is queued and have the carrier take it."""
    total = 0
    while claims := await stage.claim(100):
        await stage.store.settle([submitted(c, f"{c.message_id}") for c in claims])
        total += len(claims)
    return total


# -- who leads


async def test_every_method_refuses_another_term_and_does_nothing(stage: Stage) -> None:
    store, account, term = stage.store, stage.program.account_id, TERM + 1
    draft = await uploaded(stage)
    for attempt in (
        store.save_template(term, account, "eta", "text", [], KEY_SHOWN),
        store.templates(term, account),
        store.delete_template(term, account, "eta"),
        store.create_campaign(term, new_campaign(stage)),
        store.campaigns(term, account),
        store.begin_list(term, account, draft.id),
        store.add_to_list(term, account, draft.id, 1, [batch(9)]),
        store.end_list(term, account, draft.id, 1, 1, KEY_SHOWN),
        store.change_campaign(term, account, draft.id, Act.START, KEY_SHOWN),
        store.sweep_campaigns(term, None, 10),
        store.feed_campaign(term, new_id(), 1, 2),
        store.count_campaign(term, account, draft.id, 10),
        store.campaign_rows(term, account, draft.id, 0, 10),
    ):
        with pytest.raises(NotLeader):
            await attempt
    assert await look(stage, draft.id) == draft
    assert len(await store.campaigns(TERM, account)) == 1


# -- templates


async def test_a_template_reads_back_is_replaced_and_deleted(stage: Stage) -> None:
    store, account = stage.store, stage.program.account_id
    variables = [{"name": "eta", "type": "time"}]
    await store.save_template(TERM, account, "eta", "Back by {eta}", variables, "hs_one")
    await stage.pass_time(MINUTE)
    again = await store.save_template(TERM, account, "eta", "By {eta}", variables, "hs_two")
    assert again.text == "By {eta}"
    assert again.changed_by == "hs_two"
    assert await store.templates(TERM, account) == [again]
    assert await store.templates(TERM, account, name="eta") == [again]
    assert await store.templates(TERM, stage.other.account_id) == []
    assert not await store.delete_template(TERM, stage.other.account_id, "eta")
    assert await store.delete_template(TERM, account, "eta")
    assert await store.templates(TERM, account) == []


async def test_templates_are_listed_by_name_in_pages(stage: Stage) -> None:
    store, account = stage.store, stage.program.account_id
    for name in ("b", "c", "a"):
        await store.save_template(TERM, account, name, "text", [], KEY_SHOWN)
    assert [t.name for t in await store.templates(TERM, account, limit=2)] == ["a", "b"]
    assert [t.name for t in await store.templates(TERM, account, after="b")] == ["c"]


# -- making a campaign


async def test_a_campaign_reads_back_and_its_making_may_be_repeated(stage: Stage) -> None:
    new = new_campaign(stage, start_at=stage.now() + MINUTE, template="eta")
    made = await stage.store.create_campaign(TERM, new)
    assert await stage.store.create_campaign(TERM, new) == made
    assert (made.state, made.name, made.template, made.text) == (
        CampaignState.DRAFT,
        new.name,
        "eta",
        new.text,
    )
    assert (made.start_at, made.variables, made.program) == (new.start_at, new.variables, "outages")
    assert [(done.act, done.by) for done in made.acts] == [("create", KEY_SHOWN)]


async def test_a_campaign_under_another_accounts_program_is_refused(stage: Stage) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await stage.store.create_campaign(TERM, new_campaign(stage, program_id=stage.other.id))


async def test_campaigns_are_listed_newest_first_and_to_their_own_account_only(stage: Stage) -> None:
    first, second = [await stage.store.create_campaign(TERM, new_campaign(stage)) for _ in range(2)]
    account = stage.program.account_id
    assert [c.id for c in await stage.store.campaigns(TERM, account)] == [second.id, first.id]
    assert [c.id for c in await stage.store.campaigns(TERM, account, before=second.id)] == [first.id]
    other = stage.other.account_id
    assert await stage.store.campaigns(TERM, other) == []
    assert await stage.store.campaigns(TERM, other, campaign_id=first.id) == []
    assert await stage.store.begin_list(TERM, other, first.id) is None
    assert await stage.store.change_campaign(TERM, other, first.id, Act.CANCEL, KEY_SHOWN) is None
    assert await stage.store.campaign_rows(TERM, other, first.id, 0, 10) == []


async def test_a_list_is_summed_when_it_is_whole(stage: Stage) -> None:
    whole = await uploaded(stage, 3, bad=1)
    assert whole.uploaded
    assert (whole.batches, whole.texts, whole.bad, whole.segments) == (3, 6, 3, 6)
    assert [done.act for done in whole.acts] == ["create", "list"]


async def test_a_part_of_a_list_that_is_repeated_is_stored_once(stage: Stage) -> None:
    made = await stage.store.create_campaign(TERM, new_campaign(stage))
    upload = await stage.store.begin_list(TERM, made.account_id, made.id)
    assert upload is not None
    for _ in range(2):
        assert await stage.store.add_to_list(TERM, made.account_id, made.id, upload, [batch(1), batch(2)])
    ended = await stage.store.end_list(TERM, made.account_id, made.id, upload, 2, KEY_SHOWN)
    assert ended is not None
    assert ended.texts == 4


async def test_a_list_that_lacks_a_part_is_not_whole(stage: Stage) -> None:
    made = await stage.store.create_campaign(TERM, new_campaign(stage))
    upload = await stage.store.begin_list(TERM, made.account_id, made.id)
    assert upload is not None
    await stage.store.add_to_list(TERM, made.account_id, made.id, upload, [batch(1), batch(3)])
    ended = await stage.store.end_list(TERM, made.account_id, made.id, upload, 3, KEY_SHOWN)
    assert ended is not None
    assert not ended.uploaded
    assert (await act(stage, made, Act.START)).state is CampaignState.DRAFT


async def test_a_list_that_is_begun_anew_takes_the_place_of_the_one_before(stage: Stage) -> None:
    first = await uploaded(stage, 3)
    upload = await stage.store.begin_list(TERM, first.account_id, first.id)
    assert upload == 2
    begun = await look(stage, first.id)
    assert (begun.uploaded, begun.texts) == (False, 0)
    assert not await stage.store.add_to_list(TERM, first.account_id, first.id, 1, [batch(4)])
    assert await stage.store.add_to_list(TERM, first.account_id, first.id, 2, [batch(1)])
    late = await stage.store.end_list(TERM, first.account_id, first.id, 1, 3, KEY_SHOWN)
    assert late is not None
    assert not late.uploaded
    ended = await stage.store.end_list(TERM, first.account_id, first.id, 2, 1, KEY_SHOWN)
    assert ended is not None
    assert (ended.uploaded, ended.texts) == (True, 2)


async def test_a_campaign_that_runs_takes_no_other_list(stage: Stage) -> None:
    running = await started(stage)
    assert await stage.store.begin_list(TERM, running.account_id, running.id) is None
    assert not await stage.store.add_to_list(TERM, running.account_id, running.id, 1, [batch(9)])


# -- starting and stopping


async def test_a_campaign_without_a_text_cannot_be_started(stage: Stage) -> None:
    assert (await started(stage, 0)).state is CampaignState.DRAFT


async def test_acts_are_noted_and_repeating_one_changes_nothing(stage: Stage) -> None:
    campaign = await uploaded(stage)
    for what, state in (
        (Act.START, CampaignState.RUNNING),
        (Act.PAUSE, CampaignState.PAUSED),
        (Act.RESUME, CampaignState.RUNNING),
        (Act.CANCEL, CampaignState.CANCELED),
    ):
        moved = await act(stage, campaign, what)
        assert moved.state is state
        assert await act(stage, campaign, what) == moved
    assert [done.act for done in moved.acts] == ["create", "list", "start", "pause", "resume", "cancel"]
    assert (moved.started_at is not None, moved.ended_at is not None) == (True, True)


async def test_nothing_is_fed_of_a_campaign_that_does_not_run(stage: Stage) -> None:
    campaign = await uploaded(stage)
    assert await feed(stage) is None
    await act(stage, campaign, Act.START)
    await act(stage, campaign, Act.PAUSE)
    assert await feed(stage) is None
    await act(stage, campaign, Act.CANCEL)
    assert await feed(stage) is None


async def test_a_campaign_begins_no_sooner_than_it_is_to(stage: Stage) -> None:
    campaign = await started(stage, start_at=stage.now() + MINUTE)
    assert await feed(stage) is None
    await act(stage, campaign, Act.CANCEL)
    await started(stage, start_at=stage.now() - MINUTE)
    assert await feed(stage) is not None


async def test_nothing_begins_by_a_clock_that_is_not_believed_and_what_has_begun_goes_on(
    stage: Stage,
) -> None:
    campaign = await started(stage, start_at=stage.now() - MINUTE)
    store, told = stage.store, Fed(campaign_id=campaign.id, texts=2)
    assert await store.feed_campaign(TERM, IDS.new(), 1, 2, clock_agrees=False) is None
    assert await store.feed_campaign(TERM, IDS.new(), 1, 2, clock_agrees=True) == told
    assert await store.feed_campaign(TERM, IDS.new(), 1, 2, clock_agrees=False) == told


async def test_what_is_canceled_is_canceled_in_the_queue_too_and_what_has_left_is_not(stage: Stage) -> None:
    campaign = await started(stage)
    await feed(stage, 1)
    await send_all(stage)
    await feed(stage, 2)
    canceled = await act(stage, campaign, Act.CANCEL)
    assert canceled.to_sweep == canceled.fed_batches == 3
    assert await stage.store.sweep_campaigns(TERM, campaign.id, 1) == 2
    assert await stage.store.sweep_campaigns(TERM, None, 10) == 0
    assert await stage.store.sweep_campaigns(TERM, campaign.id, 10) == 0
    assert await stage.claim() == []
    rows = await stage.store.campaign_rows(TERM, campaign.account_id, campaign.id, 0, 10)
    told = [row.state for row in rows]
    assert told == [State.SUBMITTED] * 2 + [State.CANCELED] * 4 + [None] * 2


async def test_what_is_in_doubt_is_not_sent_again_once_its_campaign_is_canceled(stage: Stage) -> None:
    campaign = await started(stage, 1, on_doubt=OnDoubt.RESEND)
    await feed(stage)
    claims = await stage.claim()
    await stage.store.settle([result(c, SubmitOutcome.IN_DOUBT) for c in claims])
    await act(stage, campaign, Act.CANCEL)
    assert await stage.store.sweep_campaigns(TERM, None, 10) == 0
    await stage.pass_time(MINUTE)
    assert await stage.store.resend_doubtful(TERM, 1.0, 10) == 0


# -- feeding


async def test_texts_are_fed_in_the_order_of_the_list_as_messages_like_any_other(stage: Stage) -> None:
    campaign = await started(stage)
    assert await feed(stage) == Fed(campaign_id=campaign.id, texts=2)
    first, second = await stage.claim()
    assert [first.to, second.to] == ["+16145550002", "+16145550003"]
    view = await stage.view(first.message_id)
    assert view.reference == f"campaign/{campaign.id}/2"
    assert (view.body, view.program) == ("Back by 5 pm, row 2.", "outages")
    assert (await look(stage, campaign.id)).fed == 2


async def test_no_more_is_fed_than_the_queue_is_to_hold(stage: Stage) -> None:
    campaign = await started(stage, 6)
    two_batches = Fed(campaign_id=campaign.id, texts=4)
    assert await feed(stage, 4, ahead=2) == two_batches
    assert await feed(stage, 4, ahead=2) is None
    await send_all(stage)
    assert await feed(stage, 4, ahead=2) == two_batches


async def test_a_whole_campaign_is_sent_once_and_done_when_its_last_text_has_left(stage: Stage) -> None:
    campaign = await started(stage, 5, bad=1)
    sent = 0
    while (await look(stage, campaign.id)).state is CampaignState.RUNNING:
        assert await feed(stage) is not None
        sent += await send_all(stage)
    ended = await look(stage, campaign.id)
    assert (sent, ended.fed, ended.state) == (10, 10, CampaignState.DONE)
    assert ended.acts[-1].act == "done"
    assert ended.ended_at is not None
    assert await feed(stage) is None


async def test_a_campaign_is_not_done_while_its_last_texts_wait(stage: Stage) -> None:
    campaign = await started(stage, 1)
    await feed(stage)
    assert await feed(stage) is None
    assert (await look(stage, campaign.id)).state is CampaignState.RUNNING


async def test_a_batch_of_bad_rows_only_is_passed_over(stage: Stage) -> None:
    made = await stage.store.create_campaign(TERM, new_campaign(stage))
    await stage.store.begin_list(TERM, made.account_id, made.id)
    parts = [batch(1, texts=0, bad=2), batch(2, texts=2)]
    await stage.store.add_to_list(TERM, made.account_id, made.id, 1, parts)
    await stage.store.end_list(TERM, made.account_id, made.id, 1, 2, KEY_SHOWN)
    await act(stage, made, Act.START)
    assert await feed(stage) == Fed(campaign_id=made.id, texts=0)
    assert await feed(stage) == Fed(campaign_id=made.id, texts=2)


async def test_campaigns_take_turns(stage: Stage) -> None:
    one, two = await started(stage), await started(stage)
    fed = [await feed(stage) for _ in range(4)]
    assert [turn.campaign_id for turn in fed if turn] == [one.id, two.id, one.id, two.id]


async def test_one_that_waits_holds_up_no_other(stage: Stage) -> None:
    waiting = await started(stage)
    assert await feed(stage, 2) == Fed(campaign_id=waiting.id, texts=4)
    assert await feed(stage) is None
    other = await started(stage)
    assert await feed(stage) == Fed(campaign_id=other.id, texts=2)


async def test_a_row_whose_reference_was_taken_is_not_sent_again(stage: Stage) -> None:
    campaign = await started(stage, 1)
    await stage.accept(stage.message(reference=f"campaign/{campaign.id}/2", to="+16145550002"))
    await feed(stage)
    assert len(await stage.claim()) == 2
    rows = await stage.store.campaign_rows(TERM, campaign.account_id, campaign.id, 0, 10)
    assert [row.line for row in rows] == [3]


# -- progress and report


async def test_counts_tell_what_became_of_the_texts(stage: Stage) -> None:
    campaign = await started(stage)
    await feed(stage, 2)
    claims = await stage.claim()
    await stage.store.settle([submitted(c, f"0a{n}") for n, c in enumerate(claims[:3])])
    await stage.store.receipts([receipt("0a0", source=claims[0].to)])
    await stage.pass_time(MINUTE)
    counts = await stage.store.count_campaign(TERM, campaign.account_id, campaign.id, 10)
    assert counts.by_state == {State.DELIVERED: 1, State.SUBMITTED: 2, State.SUBMITTING: 1}
    assert counts.due == 0
    assert counts.counted_at is not None
    await stage.store.receipts([receipt("0a1", source=claims[1].to)])
    newest = await stage.store.count_campaign(TERM, campaign.account_id, campaign.id, 10, since=counts.at)
    newest = await stage.store.count_campaign(TERM, campaign.account_id, campaign.id, 10, since=newest.at)
    assert newest.by_state == {State.DELIVERED: 2, State.SUBMITTED: 1, State.SUBMITTING: 1}


async def test_the_rate_is_that_of_late(stage: Stage) -> None:
    campaign = await started(stage)
    await feed(stage, 2)
    account = campaign.account_id
    fresh = await stage.store.count_campaign(TERM, account, campaign.id, 10)
    assert 0 < fresh.rate <= 4.0
    await stage.pass_time(MINUTE)
    assert (await stage.store.count_campaign(TERM, account, campaign.id, 10)).rate == 0


async def test_nothing_is_counted_of_a_campaign_that_has_sent_nothing(stage: Stage) -> None:
    campaign = await uploaded(stage)
    counts = await stage.store.count_campaign(TERM, campaign.account_id, campaign.id, 10)
    assert (counts.by_state, counts.counted_at, counts.rate) == ({}, None, 0)


async def test_the_report_has_every_row_fed_or_not_good_or_bad_in_pages(stage: Stage) -> None:
    campaign = await started(stage, 3, bad=1)
    await feed(stage, 1)
    pages = [
        await stage.store.campaign_rows(TERM, campaign.account_id, campaign.id, after, 1)
        for after in range(4)
    ]
    assert [[row.line for row in page] for page in pages] == [[2, 3, 4], [5, 6, 7], [8, 9, 10], []]
    fed, _, bad = pages[0]
    assert (fed.to, fed.state, fed.segments) == ("+16145550002", State.QUEUED, 1)
    assert fed.message_id is not None
    assert fed.accepted_at is not None
    assert (bad.bad_column, bad.value, bad.message_id) == ("eta", bad.value, None)
    assert bad.reason is not None
    waiting = pages[1][0]
    assert (waiting.to, waiting.message_id, waiting.reason) == ("+16145550005", None, None)
