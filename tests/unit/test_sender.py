"""Claiming and writing: what is written, what never is, and what becomes of each segment."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from dispatcher.engine.backlog import Backlog, Claimed
from dispatcher.engine.doubt import Doubt
from dispatcher.engine.results import Results
from dispatcher.engine.schema import SchemaSeen
from dispatcher.engine.sender import Sender, batch_size
from dispatcher.journal import Journal
from dispatcher.model import MessageClass, SubmitOutcome
from dispatcher.smpp.link import Answer
from sitecontrol.records import Phase
from sitecontrol.settings import DispatcherSettings, Settings
from sitecontrol.settings_carriers import Carrier
from tests.unit.fake_nodes import FakeSites, settings, two_sites
from tests.unit.fake_queue import FakeLink, FakeQueue, claim
from tests.waiting import eventually

SCHEMA_EVENTS = ("schema_awaited", "claim_failed", "doubt_failed")
CARRIER = Carrier(name="acme", address="127.0.0.1:1", system_id="hotsite")


@dataclass(frozen=True, kw_only=True)
class Bench:
    sites: FakeSites
    queue: FakeQueue
    links: list[FakeLink]
    sender: Sender
    results: Results
    doubt: Doubt


@asynccontextmanager
async def sending(
    *links: FakeLink,
    chosen: Settings | None = None,
    lead: str = "columbus-a",
    carrier: Carrier = CARRIER,
    over: Sequence[tuple[Carrier, FakeLink]] = (),
) -> AsyncIterator[Bench]:
    """A sender at columbus over these links of one carrier, or `over` several, with `lead` leading in term 1."""
    pairs = over or [(carrier, link) for link in links]
    queue = FakeQueue()
    async with two_sites(chosen, queue) as sites:
        parts = {"leadership": sites.leadership, "clock": sites.clock, "metrics": sites.metrics}
        journal = Journal(Path("unused"), "columbus-1.life")
        results = Results(journal=journal, **parts)  # type: ignore[arg-type]
        sender = Sender(
            results=results,
            journal=journal,
            identity="columbus-1.life",
            settings=sites.settings.dispatcher,
            **parts,  # type: ignore[arg-type]
        )
        doubt = Doubt(
            sender=sender,
            identity="columbus-1.life",
            settings=sites.settings.dispatcher,
            clock_agrees=lambda node: node not in queue.wrong_clocks,
            **parts,  # type: ignore[arg-type]
        )
        await sites.lead(lead, 1)
        await results.start()
        await sender.start(pairs)
        yield Bench(
            sites=sites,
            queue=queue,
            links=[link for _, link in pairs],
            sender=sender,
            results=results,
            doubt=doubt,
        )
        await sender.stop()
        await results.stop(within=1.0)
        assert not sender.tasks.died.is_set()
        assert not results.tasks.died.is_set()


async def looked_again(bench: Bench) -> None:
    """Wait until the sender was woken and has decided whether to claim."""
    bench.sender._wake.set()
    await eventually(lambda: not bench.sender._wake.is_set())


async def test_what_is_queued_is_written_and_settled_with_the_carriers_id():
    async with sending(FakeLink()) as bench:
        bench.queue.waiting = [claim(n) for n in range(300)]
        await eventually(lambda: len(bench.queue.settled) == 300)
        assert {r.outcome for r in bench.queue.settled} == {SubmitOutcome.SUBMITTED}
        assert {(r.carrier, r.carrier_message_id) for r in bench.queue.settled} == {("acme", "id")}
        assert len(bench.links[0].texts) == 300


async def test_an_intake_at_this_dispatcher_wakes_the_claiming():
    async with sending(FakeLink()) as bench:
        await eventually(lambda: bench.queue.claims_made > 4)  # it has grown idle
        bench.queue.waiting = [claim(1)]
        await bench.sites.leadership.run(lambda store, term: store.is_open(term))
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.SUBMITTED)


async def test_nothing_is_claimed_while_the_other_site_is_live():
    async with sending(FakeLink(), lead="denver-a") as bench:
        bench.queue.waiting = [claim(1)]
        await looked_again(bench)
        assert bench.queue.claims_made == 0


async def test_nothing_is_claimed_while_no_link_is_bound():
    async with sending(FakeLink(bound=False)) as bench:
        bench.queue.waiting = [claim(1)]
        await looked_again(bench)
        assert bench.queue.claims_made == 0
        bench.links[0].bound = True
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.SUBMITTED)


async def test_nothing_is_claimed_while_the_journal_lets_nothing_be_sent(monkeypatch: pytest.MonkeyPatch):
    """Another dispatcher of the site can send it; here it would wait for the claim's end, again and again."""
    monkeypatch.setattr(Journal, "blocks", True)
    async with sending(FakeLink()) as bench:
        bench.queue.waiting.append(claim(1))
        await looked_again(bench)
        await looked_again(bench)
        assert bench.queue.claims_made == 0


