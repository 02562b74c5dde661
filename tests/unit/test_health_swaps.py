"""Swaps that health asks for: whose word moves production, for how long it has to hold, and who asks."""

from datetime import timedelta
from typing import Any

import pytest

from sitecontrol.leadership import health
from sitecontrol.leadership.effects import AskForSwap
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.observed import HEALTH_SWAP, LOOK_GAP, OLD_AFTER
from sitecontrol.leadership.transactions import Writer
from sitecontrol.records import HistoryEntry, Observation, Phase, Swap
from tests.unit.health_swap_scenes import PLACES, SETTINGS, UNBOUND, Scene, asks
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    WALL,
    at_denver,
    entry,
    leader,
    swap,
    sync,
)

# -- whose word moves production ---------------------------------------------------------------------------------


def test_a_live_site_that_is_seen_fit_by_all_stays():
    assert Scene().passes(60).rule == "live-fit"


def test_production_moves_when_the_places_have_seen_the_live_site_unfit_long_enough():
    scene = Scene()
    scene.loses_its_links()
    assert scene.passes(9.9).rule == "not-long-enough"
    decision = scene.passes(0.3)
    assert decision.rule == HEALTH_SWAP
    assert isinstance(decision.effect, AskForSwap)
    assert decision.effect.to_node == DENVER
    assert decision.effect.places == PLACES


def test_two_of_three_places_are_enough():
    scene = Scene()
    for place in ("columbus", "witness"):
        scene.says(place, columbus=False)
    assert asks(scene.passes(11))


def test_a_cut_between_the_sites_moves_nothing_because_the_witness_sees_the_live_site():
    scene = Scene()
    scene.says("denver", columbus=False)
    scene.says("columbus", denver=False)
    assert scene.passes(60).rule == "too-few"


def test_what_only_the_witness_does_not_see_moves_nothing():
    scene = Scene()
    scene.says("witness", columbus=False)
    assert scene.passes(60).rule == "too-few"


@pytest.mark.parametrize(
    "broken",
    [
        {"blind": True},
        {"named": "columbus"},
        {"lease": 0},
        {"lease": 101},  # that of denver's word
        {"columbus": None},
    ],
)
def test_a_word_that_does_not_count_is_no_second_word(broken: dict[str, Any]):
    """Blind, under another place's name, bound to no lease or to another place's, or without a word on the site."""
    scene = Scene()
    scene.says("denver", columbus=False)
    scene.says("columbus", columbus=None)
    scene.says("witness", **({"columbus": False} | broken))
    assert not asks(scene.passes(30))
    scene.says("witness", columbus=False)
    assert asks(scene.passes(11))


def test_garbage_under_a_places_key_is_no_word_and_is_told_as_such():
    scene = Scene()
    scene.says("denver", columbus=False)
    scene.says("columbus", columbus=None)
    words = {place: word for place, word in scene.cluster.observations.items() if place != "witness"}
    scene.change(observations=words, bad={"observations/witness": "not JSON"})
    assert scene.passes(30).rule == "too-few"
    assert [vote["word"] for vote in health.document(scene.facts)["votes"]] == ["untold", "unfit", "bad"]


def test_a_place_that_is_not_in_our_settings_has_no_word():
    scene = Scene()
    scene.says("denver", columbus=False)
    forged = Observation(place="elsewhere", at=WALL, blind=False, fit={"columbus": False, "denver": True})
    scene.change(observations={**scene.cluster.observations, "elsewhere": entry(forged, 77)})
    assert scene.passes(30).rule == "too-few"


def test_a_place_that_writes_nothing_new_does_not_count_any_more():
    scene = Scene()
    scene.loses_its_links()
    scene.silent = {"columbus", "witness"}
    scene.settings = SETTINGS.model_copy(update={"unfit_for": OLD_AFTER + 5})
    scene.passes(OLD_AFTER + 1)
    assert scene.passes(30).rule == "too-few"


def test_a_word_is_not_old_because_its_places_clock_is_an_hour_off():
    scene = Scene()
    for place, off in (("columbus", -1), ("denver", 0), ("witness", 1)):
        scene.wall = WALL + timedelta(hours=off)
        scene.says(place, columbus=False)
    scene.wall = WALL
    assert asks(scene.passes(11))


def test_nothing_moves_to_a_site_that_is_not_seen_fit():
    scene = Scene()
    for place in PLACES:
        scene.says(place, columbus=False, denver=False)
    assert scene.passes(30).rule == "nowhere-to-go"


