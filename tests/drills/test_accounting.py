"""The drill's clients, its stories and its questions afterwards, against dispatchers and a lab that a test plays."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from sitecontrol.drills.accounting import Accounting, Fate
from sitecontrol.drills.carriers import Received
from sitecontrol.drills.client import Client, Door
from sitecontrol.drills.ledger import Ack, Ledger, Text
from sitecontrol.drills.run import unanswered_texts
from sitecontrol.drills.stage import Stage
from sitecontrol.drills.stories import DRILLS
from sitecontrol.drills.traffic import Access
from sitecontrol.drills.watch import Watch, changes

TEXT = Text(reference="r1", to="+12015550100", body="Drill r1")
NOBODY = Door(site="columbus", url="http://127.0.0.1:1")  # where nothing listens


@asynccontextmanager
async def dispatcher(answer: Callable[[web.Request], web.StreamResponse]) -> AsyncIterator[Door]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield Door(site="denver", url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


def accounting(*doors: Door) -> Accounting:
    return Accounting(Access(key="hs_k", program="lab", doors={"denver": (doors,)}))


async def test_a_text_is_looked_up_by_its_reference_and_is_there_or_not() -> None:
    def answer(request: web.Request) -> web.Response:
        assert request.path == "/v1/messages"
        there = [{"id": "m1"}] if request.query["reference"] == "there" else []
        return web.json_response({"messages": there, "next_cursor": None})

    async with dispatcher(answer) as door:
        found = await accounting(NOBODY, door).find(["there", "gone"], within=5)
    assert found == {"there": "m1", "gone": None}


async def test_a_text_that_nobody_can_tell_of_is_left_out_and_never_taken_for_not_accepted() -> None:
    async with dispatcher(lambda _request: web.json_response({"title": "no leader"}, status=503)) as door:
        found = await accounting(NOBODY, door).find(["r"], within=0.1)
    assert found == {}


async def test_many_messages_that_take_long_to_ask_for_once_are_still_asked_for_again() -> None:
    states = ["queued", "delivered"]

    def answer(_request: web.Request) -> web.Response:
        time.sleep(0.15)  # what asking for all of them takes; nothing else runs in this loop
        return web.json_response({"state": states.pop(0), "events": [], "attempts": 1})

    async with dispatcher(answer) as door:
        fates = await accounting(door).settle({"m1": "r1"}, within=0.1)
    assert fates["m1"].state == "delivered"


async def test_many_messages_are_read_page_by_page_and_what_no_page_has_is_asked_for() -> None:
    ids = [f"m{n:03}" for n in range(1, 302)]
    asked = []

    def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        if request.path == "/v1/messages":
            begin = int(request.query.get("cursor", "0"))
            rows = [{"id": i, "state": "delivered", "events": [], "attempts": 1} for i in reversed(ids[1:])]
            older = [{"id": "a", "state": "failed", "events": [], "attempts": 1}] * 500
            page = [*rows, *older][begin : begin + 200]
            return web.json_response({"messages": page, "next_cursor": str(begin + 200)})
        return web.json_response({"title": "not found"}, status=404)

    async with dispatcher(answer) as door:
        fates = await accounting(door).settle({i: f"r{i}" for i in ids}, within=0.1)
    assert {fate.state for fate in fates.values()} == {"delivered", "missing"}
    assert fates["m001"].state == "missing"
    assert fates["m300"].reference == "rm300"
    assert asked[:2] == ["/v1/messages?limit=200", "/v1/messages?limit=200&cursor=200"]
    assert set(asked[2:]) == {"/v1/messages/m001"}


async def test_a_request_without_an_answer_is_kept_and_the_text_goes_to_the_other_site(
    tmp_path: Path,
) -> None:
    def answer(_request: web.Request) -> web.Response:
        return web.json_response({"id": "m1", "term": 1, "durability": "two-site"}, status=202)

    ledger = Ledger(tmp_path / "acks.jsonl")
    async with dispatcher(answer) as far:
        client = Client("columbus", [[NOBODY], [far]], key="hs_k", program="lab", ledger=ledger)
        await client.start()
        assert await client.send(TEXT, within=5)
        await client.stop()
    [broken] = ledger.broken
    assert (broken.url, broken.site, broken.reference) == (NOBODY.url, "columbus", "r1")
    assert broken.error == "ClientConnectorError"
    assert ledger.ids == {"m1": "r1"}
    assert ledger.unanswered == []


async def test_a_text_that_nobody_took_in_time_is_unanswered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "acks.jsonl")
    client = Client("columbus", [[NOBODY], [NOBODY]], key="hs_k", program="lab", ledger=ledger)
    await client.start()
    assert not await client.send(TEXT, within=0.2)
    await client.stop()
    assert ledger.unanswered == ["r1"]


def test_what_is_known_of_an_unanswered_text_comes_from_the_system_and_from_the_carriers(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "acks.jsonl")
    for name in ("told", "accepted", "sent", "unknown"):
        ledger.asked(Text(reference=name, to="+1201", body=name))
    ledger.acknowledge(
        Ack(
            client="c",
            reference="told",
            id="m0",
            asked_at=0,
            t=0,
            wall=0,
            site="denver",
            live_site="denver",
            term=1,
            durability="two-site",
            duplicate=False,
        )
    )
    fate = Fate(id="m1", reference="accepted", state="delivered", was_in_doubt=False, attempts=1)
    received = [Received(wall=0, carrier="aurora", to="1201", text="sent", part=1)]
    found = unanswered_texts(ledger, {"accepted": fate, "sent": None}, received)
    assert [(one.reference, one.known, one.fate, one.at_carrier) for one in found] == [
        ("accepted", True, fate, False),
        ("sent", True, None, True),
        ("unknown", False, None, False),
    ]


class Lab:
    """In place of a lab: two dispatchers a site, and agents that say what they are told to."""

    def __init__(self) -> None:
        self.struck: list[str] = []
        self.words: list[dict] = []
        self.plan = SimpleNamespace(
            sites=("columbus", "denver"),
            dispatchers=lambda site: ((f"{site}-dispatcher-1", 5 if site == "columbus" else 15),),
        )

    async def agents(self) -> dict:
        if not self.words:
            await asyncio.Event().wait()
        return self.words.pop(0)


def stage(lab: Lab) -> Stage:
    return Stage(control=lab, watch=Watch(lab), live_before="columbus", term_before=1)


def test_only_dispatchers_that_the_story_killed_explain_a_broken_connection() -> None:
    told = stage(Lab())
    told.killed |= {"columbus-dispatcher-1", "columbus-etcd"}
    assert told.killed_doors == {"http://127.0.0.1:5"}


def test_the_way_back_counts_from_the_healing_or_from_each_blow_of_a_story_that_heals_nothing() -> None:
    told = stage(Lab())
    told.blows += [10.0, 20.0]
    assert told.fault_at == 10.0
    assert told.back_since == [10.0, 20.0]
    told.healed_at = 30.0
    assert told.back_since == [30.0]


def test_production_is_whole_while_the_live_sites_agent_says_two_site() -> None:
    watch = Watch(Lab())
    live, closed = {"live": True, "durability": "two-site"}, {"live": False, "durability": "two-site"}
    for agents in (
        {"columbus": live, "denver": closed},
        {"columbus": live},
        {"denver": closed},
        {"denver": live | {"durability": "one-site"}},
        {"denver": live},
    ):
        watch._look_at_all(agents)
    assert [whole for _, whole in watch.whole] == [True, False, True]


STEPS = {"decided": 12.0, "connections_ended": 20.5, "postgres_ended": 25.0, "locked_out": 80.0}


def agent(**last_ms: float) -> dict:
    return {"role": "leader", "fencing": {"last_ms": last_ms}}


def test_the_first_fencing_of_a_drill_is_kept_with_its_steps_and_each_is_told_once() -> None:
    watch, old = Watch(Lab()), agent(decided=1.0, postgres_ended=2.0)
    later = agent(**dict.fromkeys(STEPS, 1.0))  # when it comes back, and sees that another leads
    for word in (old, old, agent(decided=12.0), agent(**STEPS), agent(**STEPS), later):
        watch._look("columbus", word)
    assert watch.fencing == {"columbus": STEPS}
    [(_, what, where), (_, another, _)] = watch.events
    assert another.startswith("fenced: decided 1 ms")
    assert where == "columbus"
    assert what.startswith(
        "fenced: decided 12 ms, connections ended 20 ms, postgres ended 25 ms, locked out 80 ms"
    )


def test_a_fencing_from_before_the_drill_is_not_taken_for_one_of_it() -> None:
    watch = Watch(Lab())
    for _ in range(3):
        watch._look("columbus", agent(**STEPS))
    assert watch.fencing == {}
    assert changes(agent(**STEPS), agent(**STEPS)) == []


class Told(Stage):
    """A stage that writes down what a story does, and takes no time."""

    def __init__(self, *, quick: bool = False) -> None:
        lab = Lab()
        super().__init__(control=lab, watch=Watch(lab), live_before="columbus", term_before=1, quick=quick)
        self.done: list[str | float] = []

    async def strike(self, name: str, site: str) -> None:
        self.done.append(name)

    async def steady(self, seconds: float) -> None:
        self.done.append(seconds)

    async def heal(self) -> None:
        self.done.append("heal")


@pytest.mark.parametrize(("how", "away"), [({}, 60), ({"quick": True}, 15)])
async def test_all_of_etcd_is_lost_for_a_minute_unless_a_shorter_run_was_asked_for(
    how: dict, away: float
) -> None:
    told = Told(**how)
    await DRILLS["etcd-quorum-loss"].story(told, "columbus")
    assert told.done[told.done.index("etcd-loss") :][:3] == ["etcd-loss", away, "heal"]


@pytest.mark.parametrize("name", ["postgres-crash", "dispatcher-crash"])
async def test_what_comes_back_by_itself_is_not_mended(name: str) -> None:
    told = Told()
    await DRILLS[name].story(told, "columbus")
    assert "heal" not in told.done
