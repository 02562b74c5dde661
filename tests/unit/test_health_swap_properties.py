"""Swaps that health asks for: properties over whatever is seen."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.health_swap_scenes import PLACES, SETTINGS, Scene, asks
from tests.unit.leadership_facts import (
    at_columbus,
    at_denver,
    dispatcher,
    entry,
)

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