async def test_a_text_does_not_wait_behind_a_dead_or_full_link():
    async with sending(FakeLink(bound=False), FakeLink(room=0), FakeLink()) as bench:
        bench.queue.waiting = [claim(n) for n in range(50)]
        await eventually(lambda: len(bench.queue.settled) == 50)
        assert len(bench.links[2].texts) == 50


async def test_an_emergency_is_let_in_and_goes_first_while_a_whole_batch_waits_for_a_slow_link():
    link = FakeLink(room=0)
    async with sending(link) as bench:
        bench.queue.waiting = [claim(n) for n in range(1_000)]
        await eventually(lambda: bench.sender._wanted() == 0)
        left = len(bench.queue.waiting)
        bench.queue.waiting.append(claim(5_000, MessageClass.EMERGENCY, body="Wire down"))
        await eventually(lambda: len(bench.queue.waiting) == left)
        link.space = 1
        await eventually(lambda: len(link.texts) == 1)
        assert link.texts == [b"Wire down"]


async def test_no_more_than_a_batch_of_emergencies_is_let_in():
    link = FakeLink(room=0)
    async with sending(link) as bench:
        bench.queue.waiting = [claim(n) for n in range(1_000)]
        await eventually(lambda: bench.sender._wanted() == 0)
        before = bench.sender.unwritten
        batch = batch_size([CARRIER], bench.sites.settings.dispatcher)
        bench.queue.waiting += [claim(5_000 + n, MessageClass.EMERGENCY) for n in range(3 * batch)]
        await eventually(lambda: bench.sender.unwritten == before + batch)
        made = bench.queue.claims_made
        await looked_again(bench)
        await looked_again(bench)
        assert (bench.sender.unwritten, bench.queue.claims_made) == (before + batch, made)


async def test_what_cannot_be_written_before_the_deadline_goes_back_to_the_queue():
    async with sending(FakeLink(room=2), chosen=settings(claim_for=0.2)) as bench:
        bench.queue.waiting = [claim(n) for n in range(5)]
        await eventually(lambda: len(bench.queue.settled) == 5)
        outcomes = [bench.queue.outcome(n) for n in range(5)]
        assert outcomes == [SubmitOutcome.SUBMITTED] * 2 + [SubmitOutcome.QUEUED] * 3
        assert len(bench.links[0].texts) == 2


async def test_what_expires_while_it_waits_for_room_is_not_written_and_goes_back():
    link = FakeLink(room=0)
    async with sending(link) as bench:
        bench.queue.waiting = [claim(1), claim(2, expires_in_s=0.1), claim(3, expires_in_s=60.0)]
        await eventually(lambda: bench.sender.unwritten == 3)
        await bench.sites.clock.sleep(0.15)
        link.space = 10
        await eventually(lambda: len(bench.queue.settled) == 3)
        assert [bench.queue.outcome(n) for n in (1, 2, 3)] == [
            SubmitOutcome.SUBMITTED,
            SubmitOutcome.QUEUED,
            SubmitOutcome.SUBMITTED,
        ]
        assert len(link.texts) == 2


