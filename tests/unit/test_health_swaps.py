"""When health moves production, and above all when it does not: one fact a test, then properties over any picture."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitecontrol.leadership import health
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import AskForSwap
from sitecontrol.leadership.facts import Facts, LeaseFacts
from sitecontrol.leadership.observed import HEALTH_SWAP, LOOK_GAP, OLD_AFTER, Watch, look
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Decision, Lane
from sitecontrol.leadership.transactions import Writer
from sitecontrol.records import BadRecord, Desired, HistoryEntry, Maintenance, Observation, Phase, Swap
from sitecontrol.settings import FailoverSettings
from sitecontrol.view import Entry, Snapshot
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    WALL,
    at_columbus,
    at_denver,
    cluster,
    dispatcher,
    entry,
    leader,
    swap,
    sync,
)

PLACES = ("columbus", "denver", "witness")
UNBOUND = "no carrier link is bound: link/columbus-1/any: unbound"
REPEATED_EVERY = 10.0  # seconds, as health daemons do
SETTINGS = FailoverSettings(unfit_for=10.0, swap_cool_down=300.0, max_swaps_per_hour=2)


class Scene:
    """Three places that write their words anew every ten seconds, and one agent that looks ten times a second."""

    def __init__(
        self, base: Callable[..., Facts] = at_columbus, settings: FailoverSettings = SETTINGS
    ) -> None:
        self.base = base
        self.settings = settings
        self.now = self.written_at = 100.0
        self.wall = WALL
        self.watch = Watch()
        self.etcd_heard = True
        self.cluster: Snapshot = cluster()
        self.silent: set[str] = set()  # they hold their lease and write nothing new
        for place in PLACES:
            self.says(place)
        self.look()

    def says(
        self,
        place: str,
        *,
        columbus: bool | None = True,
        denver: bool | None = True,
        blind: bool = False,
        named: str | None = None,
        lease: int | None = None,
    ) -> None:
        """What the place publishes from now on."""
        fit = {site: word for site, word in (("columbus", columbus), ("denver", denver)) if word is not None}
        record = Observation(
            place=named or place,
            at=self.wall,
            blind=blind,
            fit=fit,
            reasons={"columbus": (UNBOUND,)} if columbus is False else {},
        )
        bound = 100 + PLACES.index(place) if lease is None else lease
        self.change(observations={**self.cluster.observations, place: entry(record, bound, self.revision)})

    def loses_its_links(self) -> None:
        """All three see that columbus has no carrier link any more."""
        for place in PLACES:
            self.says(place, columbus=False)

    @property
    def revision(self) -> int:
        return self.cluster.revision + 1

    def change(self, **change: Any) -> None:
        self.cluster = replace(self.cluster, revision=self.revision, serial=self.cluster.serial + 1, **change)

    def wants(self, **change: Any) -> None:
        known = self.cluster.desired.record if self.cluster.desired else Desired()
        self.change(desired=entry(known.model_copy(update=change), mod_revision=self.revision))

    def has_moved(self, name: str, at: datetime | None = None) -> None:
        """Health's swap stands in the history."""
        told = HistoryEntry(
            term=9, node=DENVER, site="denver", at=at or self.wall, kind="swap", by="health",
            evidence={"rule": HEALTH_SWAP},
        )  # fmt: skip
        kept = Entry(record=told, mod_revision=self.revision, create_revision=self.revision, lease=0)
        self.change(history={**self.cluster.history, name: kept})

    def look(self) -> None:
        facts = self.facts
        self.watch = look(
            self.watch,
            now=self.now,
            wall=self.wall,
            cluster=self.cluster,
            places=PLACES,
            site_of=facts.site_of,
            etcd_here=facts.etcd_here,
        )

    def passes(self, seconds: float, *, every: float = 0.1) -> Decision:
        """The decision after so long; the clock of the places goes on with ours."""
        for _ in range(round(seconds / every)):
            self.now += every
            self.wall += timedelta(seconds=every)
            if self.now - self.written_at >= REPEATED_EVERY:
                self._write_anew()
            self.look()
        return self.decision

    def _write_anew(self) -> None:
        self.written_at = self.now
        words = {
            place: known if place in self.silent else self._moved(known)
            for place, known in self.cluster.observations.items()
        }
        self.change(observations=words)

    def _moved(self, known: Entry[Observation]) -> Entry[Observation]:
        return replace(known, record=known.record.model_copy(update={"at": self.wall}))

    @property
    def facts(self) -> Facts:
        base = self.base()
        return replace(
            base,
            now=self.now,
            wall=self.wall,
            settings=self.settings,
            cluster=self.cluster,
            etcd_heard_at=self.now if self.etcd_heard else self.now - 60,
            lease=LeaseFacts(id=base.lease.id, ends_at=self.now + 2),
            places=PLACES,
            health=self.watch,
        )

    @property
    def decision(self) -> Decision:
        return decide(Lane.HEALTH, self.facts)