def test_nothing_moves_to_a_node_that_could_not_take_over():
    scene = Scene()
    scene.loses_its_links()
    scene.change(sync=entry(sync(COLUMBUS)))
    assert scene.passes(30).rule == "target-not-ready"


# -- for how long ------------------------------------------------------------------------------------------------


def test_the_count_begins_again_when_the_picture_is_fit_for_a_moment():
    scene = Scene()
    scene.loses_its_links()
    scene.passes(9)
    for place in PLACES:
        scene.says(place)
    scene.passes(0.1)
    scene.loses_its_links()
    assert scene.passes(9.5).rule == "not-long-enough"
    assert asks(scene.passes(1))


def test_an_agent_that_did_not_look_for_a_while_begins_to_count_again():
    scene = Scene()
    scene.loses_its_links()
    scene.passes(1)
    scene.passes(60, every=LOOK_GAP + 1)
    assert not asks(scene.decision)
    assert asks(scene.passes(11))


def test_the_count_begins_again_when_etcd_was_not_heard():
    scene = Scene()
    scene.loses_its_links()
    scene.passes(9)
    scene.etcd_heard = False
    assert scene.passes(30).rule == "unheard"
    scene.etcd_heard = True
    assert scene.passes(9).rule == "not-long-enough"


def test_the_count_begins_again_under_another_leader():
    scene = Scene()
    scene.loses_its_links()
    scene.passes(9)
    scene.change(leader=entry(leader(COLUMBUS, 4), OUR_LEASE))
    assert scene.passes(9).rule == "not-long-enough"


def test_a_wall_clock_that_jumps_changes_nothing():
    scene = Scene()
    scene.loses_its_links()
    scene.passes(5)
    scene.wall += timedelta(hours=1)
    assert scene.passes(4.5).rule == "not-long-enough"
    scene.wall -= timedelta(hours=2)
    assert asks(scene.passes(1))


# -- who asks ----------------------------------------------------------------------------------------------------


def test_the_targets_agent_leaves_the_asking_to_the_leaders_and_asks_when_that_is_silent():
    def denvers(**change: Any) -> Facts:
        return at_denver(**change)

    scene = Scene(denvers)
    scene.loses_its_links()
    assert scene.passes(12).rule == "others-ask"
    assert asks(scene.passes(2))


def test_nothing_is_asked_beside_a_swap_in_progress():
    scene = Scene()
    scene.loses_its_links()
    scene.change(swap=entry(swap(Phase.CHECKED)))
    assert scene.passes(30).rule == "swap-in-progress"


def test_an_ask_compares_the_words_that_speak_for_it_and_what_people_want():
    scene = Scene()
    scene.loses_its_links()
    scene.wants(paused=False)
    writer = Writer(
        prefix="/p/", cluster=scene.cluster, node=COLUMBUS, site="columbus", incarnation="d", lease=OUR_LEASE
    )
    compared = {
        one.key.removeprefix("/p/"): one.to for one in writer.ask(swap(Phase.REQUESTED), PLACES).compares
    }
    assert compared["swap"] == 0
    assert scene.cluster.desired is not None
    assert compared["desired"] == scene.cluster.desired.mod_revision
    for place in PLACES:
        assert compared[f"observations/{place}"] == scene.cluster.observations[place].mod_revision
    assert {"leader", "term", "sync"} <= set(compared)


def test_the_history_of_a_health_swap_keeps_who_saw_what():
    scene = Scene()
    scene.loses_its_links()
    scene.says("denver", columbus=False, blind=True)
    effect = scene.passes(11).effect
    assert isinstance(effect, AskForSwap)
    asked = Swap.model_validate(swap(Phase.HELD).model_dump() | {"evidence": effect.evidence})
    writer = Writer(
        prefix="/p/", cluster=scene.cluster, node=COLUMBUS, site="columbus", incarnation="d", lease=OUR_LEASE
    )
    handed = writer.hand_over(
        asked,
        target=scene.cluster.members[DENVER],
        incarnation="d",
        site="denver",
        own_timeline=1,
        shutdown_lsn=7,
        at=WALL,
    )
    for transaction in (handed, writer.roll_back(asked, "no", WALL), writer.finish(asked, WALL)):
        (told,) = [HistoryEntry.decode(w.value) for w in transaction.writes if "/history/" in w.key]  # type: ignore[union-attr] # a history is only put
        assert told.evidence["rule"] == HEALTH_SWAP
        assert told.evidence["seen by witness"] == f"unfit: {UNBOUND}"
        assert told.evidence["seen by denver"].startswith("blind")
