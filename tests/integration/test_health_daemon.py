"""The daemon against a real etcd, and its pages over real HTTP."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from healthcheck.daemon import Daemon
from healthcheck.noc.panels import PANELS
from healthcheck.targets import What
from healthcheck.verdicts import Verdict
from sitecontrol.records import Observation
from tests.etcd import Cluster, run_cluster
from tests.noc_server import Neighbours, fill, running_daemon, serving, settings_at


@dataclass
class Bench:
    daemon: Daemon
    url: str
    neighbours: Neighbours
    http: aiohttp.ClientSession
    prefix: str

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def panel(self, name: str) -> Any:
        return json.loads((await self.get(f"/api/{name}"))[1])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Ask again at each look of the daemon until `condition` holds."""
        async with asyncio.timeout(20):
            while not condition():
                await self.neighbours.asked_again(self.neighbours.asked)

    def settled(self) -> bool:
        """Whether everything was seen; the canary never is without a database, and carriers take their time."""
        slow = {What.CANARY, What.CARRIER}
        rows = [row for row in self.daemon.board.rows() if row.target.what not in slow]
        return not self.daemon.reasons() and all(r.standing.verdict is not Verdict.UNKNOWN for r in rows)

    def verdict(self, target: str) -> Verdict:
        row = self.daemon.board.row(target)
        assert row is not None
        return row.standing.verdict


@asynccontextmanager
async def open_bench(etcd: Any, folder: Path, cluster: str) -> AsyncIterator[Bench]:
    neighbours = Neighbours()
    async with serving(neighbours.app()) as url, aiohttp.ClientSession() as http:
        settings = settings_at(url, folder, cluster=cluster)
        await fill(etcd, settings.prefix)
        async with running_daemon(settings, etcd) as (daemon, page):
            bench = Bench(daemon, page, neighbours, http, settings.prefix)
            await bench.until(bench.settled)
            yield bench


@pytest.fixture
async def bench(etcd_member: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    etcd = etcd_member.client()
    name = "t" + re.sub(r"[^a-z0-9]", "", request.node.name.lower())[-30:]
    async with open_bench(etcd, tmp_path, name) as bench:
        yield bench
    await etcd.aclose()


async def test_the_page_shows_who_is_live(bench: Bench) -> None:
    status, page = await bench.get("/")
    assert status == 200
    assert '<p class="giant">Columbus</p>' in page
    assert "denver-a would" in page


async def test_the_observation_is_in_etcd(bench: Bench, etcd_member: Cluster) -> None:
    etcd = etcd_member.client()
    kv = (await etcd.get(bench.prefix + "observations/columbus")).one
    await etcd.aclose()
    assert kv is not None
    assert kv.lease != 0
    observation = Observation.decode(kv.value)
    assert observation.place == "columbus"
    assert not observation.blind


async def test_a_verdict_falls_and_rises_with_what_it_looks_at(bench: Bench) -> None:
    bench.neighbours.broken.add("denver-2")
    await bench.until(lambda: bench.verdict("dispatcher/denver-2") is Verdict.DOWN)
    assert bench.verdict("link/denver-2/alto") in {Verdict.UP, Verdict.UNKNOWN}
    bench.neighbours.broken.clear()
    await bench.until(lambda: bench.verdict("dispatcher/denver-2") is Verdict.UP)


async def test_a_dead_dispatcher_makes_its_links_unknown_and_not_down(bench: Bench) -> None:
    bench.neighbours.broken.add("denver-2")
    await bench.until(lambda: bench.verdict("link/denver-2/alto") is Verdict.UNKNOWN)
    assert bench.verdict("link/denver-1/alto") is Verdict.UP


@pytest.mark.parametrize("panel", PANELS)
async def test_each_panel_is_there_as_json(bench: Bench, panel: str) -> None:
    data = await bench.panel(panel)
    assert "at" in data


async def test_an_unknown_panel_is_a_problem_that_names_the_known_ones(bench: Bench) -> None:
    status, text = await bench.get("/api/nonsense")
    assert status == 404
    assert "overview" in json.loads(text)["detail"]


async def test_the_health_endpoints_answer(bench: Bench) -> None:
    assert (await bench.get("/health"))[0] == 200
    assert (await bench.get("/ready"))[0] == 200
    assert (await bench.get("/live"))[0] == 200
    assert (await bench.get("/standby"))[0] == 503
    status = json.loads((await bench.get("/status"))[1])
    assert status["place"] == "columbus"
    assert status["overview"]["live"]["site"] == "columbus"


async def test_the_metrics_have_prometheus_names(bench: Bench) -> None:
    text = (await bench.get("/metrics"))[1]
    assert 'hotsite_probe_up{kind="http",target="agent/denver-a"} 1.0' in text
    assert 'hotsite_probe_up{kind="postgres",target="postgres/denver-a"} 0.0' in text
    assert 'hotsite_site_live{site="columbus"} 1.0' in text
    assert "hotsite_probe_latency_seconds{" in text
    assert "hotsite_term 4.0" in text
    assert "process_open_fds" in text


async def test_every_answer_carries_the_strict_policy(bench: Bench) -> None:
    for path in ("/", "/static/noc.js", "/api/overview", "/badge/live.svg", "/nonsense"):
        async with bench.http.get(bench.url + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../daemon.py",
        "/static/%2e%2e/pages.py",
        "/badge/%3Cscript%3E.svg",
        "/api/%00",
        "/?theme=%22%3E%3Cscript%3E",
    ],
)
async def test_no_address_leads_out_or_is_echoed(bench: Bench, path: str) -> None:
    async with bench.http.get(bench.url + path) as answer:
        text = await answer.text()
    assert "import " not in text
    assert '"><script>' not in text
    assert answer.status < 500


