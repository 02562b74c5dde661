"""What other settings of carriers mean for the links that stand, and which settings wait for a start."""

import pytest

from dispatcher.engine.changes import PACED, ROUTED, Change, compare, needs_restart
from sitecontrol.settings_carriers import Carrier
from tests.unit.fake_nodes import settings

OTHERS = {
    "address": "127.0.0.1:2", "system_id": "other", "system_type": "x", "tls": True, "bind_as": "pair", "binds": 2,
    "window": 9, "rate": 5.0, "short_code_rate": 3.0, "short_code_rates": {"12345": 2.0}, "enquire_every": 7.0,
    "response_timeout": 7.0, "reconnect_min": 0.7, "reconnect_max": 9.0, "request": "data_sm", "long_text": "sar",
    "query_after": 60.0, "price": {"per_segment": "0.01", "currency": "USD"}, "weight": 2, "priority": 3,
    "prefixes": ["+1"], "refused_prefixes": ["+1"], "short_codes": ["12345"], "programs": ["outage"],
}  # fmt: skip


def carrier(name, **changed):
    return Carrier.model_validate({"name": name, "address": "127.0.0.1:1", "system_id": "hotsite"} | changed)


def test_nothing_changes_when_nothing_differs():
    assert compare([carrier("a")], [carrier("a")]) == Change()


def test_carriers_come_and_go_by_their_names():
    assert compare([carrier("a"), carrier("b")], [carrier("b"), carrier("c")]) == Change(
        added=("c",), removed=("a",)
    )


def test_the_order_of_the_file_is_no_change():
    assert compare([carrier("a"), carrier("b")], [carrier("b"), carrier("a")]) == Change()


@pytest.mark.parametrize("name", [field for field in Carrier.model_fields if field != "name"])
def test_only_what_a_link_is_made_of_has_it_bound_anew(name):
    change = compare([carrier("a")], [carrier("a", **{name: OTHERS[name]})])
    if name in ROUTED | PACED:
        assert change == Change(changed=("a",))
    else:
        assert change == Change(rebound=("a",))
        assert change.drained == {"a"}
        assert change.bound == ("a",)


def test_what_is_read_at_a_start_only_is_named_as_people_write_it():
    before = settings()
    after = settings(hold_for=3.0, route_by="cost", route_wait=2.0)
    after = after.model_copy(update={"carrier": (carrier("a"),)})
    assert needs_restart(before, after) == ["dispatcher.hold_for"]
