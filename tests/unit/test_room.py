"""A planned swap is refused where the target's site could not carry what the live one does."""

from typing import Any

import pytest

from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Lane
from sitecontrol.records import DispatcherRecord, Phase
from tests.unit.leadership_facts import DENVER, at_columbus, cluster, dispatcher, entry, swap

BUILT = {"columbus": ("columbus-1", "columbus-2"), "denver": ("denver-1", "denver-2")}


def where(*heard: DispatcherRecord, **change: Any) -> Facts:
    records = {record.name: entry(record) for record in heard}
    return at_columbus(
        **{"dispatchers_of": BUILT, "cluster": cluster(dispatchers=records, swap=change.pop("swap", None))}
        | change
    )


def at(site: str, number: int, **change: Any) -> DispatcherRecord:
    return dispatcher(f"{site}-{number}", site, **{"links": 2, "links_up": 2} | change)


COLUMBUS_BOTH = (at("columbus", 1), at("columbus", 2))
DENVER_BOTH = (at("denver", 1), at("denver", 2))


def test_a_site_that_has_all_that_the_live_one_has_has_room():
    assert obstacles(where(*COLUMBUS_BOTH, *DENVER_BOTH), DENVER) == ()


@pytest.mark.parametrize(
    ("second", "named"),
    [
        ((), "denver-2: is not heard"),
        (
            (at("denver", 2, ready=False, reasons=("The schema is not in place yet.",)),),
            "denver-2: The schema",
        ),
    ],
)
def test_a_site_with_fewer_dispatchers_ready_than_the_live_one_has_none(second: Any, named: str):
    facts = where(*COLUMBUS_BOTH, at("denver", 1, links=4, links_up=4), *second)
    (found,) = obstacles(facts, DENVER)
    assert found.startswith("denver has no room for the load: 1 of its dispatchers are ready, 2 in columbus")
    assert named in found


def test_no_more_is_asked_for_than_the_live_site_has_itself():
    assert obstacles(where(at("columbus", 1), at("denver", 1)), DENVER) == ()


def test_no_more_is_asked_for_than_the_site_was_built_with():
    smaller = {"columbus": ("columbus-1", "columbus-2"), "denver": ("denver-1",)}
    assert obstacles(where(*COLUMBUS_BOTH, at("denver", 1), dispatchers_of=smaller), DENVER) == ()
    assert obstacles(where(*COLUMBUS_BOTH, at("denver", 1), dispatchers_of={}), DENVER) == ()


def test_a_site_with_fewer_carrier_links_bound_than_the_live_one_has_no_room():
    facts = where(*COLUMBUS_BOTH, at("denver", 1), at("denver", 2, links_up=1))
    assert obstacles(facts, DENVER) == (
        "denver has no room for the load: 3 of its 4 carrier links are bound, 4 in columbus",
    )


def test_links_do_not_matter_where_both_sites_send():
    facts = where(*COLUMBUS_BOTH, at("denver", 1), at("denver", 2, links_up=1), live_site_sends=False)
    assert obstacles(facts, DENVER) == ()


def test_a_swap_within_the_live_site_needs_no_more_room():
    facts = where(
        *COLUMBUS_BOTH, at("columbus", 3, ready=False), site_of={"columbus-a": "columbus", DENVER: "columbus"}
    )
    assert obstacles(facts, DENVER) == ()


def test_a_swap_that_health_asked_for_is_not_refused_for_want_of_room():
    facts = where(*COLUMBUS_BOTH, at("denver", 1))
    assert obstacles(facts, DENVER)
    assert obstacles(facts, DENVER, planned=False) == ()


def test_a_swap_in_progress_is_rolled_back_for_it_before_anything_is_held():
    asked = swap(Phase.REQUESTED)
    by_operator = where(*COLUMBUS_BOTH, at("denver", 1), swap=entry(asked), swap_phase_since=99.0)
    assert decide(Lane.SWAP, by_operator).rule == "refused"
    by_health = where(
        *COLUMBUS_BOTH,
        at("denver", 1),
        swap=entry(asked.model_copy(update={"evidence": {"rule": "health-swap"}})),
        swap_phase_since=99.0,
    )
    assert decide(Lane.SWAP, by_health).rule == "check"
