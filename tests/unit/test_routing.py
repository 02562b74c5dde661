"""Which carriers may carry a text, in which order, and whose turn it is: decided from conditions, with reasons."""

from collections import Counter
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine.routing import (
    AWAY,
    Condition,
    Lane,
    Quota,
    Reason,
    Shares,
    Table,
    quota,
    routes,
    usable,
)
from dispatcher.model import MessageClass
from sitecontrol.settings_carriers import Carrier, RouteBy

NUMBER = "+16145550123"
UP = Condition(bound=True, room=True, paused=False)
FULL = Condition(bound=True, room=False, paused=False)
PAUSED = Condition(bound=True, room=False, paused=True)
SICK = Condition(bound=True, room=True, paused=False, sick=True)
PROBE = Condition(bound=True, room=True, paused=False, sick=True, probe=True)
CONDITIONS = [AWAY, UP, FULL, PAUSED, SICK, PROBE]


def carrier(name, **settings):
    return Carrier.model_validate({"name": name, "address": "127.0.0.1:1", "system_id": "hotsite"} | settings)


def priced(name, amount, **settings):
    return carrier(name, price={"per_segment": amount, "currency": "USD"}, **settings)


def table(*carriers, by=RouteBy.WEIGHT, wait_s=1.0):
    return Table(carriers, by, wait_s)


def asked(made, name, at, lane=None, message_class=MessageClass.SERVICE, shares=None, patient_until=0.0):
    """What a link of carrier `name` may take; `at` has the conditions of all, and what it lacks is up."""
    return quota(
        made,
        shares or Shares(),
        lane or made.lane("72345", "outage", NUMBER),
        name,
        conditions=lambda one: at.get(one, UP),
        message_class=message_class,
        patient_until=patient_until,
    )


# -- what a carrier may carry by its settings


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, None),
        ({"prefixes": ["+1614", "+1740"]}, None),
        ({"prefixes": ["+1740"]}, Reason.PREFIX),
        ({"refused_prefixes": ["+1614"]}, Reason.REFUSED_PREFIX),
        ({"refused_prefixes": ["+1740"]}, None),
        ({"prefixes": ["+1"], "refused_prefixes": ["+1614"]}, Reason.REFUSED_PREFIX),
        ({"prefixes": ["+16145"], "refused_prefixes": ["+1614"]}, None),
        ({"short_codes": ["72345"]}, None),
        ({"short_codes": ["99999"]}, Reason.SHORT_CODE),
        ({"programs": ["outage", "bills"]}, None),
        ({"programs": ["bills"]}, Reason.PROGRAM),
    ],
)
def test_what_a_carrier_carries_is_told_by_its_settings(settings, reason):
    lane = table(carrier("acme", **settings)).lane("72345", "outage", NUMBER)
    assert lane.carriers == (() if reason else ("acme",))
    assert lane.excluded == ((("acme", reason),) if reason else ())


def test_a_program_that_is_not_known_yet_is_not_taken_for_another():
    lane = table(carrier("acme", programs=["outage"]), carrier("other")).lane("72345", None, NUMBER)
    assert (lane.carriers, lane.excluded) == (("other",), (("acme", Reason.PROGRAM_UNKNOWN),))


def test_texts_of_the_same_carriers_and_reasons_stand_in_one_lane():
    made = table(carrier("ohio", prefixes=["+1614"]), carrier("all"))
    assert made.lane("72345", "a", NUMBER) is made.lane("11111", "b", "+16149990000")
    assert made.lane("72345", "a", "+17405550000").carriers == ("all",)


prefixes = st.lists(st.sampled_from(["+1", "+16", "+161", "+1614", "+16145", "+1740", "+44"]), unique=True)


@given(prefixes, prefixes, st.sampled_from([NUMBER, "+17405550123", "+442071838750"]))
def test_the_longest_prefix_that_fits_decides(allowed, refused, to):
    one = carrier("acme", prefixes=allowed, refused_prefixes=[p for p in refused if p not in allowed])
    fitting = sorted((p for p in (*one.prefixes, *one.refused_prefixes) if to.startswith(p)), key=len)
    carries = fitting[-1] in one.prefixes if fitting else not one.prefixes
    assert bool(table(one).lane("72345", None, to).carriers) is carries


@given(
    st.lists(st.sampled_from(["+1614", "+1740", "+44"]), unique=True, max_size=3), st.integers(0, 9_999_999)
)
def test_the_lane_of_a_number_does_not_depend_on_who_was_asked_for_before(allowed, number):
    carriers = carrier("acme", prefixes=allowed), carrier("all", refused_prefixes=["+1999"])
    used = table(*carriers)
    to = f"+1614{number:07}"
    for before in ("+17400000000", "+16140000000", "+19990000000"):
        used.lane("72345", None, before)
    assert used.lane("72345", None, to).carriers == table(*carriers).lane("72345", None, to).carriers


