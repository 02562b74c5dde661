"""What a node alone holds is set aside in a file, before its history is thrown away; and the node returns anyhow."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dispatcher import migrate
from dispatcher.accounts import NewAccount, add_account
from dispatcher.campaigns.model import Campaign
from dispatcher.campaigns.states import Act
from dispatcher.http.schemas import MessageRequest
from dispatcher.http.schemas_campaigns import RenderedMessage
from dispatcher.http.submission import Terms, compose
from dispatcher.model import (
    MessageClass,
    NewMessage,
    OnDoubt,
    Program,
    Reply,
    ReplyPart,
    SubmitOutcome,
    Verdict,
)
from dispatcher.postgres_store import PostgresStore
from replication.configuration import Standby
from replication.node import Node
from replication.processes import working_in
from replication.session import Session, Target
from sitecontrol import quarantine
from sitecontrol.agent import setting_aside
from sitecontrol.agent.setting_aside import LeaderSilent, Leading, SettingAside
from sitecontrol.clock import SystemClock
from tests.campaign_scenes import act, feed, started, uploaded
from tests.message_scenes import SHORT_CODE, Stage, new_id, receipt, result, submitted
from tests.postgres import PASSWORD, Nodes, rewind_target

SOON = 20.0
TERM = 7
NUMBER = "+16145550123"
ROLES = ("hotsite_migrate", "hotsite_dispatch", "hotsite_monitor")


@dataclass
class Parted:
    """`a`, killed, whose messages nobody else has; and `b`, which leads now."""

    nodes: Nodes
    a: Node
    b: Node
    account: NewAccount
    folder: Path

    @property
    def program(self) -> Program:
        return Program(
            id=self.account.program_id,
            account_id=self.account.account_id,
            name=self.account.program,
            source=self.account.source,
            on_doubt=OnDoubt.HOLD,
            message_class=MessageClass.SERVICE,
            enabled=True,
        )

    def setting_aside(self, node: Node | None = None) -> SettingAside:
        return SettingAside(node or self.a, site="columbus", folder=self.folder, clock=SystemClock())

    @property
    def leading(self) -> Leading:
        return Leading(
            node="b",
            files=replace(rewind_target(self.b), database="hotsite"),
            rows=login(self.b, "hotsite_migrate"),
        )

    def files(self) -> list[quarantine.SetAside]:
        return quarantine.found(self.folder)


def login(node: Node, user: str) -> Target:
    return Target(host="127.0.0.1", port=node.settings.port, user=user, password=PASSWORD, database="hotsite")


async def furnished(nodes: Nodes) -> tuple[Node, NewAccount]:
    """A primary with the schema of messages, opened in TERM."""
    a = await nodes.primary("a")
    async with aclosing(await a.session()) as session:
        for role in ROLES:
            password = PASSWORD.replace("'", "''")
            await session.commit(f"create role {role} login password '{password}'", timeout=SOON)
        await session.commit("create database hotsite", timeout=SOON)
    async with aclosing(await a.session("hotsite")) as session:
        await session.commit("create schema hotsite authorization hotsite_migrate", timeout=SOON)
        control = (resources.files("sitecontrol") / "sql" / "control.sql").read_text()
        await session._connection.execute(control)
        await open_for(session, "a", "1")
    await migrate.apply(login(a, "hotsite_migrate"))
    async with aclosing(await Session.connect(login(a, "hotsite_migrate"), timeout=SOON)) as session:
        account = await add_account(session, name="electric", program="outages", source="77001")
    return a, account


async def open_for(session: Session, node: str, boot: str) -> None:
    await session.commit("delete from control.leadership", timeout=SOON)
    await session.commit(
        "insert into control.leadership (term, node, boot, opened_at) values ($1, $2, $3, now())",
        TERM,
        node,
        boot,
        timeout=SOON,
    )


def request(reference: str | None, **changed: Any) -> MessageRequest:
    return MessageRequest.model_validate(
        {
            "program": "outages",
            "to": NUMBER,
            "body": f"Power is back: {reference}",
            "reference": reference,
            **changed,
        }
    )


def composed(told: MessageRequest, program: Program) -> NewMessage:
    terms = Terms(any_possible_number=True)
    return compose(told, program, new_id=new_id(), now=datetime.now(UTC), terms=terms)


async def accept(
    node: Node, program: Program, *requests: MessageRequest, timeout: float = SOON
) -> list[UUID]:
    messages = [composed(told, program) for told in requests]
    session = await Session.connect(login(node, "hotsite_dispatch"), timeout=SOON)
    try:
        await PostgresStore(session, timeout=timeout).accept(TERM, messages)
    finally:
        session.terminate()
    return [message.id for message in messages]


@asynccontextmanager
async def stage_at(node: Node, program: Program) -> AsyncIterator[Stage]:
    async def never(duration: timedelta) -> None:
        raise NotImplementedError(duration)

    session = await Session.connect(login(node, "hotsite_dispatch"), timeout=SOON)
    store = PostgresStore(session, timeout=SOON)
    yield Stage(store, TERM, program, program, never, lambda: datetime.now(UTC))
    await store.aclose()


@asynccontextmanager
async def parting(
    nodes: Nodes, folder: Path, before: Callable[[Parted], Awaitable[object]] | None = None
) -> AsyncIterator[Parted]:
    """`b` has what `a` did before, and nothing of what it does in the block; it leads after that."""
    a, account = await furnished(nodes)
    scene = Parted(nodes, a, a, account, folder)
    if before is not None:
        await before(scene)
    scene.b = await nodes.standby("b", of=a)
    await scene.b.stop()
    yield scene
    await a.kill()
    await scene.b.start(Standby(), cluster_name="b/2")
    await scene.b.promote()
    async with aclosing(await scene.b.session("hotsite")) as session:
        await open_for(session, "b", "2")
        await session.read("checkpoint", timeout=SOON)


@pytest.fixture
async def parted(nodes: Nodes, tmp_path: Path) -> Parted:
    """Both have the message `both`, only `a` has `lost` and one without a reference, only `b` has `late`."""

    async def both(scene: Parted) -> None:
        await accept(scene.a, scene.program, request("both"))

    async with parting(nodes, tmp_path / "quarantine", both) as scene:
        lost = request("lost", **{"class": "emergency", "topic": "outage-17"})
        await accept(scene.a, scene.program, lost, request(None))
    await accept(scene.b, scene.program, request("late"))
    return scene


def messages_in(file: quarantine.SetAside) -> dict[str, dict[str, Any]]:
    """By reference."""
    return {row["request"]["reference"]: row for row in file.rows() if row["table"] == "message"}


async def test_what_only_a_returning_node_holds_is_written_down_and_then_it_is_rewound(
    parted: Parted,
) -> None:
    await parted.setting_aside().run(parted.leading)
    [file] = parted.files()
    header = file.header
    assert (header.node, header.leader, header.timeline, header.leader_timeline) == ("a", "b", 1, 2)
    assert (header.term, header.compared, header.complete, header.error) == (TERM, True, True, None)
    assert header.counts == {"message": 2, "delivery": 2}
    assert file.path.stat().st_mode & 0o777 == 0o600
    told = messages_in(file)
    assert told.keys() == {"lost", *(name for name in told if name.startswith("set-aside-"))}
    assert told["lost"]["account"] == "electric"
    assert told["lost"]["withheld"] is None
    assert working_in(parted.a.settings.data_dir.stat()) == []
    assert await parted.a.rewind_from(parted.leading.files, timeline=2)


async def test_a_request_is_told_in_its_senders_own_words(parted: Parted) -> None:
    """What the sender left out stays out: else the replay, or his own repeat after it, would be a conflict."""
    await parted.setting_aside().run(parted.leading)
    told = messages_in(parted.files()[0])["lost"]["request"]
    assert MessageRequest.model_validate(told) == request(
        "lost", **{"class": "emergency", "topic": "outage-17"}
    )
    await accept(
        parted.b,
        parted.program,
        MessageRequest.model_validate(told),
        request("lost", **{"class": "emergency", "topic": "outage-17"}),
    )
    async with aclosing(await Session.connect(login(parted.b, "hotsite_migrate"), timeout=SOON)) as session:
        rows = await session.read(
            "select count(*) from hotsite.message where reference = 'lost'", timeout=SOON
        )
    assert rows[0][0] == 1


async def test_a_text_of_a_template_is_told_so_that_its_senders_repeat_is_no_conflict(
    nodes: Nodes, tmp_path: Path
) -> None:
    words = request("lost").model_dump(by_alias=True) | {"template": "eta", "vars": {"eta": "17:00"}}
    sent = RenderedMessage.model_validate(words)
    async with parting(nodes, tmp_path / "quarantine") as scene:
        await accept(scene.a, scene.program, sent)
    await scene.setting_aside().run(scene.leading)
    told = MessageRequest.model_validate(messages_in(scene.files()[0])["lost"]["request"])
    async with aclosing(await Session.connect(login(scene.b, "hotsite_dispatch"), timeout=SOON)) as session:
        store = PostgresStore(session, timeout=SOON)
        verdicts = [
            (await store.accept(TERM, [composed(one, scene.program)])).rows[0].verdict
            for one in (told, sent, request("lost"))
        ]
    assert verdicts == [Verdict.NEW, Verdict.DUPLICATE, Verdict.CONFLICT]


async def test_what_is_kept_in_one_table_is_set_aside_too(nodes: Nodes, tmp_path: Path) -> None:
    """Replies, carriers' ids, doubts and receipts: no partitions of theirs tell which files they are in."""
    async with (
        parting(nodes, tmp_path / "quarantine") as scene,
        stage_at(scene.a, scene.program) as stage,
    ):
        [taken, doubted] = [await stage.sent(), await stage.sent()]
        await stage.store.settle([submitted(taken), result(doubted, SubmitOutcome.IN_DOUBT)])
        await stage.store.receipts([receipt("nobody's")])
        said = {"carrier": "acme", "source": NUMBER, "destination": SHORT_CODE, "received_at": stage.now()}
        await stage.store.replies([Reply(text="STOP", fingerprint=b"f" * 32, **said)])
        part = {"reference": 7, "total": 2, "number": 1, "coding": 0, "octets": b"a"}
        await stage.store.reply_parts([ReplyPart(fingerprint=b"g" * 32, **part, **said)])
    await scene.setting_aside().run(scene.leading)
    [file] = scene.files()
    assert (file.header.compared, file.header.complete, file.header.error) == (True, True, None)
    kept = {
        name: count
        for name, count in file.header.counts.items()
        if name not in ("message", "delivery", "event")
    }
    assert kept == {"submission": 1, "doubt": 1, "parked_receipt": 1, "reply": 1, "reply_part": 1}


