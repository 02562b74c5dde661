"""An old leader that comes back with messages of its own: they are set aside, told of, and it is in step again."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import aiohttp
import pytest

from dispatcher import migrate
from dispatcher.accounts import add_account
from dispatcher.http.schemas import MessageRequest
from dispatcher.http.submission import Terms, compose
from dispatcher.model import MessageClass, OnDoubt, Program
from dispatcher.postgres_store import PostgresStore
from replication.errors import CommitUnknown
from replication.session import Session, Target
from sitecontrol import quarantine
from tests.agents import Pair
from tests.integration.test_sitectl import sitectl
from tests.message_scenes import new_id
from tests.sites import Site

SOON = 20.0


def login(site: Site, name: str) -> Target:
    return Target(
        host="127.0.0.1",
        port=site.postgres_port,
        user=f"hotsite_{name}",
        password=name,
        database="hotsite",
    )


async def accept(leader: Site, term: int, reference: str) -> None:
    """As a dispatcher stores a message."""
    async with leader.superuser() as session:
        [row] = await session.read(
            "select program_id, account_id from hotsite.program where name = 'outages'", timeout=SOON
        )
    program = Program(
        id=row["program_id"],
        account_id=row["account_id"],
        name="outages",
        source="77001",
        on_doubt=OnDoubt.HOLD,
        message_class=MessageClass.SERVICE,
        enabled=True,
    )
    told = MessageRequest(program="outages", to="+16145550123", body="Power is back.", reference=reference)
    terms = Terms(any_possible_number=True)
    message = compose(told, program, new_id=new_id(), now=datetime.now(UTC), terms=terms)
    session = await Session.connect(login(leader, "dispatch"), timeout=SOON)
    try:
        await PostgresStore(session, timeout=SOON).accept(term, [message])
    finally:
        session.terminate()


async def furnish(leader: Site) -> None:
    await migrate.apply(login(leader, "migrate"))
    session = await Session.connect(login(leader, "migrate"), timeout=SOON)
    try:
        await add_account(session, name="electric", program="outages", source="77001")
    finally:
        await session.aclose()


async def waits_for_the_standby(leader: Site) -> bool:
    waiting = (
        "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and usename = 'hotsite_dispatch'"
    )
    return bool(await leader.select(waiting))


async def lose_the_leader_with_a_message_of_its_own(pair: Pair, reference: str) -> tuple[Site, Site]:
    """The old leader, ended, whose message nobody else has and nobody was told of; and the new one."""
    leader, standby, term = await pair.leads()
    leader.kill()  # else it would take the standby out of step, and acknowledge alone
    standby.hang()
    await standby.kill_postgres()
    accepting = asyncio.create_task(accept(leader, term, reference))
    await pair.until(
        partial(waits_for_the_standby, leader), "it is committed here, and waits for the standby"
    )
    await leader.end()
    with pytest.raises(CommitUnknown):
        await accepting
    standby.resume()
    await pair.until_leads(standby, above=term)
    return leader, standby


async def test_an_old_leaders_own_messages_are_set_aside_and_it_comes_back_into_step(pair: Pair):
    leader, _, term = await pair.leads()
    await furnish(leader)
    await accept(leader, term, "kept")
    old, new = await lose_the_leader_with_a_message_of_its_own(pair, "lost")
    old.start()
    await pair.until_two_site()
    assert await new.select("select count(*) from hotsite.message where reference = 'kept'") == 1
    assert await new.select("select count(*) from hotsite.message where reference = 'lost'") == 0
    [file] = quarantine.found(quarantine.folder_in(old.folder / "state"))
    assert file.header.counts == {"message": 1, "delivery": 1}
    assert (file.header.node, file.header.leader, file.header.term) == (old.node, new.node, term + 1)
    assert [row["request"]["reference"] for row in file.rows() if "request" in row] == ["lost"]

    status = await old.status()
    assert status["ready"]  # an alarm, which keeps nobody from doing his part
    assert status["quarantine"]["files"] == 1
    assert "2 rows that only this node held are set aside" in status["quarantine"]["alarm"]
    assert old.events("set_aside")[-1]["rows"] == 2
    listed = await sitectl("node", "list", config=old.config)
    assert f"{old.node}: 2 rows that only this node held are set aside" in listed.out
    shown = await sitectl("node", "quarantine", "show", file.name, config=old.config)
    assert "lost" in shown.out
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{old.agent_port}/metrics") as told,
    ):
        lines = (await told.text()).splitlines()
    assert "hotsite_quarantine_files 1.0" in lines
    assert "hotsite_quarantine_rows 2.0" in lines


@pytest.mark.long
async def test_a_leader_that_comes_back_without_messages_of_its_own_sets_nothing_aside(pair: Pair):
    leader, standby, term = await pair.leads()
    folder = quarantine.folder_in(leader.folder / "state")
    before = len(quarantine.found(folder))
    await leader.end()
    await pair.until_leads(standby, above=term)
    leader.start()
    await pair.until_two_site()
    assert len(quarantine.found(folder)) == before


@pytest.mark.long
async def test_an_agent_that_is_killed_while_it_looks_leaves_the_rest_to_the_next_one(pair: Pair):
    leader, _, _ = await pair.leads()
    await furnish(leader)
    old, _ = await lose_the_leader_with_a_message_of_its_own(pair, "looked at twice")
    folder = quarantine.folder_in(old.folder / "state")
    before = {file.name for file in quarantine.found(folder)}
    old.start()

    async def is_opened() -> bool:
        return (old.folder / "run" / "alone" / ".s.PGSQL.1").exists()

    await pair.until(is_opened, "it is opened privately")
    old.kill()
    old.start()
    await pair.until_two_site()
    [file] = [file for file in quarantine.found(folder) if file.name not in before]
    references = [row["request"]["reference"] for row in file.rows() if "request" in row]
    assert references == ["looked at twice"]