# -- who goes first


def test_one_carrier_that_carries_everything_has_nothing_to_choose():
    assert table(carrier("acme")).plain
    assert not table(carrier("acme", prefixes=["+1"])).plain
    assert not table(carrier("acme"), carrier("other")).plain
    assert not table(carrier("acme", weight=0)).plain


def test_the_lower_priority_number_goes_first_while_it_has_room():
    made = table(carrier("first"), carrier("second", priority=1))
    assert asked(made, "first", {}).most > 0
    assert asked(made, "second", {}) == Quota(most=0, why=Reason.BEHIND)


@pytest.mark.parametrize("at", [AWAY, PAUSED])
def test_nothing_waits_for_a_better_carrier_that_is_dead_or_was_asked_to_pause(at):
    made = table(carrier("first"), carrier("second", priority=1))
    found = asked(made, "second", {"first": at})
    assert (found.most > 0, found.until) == (True, inf)


def test_a_text_waits_a_while_for_a_better_carrier_that_is_only_full_and_an_emergency_does_not():
    made = table(carrier("first"), carrier("second", priority=1))
    assert asked(made, "second", {"first": FULL}, patient_until=7.0).until == 7.0
    hurried = asked(made, "second", {"first": FULL}, message_class=MessageClass.EMERGENCY)
    assert (hurried.most > 0, hurried.until) == (True, inf)


def test_by_cost_the_cheapest_goes_first_and_by_weight_the_price_is_nothing():
    carriers = priced("dear", "0.0100"), priced("cheap", "0.0075")
    by_cost = table(*carriers, by=RouteBy.COST)
    assert asked(by_cost, "dear", {}).why is Reason.BEHIND
    assert asked(by_cost, "cheap", {}).most > 0
    assert asked(table(*carriers), "dear", {}).most > 0


def test_priority_goes_before_price():
    made = table(priced("dear", "1"), priced("cheap", "0.1", priority=1), by=RouteBy.COST)
    assert asked(made, "cheap", {}).why is Reason.BEHIND


def test_a_carrier_of_weight_0_is_given_nothing_and_none_waits_for_it():
    made = table(carrier("rests", weight=0), carrier("works", priority=1))
    assert asked(made, "rests", {}) == Quota(most=0, why=Reason.RESTING)
    assert asked(made, "works", {}).until == inf


def test_a_sick_carrier_is_tried_with_one_text_that_is_no_emergency():
    made = table(carrier("sick"), carrier("sound"))
    assert asked(made, "sick", {"sick": SICK}) == Quota(most=0, why=Reason.SICK)
    assert asked(made, "sick", {"sick": PROBE}) == Quota(most=1, why=Reason.PROBED)
    assert asked(made, "sick", {"sick": PROBE}, message_class=MessageClass.EMERGENCY).most == 0
    assert asked(made, "sound", {"sick": PROBE}).most > 0


@pytest.mark.parametrize("at", [FULL, PAUSED])
def test_a_sick_carrier_is_not_given_what_a_sound_one_will_take(at):
    made = table(carrier("sick"), carrier("sound"))
    assert asked(made, "sick", {"sick": SICK, "sound": at}).most == 0


def test_a_sick_carrier_carries_what_no_other_can():
    made = table(carrier("sick"), carrier("dead"))
    assert asked(made, "sick", {"sick": SICK, "dead": AWAY}).most > 0


def test_where_a_text_was_just_refused_is_the_last_to_get_it_again():
    made = table(carrier("refused"), carrier("other", priority=5))
    lane = made.lane("72345", "outage", NUMBER, avoid="refused")
    assert asked(made, "refused", {}, lane).why is Reason.REFUSED_BEFORE
    assert asked(made, "other", {}, lane).most > 0
    assert asked(made, "refused", {"other": AWAY}, lane).most > 0


