"""Settings that differ between the sites are told, and no planned swap is begun across them."""

from dataclasses import replace

import pytest

from sitecontrol.agent.state import AgentState
from sitecontrol.leadership.alike import differences, told
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Advance, RollBack
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Member, Phase, Role
from sitecontrol.settings import FailoverSettings
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    cluster,
    entry,
    member,
    swap,
)

OURS = FailoverSettings()
LONGER = FailoverSettings(lease_ttl=3)
SAID = "failover.lease_ttl is 2 at columbus-a and 3 at denver-a"


def facts(theirs: FailoverSettings | None, **change: object) -> Facts:
    members = {
        COLUMBUS: entry(member(COLUMBUS, role=Role.LEADER, failover=told(OURS)), OUR_LEASE),
        DENVER: entry(member(DENVER, failover=theirs and told(theirs)), THEIR_LEASE),
    }
    return at_columbus(settings=OURS, cluster=cluster(members=members, **change))


def test_a_difference_is_named_with_both_values():
    assert differences("a", told(OURS), "b", told(FailoverSettings(profile="metro", canary_every=0.25)))[
        :2
    ] == (
        "failover.profile is lab at a and metro at b",
        "failover.round_trip is 0.05 at a and 0.02 at b",
    )


def test_what_only_one_of_two_versions_knows_is_no_difference():
    newer = {**told(OURS), "new_setting": 1.0}
    assert differences("a", told(OURS), "b", newer) == differences("a", newer, "b", told(OURS)) == ()
    assert differences("a", told(OURS), "b", None) == ()


def test_the_status_tells_of_a_difference_and_is_no_less_ready_for_it():
    state = AgentState(prefix="/hotsite/test/", facts=facts(LONGER), version="1")
    assert state.status()["settings_differ"] == state.cluster()["settings_differ"] == [SAID]
    alike = AgentState(prefix="/hotsite/test/", facts=facts(OURS), version="1")
    assert alike.status()["settings_differ"] == []
    assert state.status()["reasons"] == alike.status()["reasons"]


def test_a_planned_swap_to_a_node_with_other_settings_is_refused_and_names_them():
    assert obstacles(facts(LONGER), DENVER) == (f"{SAID}: make it alike and start the agent again",)
    assert obstacles(facts(OURS), DENVER) == ()


def test_a_node_of_a_version_that_does_not_tell_its_settings_is_no_obstacle():
    assert obstacles(facts(None), DENVER) == ()


def test_a_swap_in_progress_is_rolled_back_before_anything_is_held():
    asked = facts(LONGER, swap=entry(swap(Phase.REQUESTED)))
    effect = decide(Lane.SWAP, asked).effect
    assert isinstance(effect, RollBack)
    assert SAID in effect.reason


def test_a_swap_that_health_asked_for_leaves_an_unfit_site_all_the_same():
    record = swap(Phase.REQUESTED).model_copy(update={"evidence": {"rule": "health-swap"}})
    asked = facts(LONGER, swap=entry(record))
    assert obstacles(asked, DENVER, planned=False) == ()
    assert decide(Lane.SWAP, asked).effect == Advance(phase=Phase.CHECKED)


@pytest.mark.parametrize("settings", [None, OURS])
def test_a_member_record_with_and_without_settings_decodes(settings: FailoverSettings | None):
    record = member(DENVER, failover=settings and told(settings))
    assert Member.decode(record.encode()) == record
    assert (b"failover" in record.encode()) is (settings is not None)


def test_the_difference_keeps_nobody_from_leading():
    assert decide(Lane.POSTGRES, facts(LONGER)) == decide(Lane.POSTGRES, replace(facts(OURS)))
