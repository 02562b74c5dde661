"""Swaps that health asks for: their limits, what people say to them, and what is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sitecontrol.leadership import health
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import AskForSwap
from sitecontrol.leadership.observed import Watch
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Lane
from sitecontrol.records import BadRecord, HistoryEntry, Maintenance
from tests.unit.health_swap_scenes import SETTINGS, UNBOUND, Scene, asks
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    WALL,
    at_denver,
    entry,
    sync,
)

# -- limits ------------------------------------------------------------------------------------------------------


def test_after_a_swap_health_cools_down_and_then_may_move_again():
    scene = Scene()
    scene.passes(1)
    scene.has_moved("0000000004")
    scene.loses_its_links()
    assert scene.passes(299).rule == "cooling-down"
    assert asks(scene.passes(2))


def test_past_the_hourly_limit_an_operator_has_to_look_and_his_resume_lets_it_go_on():
    scene = Scene()
    scene.passes(1)
    scene.has_moved("0000000004")
    scene.passes(400, every=1)
    scene.has_moved("0000000005")
    scene.loses_its_links()
    assert scene.passes(1_000, every=1).rule == "limit-reached"
    scene.wants(acknowledged_revision=scene.cluster.revision)
    assert asks(scene.passes(1))


def test_within_the_hour_after_its_first_swap_health_may_move_again():
    scene = Scene()
    scene.passes(1)
    scene.has_moved("0000000004")
    scene.passes(400, every=1)
    scene.has_moved("0000000005")
    scene.loses_its_links()
    assert scene.passes(3_190, every=1).rule == "limit-reached"
    assert asks(scene.passes(20, every=1))


def test_what_comes_after_an_acknowledgement_counts_again():
    scene = Scene()
    scene.passes(1)
    scene.wants(acknowledged_revision=scene.cluster.revision)
    scene.has_moved("0000000004")
    scene.loses_its_links()
    assert scene.passes(60).rule == "cooling-down"


def test_an_agent_that_was_restarted_counts_what_is_there_as_just_made_whatever_the_clocks_say():
    for off in (-1, 0, 1):
        scene = Scene()
        scene.has_moved("0000000004", at=scene.wall + timedelta(hours=off))
        scene.has_moved("0000000005", at=scene.wall + timedelta(hours=off))
        scene.watch = Watch()
        scene.loses_its_links()
        assert scene.passes(3_500, every=1).rule == "limit-reached"


def test_an_agent_that_was_restarted_does_not_count_what_is_days_old():
    scene = Scene()
    scene.has_moved("0000000004", at=scene.wall - timedelta(days=3))
    scene.watch = Watch()
    scene.loses_its_links()
    assert asks(scene.passes(11))


def test_an_operators_swap_counts_for_no_limit():
    scene = Scene()
    scene.passes(1)
    told = HistoryEntry(term=4, node=DENVER, site="denver", at=WALL, kind="swap", by="ann", evidence={})
    scene.change(history={"0000000004": entry(told)})
    scene.loses_its_links()
    assert asks(scene.passes(11))


def test_with_a_limit_of_none_health_moves_nothing():
    scene = Scene(settings=SETTINGS.model_copy(update={"max_swaps_per_hour": 0}))
    scene.loses_its_links()
    assert scene.passes(30).rule == "limit-reached"


# -- people ------------------------------------------------------------------------------------------------------


def test_a_pause_stops_health_and_a_resume_lets_it_go_on():
    scene = Scene()
    scene.loses_its_links()
    scene.wants(paused=True)
    assert scene.passes(30).rule == "health-paused"
    scene.wants(paused=False)
    assert asks(scene.passes(0.1))


def work_at(site: str, scene: Scene, minutes: int = 60) -> tuple[Maintenance, ...]:
    end = scene.wall + timedelta(minutes=minutes)
    return (Maintenance(site=site, since=scene.wall, until=end, by="ann", reason="a router"),)


@pytest.mark.parametrize(
    ("site", "rule"), [("columbus", "live-in-maintenance"), ("denver", "target-in-maintenance")]
)
def test_health_moves_production_neither_from_nor_to_a_site_in_maintenance_until_that_is_over(
    site: str, rule: str
):
    scene = Scene()
    scene.loses_its_links()
    scene.wants(maintenance=work_at(site, scene, minutes=10))
    assert scene.passes(590, every=1).rule == rule
    assert asks(scene.passes(15, every=1))


def test_a_clock_that_jumps_ahead_does_not_end_a_maintenance_that_was_seen_to_begin():
    scene = Scene()
    scene.loses_its_links()
    scene.passes(1)
    scene.wants(maintenance=work_at("columbus", scene))
    scene.passes(1)
    scene.wall += timedelta(hours=3)
    assert scene.passes(30).rule == "live-in-maintenance"


def test_an_operators_swap_to_a_site_in_maintenance_is_refused_with_the_reason_and_one_from_it_is_not():
    scene = Scene()
    scene.wants(maintenance=work_at("denver", scene))
    (found,) = obstacles(scene.facts, DENVER)
    assert "denver is in maintenance until 2026-01-01" in found
    assert "by ann: a router" in found
    scene.wants(maintenance=work_at("columbus", scene))
    assert obstacles(scene.facts, DENVER) == ()


def test_the_loss_of_the_live_site_is_no_matter_of_health():
    scene = Scene(at_denver)
    scene.wants(maintenance=work_at("denver", scene))
    scene.change(leader=None)
    facts = replace(scene.facts, leader_absent_since=90.0, pg=replace(at_denver().pg, canary_at=90.0))
    assert decide(Lane.POSTGRES, facts).rule == "claim"


# -- what is told ------------------------------------------------------------------------------------------------


def test_what_is_considered_is_told_in_one_line():
    scene = Scene()
    assert health.document(scene.facts)["told"] == ""
    scene.says("denver", columbus=False)
    scene.says("witness", columbus=False)
    scene.passes(4.1)
    told = health.document(scene.facts)
    assert (
        told["told"]
        == f"2 of 3 places see columbus unfit for 4 s of 10 s, and denver-a would lead: {UNBOUND}"
    )
    assert told["votes"][0] == {"place": "columbus", "word": "fit", "reasons": []}
    assert (told["target_site"], told["target_node"]) == ("denver", DENVER)


def test_health_asks_for_the_best_node_of_the_other_site_and_tells_which_it_is():
    """Of two nodes there, the one in step; were both, the one that is furthest."""
    scene = Scene()
    both = {DENVER: "denver", "denver-b": "denver", COLUMBUS: "columbus"}
    second = {"node": "denver-b", "incarnation": "disk-denver-b"}
    record = scene.cluster.members[DENVER].record.model_copy(update=second)
    scene.change(
        members={**scene.cluster.members, "denver-b": entry(record, 33)},
        sync=entry(sync(COLUMBUS, "denver-b")),
    )
    scene.says("denver", columbus=False)
    scene.says("witness", columbus=False)
    scene.passes(11)
    facts = replace(scene.facts, site_of=both)
    asked = decide(Lane.HEALTH, facts).effect
    assert isinstance(asked, AskForSwap)
    assert asked.to_node == health.document(facts)["target_node"] == "denver-b"


def test_a_time_without_a_zone_is_a_bad_record_and_no_reason_to_stumble():
    naive = HistoryEntry(term=1, node=DENVER, site="denver", at=WALL, kind="swap", by="x").encode()
    with pytest.raises(BadRecord):
        HistoryEntry.decode(naive.replace(b"00Z", b"00"))
