"""A node whose volume of WAL is nearly full: no swap goes there, and after a loss it leads all the same."""

import shutil
import threading
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sitecontrol.agent import wal_room as module
from sitecontrol.agent.agent import _wal_room
from sitecontrol.agent.state import AgentState
from sitecontrol.agent.wal_room import KNOWN_FOR, LOOK_EVERY, WalRoom
from sitecontrol.clock import SystemClock
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Claim
from sitecontrol.leadership.facts import Facts, PgFacts, PgState
from sitecontrol.leadership.room import MB
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.table import Lane
from sitecontrol.leadership.why import outlook, site_loss
from sitecontrol.settings import ReplicationSettings
from tests.unit.decided import effect
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    at_columbus,
    at_denver,
    cluster,
    entry,
    member,
    standby,
)
from tests.waiting import eventually

PLACE = {"data_dir": "/data", "listen": "127.0.0.1:5432"}
TOO_LITTLE = "100 MB are free for the WAL of denver-a, and 1024 MB should be before it leads"


def denver(free: int | None, **change: Any) -> Facts:
    return at_denver(pg=standby(wal_free=free), wal_room=1_024 * MB, **change)


def reasons(facts: Facts) -> list[str]:
    state = AgentState(prefix="/p/", facts=facts, version="1")
    state.decisions[Lane.POSTGRES] = decide(Lane.POSTGRES, facts)
    return state.reasons


def test_a_standby_with_too_little_room_says_that_it_is_not_ready_and_why():
    (told,) = reasons(denver(100 * MB))
    assert told.startswith(TOO_LITTLE)
    assert "replication.wal_room_mb" in told
    assert reasons(denver(1_024 * MB)) == []
    assert reasons(denver(None)) == [], "what is not known bars nothing"


def test_a_node_whose_postgresql_does_not_run_says_too_that_there_is_too_little_room():
    stopped = PgFacts(state=PgState.STOPPED, wal_free=100 * MB)
    first, *others = reasons(at_denver(pg=stopped, wal_room=1_024 * MB))
    assert first.startswith("PostgreSQL is stopped")
    assert [told.startswith(TOO_LITTLE) for told in others] == [True]


def test_where_no_figure_is_set_a_small_volume_needs_a_quarter_of_it_and_a_large_one_a_gigabyte():
    def small(free: int, volume: int | None) -> list[str]:
        pg = standby(wal_free=free * MB, wal_volume=None if volume is None else volume * MB)
        return reasons(at_denver(pg=pg, wal_room=None))

    assert small(512, 2_048) == []
    (told,) = small(511, 2_048)
    assert told.startswith("511 MB are free for the WAL of denver-a, and 512 MB should be before it leads")
    assert "replication.wal_room_mb is not set" in told
    assert "or set less" in told, "the cure"
    assert len(told) <= 500, "as long as a reason may be"
    for volume in (4_096, 900_000, None):
        assert (small(1_024, volume), len(small(1_023, volume))) == ([], 1)


def test_a_figure_that_is_set_counts_as_it_is_on_any_volume():
    pg = standby(wal_free=1_000 * MB, wal_volume=2_048 * MB)
    assert len(reasons(at_denver(pg=pg, wal_room=1_024 * MB))) == 1
    assert reasons(at_denver(pg=replace(pg, wal_free=0), wal_room=0)) == [], "0: none is asked for"


def test_an_agent_knows_whether_a_figure_was_set():
    for replication, known in (("", None), ("wal_room_mb = 0", 0), ("wal_room_mb = 7", 7 * MB)):
        made = SimpleNamespace(
            replication=ReplicationSettings.model_validate(PLACE | tomllib.loads(replication))
        )
        assert _wal_room(cast("Any", made)) == known


@pytest.mark.parametrize("planned", [True, False])
def test_no_swap_goes_there_whoever_asks_for_it(planned: bool):  # noqa: FBT001
    told = tuple(reasons(denver(100 * MB)))
    members = {
        COLUMBUS: entry(member(COLUMBUS), OUR_LEASE),
        DENVER: entry(member(DENVER, ready=False, reasons=told), THEIR_LEASE),
    }
    facts = at_columbus(cluster=cluster(members=members))
    assert any(why.startswith(TOO_LITTLE) for why in obstacles(facts, DENVER, planned=planned))
    lost = outlook(facts, site_loss(facts))
    assert lost.would_lead == (DENVER,)
    (prospect,) = (p for p in lost.prospects if p.node == DENVER)
    assert any(TOO_LITTLE in note for note in prospect.notes)


def test_an_election_after_a_loss_does_not_ask_for_room():
    picture = cluster(leader=None, members={DENVER: entry(member(DENVER), OUR_LEASE)})
    facts = denver(0, cluster=picture, leader_absent_since=50.0)
    assert isinstance(effect(replace(facts, pg=replace(facts.pg, canary_at=50.0))), Claim)


# -- the look itself


async def test_it_is_looked_at_where_the_wal_lies(tmp_path: Path):
    elsewhere = tmp_path / "volume"
    elsewhere.mkdir()
    (tmp_path / "pg_wal").symlink_to(elsewhere)
    room = WalRoom(tmp_path, SystemClock())
    await eventually(lambda: (room.free or 0) > 0)


async def test_the_volumes_size_is_told_as_well(tmp_path: Path):
    (tmp_path / "pg_wal").mkdir()
    room = WalRoom(tmp_path, SystemClock())
    await eventually(lambda: room.volume == shutil.disk_usage(tmp_path).total)


async def test_without_a_data_directory_it_is_not_known_and_found_later(tmp_path: Path):
    clock = HeldClock()
    room = WalRoom(tmp_path, clock)
    assert room.free is None
    await eventually(lambda: not room._looking)
    assert room.free is None
    (tmp_path / "pg_wal").mkdir()
    await clock.advance(LOOK_EVERY)
    await eventually(lambda: (room.free or 0) > 0)


async def test_a_disk_that_does_not_answer_holds_nobody_up_and_is_soon_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock, answers, looks = HeldClock(), threading.Event(), []
    (tmp_path / "pg_wal").mkdir()
    room = WalRoom(tmp_path, clock)
    await eventually(lambda: (room.free or 0) > 0)

    def hangs(_: Path) -> None:
        looks.append(1)
        answers.wait()
        raise OSError

    monkeypatch.setattr(module.shutil, "disk_usage", hangs)
    await clock.advance(LOOK_EVERY)
    assert room.free is not None
    await clock.advance(KNOWN_FOR)
    assert room.free is None
    await eventually(lambda: looks == [1])
    await clock.advance(LOOK_EVERY)
    assert (room.free, looks) == (None, [1])
    answers.set()
    await eventually(lambda: not room._looking)