async def test_campaigns_of_which_the_leader_knows_nothing_are_set_aside_with_their_lists(
    nodes: Nodes, tmp_path: Path
) -> None:
    """And of those that it knows, what was done with them here alone; not what was fed, which it has in its list."""

    there: list[Campaign] = []

    async def before(scene: Parted) -> None:
        async with stage_at(scene.a, scene.program) as stage:
            there.extend([await started(stage, 2), await started(stage, 1)])

    async with (
        parting(nodes, tmp_path / "quarantine", before) as scene,
        stage_at(scene.a, scene.program) as stage,
    ):
        assert await feed(stage, batches=1, ahead=10_000) is not None
        paused = await act(stage, there[0], Act.PAUSE)
        await stage.store.save_template(TERM, scene.program.account_id, "eta", "By {eta}.", [], "hs_columbus")
        lost = await uploaded(stage, 3, bad=1)
    await scene.setting_aside().run(scene.leading)
    [file] = scene.files()
    assert (file.header.compared, file.header.complete, file.header.error) == (True, True, None)
    rows = [row for row in file.rows() if row["table"].startswith(("campaign", "template"))]
    told = Counter((row["table"], row["row"].get("campaign_id", row["row"].get("name"))) for row in rows)
    assert told == {
        ("campaign", str(lost.id)): 1,
        ("campaign_batch", str(lost.id)): 3,
        ("campaign_act", str(lost.id)): 2,
        ("campaign", str(paused.id)): 1,
        ("campaign_act", str(paused.id)): 1,
        ("template", "eta"): 1,
    }
    batches = [row["row"] for row in rows if row["table"] == "campaign_batch"]
    assert [len(batch["texts"]["to"]) for batch in batches] == [2, 2, 2]
    assert [len(batch["bad"]) for batch in batches] == [1, 1, 1]


