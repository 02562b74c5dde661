"""Several carriers: which text goes where, and what becomes of those that no carrier can take now."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine.backlog import Backlog, Claimed
from dispatcher.engine.router import LATEST_TURN_S, RETURNED_PER_S, Router, Why
from dispatcher.engine.routing import Quota, Table
from dispatcher.model import MessageClass, SubmitOutcome
from dispatcher.smpp.link import Answer
from sitecontrol.clock import SystemClock
from sitecontrol.settings_carriers import Carrier, RouteBy
from tests.unit.fake_nodes import settings
from tests.unit.fake_queue import FakeLink, claim
from tests.unit.held_clock import HeldClock
from tests.unit.test_sender import sending
from tests.waiting import eventually

OHIO, OTHER = "+16145550100", "+13035550100"


def carrier(name, **changed):
    return Carrier.model_validate({"name": name, "address": "127.0.0.1:1", "system_id": "hotsite"} | changed)


def text(number, to=OHIO, **changed):
    return replace(claim(number), to=to, **changed)


async def settled(bench, count):
    await eventually(lambda: len({r.message_id for r in bench.queue.settled}) == count)


async def test_each_text_goes_to_the_carrier_of_its_prefix():
    ohio, rest = FakeLink(), FakeLink()
    over = [(carrier("ohio", prefixes=["+1614"]), ohio), (carrier("rest", refused_prefixes=["+1614"]), rest)]
    async with sending(over=over) as bench:
        bench.queue.waiting = [text(n, OHIO if n % 3 else OTHER) for n in range(90)]
        await settled(bench, 90)
        assert {submission.submit.destination for submission in ohio.submissions} == {OHIO.removeprefix("+")}
        assert {submission.submit.destination for submission in rest.submissions} == {OTHER.removeprefix("+")}
        assert Counter(r.carrier for r in bench.queue.settled) == {"ohio": 60, "rest": 30}


async def test_equals_share_by_weight_while_both_have_room():
    one, three = FakeLink(room=100_000), FakeLink(room=100_000)
    over = [(carrier("one", window=1_000), one), (carrier("three", weight=3, window=1_000), three)]
    async with sending(over=over) as bench:
        bench.queue.waiting = [text(n) for n in range(2_000)]
        await settled(bench, 2_000)
        assert abs(len(three.texts) - 1_500) <= 50
        assert len(one.texts) + len(three.texts) == 2_000


async def test_the_cheaper_carrier_takes_all_that_it_has_room_for():
    cheap, dear = FakeLink(), FakeLink()
    price = {"per_segment": "0.01", "currency": "USD"}
    over = [
        (carrier("dear", price=price), dear),
        (carrier("cheap", price=price | {"per_segment": "0.005"}), cheap),
    ]
    async with sending(over=over, chosen=settings(route_by="cost")) as bench:
        bench.queue.waiting = [text(n) for n in range(200)]
        await settled(bench, 200)
        assert (len(cheap.texts), len(dear.texts)) == (200, 0)


async def test_what_the_better_carrier_has_no_room_for_goes_to_the_next_after_a_while():
    first, second = FakeLink(room=10), FakeLink()
    over = [(carrier("first"), first), (carrier("second", priority=1), second)]
    async with sending(over=over, chosen=settings(route_wait=0.1)) as bench:
        bench.queue.waiting = [text(n) for n in range(30)]
        await settled(bench, 30)
        assert (len(first.texts), len(second.texts)) == (10, 20)
        assert {r.outcome for r in bench.queue.settled} == {SubmitOutcome.SUBMITTED}


async def test_all_of_a_dead_carriers_share_goes_to_the_other():
    dead, alive = FakeLink(bound=False), FakeLink()
    async with sending(over=[(carrier("dead", weight=9), dead), (carrier("alive"), alive)]) as bench:
        bench.queue.waiting = [text(n) for n in range(100)]
        await settled(bench, 100)
        assert len(alive.texts) == 100


async def test_a_text_whose_only_carrier_is_dead_goes_back_at_once_and_others_are_sent_meanwhile():
    dead, alive = FakeLink(bound=False), FakeLink()
    over = [(carrier("dead", prefixes=["+1614"]), dead), (carrier("alive", prefixes=["+1303"]), alive)]
    async with sending(over=over) as bench:
        bench.queue.waiting = [text(n) for n in range(2_000)] + [text(n, OTHER) for n in range(5_000, 5_100)]
        await settled(bench, 2_100)
        back = [r for r in bench.queue.settled if r.outcome is SubmitOutcome.QUEUED]
        assert len(back) == 2_000
        assert len(alive.texts) == 100
        assert min(r.retry_after_s for r in back) >= 2.0
        assert max(r.retry_after_s for r in back) >= 2_000 / RETURNED_PER_S
        assert bench.sender.router.returned == {Why.DOWN: 2_000}


async def test_what_waits_for_a_carrier_that_dies_goes_back_and_gives_way():
    dies, alive = FakeLink(room=0), FakeLink()
    over = [(carrier("dies", prefixes=["+1614"]), dies), (carrier("alive", prefixes=["+1303"]), alive)]
    async with sending(over=over, chosen=settings(claim_for=60.0)) as bench:
        bench.queue.waiting = [text(n) for n in range(20)]
        await eventually(lambda: bench.sender.unwritten == 20)
        dies.bound = False
        await settled(bench, 20)
        assert {r.outcome for r in bench.queue.settled} == {SubmitOutcome.QUEUED}


async def test_a_carrier_that_takes_nothing_does_not_keep_others_from_being_claimed():
    stuck, alive = FakeLink(room=0), FakeLink()
    over = [(carrier("stuck", prefixes=["+1614"]), stuck), (carrier("alive", prefixes=["+1303"]), alive)]
    async with sending(over=over, chosen=settings(claim_for=60.0)) as bench:
        bench.queue.waiting = [text(n) for n in range(5_000)]
        bench.queue.waiting += [text(n, OTHER) for n in range(6_000, 6_100)]
        await eventually(lambda: len(alive.texts) == 100)
        assert bench.sender.unwritten <= 3_000


async def test_a_text_that_no_carrier_may_carry_waits_and_does_not_fail():
    async with sending(over=[(carrier("a", prefixes=["+44"]), FakeLink())]) as bench:
        bench.queue.waiting = [text(1)]
        await settled(bench, 1)
        assert bench.queue.outcome(1) is SubmitOutcome.QUEUED
        assert bench.queue.settled[0].retry_after_s >= 2.0
        [waits] = bench.sender.router.status()["waiting"]
        assert (waits["why"], waits["carriers"], waits["given_back"]) == (Why.NOBODY, [], 1)


async def test_what_one_carrier_refused_for_now_is_tried_at_another():
    refuses, takes = FakeLink(), FakeLink()
    refuses.answer_with = Answer(doubt=False, command_status=0x08)
    over = [(carrier("refuses"), refuses), (carrier("takes", priority=1), takes)]
    async with sending(over=over) as bench:
        bench.queue.waiting = [text(1)]
        await settled(bench, 1)
        assert bench.queue.settled[0].carrier == "refuses"
        bench.queue.waiting = [text(1, attempt=2)]
        await eventually(lambda: bench.queue.outcome(1) is SubmitOutcome.SUBMITTED)
        assert bench.queue.settled[-1].carrier == "takes"


async def test_a_carrier_that_leaves_texts_unanswered_loses_its_turn():
    silent, sound = FakeLink(), FakeLink()
    silent.answer_with = Answer(doubt=True, reason="no answer")
    async with sending(over=[(carrier("silent"), silent), (carrier("sound"), sound)]) as bench:
        bench.queue.waiting = [text(n) for n in range(400)]
        await settled(bench, 400)
        bench.queue.waiting = [text(n) for n in range(1_000, 1_400)]
        before = len(silent.texts)
        await settled(bench, 800)
        assert len(silent.texts) == before
        assert bench.sender.router.state("silent") == "sick"


async def test_a_throttled_carriers_texts_go_to_the_other():
    paused, other = FakeLink(room=0), FakeLink()
    paused.throttled = True
    over = [(carrier("paused"), paused), (carrier("other", priority=1), other)]
    async with sending(over=over, chosen=settings(route_wait=60.0, claim_for=30.0)) as bench:
        bench.queue.waiting = [text(n) for n in range(50)]
        await settled(bench, 50)
        assert len(other.texts) == 50


# -- changed while texts are sent


async def test_a_carrier_that_is_taken_away_is_written_to_no_more_and_its_texts_find_another():
    old, new = FakeLink(room=5), FakeLink(room=0)
    old.answer_with = None
    first = carrier("old")
    async with sending(over=[(first, old)]) as bench:
        bench.queue.waiting = [text(n) for n in range(50)]
        await eventually(lambda: len(old.texts) == 5)
        added = carrier("new")
        await bench.sender.change([(added, new)], Table([added], RouteBy.WEIGHT, 1.0))
        old.space = new.space = 100
        await settled(bench, 45)
        assert (len(old.texts), len(new.texts)) == (5, 45)
        for submission in old.submissions:
            submission.answer.set_result(Answer(doubt=False, message_id="x"))
        await settled(bench, 50)
        assert Counter(r.carrier for r in bench.queue.settled) == {"old": 5, "new": 45}


async def test_what_waits_is_routed_anew_when_the_settings_change():
    first, second = FakeLink(room=0), FakeLink()
    one, two = carrier("one", prefixes=["+1614"]), carrier("two", prefixes=["+1303"])
    async with sending(over=[(one, first), (two, second)], chosen=settings(claim_for=60.0)) as bench:
        bench.queue.waiting = [text(n) for n in range(20)]
        await eventually(lambda: bench.sender.unwritten == 20)
        now = carrier("two", prefixes=["+1303", "+1614"])
        await bench.sender.change([(one, first), (now, second)], Table([one, now], RouteBy.WEIGHT, 1.0))
        await settled(bench, 20)
        assert len(second.texts) == 20


async def test_short_codes_that_only_one_carrier_serves_go_there():
    one, two = FakeLink(), FakeLink()
    over = [(carrier("one", short_codes=["11111"]), one), (carrier("two", short_codes=["22222"]), two)]
    async with sending(over=over) as bench:
        bench.queue.waiting = [text(n, source="11111" if n % 2 else "22222") for n in range(40)]
        await settled(bench, 40)
        assert {submission.submit.source for submission in one.submissions} == {"11111"}
        assert {submission.submit.source for submission in two.submissions} == {"22222"}


# -- the backlog's lanes


def test_a_lane_that_may_not_be_taken_from_keeps_its_texts_and_their_order():
    table = Table([carrier("a", prefixes=["+1614"]), carrier("b")], RouteBy.WEIGHT, 1.0)
    ohio, other = table.lane("1", None, OHIO), table.lane("1", None, OTHER)
    backlog = Backlog()
    backlog.add(Claimed(text(n), 9.0, lane=ohio if n % 2 else other) for n in range(6))
    taken = backlog.take(9, None, lambda lane, _: Quota(most=2 if lane is ohio else 0))
    assert [item.claim.message_id.int for item in taken] == [1, 3]
    backlog.put_back(taken)
    assert backlog.lanes == {ohio: (3, 9.0), other: (3, 9.0)}
    assert [item.claim.message_id.int for item in backlog.withdraw_lane(ohio)] == [1, 3, 5]
    assert len(backlog) == 3


def test_of_several_lanes_the_one_that_waits_longest_goes_first():
    table = Table([carrier("a", prefixes=["+1614"]), carrier("b")], RouteBy.WEIGHT, 1.0)
    backlog = Backlog()
    backlog.add([Claimed(text(1), 9.0, lane=table.lane("1", None, OHIO))])
    backlog.add([Claimed(text(2), 5.0, lane=table.lane("1", None, OTHER))])
    assert [item.claim.message_id.int for item in backlog.take(9)] == [2, 1]


# -- how long what cannot be sent stays away


def dead_router(clock):
    router = Router(clock=clock)
    router.use(
        Table([carrier("dead", prefixes=["+1"]), carrier("else", prefixes=["+4"])], RouteBy.WEIGHT, 1.0), []
    )
    return router


@given(st.integers(1, 400), st.floats(0, 100_000), st.sampled_from(MessageClass))
def test_nothing_stays_away_for_ever_and_no_more_come_back_at_once_than_can_be_given_back(count, long, cls):
    clock = HeldClock()
    router = dead_router(clock)

    def given_back():
        items = [
            Claimed(c, 9.0, lane=router.lane(c)) for c in (text(n, message_class=cls) for n in range(count))
        ]
        kept, away = router.admit(items, {}, lambda _: 100, 5.0)
        assert not kept
        return [seconds for _, seconds in away]

    given_back()
    clock._now += long
    turns = sorted(given_back())
    assert len(turns) == count
    assert all(1.0 <= seconds <= LATEST_TURN_S for seconds in turns)
    if cls is not MessageClass.EMERGENCY:
        assert turns[-1] - turns[0] >= (count - 1) / RETURNED_PER_S - 0.001


def test_a_plain_router_keeps_everything():
    router = Router(clock=SystemClock())
    router.use(Table([carrier("a")], RouteBy.WEIGHT, 1.0), [])
    items = [Claimed(text(n), 9.0, lane=router.lane(text(n))) for n in range(9)]
    assert router.admit(items, {}, lambda _: 0, 5.0) == (items, [])
    assert items[0].lane is None