def test_the_only_carrier_of_a_text_is_not_avoided():
    made = table(carrier("ohio", prefixes=["+1614"]), carrier("else", prefixes=["+1740"]))
    assert made.lane("72345", None, NUMBER, avoid="ohio").avoid == ""


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from(CONDITIONS)), min_size=1, max_size=5
    ),
    st.sampled_from(["", "c0", "c1"]),
    st.sampled_from(MessageClass),
)
def test_while_a_carrier_is_able_some_carrier_gets_the_text_and_never_a_dead_or_resting_one(told, avoid, cls):
    """Whatever the conditions: nobody who cannot is asked, and a text never waits while one that may has room, but
    behind a sound carrier."""
    carriers = [
        carrier(f"c{n}", weight=weight, priority=priority) for n, (weight, priority, _) in enumerate(told)
    ]
    at = {f"c{n}": condition for n, (_, _, condition) in enumerate(told)}
    made = table(*carriers)
    lane = made.lane("72345", None, NUMBER, avoid)
    shares = Shares()
    given_ = {
        name: asked(made, name, at, lane, cls, shares, patient_until=inf)
        for name in at
        if at[name].room and not at[name].paused
    }
    for name, found in given_.items():
        if not at[name].bound or not made.weights[name]:
            assert found.most == 0
    able = [name for name in usable(made, lane, at.__getitem__) if at[name].room]
    sound = [name for name in usable(made, lane, at.__getitem__) if not at[name].sick]
    if able and (set(able) & set(sound) or not sound):
        assert any(found.most for found in given_.values())


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=200, max_size=400),
)
def test_equals_share_by_weight_whoever_asks_when(weights, asks):
    """However unevenly links ask, a carrier that always has room is never ahead of its share by more than a burst."""
    made = table(*(carrier(f"c{n}", weight=weight) for n, weight in enumerate(weights)))
    shares, took = Shares(), Counter()
    lane = made.lane("72345", None, NUMBER)
    for number, room in asks:
        name = f"c{number % len(weights)}"
        texts = min(room, asked(made, name, {}, shares=shares).most)
        shares.took(lane.carriers, name, texts, made.weights[name])
        took[name] += texts
        passes = [took[f"c{n}"] / weight for n, weight in enumerate(weights)]
        assert max(passes) - min(passes) <= Shares.BURST / min(weights) + 1


def test_a_carrier_that_was_away_does_not_catch_up_with_what_it_missed():
    made, shares = table(carrier("a"), carrier("b")), Shares()
    lane = made.lane("72345", None, NUMBER)
    for _ in range(100):
        texts = min(50, asked(made, "a", {"b": AWAY}, shares=shares).most)
        shares.took(lane.carriers, "a", texts, 1)
    assert asked(made, "a", {}, shares=shares).most > 0


def test_what_a_full_carrier_missed_it_gets_later_within_a_bound():
    made, shares = table(carrier("a"), carrier("b")), Shares()
    lane = made.lane("72345", None, NUMBER)
    asked(made, "a", {}, shares=shares)
    for _ in range(4):
        asked(made, "a", {"b": FULL}, shares=shares)
        shares.took(lane.carriers, "a", 100, 1)
    assert asked(made, "a", {}, shares=shares) == Quota(most=0, why=Reason.TURN)
    assert asked(made, "b", {}, shares=shares).most == 400 + Shares.BURST


# -- what people read


def test_every_carrier_has_its_place_and_its_reason():
    made = table(
        carrier("southcell", prefixes=["+1740"]),
        carrier("northline"),
        carrier("spare", priority=9),
        carrier("dead"),
        carrier("slow"),
    )
    at = {"dead": AWAY, "slow": PAUSED}
    told = routes(made, made.lane("72345", "outage", NUMBER), lambda name: at.get(name, UP))
    assert [str(route) for route in told] == [
        "northline: carries it now",
        "slow: asked for a pause (throttled)",
        "spare: another goes before it (priority, or price)",
        "dead: none of its links is bound",
        "southcell: not its prefix",
    ]
    assert [route.may for route in told] == [True, False, False, False, False]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(CONDITIONS)), max_size=5))
def test_every_carrier_is_told_once_whatever_the_conditions(told):
    made = table(*(carrier(f"c{n}", weight=w, priority=p) for n, (w, p, _) in enumerate(told)))
    at = {f"c{n}": condition for n, (_, _, condition) in enumerate(told)}
    found = routes(made, made.lane("72345", None, NUMBER), at.__getitem__)
    assert sorted(route.carrier for route in found) == sorted(at)


def test_a_lane_without_carriers_is_told_by_the_settings_alone():
    made = table(carrier("a", prefixes=["+44"]), carrier("b", short_codes=["1"]))
    told = routes(made, made.lane("72345", "outage", NUMBER), lambda _: UP)
    assert [(route.carrier, route.reason) for route in told] == [
        ("a", Reason.PREFIX),
        ("b", Reason.SHORT_CODE),
    ]


def test_who_is_no_part_of_a_lane_takes_nothing_of_it():
    made = table(carrier("a"), carrier("b"))
    assert asked(made, "b", {}, Lane(("a",))).most == 0
