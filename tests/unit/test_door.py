"""Who is let in while how many are inside. Time is passed in."""

from dataclasses import dataclass

import pytest

from dispatcher.http.door import SILENT_FOR_S, Bound, Door
from dispatcher.http.server import OTHER_FILES, USUAL_CONNECTIONS, room
from sitecontrol.settings import SettingsError


@dataclass(eq=False)
class Caller:
    asked: bool = False
    dropped: bool = False

    def drop(self) -> None:
        self.dropped = True


def door(most: int = 100, most_per_source: int = 3, **more) -> Door:
    return Door(most=most, most_per_source=most_per_source, **more)


def filled(entrance: Door, address: str, count: int = 3, *, asked: bool = True) -> list[Caller]:
    callers = [Caller(asked=asked) for _ in range(count)]
    assert [entrance.enter(caller, address, 0.0) for caller in callers] == [None] * count
    return callers


def test_a_source_holds_no_more_than_its_share_and_others_are_let_in() -> None:
    entrance = door()
    filled(entrance, "192.0.2.1")
    assert entrance.enter(Caller(), "192.0.2.1", 9.0) is Bound.SOURCE
    assert entrance.enter(Caller(), "192.0.2.2", 9.0) is None
    assert (entrance.open, entrance.refused) == (4, {Bound.SOURCE: 1})


def test_all_sources_together_hold_no_more_than_the_total() -> None:
    entrance = door(most=2)
    filled(entrance, "192.0.2.1", 1)
    filled(entrance, "192.0.2.2", 1)
    assert entrance.enter(Caller(), "192.0.2.3", 9.0) is Bound.TOTAL


def test_who_left_makes_room_and_leaving_twice_counts_once() -> None:
    entrance = door()
    first, *_ = filled(entrance, "192.0.2.1")
    entrance.leave(first)
    entrance.leave(first)
    assert entrance.enter(Caller(), "192.0.2.1", 9.0) is None
    assert entrance.enter(Caller(), "192.0.2.1", 9.0) is Bound.SOURCE


def test_who_was_not_let_in_need_not_leave() -> None:
    entrance = door()
    filled(entrance, "192.0.2.1")
    entrance.enter(refused := Caller(), "192.0.2.1", 9.0)
    entrance.leave(refused)
    assert entrance.open == 3


def test_the_longest_silent_one_makes_room_for_a_new_one_of_its_source() -> None:
    entrance = door()
    filled(entrance, "192.0.2.9", 1, asked=False)
    first, second, third = filled(entrance, "192.0.2.1", asked=False)
    first.asked = True
    assert entrance.enter(Caller(), "192.0.2.1", SILENT_FOR_S) is None
    assert (first.dropped, second.dropped, third.dropped) == (False, True, False)
    assert (entrance.open, entrance.displaced, entrance.refused.total()) == (4, 1, 0)


def test_what_connected_a_moment_ago_is_not_displaced() -> None:
    entrance = door()
    callers = filled(entrance, "192.0.2.1", asked=False)
    assert entrance.enter(Caller(), "192.0.2.1", SILENT_FOR_S / 2) is Bound.SOURCE
    assert not any(caller.dropped for caller in callers)


def test_in_a_full_house_the_longest_silent_one_of_all_makes_room() -> None:
    entrance = door(most=3)
    [busy] = filled(entrance, "192.0.2.1", 1)
    [silent] = filled(entrance, "192.0.2.2", 1, asked=False)
    filled(entrance, "192.0.2.3", 1)
    assert entrance.enter(Caller(), "192.0.2.4", 9.0) is None
    assert (busy.dropped, silent.dropped, entrance.open) == (False, True, 3)


def test_a_named_load_balancer_is_bounded_by_the_total_only() -> None:
    entrance = door(most=10, uncapped=["10.1.0.0/24"])
    filled(entrance, "10.1.0.7", 10)
    assert entrance.enter(Caller(), "10.1.0.8", 9.0) is Bound.TOTAL


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
    ],
)
def test_one_client_with_many_addresses_is_one_source(first: str, second: str, *, same: bool) -> None:
    entrance = door(most_per_source=1)
    entrance.enter(Caller(asked=True), first, 0.0)
    assert entrance.enter(Caller(), second, 9.0) is (Bound.SOURCE if same else None)


def test_no_source_is_remembered_once_it_left() -> None:
    entrance = door()
    for number in range(5):
        [caller] = filled(entrance, f"192.0.2.{number}", 1)
        entrance.leave(caller)
    assert not entrance._sources
    assert not entrance._silent


def test_unsaid_the_total_is_what_open_files_allow_and_no_more_than_usual() -> None:
    assert room(None, None) == USUAL_CONNECTIONS
    assert room(None, 1_024) == 1_024 - OTHER_FILES


def test_a_total_that_open_files_do_not_allow_is_refused_with_one_that_they_do() -> None:
    assert room(700, 1_024) == 700
    with pytest.raises(SettingsError, match="for example: max_connections = 768"):
        room(800, 1_024)