async def test_the_carrier_is_told_how_long_a_text_is_still_worth_delivering_when_it_is_written():
    link = FakeLink(room=0)
    async with sending(link) as bench:
        bench.queue.waiting = [claim(1), claim(2, expires_in_s=3_600.0)]
        await eventually(lambda: bench.sender.unwritten == 2)
        await bench.sites.clock.sleep(0.05)
        link.space = 10
        await eventually(lambda: len(bench.queue.settled) == 2)
        told = [submission.submit.validity_period for submission in link.submissions]
        assert told[0] == ""
        assert "000000005900000R" <= told[1] < "000000010000000R"


async def test_how_long_a_text_may_be_sent_counts_from_before_its_claim_was_asked_for():
    async with sending(FakeLink()) as bench:
        bench.queue.claim_takes = asyncio.Event()
        bench.queue.waiting = [claim(1, expires_in_s=0.1)]
        await eventually(lambda: bool(bench.queue.open))
        asyncio.get_running_loop().call_later(0.15, bench.queue.claim_takes.set)
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.QUEUED)
        assert bench.links[0].texts == []


async def test_nothing_is_released_by_a_leaders_clock_that_disagrees_and_claims_are_ended_all_the_same():
    async with sending(FakeLink()) as bench:
        bench.queue.due = 5
        bench.queue.wrong_clocks = {"columbus-a"}
        bench.queue.lose_next_claim = True
        bench.queue.waiting = [claim(1)]
        await eventually(lambda: bool(bench.queue.open))
        await bench.doubt.start()
        await eventually(lambda: bool(bench.queue.returned))
        await eventually(lambda: bench.queue.upkeeps > 1)
        assert bench.queue.due == 5
        bench.queue.wrong_clocks = set()
        await eventually(lambda: bench.queue.due == 0)
        await bench.doubt.stop()


async def test_until_the_schema_is_there_its_absence_is_told_once_and_afterwards_it_is_an_error():
    absent = asyncpg.InsufficientPrivilegeError("permission denied for schema hotsite")
    with capture_logs() as logs:
        async with sending(FakeLink()) as bench:
            bench.queue.unfit = absent
            bench.sender.schema = SchemaSeen()  # whatever was claimed before does not count
            await bench.doubt.start()
            made = bench.queue.claims_made
            await eventually(lambda: bench.queue.claims_made > made + 1)
            assert "permission denied for schema hotsite" in (bench.sender.schema.reason or "")
            assert [entry["log_level"] for entry in logs if entry["event"] in SCHEMA_EVENTS] == ["info"]
            bench.queue.unfit = None
            await eventually(lambda: bench.sender.schema.reason is None)
            bench.queue.unfit = absent
            await eventually(lambda: {"claim_failed", "doubt_failed"} <= {entry["event"] for entry in logs})
            assert bench.sender.schema.reason is None
            await bench.doubt.stop()


async def test_another_complaint_of_the_database_is_an_error_from_the_start():
    with capture_logs() as logs:
        async with sending(FakeLink()) as bench:
            bench.queue.unfit = asyncpg.DiskFullError("No space left on device")
            bench.sender.schema = SchemaSeen()
            await eventually(lambda: "claim_failed" in {entry["event"] for entry in logs})
            assert bench.sender.schema.reason is None


async def test_what_is_due_is_worked_off_without_a_pause_while_there_is_more():
    async with sending(FakeLink()) as bench:
        bench.queue.due = 30_000
        await bench.doubt.start()
        await eventually(lambda: bench.queue.due == 0, within=5)  # in single batches it would take 15 s
        await bench.doubt.stop()


async def test_a_claim_that_came_back_too_late_is_returned_unwritten():
    async with sending(FakeLink(), chosen=settings(claim_for=0.1)) as bench:
        bench.queue.claim_takes = asyncio.Event()
        bench.queue.waiting = [claim(1)]
        await eventually(lambda: bool(bench.queue.open))
        asyncio.get_running_loop().call_later(0.15, bench.queue.claim_takes.set)
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.QUEUED)
        assert bench.links[0].texts == []


