"""`/live`: the agent and the dispatchers of a site give one answer, in every state of etcd, canary and step."""

import itertools
from dataclasses import replace

import pytest

from dispatcher import leadership as module
from dispatcher.condition import Condition
from sitecontrol.agent.state import AgentState
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Fence
from sitecontrol.leadership.facts import Facts, LeaseFacts
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Phase
from tests.unit.fake_nodes import FakeSites, eventually, two_sites
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    at_columbus,
    cluster,
    entry,
    primary,
    swap,
    sync,
)

TERM = 3
FRESH, LATE = 0.5, 1.5  # seconds; the setting canary_max_age is one
NAMES_US, KEY_GONE, SILENT = "etcd names us", "etcd has lost our key", "etcd is silent"
STATES = list(itertools.product((NAMES_US, KEY_GONE, SILENT), (FRESH, LATE), (True, False)))


def live(etcd: str, canary_age: float) -> bool:
    """What failover.md says: etcd's word is enough, and without it only a fresh canary is."""
    return etcd == NAMES_US or canary_age == FRESH


def at_the_agent(etcd: str, canary_age: float, *, alone: bool) -> Facts:
    change = {
        NAMES_US: {},
        KEY_GONE: {"cluster": cluster(leader=None)},
        SILENT: {"etcd_heard_at": 90.0, "lease": LeaseFacts(id=OUR_LEASE, ends_at=92.0)},
    }[etcd]
    facts = at_columbus(pg=primary(canary_at=100.0 - canary_age, **(ALONE if alone else {})), **change)
    return with_sync(facts, alone=alone)


ALONE = {"names": (), "remote_in_step": (), "standbys": ()}


def with_sync(facts: Facts, *, alone: bool) -> Facts:
    who = sync(COLUMBUS) if alone else sync(COLUMBUS, DENVER)
    return replace(facts, cluster=replace(facts.cluster, sync=entry(who)))


def live_at_a_dispatcher(sites: FakeSites) -> bool:
    state = sites.leadership.state
    condition = Condition(
        name="columbus-1", site="columbus", state=state, links_bound=1, links=1, in_step=False
    )
    return condition.live


@pytest.mark.parametrize(("etcd", "canary_age", "alone"), STATES)
async def test_agent_and_dispatcher_agree_about_an_open_leader(
    etcd: str, canary_age: float, *, alone: bool, monkeypatch: pytest.MonkeyPatch
):
    expected = live(etcd, canary_age)
    monkeypatch.setattr(module, "ASK_ALIVE_EVERY_S", 0.01)
    facts = at_the_agent(etcd, canary_age, alone=alone)
    assert AgentState(prefix="/p/", facts=facts, version="1").serving is expected
    async with two_sites() as sites:
        await sites.lead(COLUMBUS, TERM)
        sites.nodes[COLUMBUS].canary_age_s = canary_age
        if etcd == KEY_GONE:
            await sites.unname_leader()
            await eventually(lambda: sites.leadership.snapshot.leader is None)
        elif etcd == SILENT:
            monkeypatch.setattr(module, "ETCD_SILENT_S", -1.0)
        await eventually(lambda: live_at_a_dispatcher(sites) is expected)
        asked = sites.nodes[COLUMBUS].asked
        await eventually(lambda: sites.nodes[COLUMBUS].asked > asked + 2)
        assert live_at_a_dispatcher(sites) is expected


@pytest.mark.parametrize(("etcd", "canary_age", "alone"), STATES)
def test_a_site_that_is_not_live_is_fenced_when_it_lost_etcd_and_canary_together_and_is_not_alone(
    etcd: str, canary_age: float, *, alone: bool
):
    """Otherwise its PostgreSQL goes on, closed, and opens with the next canary that commits."""

    def fenced(facts: Facts) -> bool:
        return isinstance(decide(Lane.POSTGRES, facts).effect, Fence)

    facts = at_the_agent(etcd, canary_age, alone=alone)
    assert not fenced(facts)
    if etcd == SILENT:
        together = replace(facts, etcd_heard_at=97.0, lease=LeaseFacts(id=OUR_LEASE, ends_at=99.1))
        assert fenced(together) == (canary_age == LATE and not alone)


def test_a_leader_whose_canary_is_late_is_live_by_etcds_word_and_says_that_it_is_not_ready():
    state = AgentState(prefix="/p/", facts=at_the_agent(NAMES_US, LATE, alone=True), version="1")
    assert state.serving
    assert any("canary" in reason for reason in state.reasons)
    assert not AgentState(prefix="/p/", facts=at_columbus(), version="1").reasons


def test_a_leader_in_the_middle_of_a_swap_is_live_again_by_its_canary_when_etcd_falls_silent():
    """It has not shut down, and without etcd it can neither hand over nor roll back."""
    held = {"cluster": cluster(swap=entry(swap(Phase.HELD))), "swap_phase_since": 99.0}
    assert not AgentState(prefix="/p/", facts=at_columbus(**held), version="1").serving
    silent = at_columbus(etcd_heard_at=90.0, lease=LeaseFacts(id=OUR_LEASE, ends_at=92.0), **held)
    assert AgentState(prefix="/p/", facts=silent, version="1").serving
    late = replace(silent, pg=replace(silent.pg, canary_at=100.0 - LATE))
    assert not AgentState(prefix="/p/", facts=late, version="1").serving


def test_a_leader_that_has_lost_its_lease_is_not_live_by_an_old_picture():
    """Its watch hangs: etcd answers and has granted it another lease, and whoever leads now is not seen."""
    anew = at_columbus(lease=LeaseFacts(id=OUR_LEASE + 1, ends_at=101.8, former=OUR_LEASE))
    assert anew.etcd_here
    assert anew.lease_safe
    assert AgentState(prefix="/p/", facts=anew, version="1").serving
    late = replace(anew, pg=replace(anew.pg, canary_at=100.0 - LATE))
    assert not AgentState(prefix="/p/", facts=late, version="1").serving
