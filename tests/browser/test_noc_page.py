"""The NOC page in a real browser: live without flicker, honest when it is not, usable at every width."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from healthcheck.noc.feed import Feed
from healthcheck.noc.pages import Pages, harden
from healthcheck.noc.render import Renderer
from healthcheck.noc.scene import Scene
from sitecontrol.clock import SystemClock
from sitecontrol.records import Phase
from tests.browser.chromium import Page, browser
from tests.noc_server import serving
from tests.unit.health_scenes import HISTORY, UNDER_WORK, Stage, snapshot_of, troubled, wanted

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>alert(1)</script>"


class Noc:
    """The page over a scene that the test chooses."""

    def __init__(self) -> None:
        self.scene: Scene = Stage(history=HISTORY).scene()
        self.news = asyncio.Event()
        self.url = ""

    def show(self, stage: Stage) -> None:
        self.scene = stage.scene()
        self.news.set()


@asynccontextmanager
async def serving_noc(noc: Noc) -> AsyncIterator[str]:
    clock, renderer = SystemClock(), Renderer()
    feed = Feed(lambda: noc.scene, renderer, clock, noc.news)
    app = web.Application()
    app.on_response_prepare.append(harden)
    Pages(feed, renderer, noc.scene.settings, clock).register(app)
    task = asyncio.create_task(feed.run())
    try:
        async with serving(app) as url:
            yield url
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def noc() -> AsyncIterator[Noc]:
    found = Noc()
    async with serving_noc(found) as url:
        found.url = url
        yield found


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with browser() as found:
        yield found


LIVE = "document.getElementById('link').dataset.link === 'live'"


async def test_it_is_live_and_nothing_is_complained_of(noc: Noc, page: Page) -> None:
    await page.open(noc.url)
    await page.until(LIVE)
    assert await page.js("document.querySelector('.giant').textContent") == "Columbus"
    assert page.errors == []


async def test_a_change_arrives_by_itself_and_touches_only_what_changed(noc: Noc, page: Page) -> None:
    await page.open(noc.url)
    await page.until(LIVE)
    await page.js("window.before = document.querySelector('.giant'); before.mine = true; 1")
    noc.show(Stage(leader="denver", snapshot=snapshot_of("denver"), history=HISTORY))
    await page.until("document.querySelector('.giant').textContent === 'Denver'")
    assert await page.js("document.querySelector('.giant') === window.before && window.before.mine")
    assert "Denver live" in await page.js("document.title")
    assert "Denver live" in await page.js("document.getElementById('headline').textContent")


async def test_an_open_explanation_stays_open_while_the_panel_is_renewed(noc: Noc, page: Page) -> None:
    noc.show(Stage(bad={"carrier/alto": "connection refused"}))
    await page.open(noc.url)
    await page.until(LIVE)
    await page.js("document.querySelector('.panel-probes details').open = true")
    noc.show(Stage(bad={"carrier/alto": "no route to host"}))
    await page.until("document.querySelector('.panel-probes').textContent.includes('no route to host')")
    assert await page.js("document.querySelector('.panel-probes details').open")


async def test_what_is_no_longer_live_says_so(page: Page) -> None:
    noc = Noc()
    async with serving_noc(noc) as url:
        await page.open(url)
        await page.until(LIVE)
        assert await page.js("document.getElementById('stale').hidden")
    await page.until("!document.getElementById('stale').hidden")
    assert "hears nothing" in await page.js("document.getElementById('stale').textContent")
    assert await page.js("document.getElementById('link-word').textContent") == "not live"


async def test_hostile_words_run_nothing(noc: Noc, page: Page) -> None:
    reports = troubled()
    reports["agent/columbus-a"]["traffic"][0]["reason"] = HOSTILE
    reports["agent/columbus-a"]["if_lost"]["in_the_way"] = [HOSTILE]
    noc.show(Stage(reports=reports, bad={"carrier/alto": HOSTILE}, silent={"link/denver-1": HOSTILE}))
    await page.open(noc.url)
    await page.until(LIVE)
    noc.show(Stage(bad={"carrier/": HOSTILE}))  # and again, by an event
    await page.until("document.querySelector('.panel-probes').textContent.split('onerror').length > 10")
    assert await page.js("document.title") != "taken"
    assert await page.js("document.querySelectorAll('main img, main script').length") == 0
    assert page.errors == []


async def test_without_javascript_everything_is_there(noc: Noc, page: Page) -> None:
    await page.open(noc.url, scripts=False)
    shown: Any = await page.call("DOM.getDocument", depth=-1)
    tree = str(shown)
    for word in ("Columbus", "two sites", "denver-a would lead", "rehearsal", "columbus-1"):
        assert word in tree


async def test_the_wall_needs_no_scrolling(noc: Noc, page: Page) -> None:
    dead = (
        "agent/denver",
        "postgres/denver",
        "dispatcher/denver",
        "healthcheck/denver",
        "etcd-member/etcd-denver",
    )
    for stage in (
        Stage(history=HISTORY),
        Stage(history=HISTORY, snapshot=snapshot_of("columbus", swap=Phase.HELD)),
        Stage(snapshot=snapshot_of("columbus", in_step=False), bad=dict.fromkeys(dead, "connection refused")),
    ):
        noc.show(stage)
        await page.open(f"{noc.url}/?kiosk", width=1920, height=1080)
        await page.until(LIVE)
        assert await page.js("document.documentElement.scrollHeight <= innerHeight")
        assert await page.js(
            "document.querySelector('.panel-swaps').getBoundingClientRect().bottom <= innerHeight"
        )


async def test_no_width_scrolls_sideways(noc: Noc, page: Page) -> None:
    troubles = wanted(snapshot_of(in_step=False), UNDER_WORK)
    for stage in (
        Stage(history=HISTORY, bad={"carrier/alto": "x" * 290}),
        Stage(history=HISTORY, snapshot=troubles, reports=troubled()),
    ):
        noc.show(stage)
        for width in (360, 412, 768, 1024, 1440, 2560):
            await page.open(noc.url, width=width, height=900)
            await page.until(LIVE)
            assert await page.js("document.documentElement.scrollWidth <= innerWidth"), width


TOPS = "[...document.querySelectorAll('.panel')].map((panel) => panel.getBoundingClientRect().top)"


async def test_a_swap_that_comes_passes_and_goes_moves_no_panel(noc: Noc, page: Page) -> None:
    await page.open(noc.url)
    await page.until(LIVE)
    before = await page.js(TOPS)
    for phase in (Phase.REQUESTED, Phase.HELD, Phase.HANDED, Phase.OPENED):
        noc.show(Stage(history=HISTORY, snapshot=snapshot_of(swap=phase)))
        await page.until(f"document.querySelector('.step-now')?.textContent === '{phase.value}'")
        assert await page.js(TOPS) == before, phase
    noc.show(Stage(history=HISTORY))
    await page.until("document.querySelector('.swap.idle') !== null")
    assert await page.js(TOPS) == before


async def test_what_waits_for_an_operator_arrives_by_itself_with_word_and_shape(noc: Noc, page: Page) -> None:
    await page.open(noc.url, width=400)
    await page.until(LIVE)
    panel = "document.querySelector('.panel-operations')"
    assert "nothing" in await page.js(f"{panel}.textContent")
    noc.show(Stage(snapshot=wanted(snapshot_of(), UNDER_WORK), reports=troubled()))
    await page.until(f"{panel}.textContent.includes('17 rows in 2 files')")
    told = await page.js(f"{panel}.textContent")
    for words in ("paused", "until 14 Mar 17:09:26", "differ", "refused the update: NOTAUTH"):
        assert words in told
    assert await page.js(f"[...{panel}.querySelectorAll('.v')].every((v) => v.querySelector('svg use'))")
    assert "nobody could take the lead" in await page.js(
        "document.querySelector('.panel-overview').textContent"
    )


async def test_the_phases_of_past_swaps_are_seen_with_nothing_to_open(noc: Noc, page: Page) -> None:
    await page.open(noc.url)
    await page.until(LIVE)
    assert await page.js("document.querySelector('.took').checkVisibility()")
    told = await page.js("document.querySelector('.took').innerText.replace(/\\s+/g, ' ')")
    assert told == "held 210 ms flushed 90 ms promoted 110 ms opened 40 ms in all 450 ms"


async def test_the_keys_turn_the_theme_and_jump_to_panels(noc: Noc, page: Page) -> None:
    await page.open(noc.url)
    await page.until(LIVE)
    before = await page.js("getComputedStyle(document.body).color")
    await page.press("t")
    assert await page.js("getComputedStyle(document.body).color") != before
    await page.press("4")
    assert await page.js("document.activeElement.id") == "panel-queue"