# ---- server-sent events ------------------------------------------------------------------------------------------


class Events:
    """Reads a stream of events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.last_id = ""

    async def next(self) -> tuple[str, Any]:
        kind, data = "message", None
        while True:
            line = (await self._answer.content.readline()).decode().rstrip("\n")
            field, _, value = line.partition(": ")
            if field == "event":
                kind = value
            elif field == "id":
                self.last_id = value
            elif field == "data":
                data = json.loads(value)
            elif not line and data is not None:
                return kind, data

    async def panels_until_tick(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while True:
            kind, data = await self.next()
            if kind == "tick":
                return found
            found[data["panel"]] = data["html"]


async def test_events_bring_every_panel_first_and_then_only_what_changed(bench: Bench) -> None:
    async with bench.http.get(bench.url + "/events") as answer, asyncio.timeout(20):
        assert answer.content_type == "text/event-stream"
        events = Events(answer)
        assert set(await events.panels_until_tick()) == set(PANELS)
        bench.neighbours.broken.add("denver-2")
        while "attention" not in (later := await events.panels_until_tick()):
            assert "swaps" not in later
        assert "dispatcher/denver-2" in later["attention"]


async def test_a_watcher_comes_back_where_it_was(bench: Bench) -> None:
    async with bench.http.get(bench.url + "/events") as answer, asyncio.timeout(20):
        events = Events(answer)
        before = await events.panels_until_tick()
    headers = {"Last-Event-ID": events.last_id}
    async with bench.http.get(bench.url + "/events", headers=headers) as answer, asyncio.timeout(20):
        later = await Events(answer).panels_until_tick()
    # Any panel may have changed in between, but none comes again as it was.
    assert "swaps" not in later
    assert all(html != before[panel] for panel, html in later.items())


async def test_a_watcher_with_a_strange_id_gets_everything(bench: Bench) -> None:
    headers = {"Last-Event-ID": "' OR 1=1 --"}
    async with bench.http.get(bench.url + "/events", headers=headers) as answer, asyncio.timeout(20):
        assert set(await Events(answer).panels_until_tick()) == set(PANELS)


async def test_a_watcher_that_has_gone_is_forgotten(bench: Bench) -> None:
    async with bench.http.get(bench.url + "/events") as answer, asyncio.timeout(20):
        await Events(answer).panels_until_tick()
        assert bench.daemon.feed.watchers == 1
    await bench.until(lambda: bench.daemon.feed.watchers == 0)


# ---- etcd away -----------------------------------------------------------------------------------------------------


async def test_the_page_works_on_without_etcd_and_publishes_again_on_its_return(tmp_path: Path) -> None:
    with run_cluster(["etcd-columbus"]) as cluster:
        etcd = cluster.client()
        async with open_bench(etcd, tmp_path, "away") as bench:
            cluster.members[0].kill()
            await bench.until(lambda: not bench.daemon.scene().etcd_answers)
            overview = await bench.panel("overview")
            assert overview["live"]["site"] == "columbus"  # by the agents' word
            assert "etcd does not answer" in (await bench.get("/"))[1]
            assert not overview["if_lost"]["covered"]
            swaps = await bench.panel("swaps")
            assert len(swaps["swaps"]) == 4  # kept
            await bench.until(lambda: "the observation is not published" in bench.daemon.reasons())
            assert (await bench.get("/health"))[0] == 200
            assert (await bench.get("/ready"))[0] == 503
            cluster.members[0].start()
            await bench.until(lambda: bench.daemon.scene().etcd_answers and not bench.daemon.reasons())
        await etcd.aclose()
