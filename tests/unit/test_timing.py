"""Durations that do not fit together are refused, with the sum; what passes is safe in a model of the clocks."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replication.configuration import wal_sender_timeout
from replication.errors import NodeError
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import LeaseFacts
from sitecontrol.leadership.proof import check, complaints, prove
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.timing import (
    CLOCK_DRIFT,
    END_POSTGRES,
    LOOK_EVERY,
    RELATIONS,
    Weight,
    seconds_of,
    seconds_of_place,
)
from sitecontrol.profiles import DURATIONS, Profile
from sitecontrol.settings import DispatcherSettings, FailoverSettings, Settings, SettingsError, load
from tests.unit.leadership_facts import OUR_LEASE, at_columbus, primary


def seconds(dispatcher: DispatcherSettings | None = None, /, **failover: object) -> dict[str, float]:
    return seconds_of(FailoverSettings(**failover), dispatcher or DispatcherSettings(), call_timeout=1.0)


def refused(dispatcher: DispatcherSettings | None = None, /, **failover: object) -> list[str]:
    return [f.relation.name for f in prove(seconds(dispatcher, **failover)) if f.refused]


@pytest.mark.parametrize("profile", Profile)
def test_the_defaults_of_every_profile_keep_every_relation(profile: Profile):
    assert [f.relation.name for f in prove(seconds(profile=profile)) if not f.holds] == []


def test_a_setting_goes_before_its_profile_and_a_profile_before_the_labs():
    settings = FailoverSettings(profile="cross-country", lease_ttl=5)
    assert (settings.lease_ttl, settings.renew_every) == (5, 0.8)
    assert settings.model_fields_set == {"profile", "lease_ttl"}


def test_every_duration_of_the_failover_has_a_default_in_each_profile():
    assert {d.setting for d in DURATIONS} == set(FailoverSettings.model_fields) - {
        "profile",
        "max_swaps_per_hour",
        "failback",
        "failback_after",
        "failback_hours",
    }


def settings_of(place: str) -> Settings:
    return load(Path(__file__).parents[2] / "configs" / f"{place}.toml")


@pytest.mark.parametrize("place", ["columbus", "denver"])
def test_the_shipped_settings_of_a_site_keep_every_relation(place: str):
    assert all(finding.holds for finding in prove(seconds_of_place(settings_of(place))))


def test_a_margin_that_is_too_small_is_refused_with_the_sum_and_a_margin_that_would_do():
    with pytest.raises(
        SettingsError,
        match=r"failover.lease_margin = 0.1: .* 2 - lease_margin 0.1 .* = 2.32 s is more .* use at least 0.42",
    ):
        check(seconds(lease_margin=0.1))


def test_a_lease_is_lengthened_to_a_whole_number_of_seconds():
    (line,) = complaints(prove(seconds(renew_every=0.7, canary_max_age=1.0)))[:1]
    assert line.startswith("failover.lease_ttl = 2: etcd-word-before-promotion")
    assert line.endswith("use at least 3")


def test_a_cure_is_never_a_value_that_no_setting_could_have():
    lines = complaints(prove(seconds(renew_every=3.0, canary_max_age=3.0, round_trip=1.0)))
    (line,) = (line for line in lines if "canary-before-promotion" in line)
    assert line.endswith("use at least 8")
    lines = complaints(prove(seconds(canary_max_age=0.2, canary_every=0.1, round_trip=0.3)))
    (line,) = (line for line in lines if "canaries-fit" in line)
    assert line.startswith("failover.canary_max_age = 0.2")  # no canary_every would do
    assert line.endswith("use at least 0.6")
    (line,) = (line for line in complaints(prove(seconds(round_trip=5.0))) if "standby-outlasts-line" in line)
    assert line.endswith("use at most 0.35")


BREAKS = {
    "fence-before-promotion": {"lease_margin": 0.3},
    "etcd-word-before-promotion": {"renew_every": 0.6},
    "canary-before-promotion": {"canary_max_age": 1.2},
    "renewal-comes-twice": {"lease_ttl": 5, "renew_every": 1.0, "lease_margin": 4.0},
    "renewal-outlasts-silence": {"renew_every": 0.95},
    "call-crosses-line": {"profile": "cross-country", "round_trip": 0.6},
    "canaries-fit": {"canary_every": 0.4},
    "standby-outlasts-line": {"profile": "cross-country", "round_trip": 0.4},
    "turn-outlasts-claim": {"profile": "cross-country", "round_trip": 0.46},
    "reclaim-before-standby": {"canary_wait": 3.0},
    "swap-within-hold": {"swap_deadline": 9.0},
    "shutdown-outlasts-receiver": {"swap_deadline": 4.0},
    "hand-over-in-time": {"swap_deadline": 2.0},
    "unfit-is-looked-at-again": {"unfit_for": 1.5},
    "cool-down-outlasts-count": {"swap_cool_down": 5.0},
}


@pytest.mark.parametrize("name", BREAKS)
def test_settings_that_break_a_relation_are_refused_by_its_name(name: str):
    assert name in refused(**BREAKS[name])


def test_the_messages_own_durations_are_held_against_the_line_and_the_links():
    assert refused(DispatcherSettings(claim_for=0.1)) == ["claim-outlasts-line"]
    site = settings_of("columbus")
    slow = tuple(carrier.model_copy(update={"response_timeout": 31.0}) for carrier in site.carrier)
    found = prove(seconds_of_place(site.model_copy(update={"carrier": slow})))
    assert [f.relation.name for f in found if f.refused] == ["doubt-outlives-links"]


def test_every_relation_that_is_refused_is_broken_by_one_of_these_settings():
    beside = {"claim-outlasts-line", "doubt-outlives-links"}  # above
    assert {r.name for r in RELATIONS if r.weight is not Weight.PROMISE} == BREAKS.keys() | beside


def test_a_promise_that_is_not_kept_is_told_and_not_refused():
    findings = prove(seconds(restart_within=20.0))
    assert [f.relation.name for f in findings if not f.holds] == ["restart-before-lease"]
    assert complaints(findings) == []


def test_a_wal_sender_timeout_of_ones_own_counts_in_the_shutdown_of_a_swap():
    found = seconds_of(
        FailoverSettings(), DispatcherSettings(), call_timeout=1.0, parameters={"wal_sender_timeout": "4s"}
    )
    assert [f.relation.name for f in prove(found) if f.refused] == ["shutdown-outlasts-receiver"]


@pytest.mark.parametrize(
    ("value", "is_seconds"), [("2s", 2.0), (2000, 2.0), ("500 ms", 0.5), ("1min", 60.0), (0, float("inf"))]
)
def test_a_wal_sender_timeout_is_read_as_postgresql_reads_it(value: str | int, is_seconds: float):
    assert wal_sender_timeout({"wal_sender_timeout": value}) == is_seconds


def test_a_wal_sender_timeout_that_is_no_time_is_refused():
    with pytest.raises(NodeError, match="wal_sender_timeout = 'soon' is no time"):
        wal_sender_timeout({"wal_sender_timeout": "soon"})


# -- any settings

ANY_SETTINGS = st.builds(
    FailoverSettings,
    profile=st.sampled_from(Profile),
    round_trip=st.floats(0.001, 0.35),
    lease_ttl=st.integers(2, 12),
    renew_every=st.floats(0.05, 1),
    lease_margin=st.floats(0.4, 2),
    canary_every=st.floats(0.02, 2),
    canary_max_age=st.floats(0.1, 2),
    restart_within=st.floats(0.1, 30),
    swap_deadline=st.floats(0.5, 12),
    drain_within=st.floats(0.01, 3),
)


@dataclass(frozen=True, kw_only=True)
class Clocks:
    """One way in which it may happen: the last renewal was sent at 0, by etcd's clock, and then all is cut at once.
    Each is a share, from 0 to 1, of what is possible.
    """

    rate: float  # of our clock: from as slow to as fast as it may be
    on_the_way: float  # of the renewal that etcd answered, of a round trip
    received: float  # when etcd received it, of that
    cut: float  # between that answer and the moment in which the next one would have come
    heard: float  # when etcd's last word came, between that answer and the cut
    canary: float  # when the last canary that was to commit began, in that time
    looks: float  # when we look, of the time between two looks
    ending: float  # how long PostgreSQL takes to end


SHARE = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1))
ANY_CLOCKS = st.builds(Clocks, **dict.fromkeys(Clocks.__dataclass_fields__, SHARE))


def between(least: float, most: float, share: float) -> float:
    return least + (most - least) * share


def fenced_and_promoted(settings: FailoverSettings, clocks: Clocks) -> tuple[float, float]:
    """By etcd's clock: when PostgreSQL has ended, as the table decides, and the earliest promotion of another."""
    rate = between(1 / (1 + CLOCK_DRIFT), 1 + CLOCK_DRIFT, clocks.rate)  # our seconds in one of etcd's
    answered = clocks.on_the_way * settings.round_trip
    cut = between(answered, settings.renew_every / rate + settings.round_trip, clocks.cut)
    heard, canary = (between(answered, cut, share) * rate for share in (clocks.heard, clocks.canary))
    now = cut * rate + clocks.looks * LOOK_EVERY
    while True:
        facts = at_columbus(
            now=now,
            settings=settings,
            lease=LeaseFacts(id=OUR_LEASE, ends_at=float(settings.lease_ttl)),
            etcd_heard_at=heard,
            pg=primary(canary_at=canary),
        )
        rule = decide(Lane.POSTGRES, facts).rule
        assert rule in ("leads", "lost-proof")
        if rule == "lost-proof":
            break
        now += LOOK_EVERY
    return now / rate + clocks.ending * END_POSTGRES, clocks.received * answered + settings.lease_ttl


