"""Partitions are made ahead, and old ones leave: archived, counted, dropped; and nothing that is not final goes."""

import gzip
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatcher.accounts import add_account
from dispatcher.model import State, Verdict
from dispatcher.postgres_store import PostgresStore
from dispatcher.retention import archive, carry_out
from dispatcher.retention.carry_out import Place, one_round
from dispatcher.retention.store import RetentionStore
from dispatcher.store import NotLeader
from dispatcher.uuid7 import compose, stamp
from replication.session import Session, Target
from sitecontrol.clock import SystemClock
from sitecontrol.settings_retention import RetentionSettings
from tests.message_scenes import Stage, receipt, submitted
from tests.message_store import TERM, admin, as_role
from tests.partitions import one_a_day

DAYS = 10
KEPT = RetentionSettings(
    messages_days=5, references_days=8, partition_days=1, ahead_days=3, command=(), archive=True
)
AGE = timedelta(days=9, hours=1)  # in a period that is over for more than messages_days


@dataclass
class Scene:
    stage: Stage
    store: RetentionStore
    superuser: "asyncpg.Connection[asyncpg.Record]"
    place: Place
    target: Target

    async def accept(self, *, age: timedelta = AGE, **changes: Any) -> UUID:
        message = self.stage.message(id=compose(stamp(datetime.now(UTC) - age), 1), **changes)
        await self.stage.accept(message)
        return message.id

    async def delivered(self, *, age: timedelta = AGE, **changes: Any) -> UUID:
        message = await self.accept(age=age, **changes)
        [claim] = await self.stage.claim()
        await self.stage.store.settle([submitted(claim, f"id-{message}")])
        await self.stage.store.receipts([receipt(f"id-{message}")])
        return message

    async def round(self, settings: RetentionSettings = KEPT) -> carry_out.Round:
        return await one_round(self.store, settings, self.place, most=100)

    async def rows(self, sql: str) -> list[Any]:
        return [tuple(row) for row in await self.superuser.fetch(sql)]

    def archived(self) -> dict[str, list[dict[str, Any]]]:
        """By table: the rows of all archives."""
        found: dict[str, list[dict[str, Any]]] = {}
        for file in self.place.folder.glob("[!.]*/*.jsonl.gz"):
            with gzip.open(file, "rt") as lines:
                found.setdefault(file.name.partition(".")[0], []).extend(map(json.loads, lines))
        return found


@pytest.fixture
async def scene(store_database: Target, tmp_path: Path) -> AsyncIterator[Scene]:
    session = await Session.connect(as_role(store_database, "hotsite_migrate"), timeout=5)
    await add_account(session, name="utility", program="outages", source="12345")
    await session.aclose()
    superuser = await admin(store_database)
    await one_a_day(superuser, back=DAYS)
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    [program] = await store.programs(TERM)
    session = await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5)
    yield Scene(
        stage=Stage(store, TERM, program, program, never, lambda: datetime.now(UTC)),
        store=RetentionStore(session, TERM, SystemClock()),
        superuser=superuser,
        place=Place(site="columbus", folder=tmp_path / "archive", environ={}),
        target=store_database,
    )
    await session.aclose()
    await store.aclose()
    await superuser.close()


async def never(duration: timedelta) -> None:
    raise NotImplementedError(duration)


async def test_partitions_are_made_so_far_ahead_and_a_second_round_finds_nothing_to_do(scene: Scene) -> None:
    made = await scene.round()
    assert made.made
    assert made.problems == ()
    picture = await scene.store.picture()
    assert picture.periods[-1].until >= picture.now + timedelta(days=KEPT.ahead_days)
    assert (await scene.round()).made == ()


async def test_an_id_outside_of_every_period_is_stored_and_told_of_and_moves_home_when_its_time_comes(
    scene: Scene,
) -> None:
    far = await scene.accept(age=timedelta(days=-4))
    assert await scene.stage.state(far) is State.QUEUED
    told = await scene.round(KEPT.model_copy(update={"ahead_days": 2}))
    assert "2 rows lie outside of every period" in told.problems[0]
    assert (await scene.round(KEPT.model_copy(update={"ahead_days": 6}))).problems == ()
    assert await scene.stage.state(far) is State.QUEUED
    assert await scene.rows("select count(*) from hotsite.message_odd") == [(0,)]
    assert [claim.message_id for claim in await scene.stage.claim()] == [far]