async def test_a_swap_stops_the_writing_and_gives_back_what_was_not_written():
    link = FakeLink(room=3)
    link.answer_with = None
    async with sending(link) as bench:
        bench.queue.waiting = [claim(n) for n in range(10)]
        await eventually(lambda: len(link.texts) == 3)
        await bench.sites.swap(Phase.HELD)
        await eventually(lambda: bench.sender.stopped)
        assert bench.sender.unanswered == 3
        for submission in link.submissions:
            submission.answer.set_result(Answer(doubt=False, message_id="x"))
        await eventually(lambda: bench.sender.unanswered == 0)
        assert len(link.texts) == 3
        await bench.sites.swap(Phase.ROLLED_BACK)
        await eventually(lambda: len({r.message_id for r in bench.queue.settled}) == 10)
        assert [bench.queue.outcome(n) for n in range(3)] == [SubmitOutcome.SUBMITTED] * 3
        assert [bench.queue.outcome(n) for n in range(3, 10)] == [SubmitOutcome.QUEUED] * 7


async def test_results_of_a_window_are_settled_at_the_next_leader():
    link = FakeLink()
    link.answer_with = None
    async with sending(link) as bench:
        bench.queue.waiting = [claim(1)]
        await eventually(lambda: bench.sender.unanswered == 1)
        bench.sites.nodes["columbus-a"].crash()
        await eventually(lambda: not bench.sites.leadership.state.open)
        link.submissions[0].answer.set_result(Answer(doubt=False, message_id="x"))
        await bench.sites.lead("denver-a", 2)
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.SUBMITTED)


@pytest.mark.parametrize(
    ("answer", "outcome", "retry_after_s"),
    [
        (Answer(doubt=True, reason="no answer"), SubmitOutcome.IN_DOUBT, 0.0),
        (Answer(doubt=False, command_status=0x58), SubmitOutcome.QUEUED, 0.5),
        (Answer(doubt=False, command_status=0x08), SubmitOutcome.QUEUED, 1.0),
        (Answer(doubt=False, command_status=0x0B), SubmitOutcome.FAILED, 0.0),
    ],
)
async def test_each_kind_of_answer_has_its_outcome(
    answer: Answer, outcome: SubmitOutcome, retry_after_s: float
):
    link = FakeLink()
    link.answer_with = answer
    async with sending(link) as bench:
        bench.queue.waiting = [claim(1)]
        await eventually(lambda: len(bench.queue.settled) == 1)
        [result] = bench.queue.settled
        assert (result.outcome, result.retry_after_s) == (outcome, retry_after_s)
        assert result.command_status == answer.command_status


async def test_a_text_that_cannot_be_encoded_fails_alone():
    async with sending(FakeLink()) as bench:
        bench.queue.waiting = [claim(1), claim(2, body="\u4e2d"), claim(3)]
        await eventually(lambda: len(bench.queue.settled) == 3)
        assert bench.queue.outcome(2) is SubmitOutcome.FAILED
        assert bench.queue.outcome(3) is SubmitOutcome.SUBMITTED


async def test_a_late_answer_settles_its_doubt():
    link = FakeLink()
    link.answer_with = Answer(doubt=True, reason="no answer")
    async with sending(link) as bench:
        bench.queue.waiting = [claim(1)]
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.IN_DOUBT)
        bench.sender.late_answer(link.submissions[0], Answer(doubt=False, message_id="late"))
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.SUBMITTED)


async def test_a_claim_whose_commit_was_unknown_is_returned_and_no_other():
    async with sending(FakeLink()) as bench:
        await bench.doubt.start()
        bench.queue.lose_next_claim = True
        bench.queue.waiting = [claim(1)]
        await eventually(lambda: bool(bench.queue.open))
        lost = bench.queue.open[0].claim_id
        bench.queue.waiting = [claim(2)]
        await eventually(lambda: bool(bench.queue.returned))
        assert bench.queue.returned == [lost]
        await bench.doubt.stop()


