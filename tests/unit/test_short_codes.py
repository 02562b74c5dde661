"""How fast texts of one short code go, over all links of a dispatcher, and what becomes of those beyond that."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine.backlog import Backlog, Claimed
from dispatcher.engine.short_codes import LATEST_TURN_S, ShortCodes
from dispatcher.model import MessageClass
from sitecontrol.settings_carriers import Carrier
from tests.unit.fake_queue import claim


def carrier(**settings):
    return Carrier(name="acme", address="127.0.0.1:1", system_id="hotsite", **settings)


SLOW = carrier(short_code_rate=8.0, short_code_rates={"911": 50.0})


def item(number, source="72345", **changed):
    return Claimed(replace(claim(number), source=source, **changed), 9.0)


def numbers(items):
    return [one.claim.message_id.int for one in items]


def write(short_codes, backlog, most, now, settings=SLOW):
    """What one link with room for `most` writes."""
    turn = short_codes.turn(settings, now)
    taken = backlog.take(most, turn.may)
    for one in taken:
        turn.written(one)
    return numbers(taken), turn


def test_a_carrier_without_such_rates_has_nothing_to_count():
    assert ShortCodes().turn(carrier(), 0.0) is None


def test_two_links_together_write_no_more_of_a_short_code_than_its_rate():
    short_codes, backlog = ShortCodes(), Backlog()
    backlog.add(item(n) for n in range(100))
    written = []
    for millisecond in range(1_000):
        for _ in ("link 1", "link 2"):
            written += write(short_codes, backlog, 50, millisecond / 1_000)[0]
    assert written == list(range(len(written)))
    assert len(written) in {8, 9}


def test_what_must_wait_lets_other_short_codes_pass_and_none_of_its_own():
    short_codes, backlog = ShortCodes(), Backlog()
    backlog.add([item(1), item(2), item(3, "911"), item(4), item(5, "+15550009999"), item(6, "911")])
    slow = SLOW.model_copy(update={"short_code_rate": 1.0})
    assert write(short_codes, backlog, 50, 0.0, slow)[0] == [1, 3, 5]
    written, turn = write(short_codes, backlog, 50, 0.0, slow)
    assert (written, turn.wait_s) == ([], pytest.approx(1 / 50))
    assert numbers(backlog.take(50)) == [2, 4, 6]


def test_what_was_passed_over_stands_before_what_a_link_did_not_take():
    backlog = Backlog()
    early, late = item(1, "911"), Claimed(claim(2), 10.0)
    backlog.add([early, late])
    taken = backlog.take(5, lambda one: one is late)
    backlog.put_back(taken)
    assert numbers(backlog.withdraw(9.5)) == [1]
    assert numbers(backlog.withdraw()) == [2]


def test_a_claim_keeps_what_can_be_written_in_time_and_sends_the_rest_away_until_its_turn():
    kept, away = ShortCodes().admit([item(n) for n in range(100)], [SLOW, SLOW], 2.0, 0.0)
    assert numbers(kept) == list(range(16))
    assert numbers(one for one, _ in away) == list(range(16, 100))
    turns = [seconds for _, seconds in away]
    assert turns[0] == pytest.approx(2.125)
    assert all(later - sooner == pytest.approx(0.125) for sooner, later in pairwise(turns))


def test_an_emergency_and_what_no_rate_holds_are_always_kept():
    emergencies = [item(n, message_class=MessageClass.EMERGENCY) for n in range(100)]
    assert ShortCodes().admit(emergencies, [SLOW], 2.0, 0.0) == (emergencies, [])
    others = [item(n) for n in range(100)]
    assert ShortCodes().admit(others, [SLOW, replace_name(carrier(), "other")], 2.0, 0.0) == (others, [])


def replace_name(settings, name):
    return settings.model_copy(update={"name": name})


def test_two_carriers_take_together_what_each_allows():
    kept, _ = ShortCodes().admit([item(n) for n in range(100)], [SLOW, replace_name(SLOW, "other")], 2.0, 0.0)
    assert len(kept) == 32


def test_what_comes_back_when_its_turn_has_come_is_kept():
    short_codes = ShortCodes()
    _, away = short_codes.admit([item(n) for n in range(50)], [SLOW], 2.0, 0.0)
    for one, seconds in away:
        again = replace(one, claim=replace(one.claim, attempt=2))
        assert short_codes.admit([again], [SLOW], 2.0, seconds) == ([again], [])


@given(st.floats(0.01, 1_000), st.integers(1, 300), st.floats(0, 1e6))
def test_one_is_always_kept_and_nothing_is_sent_away_for_ever(rate, count, now):
    slow = carrier(short_code_rate=rate)
    kept, away = ShortCodes().admit([item(n) for n in range(count)], [slow], 2.0, now)
    assert len(kept) + len(away) == count
    assert kept or rate * 2.0 < 1 or count == 0
    assert all(0 < seconds <= LATEST_TURN_S for _, seconds in away)


def test_another_rate_holds_from_then_on_and_one_that_is_taken_away_holds_nothing_up():
    short_codes, backlog = ShortCodes(), Backlog()
    backlog.add(item(n) for n in range(400))
    slow = SLOW.model_copy(update={"short_code_rate": 1.0})
    write(short_codes, backlog, 50, 0.0, slow)
    fast = SLOW.model_copy(update={"short_code_rate": 100.0})
    short_codes.use([fast], 0.0)
    written = []
    for hundredth in range(1, 101):
        written += write(short_codes, backlog, 50, hundredth / 100, fast)[0]
    assert 95 <= len(written) <= 105
    short_codes.use([carrier()], 1.0)
    assert short_codes._paces == {}


def test_a_carrier_that_does_not_serve_a_short_code_does_not_count_for_its_rate():
    other = replace_name(carrier(short_codes=["99999"]), "other")
    kept, _ = ShortCodes().admit([item(n) for n in range(100)], [SLOW, other], 2.0, 0.0)
    assert len(kept) == 16