async def test_what_is_old_and_final_is_archived_whole_and_then_dropped(scene: Scene) -> None:
    old, young = await scene.delivered(reference="old"), await scene.delivered(age=timedelta(days=1))
    done = await scene.round()
    assert done.problems == ()
    assert (datetime.now(UTC) - AGE).strftime("%Y%m%d") in done.dropped
    archived = scene.archived()
    assert [row["message_id"] for row in archived["message"]] == [str(old)]
    assert [(row["message_id"], row["state"]) for row in archived["delivery"]] == [(str(old), "delivered")]
    assert await scene.rows("select message_id from hotsite.message") == [(young,)]
    assert await scene.stage.store.read(TERM, scene.stage.program.account_id, old) is None
    assert [fault for folder in done.archives for fault in archive.faults(Path(folder))] == []
    assert await scene.rows("select count(*) from hotsite.retired where dropped_at is null") == [(0,)]


async def test_an_archive_that_was_changed_is_told_from_one_that_is_whole(scene: Scene) -> None:
    await scene.delivered()
    done = await scene.round()
    folder = next(Path(one) for one in done.archives if archive.Manifest.read(manifest(one)).rows("message"))
    file = folder / "message.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert "is not what was written" in archive.faults(folder)[0]


def manifest(folder: str) -> str:
    return (Path(folder) / archive.MANIFEST).read_text()


async def test_a_period_with_anything_that_is_not_final_stays_and_is_named(scene: Scene) -> None:
    scheduled = await scene.accept(send_at=datetime.now(UTC) + timedelta(days=30))
    for settings in (KEPT, KEPT.model_copy(update={"archive": False})):
        done = await scene.round(settings)
        assert any(str(scheduled) in problem for problem in done.problems)
    assert await scene.stage.state(scheduled) is State.SCHEDULED


async def test_without_an_archive_old_periods_are_only_dropped(scene: Scene) -> None:
    await scene.delivered()
    done = await scene.round(KEPT.model_copy(update={"archive": False}))
    assert done.dropped
    assert done.archives == ()
    assert await scene.rows("select count(*) from hotsite.message") == [(0,)]
    assert not scene.place.folder.exists()


async def test_a_repeat_of_a_reference_whose_message_has_left_is_no_second_text(scene: Scene) -> None:
    old = await scene.delivered(reference="elm-1")
    await scene.round()
    group = await scene.stage.store.accept(TERM, [scene.stage.message(reference="elm-1")])
    assert [(row.id, row.verdict, row.state) for row in group.rows] == [
        (old, Verdict.DUPLICATE, State.UNKNOWN)
    ]
    assert await scene.stage.claim() == []


async def test_references_are_forgotten_when_their_time_is_over_and_their_message_gone(scene: Scene) -> None:
    await scene.delivered(reference="gone")
    await scene.accept(reference="kept", send_at=datetime.now(UTC) + timedelta(days=30))
    await scene.delivered(reference="young", age=timedelta(days=1), to="+12025550199")
    before = datetime.now(UTC) - timedelta(days=KEPT.references_days)
    assert await scene.store.forget(before, (0, ""), 100) == (0, None)
    await scene.superuser.execute("delete from hotsite.message where reference = 'gone'")
    reached: tuple[int, str] | None = (0, "")
    forgotten = []
    while reached is not None:
        count, reached = await scene.store.forget(before, reached, 1)
        forgotten.append(count)
    assert sum(forgotten) == 1
    assert await scene.rows("select reference from hotsite.reference order by 1") == [("kept",), ("young",)]


class Killed(Exception):
    """The process dies here."""