async def test_the_same_rows_are_not_set_aside_twice(parted: Parted) -> None:
    """As by an agent that was killed before the rewind, and another that begins anew."""
    await parted.setting_aside().run(parted.leading)
    await parted.setting_aside().run(parted.leading)
    assert len(parted.files()) == 1
    quarantine.settle(parted.files()[0], "anna")
    await parted.setting_aside().run(parted.leading)
    assert [file.settled for file in parted.files()] == [True]


async def test_an_agent_that_dies_while_it_reads_leaves_no_file_and_the_next_one_writes_it(
    parted: Parted, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def forever(_: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(setting_aside, "_write_down", forever)
        running = asyncio.create_task(parted.setting_aside().run(parted.leading))
        await begun.wait()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert parted.files() == []
    assert working_in(parted.a.settings.data_dir.stat()) == []
    await parted.setting_aside().run(parted.leading)
    assert parted.files()[0].header.counts["message"] == 2


async def test_nothing_is_written_when_the_leader_lacks_no_message(nodes: Nodes, tmp_path: Path) -> None:
    async with (
        parting(nodes, tmp_path / "quarantine") as scene,
        aclosing(await scene.a.session("hotsite")) as session,
    ):
        await session.commit("update control.canary set seq = seq + 1", timeout=SOON)  # beyond the fork
    await scene.setting_aside().run(scene.leading)
    assert scene.files() == []


async def test_a_server_that_cannot_be_opened_is_told_of_in_a_file_and_keeps_nobody_from_returning(
    parted: Parted,
) -> None:
    for segment in (parted.a.settings.data_dir / "pg_wal").glob("0000000100000000*"):
        segment.unlink()
    await parted.setting_aside().run(parted.leading)
    await parted.setting_aside().run(parted.leading)  # once is enough
    [file] = parted.files()
    assert "PostgreSQL did not start" in (file.header.error or "")
    assert (file.header.complete, file.header.counts) == (False, {})
    assert list(file.rows()) == []


async def test_a_reader_that_takes_too_long_is_ended_and_told_of(
    parted: Parted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting_aside, "PROGRAM", (sys.executable, "-c", "import time; time.sleep(1000)"))
    monkeypatch.setattr(setting_aside, "WITHIN_S", 3.0)
    await parted.setting_aside().run(parted.leading)
    [file] = parted.files()
    assert file.header.error == "not done within 3 s"
    assert working_in(parted.a.settings.data_dir.stat()) == []
    assert await parted.a.rewind_from(parted.leading.files, timeline=2)


async def test_there_is_no_room_for_more_than_so_much_and_the_file_says_so(
    parted: Parted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting_aside, "LARGEST", 1000)
    await parted.setting_aside().run(parted.leading)
    [file] = parted.files()
    assert not file.header.complete
    assert file.header.counts["message"] == 1


async def test_rows_that_cannot_be_held_against_the_leader_are_all_set_aside(parted: Parted) -> None:
    silent = replace(parted.leading, rows=replace(parted.leading.rows, password="wrong"))
    await parted.setting_aside().run(silent)
    [file] = parted.files()
    assert not file.header.compared
    assert file.header.counts["message"] == 2


async def test_a_leader_that_is_silent_stops_it_before_anything_is_opened(parted: Parted) -> None:
    await parted.b.kill()
    with pytest.raises(LeaderSilent):
        await parted.setting_aside().run(parted.leading)
    assert parted.files() == []


async def test_a_message_that_a_carrier_may_have_is_told_but_withheld(nodes: Nodes, tmp_path: Path) -> None:
    async with parting(nodes, tmp_path / "quarantine") as scene:
        await accept(scene.a, scene.program, request("claimed"))
        async with aclosing(
            await Session.connect(login(scene.a, "hotsite_dispatch"), timeout=SOON)
        ) as session:
            assert len(await PostgresStore(session).claim(TERM, "columbus-1", 10, 5.0)) == 1
    await scene.setting_aside().run(scene.leading)
    line = messages_in(scene.files()[0])["claimed"]
    assert "submitting: a carrier may have it" in line["withheld"]
