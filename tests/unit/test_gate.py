"""The gate's table: each row, and what must hold over all facts."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.gate import MOVING, TABLE, Facts, decide, newest_leader
from sitecontrol.records import Leader, Phase, Swap
from sitecontrol.settings import Egress
from sitecontrol.view import Entry, Snapshot

AT = datetime(2026, 1, 1, tzinfo=UTC)


def leader(term: int = 3, site: str = "columbus") -> Leader:
    return Leader(node=f"{site}-a", incarnation="i1", site=site, term=term)


def swap(phase: Phase, term: int = 3) -> Swap:
    return Swap(
        id="s1",
        from_node="columbus-a",
        to_node="denver-a",
        by="ops",
        phase=phase,
        term=term,
        requested_at=AT,
    )


OPEN = Facts(
    here="columbus",
    egress=Egress.LIVE_SITE,
    leader=leader(),
    swap=None,
    site="columbus",
    connected=True,
    opened=3,
    vouched=True,
)


def test_an_open_leader_here_takes_requests_and_sends():
    gate = decide(OPEN)
    assert (gate.rule, gate.open, gate.may_send) == ("open", True, True)
    assert (gate.node, gate.site, gate.term) == ("columbus-a", "columbus", 3)


def test_the_other_site_takes_requests_and_sends_nothing():
    gate = decide(replace(OPEN, here="denver"))
    assert (gate.rule, gate.open, gate.may_send) == ("open-elsewhere", True, False)


def test_both_sites_send_when_egress_says_all_sites():
    assert decide(replace(OPEN, here="denver", egress=Egress.ALL_SITES)).may_send


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (replace(OPEN, leader=None, site=None), "no-leader"),
        (replace(OPEN, site=None), "unlisted"),
        (replace(OPEN, swap=swap(Phase.HELD)), "swap"),
        (replace(OPEN, swap=swap(Phase.FLUSHED)), "swap"),
        (replace(OPEN, connected=False), "not-connected"),
        (replace(OPEN, opened=None), "not-open"),
        (replace(OPEN, opened=2), "not-open"),
        (replace(OPEN, opened=None, vouched=False), "unproved"),
    ],
)
def test_each_reason_to_hold_is_named(facts: Facts, rule: str):
    gate = decide(facts)
    assert (gate.rule, gate.open, gate.may_send) == (rule, False, False)


def test_a_leader_that_etcd_does_not_vouch_for_is_open_while_its_database_proves_it():
    assert decide(replace(OPEN, vouched=False)).open


@pytest.mark.parametrize("phase", [Phase.REQUESTED, Phase.CHECKED, Phase.ROLLED_BACK])
def test_a_swap_that_has_not_stopped_the_old_leader_holds_nothing(phase: Phase):
    assert decide(replace(OPEN, swap=swap(phase))).open


def test_a_swap_that_etcd_left_half_way_holds_nothing_while_the_old_leaders_database_proves_that_it_serves():
    """Without etcd it can neither be handed over nor rolled back: else production would be held until its return."""
    held = replace(OPEN, swap=swap(Phase.HELD), vouched=False)
    assert decide(held).open
    assert decide(replace(held, opened=None)).rule == "swap"


def test_after_the_hand_over_the_new_leaders_own_word_opens():
    handed = replace(OPEN, leader=leader(4, "denver"), site="denver", swap=swap(Phase.PROMOTED))
    assert decide(replace(handed, opened=None)).rule == "not-open"
    assert decide(replace(handed, opened=4)).open


def test_an_old_swaps_leftovers_do_not_hold_a_later_term():
    assert decide(replace(OPEN, swap=swap(Phase.HELD, term=2))).open


def test_only_a_swap_in_progress_names_itself_in_the_gate():
    assert decide(replace(OPEN, swap=swap(Phase.HELD))).swap == "s1"
    assert decide(replace(OPEN, swap=swap(Phase.IN_STEP))).swap is None


def snapshot(record: Leader | None) -> Snapshot:
    entry = Entry(record=record, mod_revision=1, create_revision=1, lease=1) if record else None
    return Snapshot(leader=entry)


def test_the_last_known_leader_stays_when_its_key_is_gone():
    assert newest_leader(leader(3), snapshot(None)) == leader(3)


def test_an_older_picture_is_not_followed():
    assert newest_leader(leader(3, "denver"), snapshot(leader(2))) == leader(3, "denver")


def test_a_newer_term_is_followed():
    assert newest_leader(leader(3), snapshot(leader(4, "denver"))) == leader(4, "denver")


sites = st.sampled_from(["columbus", "denver"])
all_facts = st.builds(
    Facts,
    here=sites,
    egress=st.sampled_from(Egress),
    leader=st.none() | st.builds(leader, st.integers(1, 4), sites),
    swap=st.none() | st.builds(swap, st.sampled_from(Phase), st.integers(1, 4)),
    site=st.none() | sites,
    connected=st.booleans(),
    opened=st.none() | st.integers(1, 4),
)


@given(all_facts)
def test_every_picture_has_a_verdict_and_a_whole_sentence(facts: Facts):
    gate = decide(facts)
    assert gate.rule in {row.rule for row in TABLE}
    if facts.leader is not None:
        assert "None" not in gate.sentence


@given(all_facts)
def test_nothing_passes_before_the_leaders_database_said_open_in_this_term(facts: Facts):
    if decide(facts).open:
        assert facts.leader is not None
        assert facts.connected
        assert facts.opened == facts.leader.term


@given(all_facts)
def test_nothing_passes_while_a_swap_of_this_term_goes_on_by_etcds_word(facts: Facts):
    moving = facts.swap is not None and facts.swap.phase in MOVING
    if moving and facts.vouched and facts.leader and facts.swap and facts.swap.term == facts.leader.term:
        assert not decide(facts).open


@given(all_facts)
def test_only_the_live_site_sends_unless_all_sites_do(facts: Facts):
    gate = decide(facts)
    if gate.may_send:
        assert gate.open
        assert facts.egress is Egress.ALL_SITES or facts.site == facts.here