async def test_a_lost_claim_is_returned_also_when_production_has_moved_away():
    async with sending(FakeLink()) as bench:
        bench.queue.lose_next_claim = True
        bench.queue.waiting = [claim(1)]
        await eventually(lambda: bool(bench.queue.open))
        lost = bench.queue.open[0].claim_id
        await bench.sites.lead("denver-a", 2)
        await bench.doubt.start()
        await eventually(lambda: bench.queue.returned == [lost])
        assert bench.queue.given_up == []
        await bench.doubt.stop()


async def test_a_stop_waits_for_the_answers_and_gives_back_the_rest():
    link = FakeLink(room=1)
    link.answer_with = None
    async with sending(link) as bench:
        bench.queue.waiting = [claim(1), claim(2)]
        await eventually(lambda: len(link.texts) == 1)
        stopping = asyncio.create_task(bench.sender.stop(drain=2.0))
        await eventually(lambda: bench.queue.outcome(2) is SubmitOutcome.QUEUED)
        link.submissions[0].answer.set_result(Answer(doubt=False, message_id="x"))
        await stopping
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.SUBMITTED)


def test_a_batch_is_bounded_by_windows_by_rates_and_by_the_setting():
    chosen = DispatcherSettings(claim_for=4.0, claim_max=150)
    slow = CARRIER.model_copy(update={"rate": 10.0})
    small = CARRIER.model_copy(update={"window": 5})
    assert batch_size([CARRIER], chosen) == 150
    assert batch_size([small], chosen) == 20
    assert batch_size([slow], chosen) == 10
    assert batch_size([], chosen) == 0


async def test_a_slow_short_code_holds_its_rate_over_all_links_and_nobody_else_up():
    slow = CARRIER.model_copy(update={"short_code_rates": {"10000": 50.0}})
    one, two = FakeLink(), FakeLink()
    async with sending(one, two, carrier=slow) as bench:
        began = bench.sites.clock.now()
        bench.queue.waiting = [replace(claim(n), source="10000") for n in range(20)]
        bench.queue.waiting += [claim(n) for n in range(100, 150)]
        await eventually(lambda: all(bench.queue.outcome(n) for n in range(100, 150)))
        await eventually(lambda: len(bench.queue.settled) == 70)
        lasted = bench.sites.clock.now() - began
        assert {r.outcome for r in bench.queue.settled} == {SubmitOutcome.SUBMITTED}
        assert lasted >= 19 / 50


async def test_what_a_short_codes_rate_leaves_for_later_goes_back_with_its_time():
    slow = CARRIER.model_copy(update={"short_code_rate": 1.0})
    async with sending(FakeLink(), chosen=settings(claim_for=4.0), carrier=slow) as bench:
        bench.queue.waiting = [claim(n) for n in range(5)]
        await eventually(lambda: len(bench.queue.settled) >= 4)
        away = [r for r in bench.queue.settled if r.outcome is SubmitOutcome.QUEUED]
        assert [r.message_id.int for r in away] == [2, 3, 4]
        assert [round(r.retry_after_s) for r in away] == [3, 4, 5]


def test_an_emergency_overtakes_what_was_claimed_before_it():
    backlog = Backlog()
    backlog.add([Claimed(claim(1), 9.0), Claimed(claim(2), 9.0)])
    backlog.add([Claimed(claim(3, MessageClass.EMERGENCY), 9.0)])
    taken = backlog.take(2)
    assert [item.claim.message_id.int for item in taken] == [3, 1]
    backlog.put_back(taken)
    assert [item.claim.message_id.int for item in backlog.take(9)] == [3, 1, 2]


def test_only_what_is_past_its_deadline_is_withdrawn():
    backlog = Backlog()
    backlog.add([Claimed(claim(1), 1.0), Claimed(claim(2), 2.0)])
    assert [item.claim.message_id.int for item in backlog.withdraw(1.5)] == [1]
    assert [item.claim.message_id.int for item in backlog.withdraw()] == [2]
    assert len(backlog) == 0