@pytest.mark.parametrize("step", ["note", "detach", "open_in", "detached_rows", "drop"])
@pytest.mark.parametrize("time", [1, 2])
async def test_a_round_that_dies_at_any_step_is_finished_by_the_next(
    scene: Scene, step: str, time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await scene.delivered()
    calls = 0
    real = getattr(RetentionStore, step)

    async def dies(self: RetentionStore, *args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == time:
            raise Killed
        return await real(self, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(RetentionStore, step, dies)
        with pytest.raises(Killed):
            await scene.round()
    assert (await scene.round()).problems == ()
    assert {row["message_id"] for row in scene.archived()["message"]} == {str(old)}
    assert await scene.rows("select count(*) from hotsite.message") == [(0,)]
    assert await scene.rows("select count(*) from hotsite.retired where dropped_at is null") == [(0,)]
    leftover = (
        "select relname from pg_class where relname ~ '_20[0-9]{6}$' and not relispartition and relkind = 'r'"
    )
    assert await scene.rows(leftover) == []


async def test_what_came_between_the_archive_and_the_drop_is_archived_too(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await scene.delivered()
    real = RetentionStore.note
    noted = []

    async def a_late_row(self: RetentionStore, period: Any, **told: Any) -> None:
        await real(self, period, **told)
        noted.append(period.name)
        if noted.count(period.name) == 1 and period.name == (datetime.now(UTC) - AGE).strftime("%Y%m%d"):
            await scene.superuser.execute("select hotsite.tell($1, '{1}', '{taken_too}')", [old])

    monkeypatch.setattr(RetentionStore, "note", a_late_row)
    await scene.round()
    assert {row["what"] for row in scene.archived()["event"]} == {"taken_too"}


async def test_a_text_that_comes_between_the_archive_and_the_drop_brings_the_period_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.delivered()
    real = RetentionStore.note
    late: list[UUID] = []

    async def a_late_text(self: RetentionStore, period: Any, **told: Any) -> None:
        await real(self, period, **told)
        if not late and period.name == (datetime.now(UTC) - AGE).strftime("%Y%m%d"):
            late.append(await scene.accept(to="+12025550199"))

    with monkeypatch.context() as patch:
        patch.setattr(RetentionStore, "note", a_late_text)
        done = await scene.round()
    assert any(str(late[0]) in problem for problem in done.problems)
    assert await scene.stage.state(late[0]) is State.QUEUED
    assert [claim.message_id for claim in await scene.stage.claim()] == late


async def test_the_operators_program_gets_each_archive_and_when_it_fails_nothing_is_dropped(
    scene: Scene, tmp_path: Path
) -> None:
    old = await scene.delivered()
    told = tmp_path / "told"
    program = f"import sys; open({str(told)!r}, 'a').write(sys.argv[1] + '\\n'); sys.exit(int(sys.argv[1][-1:] == 'x'))"
    works = KEPT.model_copy(update={"command": (sys.executable, "-c", program)})
    fails = KEPT.model_copy(update={"command": (sys.executable, "-c", "import sys; sys.exit(3)")})
    done = await scene.round(fails)
    assert done.dropped == ()
    assert "ended with status 3" in done.problems[0]
    assert await scene.stage.state(old) is State.DELIVERED
    done = await scene.round(works)
    assert told.read_text().split() == list(done.archives)


async def test_one_upkeep_at_a_time(scene: Scene) -> None:
    assert await scene.store.begin()
    session = await Session.connect(as_role(scene.target, "hotsite_dispatch"), timeout=5)
    assert not await RetentionStore(session, TERM, SystemClock()).begin()
    await session.aclose()


async def test_an_upkeep_of_another_term_is_refused(scene: Scene) -> None:
    session = await Session.connect(as_role(scene.target, "hotsite_dispatch"), timeout=5)
    with pytest.raises(NotLeader):
        await RetentionStore(session, TERM - 1, SystemClock()).picture()
    await session.aclose()


async def test_a_period_that_is_not_over_for_three_days_cannot_leave_whatever_is_asked(scene: Scene) -> None:
    [*_, recent, _, _, _] = (await scene.store.picture()).periods
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="not over for long enough"):
        await scene.store.note(recent, site="columbus", folder=None, manifest=None)
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="was not noted"):
        await scene.store.detach("message", recent.name)


async def test_a_lock_that_traffic_holds_is_waited_for_a_moment_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.delivered()
    monkeypatch.setattr("dispatcher.retention.store.LOCK_TRIES", 2)
    busy = await admin(scene.target)
    async with busy.transaction():
        await busy.execute("select from hotsite.message limit 1")
        done = await scene.round()
        assert done.dropped == ()
        assert "could not be taken out now" in done.problems[-1]
    await busy.close()
    assert (await scene.round()).problems == ()
