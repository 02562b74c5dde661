"""Which site is live, by which sources, and who would take over."""

import dataclasses
from datetime import timedelta

from healthcheck.noc.panels import overview
from healthcheck.picture import Durability, LiveState, heirs, remember
from sitecontrol.records import Phase
from sitecontrol.view import Snapshot
from tests.unit.health_scenes import WALL, Stage, settings_of, snapshot_of

NO_DATABASE = {"postgres/": "connection refused", "agent/": "connection refused"}


def test_the_leader_named_by_etcd_whose_database_is_open_is_live() -> None:
    live = Stage().scene().live
    assert (live.state, live.site, live.node, live.term) == (LiveState.LIVE, "columbus", "columbus-a", 4)
    assert live.durability is Durability.TWO_SITE


def test_without_etcd_the_open_database_tells_who_is_live() -> None:
    live = Stage(etcd_answers=False, snapshot=Snapshot(read_at=1.0)).scene().live
    assert (live.state, live.site, live.term) == (LiveState.LIVE, "columbus", 4)
    assert "own database" in live.sentence


def test_without_etcd_an_open_database_whose_canary_stands_still_is_not_live_as_its_agent_says_too() -> None:
    still = {"canary/": "number 7 has not moved for 4 s"}
    for change in ({"etcd_answers": False}, {"snapshot": snapshot_of(None)}):
        live = Stage(bad=still, **change).scene().live
        assert (live.state, live.site, live.node, live.serving_site) == (
            LiveState.NOBODY,
            None,
            "columbus-a",
            None,
        )
        assert "the canary of columbus-a stands still" in live.sentence
    named = Stage(bad=still).scene().live  # etcd's word is enough
    assert (named.state, named.site) == (LiveState.LIVE, "columbus")


def test_without_the_database_etcd_tells_who_is_live_and_says_so() -> None:
    live = Stage(bad=NO_DATABASE).scene().live
    assert (live.state, live.site) == (LiveState.LIVE, "columbus")
    assert "not seen from here" in live.sentence


def test_without_both_it_is_only_as_last_known() -> None:
    live = Stage(bad=NO_DATABASE, etcd_answers=False).scene().live
    assert (live.state, live.site) == (LiveState.OLD, "columbus")


def test_nobody_leads_when_etcd_names_no_leader_and_no_database_is_open() -> None:
    live = Stage(leader=None, snapshot=snapshot_of(None)).scene().live
    assert (live.state, live.site, live.term) == (LiveState.NOBODY, None, 4)


def test_before_anything_was_read_nothing_is_claimed() -> None:
    live = Stage(leader=None, snapshot=Snapshot(), etcd_answers=False, looks=0).scene().live
    assert (live.state, live.site) == (LiveState.UNKNOWN, None)


def test_a_leader_whose_database_answers_but_is_not_open_is_opening() -> None:
    live = Stage(leader=None, snapshot=snapshot_of("columbus")).scene().live
    assert live.state is LiveState.OPENING


def test_production_is_on_its_way_while_requests_are_held() -> None:
    live = Stage(snapshot=snapshot_of("columbus", swap=Phase.HELD)).scene().live
    assert (live.state, live.site, live.serving_site) == (LiveState.MOVING, "denver", None)
    assert live.durability is Durability.TWO_SITE


def test_a_swap_that_was_only_asked_for_moves_nothing_yet() -> None:
    live = Stage(snapshot=snapshot_of("columbus", swap=Phase.REQUESTED)).scene().live
    assert (live.state, live.serving_site) == (LiveState.LIVE, "columbus")


def test_a_database_open_in_a_newer_term_outshines_what_etcd_said_before_it_fell_silent() -> None:
    live = (
        Stage(leader="denver", open_term=5, etcd_answers=False, snapshot=snapshot_of("columbus")).scene().live
    )
    assert (live.state, live.site, live.term) == (LiveState.LIVE, "denver", 5)


def test_a_standby_in_step_and_ready_is_the_heir() -> None:
    found = heirs(settings_of(), snapshot_of("columbus"))
    assert [(h.node, h.could) for h in found] == [("denver-a", True)]


def test_what_stands_in_the_way_of_a_standby_is_named() -> None:
    found = heirs(settings_of(), snapshot_of("columbus", in_step=False))
    assert not found[0].could
    assert any("not in step" in reason for reason in found[0].reasons)
    assert any("does not stream" in reason for reason in found[0].reasons)


def test_a_standby_with_another_data_directory_is_no_heir() -> None:
    snapshot = snapshot_of("columbus")
    other = dataclasses.replace(
        snapshot.members["denver-a"],
        record=snapshot.members["denver-a"].record.model_copy(update={"incarnation": "i9"}),
    )
    snapshot = dataclasses.replace(snapshot, members={**snapshot.members, "denver-a": other})
    assert not heirs(settings_of(), snapshot)[0].could


def test_nobody_is_called_an_heir_while_etcd_is_silent() -> None:
    told = overview(Stage(etcd_answers=False).scene())["if_lost"]
    assert not told["covered"]
    assert "while etcd does not answer" in told["sentence"]


def test_since_when_a_value_holds_is_exact_only_for_a_change_that_was_seen() -> None:
    first = remember(None, "two-site", WALL)
    later = remember(first, "two-site", WALL + timedelta(seconds=9))
    changed = remember(later, "one-site", WALL + timedelta(seconds=20))
    assert (first.exact, later.since) == (False, WALL)
    assert (changed.exact, changed.since) == (True, WALL + timedelta(seconds=20))