@given(settings=ANY_SETTINGS, clocks=ANY_CLOCKS)
def test_whatever_is_let_through_is_fenced_before_another_can_be_promoted(
    settings: FailoverSettings, clocks: Clocks
):
    found = prove(seconds_of(settings, DispatcherSettings(), call_timeout=1.0))
    assume(all(finding.holds for finding in found if finding.relation.weight is Weight.SAFETY))
    fenced, promoted = fenced_and_promoted(settings, clocks)
    assert fenced <= promoted + 1e-6


@given(clocks=ANY_CLOCKS, profile=st.sampled_from(Profile))
def test_the_defaults_of_every_profile_are_fenced_before_another_can_be_promoted(
    clocks: Clocks, profile: Profile
):
    fenced, promoted = fenced_and_promoted(FailoverSettings(profile=profile), clocks)
    assert fenced <= promoted


WORST = Clocks(rate=0, on_the_way=0, received=0, cut=1, heard=1, canary=1, looks=1, ending=1)


@pytest.mark.parametrize(
    "name", ["fence-before-promotion", "etcd-word-before-promotion", "canary-before-promotion"]
)
def test_settings_that_a_safety_relation_refuses_are_unsafe_in_the_model(name: str):
    """So that the relations ask for no more than is needed."""
    settings = FailoverSettings(**{**BREAKS[name], "profile": "lab"})
    fenced, promoted = fenced_and_promoted(settings, WORST)
    assert fenced > promoted


@given(settings=ANY_SETTINGS)
def test_a_value_that_is_said_to_do_does(settings: FailoverSettings):
    before = seconds_of(settings, DispatcherSettings(), call_timeout=1.0)
    for finding in prove(before):
        if finding.good is not None:
            after = prove({**before, finding.setting: finding.good})
            assert next(f for f in after if f.relation is finding.relation).holds
