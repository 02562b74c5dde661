"""`python -m dispatcher retention` at a real leader, and the rounds that dispatchers make by themselves."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dispatcher import migrate
from dispatcher.retention import command, upkeep
from dispatcher.retention.carry_out import Place
from dispatcher.retention.upkeep import Upkeep
from replication.session import Session, Target
from sitecontrol.clock import SystemClock
from sitecontrol.settings_retention import RetentionSettings
from tests.message_store import NODE, TERM, admin, as_role
from tests.partitions import one_a_day
from tests.waiting import eventually

CONFIG = """
[site]
name = "columbus"
environment = "lab"
state_dir = "{folder}"
secrets_dir = "{folder}"

[[place]]
name = "columbus"
nodes = [{{ name = "{node}", postgres = "{host}:{port}", agent = "http://127.0.0.1:9" }}]

[etcd]
endpoints = ["http://127.0.0.1:9"]

[retention]
messages_days = 5
references_days = 8
partition_days = 1
ahead_days = 4
"""
DAYS = 8


class Console:
    """The command, as an operator gives it."""

    def __init__(self, config: Path) -> None:
        self._config = config

    async def __call__(self, *words: str, answer: str = "") -> Result:
        given = [words[0], "--config", str(self._config), *words[1:]]
        return await asyncio.to_thread(lambda: CliRunner().invoke(command.retention, given, input=answer))

    async def json(self, *words: str) -> dict[str, Any]:
        told = await self(*words, "--json")
        assert told.exit_code == 0, told.stderr
        found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
        return found


@pytest.fixture
async def console(store_database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr(migrate, "DATABASE", store_database.database)
    (tmp_path / "postgres-migrate").write_text("x")
    superuser = await admin(store_database)
    await one_a_day(superuser, back=DAYS)
    await superuser.close()
    config = tmp_path / "columbus.toml"
    config.write_text(
        CONFIG.format(folder=tmp_path, node=NODE, host=store_database.host, port=store_database.port)
    )
    return Console(config)


async def test_a_dry_run_tells_what_a_run_then_does(console: Console) -> None:
    planned = await console.json("run", "--dry-run")
    done = await console.json("run", "--yes")
    assert planned["drop"] == done["dropped"]
    assert planned["make"] == done["made"]
    assert (done["replies"], done["campaigns"]) == (0, 0)
    assert planned["replies_before"] < planned["campaigns_before"] < datetime.now(UTC).isoformat()
    assert done["problems"] == []
    assert (await console.json("run", "--dry-run"))["drop"] == []


async def test_the_list_tells_what_is_due_and_then_where_its_archive_lies(console: Console) -> None:
    listed = await console.json("list")
    due = [period["period"] for period in listed["periods"] if period["due"]]
    assert "first" in due
    await console.json("run", "--yes")
    listed = await console.json("list")
    assert {one["period"] for one in listed["retired"]} == set(due)
    told = await console("list")
    assert "dropped" in told.stdout
    folders = [one["folder"] for one in listed["retired"]]
    assert (
        await asyncio.to_thread(lambda: CliRunner().invoke(command.retention, ["check", *folders]))
    ).exit_code == 0


async def test_what_is_not_confirmed_changes_nothing(console: Console) -> None:
    told = await console("run", answer="yes\n")
    assert told.exit_code == 4
    assert (await console.json("list"))["retired"] == []


async def test_a_clock_that_disagrees_with_the_leaders_lets_nothing_go(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "CLOCKS_APART", timedelta(seconds=-1))
    told = await console("run", "--yes")
    assert (told.exit_code, "clock" in told.stderr) == (1, True)
    assert (await console.json("list"))["retired"] == []


def rounds(target: Target, folder: Path, *, term: int = TERM, agrees: bool = True) -> Upkeep:
    gate = SimpleNamespace(may_send=True, node=NODE, term=term)
    leadership: Any = SimpleNamespace(gate=gate)
    return Upkeep(
        leadership=leadership,
        connect=lambda _: Session.connect(as_role(target, "hotsite_dispatch"), timeout=5),
        settings=RetentionSettings(messages_days=5, references_days=8, partition_days=1, ahead_days=4),
        place=Place(site="columbus", folder=folder, environ={}),
        clock_agrees=lambda _: agrees,
        clock=SystemClock(),
    )


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(upkeep, "EVERY_S", 0.05)


@pytest.mark.usefixtures("console", "at_once")
async def test_a_dispatcher_that_may_send_makes_rounds_and_tells_what_it_saw(
    store_database: Target, tmp_path: Path
) -> None:
    one = rounds(store_database, tmp_path / "archive")
    await one.start()
    await eventually(lambda: one.seen is not None and not one.seen.round.waiting and not one.problems)
    await one.stop()
    assert one.seen is not None
    assert one.seen.oldest is not None
    assert one.seen.oldest > datetime.now(UTC) - timedelta(days=6)


@pytest.mark.usefixtures("console", "at_once")
async def test_a_clock_that_is_not_believed_makes_no_round(store_database: Target, tmp_path: Path) -> None:
    asked = asyncio.Event()

    def disagrees(_: object) -> bool:
        asked.set()
        return False

    one = rounds(store_database, tmp_path / "archive")
    one._clock_agrees = disagrees
    await one.start()
    await asked.wait()
    await one.stop()
    assert one.seen is None
    assert not (tmp_path / "archive").exists()


@pytest.mark.usefixtures("at_once")
async def test_a_schema_that_is_older_or_another_term_ends_no_dispatcher(
    bare_database: Target, store_database: Target, tmp_path: Path
) -> None:
    for one in (
        rounds(bare_database, tmp_path),
        rounds(store_database, tmp_path, term=TERM - 1),
    ):
        await one._try(NODE, one._leadership.gate.term)
        assert one.seen is None
