"""Back to the preferred site by itself: only where it is wanted, after a quiet time, and within every limit. In these
tests denver is the preferred site, and production runs in columbus.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sitecontrol.agent.state import AgentState
from sitecontrol.cli.tables import status_lines
from sitecontrol.leadership import failback
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import AskForSwap, RollBack
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.observed import FAILBACK, LOOK_GAP, by_health
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Desired, HistoryEntry, Maintenance, Phase, PhaseTime, Planned
from sitecontrol.settings import FailoverSettings
from sitecontrol.view import Entry
from tests.unit.health_swap_scenes import PLACES, SETTINGS, Scene
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    WALL,
    at_columbus,
    at_denver,
    entry,
    leader,
    member,
    swap,
    sync,
)
from tests.unit.test_sitectl_tables import shown

AFTER = SETTINGS.model_copy(update={"failback": "after", "failback_after": 60.0})


def at_home_is_denver(**change: Any) -> Facts:
    return at_columbus(home="denver", **change)


def away(**change: Any) -> Scene:
    return Scene(at_home_is_denver, AFTER.model_copy(update=change))


def moved_back(scene: Scene) -> None:
    """What the swap leaves in the history."""
    told = HistoryEntry(
        term=9, node=DENVER, site="denver", at=scene.wall, kind="swap rolled back", by="failback",
        evidence={"rule": FAILBACK},
    )  # fmt: skip
    kept = Entry(record=told, mod_revision=scene.revision, create_revision=scene.revision, lease=0)
    scene.change(history={**scene.cluster.history, f"9-{scene.revision}": kept})


def test_production_goes_back_after_a_quiet_time():
    scene = away()
    assert scene.passes(59.8).rule == "failback-waits"
    decision = scene.passes(0.4)
    assert decision.rule == FAILBACK
    assert isinstance(decision.effect, AskForSwap)
    asked = decision.effect
    assert (asked.to_node, asked.places, asked.by) == (DENVER, PLACES, "failback")
    assert (asked.evidence["rule"], asked.reason) == (
        FAILBACK,
        "back to denver, the preferred site, after 60 s of quiet",
    )


def test_never_is_the_default_and_at_home_there_is_nothing_to_do():
    assert FailoverSettings().failback == "never"
    assert Scene(at_home_is_denver, SETTINGS).passes(7_200, every=1.0).rule == "live-fit"
    assert Scene(lambda: at_columbus(home="columbus"), AFTER).passes(120).rule == "live-fit"
    assert Scene(at_columbus, AFTER).passes(120).rule == "live-fit", "no site is preferred"


def unready(scene: Scene) -> None:
    known = scene.cluster.members
    scene.change(members={**known, DENVER: entry(member(DENVER, ready=False), 22)})


def out_of_step(scene: Scene) -> None:
    scene.change(sync=entry(sync(COLUMBUS)))


def unfit(scene: Scene) -> None:
    scene.says("witness", denver=False)


def unseen(scene: Scene) -> None:
    for place in ("denver", "witness"):
        scene.says(place, denver=None)


def another_term(scene: Scene) -> None:
    scene.change(leader=entry(leader(COLUMBUS, term=4), 11))


def swapping(scene: Scene) -> None:
    scene.change(swap=entry(swap(Phase.REQUESTED)))


@pytest.mark.parametrize("disturbed", [unready, out_of_step, unfit, unseen, another_term, swapping])
def test_a_moment_in_which_it_was_not_so_begins_the_quiet_time_anew(disturbed: Any):
    scene = away()
    before = scene.cluster
    scene.passes(50)
    disturbed(scene)
    scene.passes(0.2)
    scene.cluster = replace(before, revision=scene.revision, observations=scene.cluster.observations)
    for place in PLACES:
        scene.says(place)
    assert scene.passes(59).rule == "failback-waits"
    assert scene.passes(2).rule == FAILBACK


def test_a_swap_that_was_handed_over_and_then_overtaken_counts_once():
    """The term that it began has an entry, and its end, when another took the lead, one of its own."""
    began = HistoryEntry(
        term=3, node=DENVER, site="denver", at=WALL, kind="swap", by="failback", evidence={"rule": FAILBACK}
    )
    handed = (PhaseTime(phase=Phase.HANDED, at=WALL), PhaseTime(phase=Phase.ROLLED_BACK, at=WALL))
    ended = began.model_copy(update={"kind": "swap rolled back", "steps": handed})
    tried = began.model_copy(update={"kind": "swap rolled back", "steps": handed[1:]})
    assert [by_health(entry) for entry in (began, ended, tried)] == [True, False, True]


def test_what_was_not_looked_at_was_not_quiet():
    scene = away()
    scene.passes(50)
    scene.now += LOOK_GAP + 1
    scene.look()
    assert scene.passes(30).rule == "failback-waits"


PLANNED = Planned(id="p", to="denver", at=WALL + timedelta(days=1), asked_at=WALL, by="anna")


def in_maintenance(site: str) -> Desired:
    window = Maintenance(site=site, since=WALL, until=WALL + timedelta(hours=9), by="a", reason="b")
    return Desired(maintenance=(window,))


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Desired(paused=True), "automatic swaps are paused"),
        (in_maintenance("denver"), "denver is in maintenance"),
        (in_maintenance("columbus"), "columbus is in maintenance"),
        (Desired(planned=PLANNED), "an operator has planned a swap"),
    ],
)
def test_an_operators_word_goes_first(wanted: Desired, why: str):
    scene = away()
    scene.change(desired=entry(wanted))
    assert scene.passes(120).rule == "failback-waits"
    assert failback.waits_for(scene.facts)[0] == why
    told = AgentState(prefix="/", facts=scene.facts, version="1").cluster()
    assert f"back to the preferred site: {why}" in " ".join(shown(status_lines(told)))


def test_the_agent_at_home_tells_what_it_waits_for_too_and_asks_for_nothing():
    """`sitectl status` asks the preferred site's agents first."""
    scene = Scene(lambda **change: at_denver(home="denver", **change), AFTER)
    scene.passes(30)
    (told,) = AgentState(prefix="/", facts=scene.facts, version="1").cluster()["health"]["failback"]
    assert told == "denver has been in step and seen fit for 30 s of 60 s"
    assert scene.passes(60).effect is None


