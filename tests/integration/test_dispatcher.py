"""A whole dispatcher on a real PostgreSQL and a simulated carrier: from the HTTP request to the receipt."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from dispatcher.accounts import add_account
from dispatcher.engine.outcome import of_answer
from dispatcher.journal import Journal
from dispatcher.postgres_store import PostgresStore
from dispatcher.process import Dispatcher, instance
from dispatcher.simulator.faults import Brought, Faults, PartsAs, Stat
from dispatcher.simulator.server import Esme
from dispatcher.simulator.smsc import Smsc
from dispatcher.simulator.submit_log import SubmitLog
from dispatcher.smpp.link import Answer
from replication.session import Session, Target
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore as EtcdData
from sitecontrol.records import DispatcherRecord, Leader, Phase, Swap
from sitecontrol.settings import Secrets, Settings, SettingsError
from tests.message_store import NODE, TERM, admin, as_role
from tests.ports import free_port
from tests.waiting import eventually

NAME = "columbus-1"


def settings(
    database: Target,
    carrier_port: int,
    folder: Path,
    here: str = "columbus",
    carrier: dict[str, Any] | None = None,
    dispatcher: dict[str, Any] | None = None,
) -> Settings:
    def place(name: str, port: int) -> dict[str, object]:
        node = {"name": f"{name}-a", "postgres": f"127.0.0.1:{port}", "agent": "http://127.0.0.1:9"}
        return {"name": name, "nodes": [node]}

    return Settings.model_validate(
        {
            "site": {
                "name": here,
                "environment": "lab",
                "state_dir": str(folder),
                "secrets_dir": "/nowhere",
            },
            "place": [place("columbus", database.port), place("denver", 9)],
            "etcd": {"endpoints": ["http://127.0.0.1:9"]},
            "dispatcher": {
                "instances": [{"name": NAME, "listen": f"127.0.0.1:{free_port()}"}],
                "consent": "assumed",
                "hold_for": 2.0,
                "claim_for": 2.0,
            }
            | (dispatcher or {}),
            "carrier": [
                {
                    "name": "acme",
                    "address": f"127.0.0.1:{carrier_port}",
                    "system_id": "hotsite",
                    "reconnect_min": 0.05,
                    "response_timeout": 1.0,
                }
                | (carrier or {})
            ],
        }
    )


@dataclass(frozen=True, kw_only=True)
class Scene:
    settings: Settings
    etcd: MemoryEtcd
    smsc: Smsc
    log: Path
    dispatcher: Dispatcher
    http: aiohttp.ClientSession
    url: str
    key: str

    async def name_leader(self) -> None:
        leader = Leader(node=NODE, incarnation="i", site="columbus", term=TERM)
        lease = await self.etcd.grant(600)
        await self.etcd.put(self.settings.prefix + "leader", leader.encode(), lease=lease)
        await eventually(self.ready)

    async def ready(self) -> bool:
        return (await self.http.get("/ready")).status == 200

    async def swap(self, phase: Phase) -> None:
        record = Swap(
            id="s1",
            from_node=NODE,
            to_node="denver-a",
            by="test",
            phase=phase,
            term=TERM,
            requested_at=SystemClock().wall(),
        )
        await self.etcd.put(self.settings.prefix + "swap", record.encode())

    async def send(self, reference: str, to: str = "+16145550123") -> aiohttp.ClientResponse:
        body = {"program": "outage", "to": to, "body": "Power is out.", "reference": reference}
        return await self.http.post("/v1/messages", json=body)

    async def states(self) -> Counter[str]:
        page = await (await self.http.get("/v1/messages", params={"limit": 200})).json()
        return Counter(row["state"] for row in page["messages"])

    async def record(self) -> DispatcherRecord | None:
        found = (await self.etcd.get(f"{self.settings.prefix}dispatchers/{NAME}")).one
        return DispatcherRecord.decode(found.value) if found else None

    def submits(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines()]


@asynccontextmanager
async def scene(
    database: Target,
    folder: Path,
    *,
    here: str = "columbus",
    faults: Faults | None = None,
    carrier: dict[str, Any] | None = None,
    dispatcher: dict[str, Any] | None = None,
) -> AsyncIterator[Scene]:
    session = await Session.connect(as_role(database, "hotsite_migrate"), timeout=5)
    account = await add_account(session, name="utility", program="outage", source="72345")
    await session.aclose()
    log = folder / "submits.jsonl"
    smsc = Smsc(
        passwords={"hotsite": "secret"}, log=SubmitLog(log), faults=faults or Faults(receipt_delay_ms=5)
    )
    server = await asyncio.get_running_loop().create_server(lambda: Esme(smsc), "127.0.0.1", 0)
    chosen = settings(database, server.sockets[0].getsockname()[1], folder, here, carrier, dispatcher)
    secrets = Secrets(
        folder, {"HOTSITE_SECRET_POSTGRES_DISPATCH": "", "HOTSITE_SECRET_CARRIER_ACME": "secret"}
    )
    etcd = MemoryEtcd(EtcdData(SystemClock()))
    started = Dispatcher(chosen, secrets, NAME, etcd, SystemClock(), database=database.database)
    stop = asyncio.Event()
    running = asyncio.create_task(started.run(stop))
    url = f"http://{instance(chosen, NAME).listen}"
    headers = {"Authorization": f"Bearer {account.key}"}
    try:
        async with aiohttp.ClientSession(url, headers=headers) as http:
            await eventually(lambda: running.done() or smsc.links)
            yield Scene(
                settings=chosen,
                etcd=etcd,
                smsc=smsc,
                log=log,
                dispatcher=started,
                http=http,
                url=url,
                key=account.key,
            )
    finally:
        stop.set()
        async with asyncio.timeout(2.0):
            await running
        server.close()
        smsc.close()
        await etcd.aclose()


async def test_a_text_goes_from_the_request_to_the_receipt(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path) as at:
        await at.name_leader()
        answer = await at.send("r1")
        assert answer.status == 202, await answer.text()
        accepted = await answer.json()

        async def delivered() -> bool:
            view = await (await at.http.get(f"/v1/messages/{accepted['id']}")).json()
            return bool(view["state"] == "delivered")

        await eventually(delivered)
        await eventually(lambda: len(at.submits()) == 1)
        [line] = at.submits()
        assert (line["source"], line["destination"], line["text"]) == (
            "72345",
            "16145550123",
            "Power is out.",
        )


@pytest.mark.parametrize("long_text", ["udh", "sar"])
@pytest.mark.parametrize("request_by", ["submit_sm", "data_sm"])
async def test_a_long_text_goes_over_pairs_of_links_however_the_carrier_wants_it(
    store_database: Target, tmp_path: Path, long_text: str, request_by: str
):
    wanted = {"bind_as": "pair", "binds": 2, "long_text": long_text, "request": request_by}
    faults = Faults(receipt_delay_ms=5, bring_as=Brought.DATA_SM)
    async with scene(store_database, tmp_path, carrier=wanted, faults=faults) as at:
        await at.name_leader()
        await eventually(lambda: len(at.smsc.links) == 4)
        body = {"program": "outage", "to": "+16145550123", "body": "Power is out. " * 30, "reference": "r1"}
        assert (await at.http.post("/v1/messages", json=body)).status == 202

        async def delivered() -> bool:
            return await at.states() == {"delivered": 1}

        await eventually(delivered)
        await eventually(lambda: len(at.submits()) == 3)
        assert (
            "".join(line["text"] for line in sorted(at.submits(), key=lambda line: line["part"]))
            == body["body"]
        )
        assert {(line["part"], line["parts"]) for line in at.submits()} == {(1, 3), (2, 3), (3, 3)}
        links = (await (await at.http.get("/status")).json())["links"]
        assert [(link["name"], link["bind"]) for link in links] == [
            ("acme-1-tx", "transmitter"),
            ("acme-1-rx", "receiver"),
            ("acme-2-tx", "transmitter"),
            ("acme-2-rx", "receiver"),
        ]
        assert all(not link["submits"] for link in links if link["bind"] == "receiver")


async def test_a_text_whose_receipt_never_comes_is_asked_for_where_that_is_wanted(
    store_database: Target, tmp_path: Path
):
    faults = Faults(receipts=False, outcome={Stat.UNDELIV: 1})
    async with scene(store_database, tmp_path, carrier={"query_after": 0.3}, faults=faults) as at:
        await at.name_leader()
        assert (await at.send("r1")).status == 202

        async def undelivered() -> bool:
            return await at.states() == {"undelivered": 1}

        await eventually(undelivered)


@pytest.mark.parametrize("parts_as", PartsAs)
async def test_a_customers_long_reply_is_stored_as_one_and_what_came_of_another_as_that(
    store_database: Target, tmp_path: Path, parts_as: PartsAs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dispatcher.engine.receipts.FINISH_EVERY_S", 0.1)
    text = "".join(f"<{n:>5}>" for n in range(70))  # four parts
    async with scene(store_database, tmp_path, dispatcher={"reply_wait": 0.5}) as at:
        await at.name_leader()
        connection = await admin(store_database)

        async def stored() -> list[str]:
            rows = await connection.fetch(
                "select text from hotsite.reply where source = '15550001111' order by 1"
            )
            return [row["text"] for row in rows]

        def reply(text: str, only: list[int] | None = None) -> None:
            told = {"source": "15550001111", "destination": "72345", "text": text}
            at.smsc.reply(**told, parts_as=parts_as, only=only)  # type: ignore[arg-type]

        async def both() -> bool:
            came = f"{text[:306]} […] {text[459:]}".replace("<", "(")
            return sorted(await stored()) == sorted([text, came])

        reply(text)
        reply(text.replace("<", "("), only=[1, 2, 4])
        await eventually(both)
        await connection.close()


async def test_many_texts_are_each_sent_once_and_all_delivered(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path) as at:
        await at.name_leader()
        answers = await asyncio.gather(*(at.send(f"r{n}") for n in range(200)))
        assert {answer.status for answer in answers} == {202}

        async def all_delivered() -> bool:
            return await at.states() == {"delivered": 200}

        await eventually(all_delivered)
        await eventually(lambda: len(at.submits()) == 200)
        status = await (await at.http.get("/status")).json()
        assert status["counters"]["accepted"] == 200
        assert status["counters"]["submitted"] == 200
        assert status["counters"]["receipts"] == 200
        metrics = await (await at.http.get("/metrics")).text()
        assert 'hotsite_dispatcher_link_bound{carrier="acme",link="acme-1"} 1.0' in metrics
        counted = 'hotsite_dispatcher_link_events_total{carrier="acme",link="acme-1",what="submits"} 200.0'
        assert counted in metrics


async def test_a_request_is_held_while_no_leader_is_known_and_refused_when_that_lasts(
    store_database: Target, tmp_path: Path
):
    async with scene(store_database, tmp_path) as at:
        early = asyncio.create_task(at.send("r1"))
        assert (await at.http.get("/live")).status == 503
        answer = await early
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        held = asyncio.create_task(at.send("r1"))
        await at.name_leader()
        assert (await held).status == 202


async def test_links_are_bound_at_the_standby_site_which_accepts_and_sends_nothing(
    store_database: Target, tmp_path: Path
):
    async with scene(store_database, tmp_path, here="denver") as at:
        await at.name_leader()
        assert (await at.send("r1")).status == 202
        status = await (await at.http.get("/status")).json()
        assert status["links"][0]["bound"]
        assert not status["gate"]["may_send"]
        assert (await at.http.get("/live")).status == 503
        assert await at.states() == {"queued": 1}
        assert at.submits() == []


async def test_a_swap_is_told_when_the_window_is_drained(store_database: Target, tmp_path: Path):
    slow = Faults(answer_delay_ms=300, receipts=False)
    async with scene(store_database, tmp_path, faults=slow) as at:
        await at.name_leader()
        await asyncio.gather(*(at.send(f"r{n}") for n in range(20)))
        await eventually(lambda: len(at.submits()) > 0)
        await at.swap(Phase.HELD)

        async def drained() -> bool:
            record = await at.record()
            return record is not None and record.held_for == "s1" and record.unanswered == 0

        await eventually(drained)
        sent = len(at.submits())
        await at.swap(Phase.ROLLED_BACK)

        async def all_submitted() -> bool:
            return await at.states() == {"submitted": 20}

        await eventually(all_submitted)
        await eventually(lambda: len(at.submits()) == 20)
        assert sent <= 20
        assert len({line["id"] for line in at.submits()}) == 20


async def test_a_silent_carrier_leaves_doubt_and_no_second_text(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path, faults=Faults(silent=True, receipts=False)) as at:
        await at.name_leader()
        await at.send("r1")

        async def in_doubt() -> bool:
            return await at.states() == {"in_doubt": 1}

        await eventually(in_doubt)
        assert len(at.submits()) == 1


async def test_throttled_texts_come_round_again(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path, faults=Faults(throttle=True, receipt_delay_ms=5)) as at:
        await at.name_leader()
        await at.send("r1")
        await eventually(lambda: len(at.submits()) > 0)
        at.smsc.behave(Faults(receipt_delay_ms=5))

        async def delivered() -> bool:
            return await at.states() == {"delivered": 1}

        await eventually(delivered)


async def test_an_address_in_use_is_named(store_database: Target, tmp_path: Path):
    chosen = settings(store_database, 9, tmp_path)
    secrets = Secrets(
        tmp_path, {"HOTSITE_SECRET_POSTGRES_DISPATCH": "", "HOTSITE_SECRET_CARRIER_ACME": "secret"}
    )
    etcd = MemoryEtcd(EtcdData(SystemClock()))
    host, _, port = instance(chosen, NAME).listen.rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(SettingsError, match=port):
        await Dispatcher(chosen, secrets, NAME, etcd, SystemClock()).run(asyncio.Event())
    await etcd.aclose()


def test_an_unknown_name_is_refused_with_the_known_ones(store_database: Target, tmp_path: Path):
    with pytest.raises(SettingsError, match=NAME):
        instance(settings(store_database, 9, tmp_path), "denver-7")


async def test_a_site_whose_leader_has_neither_its_key_nor_a_fresh_canary_is_not_live(
    store_database: Target, tmp_path: Path
):
    superuser = await admin(store_database)
    async with scene(store_database, tmp_path) as at:

        async def live_is(status: int) -> None:
            async def seen() -> bool:
                return (await at.http.get("/live")).status == status

            await eventually(seen)

        await superuser.execute("update control.canary set written_at = now() - interval '1 minute'")
        await at.name_leader()
        await live_is(200)  # etcd names it: an agent that was just started again has no canary yet
        await at.etcd.delete(at.settings.prefix + "leader")
        await live_is(503)
        answer = await (await at.http.get("/live")).json()
        assert "fresh canary" in answer["reasons"][0]
        await superuser.execute("update control.canary set written_at = now() + interval '0.5 seconds'")
        await live_is(200)
    await superuser.close()


async def test_the_next_life_tells_what_was_never_written_from_what_may_have_left(
    store_database: Target, tmp_path: Path
):
    identity, journal = f"{NAME}.dead", Journal(tmp_path / "journal", f"{NAME}.dead")
    async with scene(store_database, tmp_path, here="denver") as at:  # which sends nothing
        await at.name_leader()
        for answer in [await at.send(f"r{n}") for n in range(5)]:
            assert answer.status == 202
    store = PostgresStore(await Session.connect(as_role(store_database, "hotsite_dispatch"), timeout=5))
    answered, unanswered, *untouched = await store.claim(TERM, identity, 5, 600.0)  # nobody waits for its end
    journal.begin()
    journal.about_to_write([answered, unanswered], "acme")
    journal.learned(of_answer(answered, "acme", Answer(doubt=False, message_id="77")))
    kill(journal)
    async with scene(store_database, tmp_path) as at:
        await at.name_leader()

        async def settled() -> bool:
            return await at.states() == {"submitted": 1, "in_doubt": 1, "delivered": 3}

        await eventually(settled)
        assert len(at.submits()) == len(untouched)
        assert [file.name for file in journal_files(tmp_path) if "dead" in file.name] == []
    assert journal_files(tmp_path) == []
    await store.aclose()


def kill(journal: Journal) -> None:
    for fd in (journal._fd, journal._lock):
        assert fd is not None
        os.close(fd)
    journal._fd = journal._lock = None


def journal_files(folder: Path) -> list[Path]:
    return sorted((folder / "journal").iterdir())