def asks(decision: Decision) -> bool:
    return isinstance(decision.effect, AskForSwap)


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
        asked, lease=THEIR_LEASE, incarnation="d", site="denver", own_timeline=1, shutdown_lsn=7, at=WALL
    )
    for transaction in (handed, writer.roll_back(asked, "no", WALL), writer.finish(asked, WALL)):
        (told,) = [HistoryEntry.decode(w.value) for w in transaction.writes if "/history/" in w.key]  # type: ignore[union-attr] # a history is only put
        assert told.evidence["rule"] == HEALTH_SWAP
        assert told.evidence["seen by witness"] == f"unfit: {UNBOUND}"
        assert told.evidence["seen by denver"].startswith("blind")


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
    record = scene.cluster.members[DENVER].record.model_copy(update={"node": "denver-b"})
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


# -- whatever is seen --------------------------------------------------------------------------------------------

words = st.fixed_dictionaries(
    {
        "columbus": st.sampled_from([True, False, None]),
        "denver": st.sampled_from([True, False, None]),
        "blind": st.booleans(),
        "named": st.sampled_from([None, None, None, "witness"]),
        "lease": st.sampled_from([None, None, 0, 7]),
    }
)
pictures = st.fixed_dictionaries(dict.fromkeys(PLACES, words))


def speaks_for_it(place: str, word: dict[str, Any], picture: dict[str, dict[str, Any]]) -> bool:
    """The rules told once more: counted, sighted, sees columbus unfit and denver fit."""
    shared = sum(other["lease"] == word["lease"] for other in picture.values()) > 1
    bound = word["lease"] is None or (word["lease"] != 0 and not shared)
    own = word["named"] in (None, place)
    return bound and own and not word["blind"] and word["columbus"] is False and word["denver"] is True


@given(pictures, st.booleans(), st.sampled_from([at_columbus, at_denver]))
def test_whatever_is_seen_health_asks_only_by_two_sighted_places_that_see_a_fit_site_to_go_to(
    picture, paused, base
):
    scene = Scene(base)
    scene.wants(paused=paused)
    for place, word in picture.items():
        scene.says(place, **word)
    scene.look()
    scene.now += SETTINGS.unfit_for + 5
    scene.etcd_heard = True
    asked = asks(scene.decision)
    speaking = [place for place, word in picture.items() if speaks_for_it(place, word, picture)]
    assert asked == (len(speaking) >= 2 and not paused)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.1, 15)), max_size=12),
    st.sampled_from([SETTINGS, SETTINGS.model_copy(update={"swap_cool_down": 20.0})]),
)
def test_however_the_picture_flaps_health_keeps_its_limits(flaps, chosen):
    """Each ask is carried out at once, and rolled back: it stands in the history and moves nothing."""
    scene = Scene(settings=chosen)
    scene.passes(1)
    asked: list[float] = []
    fit_at = scene.now
    for unfit, seconds in [*flaps, (True, 700.0)]:
        for place in PLACES:
            scene.says(place, columbus=not unfit)
        end = scene.now + seconds
        while scene.now < end:
            decision = scene.passes(0.5, every=0.5)
            fit_at = fit_at if unfit else scene.now
            if asks(decision):
                assert scene.now - fit_at >= chosen.unfit_for
                asked.append(scene.now)
                scene.has_moved(f"swap-{len(asked)}")
    assert 1 <= len(asked) <= chosen.max_swaps_per_hour
    assert all(later - earlier >= chosen.swap_cool_down for earlier, later in pairwise(asked))


def test_a_target_without_a_bound_link_is_not_ready_even_if_the_places_see_it_fit():
    scene = Scene()
    scene.loses_its_links()
    unbound = {"denver-1": entry(dispatcher("denver-1", "denver", links_up=0))}
    scene.change(dispatchers={**scene.cluster.dispatchers, **unbound})
    assert scene.passes(30).rule == "target-not-ready"