def test_it_counts_for_the_limits_and_keeps_to_them():
    scene = away(swap_cool_down=100.0)
    scene.passes(61)
    moved_back(scene)
    assert scene.passes(98).rule == "failback-waits", "the cool-down"
    assert scene.passes(3).rule == FAILBACK
    moved_back(scene)
    assert scene.passes(200).rule == "failback-waits", "max_swaps_per_hour = 2"
    scene.loses_its_links()
    assert scene.passes(20).rule == "limit-reached", "nor does health go beyond it"


@pytest.mark.parametrize(
    ("hours", "at", "within"),
    [
        ("", 12, True),
        ("02:00-04:30", 1, False),
        ("02:00-04:30", 2, True),
        ("02:00-04:30", 4, True),
        ("02:00-04:30", 5, False),
        ("22:00-04:00", 23, True),
        ("22:00-04:00", 3, True),
        ("22:00-04:00", 4, False),
    ],
)
def test_it_keeps_to_the_hours(hours: str, at: int, within: bool):  # noqa: FBT001 # a column of the table
    scene = away(failback_hours=hours)
    scene.wall += timedelta(hours=at)
    assert (scene.passes(61).rule == FAILBACK) is within


@pytest.mark.parametrize(
    "wrong",
    [
        {"failback_hours": "24:00-01:00"},
        {"failback_hours": "2-4"},
        {"failback": "always"},
        {"failback_after": 1},
    ],
)
def test_what_is_no_policy_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        FailoverSettings(**wrong)


def test_when_the_live_site_is_seen_unfit_health_decides():
    scene = away()
    scene.passes(61)
    scene.loses_its_links()
    assert scene.passes(5).rule == "not-long-enough"


def test_it_is_a_planned_swap_which_what_could_be_put_in_order_first_refuses():
    asked = swap(Phase.REQUESTED).model_copy(update={"evidence": {"rule": FAILBACK}})
    f = at_home_is_denver()
    ours = FailoverSettings().model_dump(mode="json")
    members = {
        COLUMBUS: entry(member(COLUMBUS, failover=ours), 11),
        DENVER: entry(member(DENVER, failover=ours | {"lease_ttl": 9.0}), 22),
    }
    f = replace(f, cluster=replace(f.cluster, swap=entry(asked), members=members))
    decided = decide(Lane.SWAP, f)
    assert isinstance(decided.effect, RollBack)
    assert "failover.lease_ttl" in decided.effect.reason


steps = st.lists(
    st.tuples(
        st.sampled_from([unready, out_of_step, unfit, unseen, swapping, None, None, None]),
        st.booleans(),
        st.floats(1, 90),
    ),
    max_size=8,
)


@settings(max_examples=40)
@given(steps)
def test_whatever_happens_it_asks_only_after_a_whole_quiet_time_while_nobody_has_paused_it(history: Any):
    scene = away(swap_cool_down=20.0)
    fine = scene.cluster
    quiet_since = scene.now
    asked = 0
    for disturbed, paused, seconds in [*history, (None, False, 130.0)]:
        kept = {"history": scene.cluster.history, "observations": scene.cluster.observations}
        scene.cluster = replace(fine, revision=scene.revision, **kept)
        for place in PLACES:
            scene.says(place)
        scene.wants(paused=paused)
        if disturbed is not None:
            disturbed(scene)
        end = scene.now + seconds
        while scene.now < end:
            decision = scene.passes(0.5, every=0.5)
            quiet_since = scene.now if disturbed is not None else quiet_since
            if decision.rule == FAILBACK:
                assert disturbed is None
                assert not paused
                assert scene.now - quiet_since >= AFTER.failback_after
                asked += 1
                moved_back(scene)
    assert 1 <= asked <= AFTER.max_swaps_per_hour
