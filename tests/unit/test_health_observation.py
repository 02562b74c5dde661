"""What a place publishes: blind, reach, fit with reasons."""

from healthcheck.board import Row
from healthcheck.observation import fitness, is_blind, observe
from sitecontrol.records import MAX_RECORD_BYTES, Observation, ReachState
from tests.unit.health_scenes import WALL, Stage

LOST_COLUMBUS = {
    "agent/columbus": "connection refused",
    "postgres/columbus": "connection refused",
    "dispatcher/columbus": "connection refused",
    "healthcheck/columbus": "connection refused",
    "etcd-member/etcd-columbus": "does not answer",
}
ELSEWHERE = ("agent/denver", "postgres/denver", "dispatcher/denver", "healthcheck/")
UNTOLD_COLUMBUS = {"link/columbus": "its dispatcher does not answer", "canary/columbus": "no database"}


def rows_of(stage: Stage) -> list[Row]:
    return list(stage.board()[1].rows())


def seen(stage: Stage, live_node: str | None = "columbus-a") -> Observation:
    settings, board, clock = stage.board()
    return observe(settings.site.name, settings.place, list(board.rows()), live_node, clock.wall())


def test_a_healthy_system_is_fit_everywhere_and_nobody_is_blind() -> None:
    observation = seen(Stage())
    assert not observation.blind
    assert observation.fit == {"columbus": True, "denver": True}
    assert set(observation.reach.values()) == {ReachState.UP}
    assert observation.reasons == {}


def test_a_lost_site_is_unfit_with_the_reasons_named() -> None:
    observation = seen(Stage(here="denver", bad=LOST_COLUMBUS, silent=UNTOLD_COLUMBUS))
    assert observation.fit == {"columbus": False, "denver": True}
    assert observation.reach["place/columbus"] is ReachState.DOWN
    assert any("no agent answers" in reason for reason in observation.reasons["columbus"])
    assert any("connection refused" in reason for reason in observation.reasons["columbus"])


def test_a_place_is_reached_as_long_as_anything_in_it_answers() -> None:
    bad = {name: why for name, why in LOST_COLUMBUS.items() if not name.startswith("etcd")}
    observation = seen(Stage(here="denver", bad=bad, silent=UNTOLD_COLUMBUS))
    assert observation.reach["place/columbus"] is ReachState.UP


def test_a_place_that_reaches_nothing_outside_itself_is_blind() -> None:
    outside = dict.fromkeys(
        ("agent/denver", "postgres/denver", "dispatcher/denver", "healthcheck/", "carrier/"),
        "no answer within 1 s",
    )
    assert is_blind("columbus", rows_of(Stage(bad=outside)))


def test_a_place_is_blind_before_it_has_seen_anything() -> None:
    assert is_blind("columbus", rows_of(Stage(looks=0)))


def test_a_place_that_still_reaches_its_carriers_is_not_blind() -> None:
    outside = dict.fromkeys(
        ("agent/denver", "postgres/denver", "dispatcher/denver", "healthcheck/"), "no answer within 1 s"
    )
    assert not is_blind("columbus", rows_of(Stage(bad=outside)))


def test_of_a_site_never_seen_nothing_is_said() -> None:
    assert seen(Stage(looks=0)).fit == {}


def test_what_cannot_be_told_makes_nobody_unfit() -> None:
    assert "columbus" not in seen(Stage(here="denver", silent={"link/columbus": "no word"})).fit


def test_one_dead_dispatcher_of_two_makes_nobody_unfit() -> None:
    assert seen(Stage(bad={"dispatcher/columbus-1": "refused"})).fit["columbus"] is True


def test_one_bound_link_is_enough_to_be_fit() -> None:
    bad = {f"link/columbus-{n}/{c}": "0 of 1 bound" for n, c in ((1, "alto"), (1, "basso"), (2, "alto"))}
    assert seen(Stage(bad=bad)).fit["columbus"] is True


def test_a_site_without_any_bound_link_is_unfit() -> None:
    observation = seen(Stage(bad={"link/columbus": "0 of 1 bound"}))
    assert observation.fit == {"columbus": False, "denver": True}
    assert observation.reasons["columbus"][0].startswith("no carrier link is bound: link/columbus-1/alto")


def test_a_canary_that_stands_still_counts_only_against_the_leader() -> None:
    still = {"canary/columbus-a": "number 7 has not moved for 9.0 s"}
    assert seen(Stage(bad=still), live_node="columbus-a").fit["columbus"] is False
    assert seen(Stage(bad=still), live_node="denver-a").fit["columbus"] is True


def test_fitness_of_nothing_is_not_known() -> None:
    assert fitness([], None).fit is None


def test_an_observation_with_the_longest_reasons_still_decodes() -> None:
    observation = seen(Stage(here="denver", bad=dict.fromkeys(LOST_COLUMBUS, "x" * 5000)))
    encoded = observation.encode()
    assert len(encoded) < MAX_RECORD_BYTES
    assert Observation.decode(encoded) == observation
    assert observation.at > WALL
