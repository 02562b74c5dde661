"""Whose clock is believed, when clocks disagree."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from dispatcher.clocks import AGREE_WITHIN_S, FORGET_S, OLD_S, Clocks, Reading, disagrees
from sitecontrol.clock import SystemClock
from sitecontrol.records import Member, Observation, Role
from sitecontrol.view import ClusterView, Entry, Snapshot
from tests.unit.fake_nodes import settings, two_sites
from tests.unit.held_clock import HeldClock
from tests.waiting import eventually

AT = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
_revisions = count(1)


def entry(record: Member | Observation) -> Entry:
    number = next(_revisions)
    return Entry(record=record, mod_revision=number, create_revision=number, lease=1)


def told(columbus: datetime, denver: datetime, witness: datetime | None = None) -> Snapshot:
    """A picture in which each of these was just written."""
    members = {
        node: entry(Member(node=node, site=node[:-2], role=Role.STANDBY, wall=wall))
        for node, wall in (("columbus-a", columbus), ("denver-a", denver))
    }
    observations = (
        {} if witness is None else {"witness": entry(Observation(place="witness", at=witness, blind=False))}
    )
    return Snapshot(serial=next(_revisions), read_at=1.0, members=members, observations=observations)


@pytest.fixture
def clocks() -> Clocks:
    nobody: Any = None  # etcd is not asked
    return Clocks(view=ClusterView(nobody, "/", SystemClock()), settings=settings(), clock=HeldClock())


SEEN = Snapshot(read_at=1.0)
NOW = HeldClock().now()


def ahead(seconds: float) -> Reading:
    return Reading(ahead_s=seconds)


def test_a_leader_that_agrees_with_one_of_two_is_believed():
    assert not disagrees(ahead(100.0), {"denver": ahead(100.5), "witness": ahead(4_000.0)})
    assert not disagrees(ahead(100.0), {"denver": ahead(-4_000.0), "witness": ahead(100.0 - AGREE_WITHIN_S)})


def test_a_leader_that_disagrees_with_both_is_not():
    assert disagrees(ahead(100.0), {"denver": ahead(3_700.0), "witness": ahead(3_700.0)})


def test_with_one_other_place_nobody_can_tell():
    assert not disagrees(ahead(100.0), {"denver": ahead(3_700.0)})


def test_the_leaders_clock_is_judged_and_no_other(clocks: Clocks):
    clocks.look(SEEN, told(AT + HOUR, AT, AT), NOW)
    assert not clocks.agree("columbus-a")
    assert clocks.agree("denver-a")
    assert clocks.agree(None)
    assert clocks.agree("nobody-a")


def test_a_clock_that_agrees_again_is_believed_again(clocks: Clocks):
    first = told(AT + HOUR, AT, AT)
    clocks.look(SEEN, first, NOW)
    assert not clocks.agree("columbus-a")
    later = AT + timedelta(seconds=10)
    clocks.look(first, told(later, later, later), NOW + 10)
    assert clocks.agree("columbus-a")


def test_readings_of_different_moments_are_compared_by_our_running_clock(clocks: Clocks):
    first = told(AT, AT, AT)
    clocks.look(SEEN, first, NOW)
    later = told(AT + HOUR, AT + HOUR)
    clocks.look(
        first, Snapshot(read_at=2.0, members=later.members, observations=first.observations), NOW + 3_600.0
    )
    assert clocks.agree("columbus-a")


def test_what_was_there_before_we_looked_tells_a_clock_that_is_far_off_and_no_other(clocks: Clocks):
    """Its age is not known, up to so many seconds."""
    clocks.look(Snapshot(), told(AT + timedelta(seconds=OLD_S), AT, AT), NOW)
    assert clocks.agree("columbus-a")
    clocks.look(Snapshot(), told(AT + HOUR, AT, AT), NOW)
    assert not clocks.agree("columbus-a")


def test_a_reading_of_long_ago_tells_nothing(clocks: Clocks):
    clocks.look(SEEN, told(AT + HOUR, AT, AT), NOW - FORGET_S - 1)
    assert clocks.agree("columbus-a")


async def test_the_picture_is_followed():
    async with two_sites() as sites:
        clocks = Clocks(view=sites.view, settings=sites.settings, clock=sites.clock)
        await eventually(lambda: sites.view.snapshot.read_at is not None)
        await clocks.start()
        now, lease = sites.clock.wall(), await sites.etcd.grant(600)  # without one neither is believed
        for node, wall in (("columbus-a", now + HOUR), ("denver-a", now)):
            record = Member(node=node, site=node[:-2], role=Role.STANDBY, wall=wall)
            await sites.etcd.put(f"{sites.settings.prefix}members/{node}", record.encode(), lease=lease)
        seen = Observation(place="witness", at=now, blind=False)
        await sites.etcd.put(f"{sites.settings.prefix}observations/witness", seen.encode(), lease=lease)
        await eventually(lambda: not clocks.agree("columbus-a"))
        await clocks.stop()
        assert not clocks.tasks.died.is_set()
