"""A dispatcher with several carriers, each a real SMPP server: which text goes where, also when settings change."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from dispatcher.accounts import add_account
from dispatcher.process import Dispatcher
from replication.session import Session, Target
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore as EtcdData
from sitecontrol.records import Leader
from sitecontrol.settings import Secrets, load
from tests.message_store import NODE, TERM, as_role
from tests.ports import free_port
from tests.smpp_scenes import PASSWORD
from tests.smsc_scenes import Scene as Simulator
from tests.smsc_scenes import simulator
from tests.waiting import eventually

NAME = "columbus-1"
OHIO, COLORADO, ENGLAND = "+16145550123", "+13035550123", "+442071838750"
PLACE = """
[site]
name = "columbus"
environment = "lab"
state_dir = "{folder}"
secrets_dir = "/nowhere"

[[place]]
name = "columbus"
nodes = [{{ name = "columbus-a", postgres = "127.0.0.1:{postgres}", agent = "http://127.0.0.1:9" }}]

[[place]]
name = "denver"

[etcd]
endpoints = ["http://127.0.0.1:9"]

[dispatcher]
instances = [{{ name = "columbus-1", listen = "127.0.0.1:{port}" }}]
consent = "assumed"
hold_for = {hold_for}
claim_for = 2.0
"""
CARRIER = """
[[carrier]]
name = "{name}"
address = "127.0.0.1:{port}"
system_id = "hotsite"
reconnect_min = 0.05
reconnect_max = 0.2
response_timeout = 1.0
{more}
"""


@dataclass(kw_only=True)
class Scene:
    file: Path
    database: Target
    listen: int
    simulators: Mapping[str, Simulator]
    dispatcher: Dispatcher
    http: aiohttp.ClientSession
    etcd: MemoryEtcd

    def write(self, carriers: Mapping[str, str], hold_for: float = 2.0) -> None:
        """The settings: these carriers, each with further lines."""
        self.file.write_text(
            text_of(self.file.parent, self.database, self.listen, self.simulators, carriers, hold_for)
        )

    async def reload(self, carriers: Mapping[str, str], **changed: float) -> dict[str, Any]:
        self.write(carriers, **changed)
        return await self.told_again()

    async def told_again(self) -> dict[str, Any]:
        """Have the file read again; what `/status` says of it afterwards."""
        before = await self.config()
        self.dispatcher.reload()

        async def done() -> bool:
            now = await self.config()
            return not now["changing"] and (now["reloads"], now["refused"]) != (
                before["reloads"],
                before["refused"],
            )

        await eventually(done)
        return await self.config()

    async def status(self) -> dict[str, Any]:
        told: dict[str, Any] = await (await self.http.get("/status")).json()
        return told

    async def config(self) -> dict[str, Any]:
        told: dict[str, Any] = (await self.status())["config"]
        return told

    async def send(self, reference: str, to: str = OHIO) -> aiohttp.ClientResponse:
        body = {"program": "outage", "to": to, "body": f"Power is out: {reference}", "reference": reference}
        return await self.http.post("/v1/messages", json=body)

    async def send_many(self, references: Sequence[str], to: str = OHIO) -> None:
        lines = [
            orjson.dumps({"program": "outage", "to": to, "body": f"Power is out: {one}", "reference": one})
            for one in references
        ]
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await self.http.post("/v1/messages/bulk", data=b"\n".join(lines), headers=headers)
        results = [orjson.loads(line) for line in (await answer.read()).splitlines()]
        assert {result["status"] for result in results} == {202}, results[:3]

    async def states(self) -> dict[str, int]:
        queue = (await self.status())["counters"]
        return {name: queue[name] for name in ("accepted", "submitted", "failed", "in_doubt")}

    async def all_submitted(self, texts: int) -> None:
        async def done() -> bool:
            return bool((await self.states())["submitted"] >= texts)

        await eventually(done, within=60)

    def taken(self) -> dict[str, list[str]]:
        """By carrier: the texts that it took, each time."""
        found: dict[str, list[str]] = {}
        for name, one in self.simulators.items():
            lines = one.log.read_bytes().splitlines() if one.log.exists() else []
            told = [orjson.loads(line) for line in lines]
            found[name] = [line["text"] for line in told if not line["status"]]
        return found


def text_of(
    folder: Path,
    database: Target,
    port: int,
    simulators: Mapping[str, Simulator],
    carriers: Mapping[str, str],
    hold_for: float = 2.0,
) -> str:
    place = PLACE.format(folder=folder, postgres=database.port, port=port, hold_for=hold_for)
    told = [
        CARRIER.format(name=name, port=simulators[name].port, more=more) for name, more in carriers.items()
    ]
    return place + "".join(told)


@asynccontextmanager
async def scene(
    database: Target,
    folder: Path,
    carriers: Mapping[str, str],
    *,
    spare: Sequence[str] = (),
    behaviour: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[Scene]:
    """A dispatcher with these carriers; simulators also for the `spare` ones."""
    session = await Session.connect(as_role(database, "hotsite_migrate"), timeout=5)
    account = await add_account(session, name="utility", program="outage", source="72345")
    await session.aclose()
    file, port = folder / "columbus.toml", free_port()
    environ = {"HOTSITE_SECRET_POSTGRES_DISPATCH": ""}
    etcd = MemoryEtcd(EtcdData(SystemClock()))
    async with AsyncExitStack() as stack:
        simulators = {
            name: await stack.enter_async_context(
                simulator(folder / f"{name}.log", **(behaviour or {}).get(name, {}))
            )
            for name in (*carriers, *spare)
        }
        environ |= {f"HOTSITE_SECRET_CARRIER_{name.upper()}": PASSWORD for name in simulators}
        file.write_text(text_of(folder, database, port, simulators, carriers))
        started = Dispatcher(
            load(file),
            Secrets(folder, environ),
            NAME,
            etcd,
            SystemClock(),
            file=file,
            database=database.database,
        )
        stop = asyncio.Event()
        running = asyncio.create_task(started.run(stop))
        headers = {"Authorization": f"Bearer {account.key}"}
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as http:
                await eventually(
                    lambda: running.done() or all(simulators[name].smsc.links for name in carriers)
                )
                leader = Leader(node=NODE, incarnation="i", site="columbus", term=TERM)
                await etcd.put("/hotsite/hotsite/leader", leader.encode(), lease=await etcd.grant(600))

                async def ready() -> bool:
                    return (await http.get("/ready")).status == 200

                await eventually(ready)
                yield Scene(
                    file=file,
                    database=database,
                    listen=port,
                    simulators=simulators,
                    dispatcher=started,
                    http=http,
                    etcd=etcd,
                )
        finally:
            stop.set()
            async with asyncio.timeout(10.0):
                await running
            await etcd.aclose()


def references(count: int, prefix: str = "r") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def once_each(taken: Mapping[str, list[str]], texts: Sequence[str]) -> bool:
    """Whether the carriers together took each of these exactly once."""
    counted = Counter(text for of_one in taken.values() for text in of_one)
    return counted == Counter(f"Power is out: {one}" for one in texts)


# -- which text goes where


async def test_each_text_goes_to_the_carrier_of_its_prefix(store_database: Target, tmp_path: Path):
    told = {"ohio": 'prefixes = ["+1614"]', "rest": 'refused_prefixes = ["+1614"]'}
    async with scene(store_database, tmp_path, told) as at:
        await at.send_many(references(60, "o"), OHIO)
        await at.send_many(references(40, "c"), COLORADO)
        await at.all_submitted(100)
        await eventually(lambda: once_each({"ohio": at.taken()["ohio"]}, references(60, "o")))
        await eventually(lambda: once_each({"rest": at.taken()["rest"]}, references(40, "c")))


async def test_equals_share_by_weight(store_database: Target, tmp_path: Path):
    told = {"three": "weight = 3\nwindow = 1000", "one": "window = 1000"}
    async with scene(store_database, tmp_path, told) as at:
        await at.send_many(references(1_200))
        await at.all_submitted(1_200)
        await eventually(lambda: once_each(at.taken(), references(1_200)))
        taken = at.taken()
        assert 780 <= len(taken["three"]) <= 1_020
        chosen = {one["name"]: one["chosen"] for one in (await at.status())["routing"]["carriers"]}
        assert chosen == {name: len(texts) for name, texts in taken.items()}


async def test_all_goes_to_the_other_carrier_when_one_is_dead(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path, {"dies": "weight = 10", "lives": ""}) as at:
        at.file.write_text(at.file.read_text().replace(f":{at.simulators['dies'].port}", f":{free_port()}"))
        await at.told_again()
        await at.send_many(references(200))
        await at.all_submitted(200)
        await eventually(lambda: once_each({"lives": at.taken()["lives"]}, references(200)))
        state = {one["name"]: one["state"] for one in (await at.status())["routing"]["carriers"]}
        assert state == {"dies": "down", "lives": "up"}


async def test_what_a_throttling_carrier_refuses_goes_out_over_the_other(
    store_database: Target, tmp_path: Path
):
    slow = {"throttled": {"throttle": True}}
    async with scene(
        store_database, tmp_path, {"throttled": "weight = 5", "other": ""}, behaviour=slow
    ) as at:
        await at.send_many(references(100))
        await at.all_submitted(100)
        await eventually(lambda: once_each({"other": at.taken()["other"]}, references(100)))


async def test_a_text_that_no_carrier_may_carry_is_refused_with_the_reasons(
    store_database: Target, tmp_path: Path
):
    told = {"ohio": 'prefixes = ["+1614"]', "bills": 'programs = ["bills"]'}
    async with scene(store_database, tmp_path, told) as at:
        answer = await at.send("r1", ENGLAND)
        assert answer.status == 422
        [error] = (await answer.json())["errors"]
        assert (error["field"], error["value"]) == ("to", ENGLAND)
        assert (
            error["message"] == "no carrier carries this text: ohio: not its prefix; bills: not its program"
        )
        assert (await at.send("r2", OHIO)).status == 202


async def test_a_text_that_was_accepted_waits_for_a_carrier_and_its_repeat_is_answered(
    store_database: Target, tmp_path: Path
):
    """A carrier that is gone from the settings may be back in a minute: nothing fails because of it."""
    async with scene(store_database, tmp_path, {"all": "weight = 0"}) as at:
        accepted = await at.send("r1")
        assert accepted.status == 202
        message = (await accepted.json())["id"]
        await at.reload({"all": 'prefixes = ["+44"]'})
        repeated = await at.send("r1")
        assert (repeated.status, (await repeated.json())["duplicate"]) == (200, True)
        assert (await at.send("r2")).status == 422
        view = await (await at.http.get(f"/v1/messages/{message}")).json()
        assert [(one["carrier"], one["may"], one["reason"]) for one in view["route"]] == [
            ("all", False, "prefix")
        ]
        await at.reload({"all": ""})
        await at.all_submitted(1)
        view = await (await at.http.get(f"/v1/messages/{message}")).json()
        assert "route" not in view


async def test_a_preview_tells_the_route(store_database: Target, tmp_path: Path):
    told = {"ohio": 'prefixes = ["+1614"]', "spare": "priority = 1"}
    async with scene(store_database, tmp_path, told) as at:
        asked = {"body": "Power is out.", "program": "outage"}
        preview = await (await at.http.post("/v1/preview", json=asked | {"to": OHIO})).json()
        assert [(one["carrier"], one["reason"]) for one in preview["route"]] == [
            ("ohio", "may"),
            ("spare", "behind"),
        ]
        preview = await (await at.http.post("/v1/preview", json=asked | {"to": COLORADO})).json()
        assert [(one["carrier"], one["detail"]) for one in preview["route"]] == [
            ("spare", "carries it now"),
            ("ohio", "not its prefix"),
        ]
        assert (await at.http.post("/v1/preview", json=asked)).status == 422
        assert "route" not in await (await at.http.post("/v1/preview", json={"body": "x"})).json()


# -- changed while texts are sent


async def test_a_carrier_is_added_and_another_removed_in_the_middle_of_traffic_and_each_text_goes_out_once(
    store_database: Target, tmp_path: Path
):
    slow = {name: {"answer_delay_ms": 20} for name in ("old", "stays", "new")}
    async with scene(
        store_database,
        tmp_path,
        {"old": "window = 20", "stays": "window = 20"},
        spare=["new"],
        behaviour=slow,
    ) as at:
        sent = references(3_000)
        sending = asyncio.create_task(at.send_many(sent))
        await eventually(lambda: len(at.taken()["old"]) > 100)
        told = await at.reload({"stays": "window = 20", "new": "window = 20"})
        assert told["refused"] is None
        over_old = len(at.taken()["old"])
        await sending
        await at.all_submitted(3_000)
        await eventually(lambda: once_each(at.taken(), sent))
        assert len(at.taken()["old"]) <= over_old + 40  # its log lags a little
        assert len(at.taken()["new"]) > 100
        assert (await at.states())["in_doubt"] == 0
        links = [link["name"] for link in (await at.status())["links"]]
        assert links == ["stays-1", "new-1"]
        assert not at.simulators["old"].smsc.links


async def test_a_carrier_moves_to_another_address_in_the_middle_of_traffic(
    store_database: Target, tmp_path: Path
):
    slow = {name: {"answer_delay_ms": 20} for name in ("acme", "moved")}
    async with scene(
        store_database, tmp_path, {"acme": "window = 20"}, spare=["moved"], behaviour=slow
    ) as at:
        sent = references(1_000)
        sending = asyncio.create_task(at.send_many(sent))
        await eventually(lambda: len(at.taken()["acme"]) > 50)
        ports = f":{at.simulators['acme'].port}", f":{at.simulators['moved'].port}"
        at.file.write_text(at.file.read_text().replace(*ports))
        assert (await at.told_again())["refused"] is None
        await sending
        await at.all_submitted(1_000)
        await eventually(lambda: once_each(at.taken(), sent))
        assert len(at.taken()["moved"]) > 100
        assert not at.simulators["acme"].smsc.links


async def test_a_rate_is_changed_without_touching_the_link(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path, {"acme": "rate = 50.0"}) as at:
        [link] = at.simulators["acme"].smsc.links
        await at.reload({"acme": "rate = 500.0\nweight = 7"})
        status = await at.status()
        assert status["links"][0]["rate"] == 500.0
        assert status["routing"]["carriers"][0]["weight"] == 7
        assert list(at.simulators["acme"].smsc.links) == [link]


async def test_a_wrong_file_is_refused_as_a_whole_and_why_is_told(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path, {"acme": ""}, spare=["new"]) as at:
        told = await at.reload({"acme": "weight = -1", "new": ""})
        [reason] = told["refused"]["reasons"]
        assert reason.startswith(f"{at.file}:")
        assert "carrier[0].weight = -1: must be a whole number, at least 0" in reason
        assert [link["name"] for link in (await at.status())["links"]] == ["acme-1"]
        metrics = await (await at.http.get("/metrics")).text()
        assert "hotsite_dispatcher_settings_refused 1.0" in metrics
        assert (await at.send("r1")).status == 202
        await at.all_submitted(1)
        assert (await at.reload({"acme": "", "new": ""}))["refused"] is None
        await eventually(lambda: at.simulators["new"].smsc.links)


async def test_a_carrier_without_a_password_is_refused_and_the_others_of_the_file_with_it(
    store_database: Target, tmp_path: Path
):
    async with scene(store_database, tmp_path, {"acme": ""}) as at:
        at.file.write_text(at.file.read_text() + CARRIER.format(name="stranger", port=9, more=""))
        told = await at.told_again()
        assert "the secret 'carrier-stranger' is missing" in told["refused"]["reasons"][0]
        assert [one["name"] for one in (await at.status())["routing"]["carriers"]] == ["acme"]


async def test_what_is_read_at_a_start_only_is_named(store_database: Target, tmp_path: Path):
    async with scene(store_database, tmp_path, {"acme": ""}) as at:
        told = await at.reload({"acme": "weight = 2"}, hold_for=3.0)
        assert (told["refused"], told["needs_restart"]) == (None, ["dispatcher.hold_for"])
