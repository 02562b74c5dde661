"""Swaps by health on real nodes: what three places publish in a real etcd moves production, or does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from sitecontrol.etcd.client import GrpcEtcd
from sitecontrol.records import Observation
from tests.agents import Pair
from tests.sites import TOKEN, Site

# An hour's budget of one: what follows a swap is held back until an operator acknowledges.
FAILOVER = """
unfit_for = 2.0
swap_cool_down = 300.0
max_swaps_per_hour = 1
"""
PLACES = ("columbus", "denver", "witness")
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
UNBOUND = "no carrier link is bound"


class Observers:
    """Publishes as three health daemons do: each word under a lease of its own, written anew when it changes."""

    def __init__(self, etcd: GrpcEtcd, prefix: str) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._leases: dict[str, int] = {}

    async def begin(self) -> None:
        for place in PLACES:
            self._leases[place] = await self._etcd.grant(60)
            await self.says(place)

    async def end(self) -> None:
        for lease in self._leases.values():
            await self._etcd.revoke(lease)

    async def says(self, place: str, *, unfit: Site | None = None, blind: bool = False) -> None:
        """All sites are fit from there, but this one."""
        fit = {site: unfit is None or site != unfit.name for site in ("columbus", "denver")}
        reasons = {} if unfit is None else {unfit.name: (UNBOUND,)}
        record = Observation(place=place, at=datetime.now(UTC), blind=blind, fit=fit, reasons=reasons)
        await self._etcd.put(
            f"{self._prefix}observations/{place}", record.encode(), lease=self._leases[place]
        )

    async def all_say(self, unfit: Site | None) -> None:
        for place in PLACES:
            await self.says(place, unfit=unfit)


@asynccontextmanager
async def observing(pair: Pair) -> AsyncIterator[Observers]:
    async with pair.keys() as etcd:
        observers = Observers(etcd, pair.prefix)
        await observers.begin()
        try:
            yield observers
        finally:
            await observers.end()


@pytest.fixture
async def observers(pair: Pair) -> AsyncIterator[Observers]:
    """Three places that see everything fit, and an operator who has acknowledged what was before."""
    await act(pair.columbus, "/resume", {})
    async with observing(pair) as found:
        yield found


async def act(site: Site, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return await site.ask(path, json={"by": "ann", **body}, headers=OPERATOR)


async def considered(site: Site) -> dict[str, Any]:
    return dict((await site.status())["health"])


async def until_health(pair: Pair, site: Site, rule: str) -> dict[str, Any]:
    """What the agent tells once this row holds."""

    async def told() -> dict[str, Any]:
        health = await considered(site)
        return health if health["decision"]["rule"] == rule else {}

    return dict(await pair.until(told, f"{site.node}'s health lane decides {rule}"))


async def until_moved(pair: Pair, to: Site, above: int) -> int:
    term = await pair.until_leads(to, above=above)
    await pair.until_two_site()
    return term


async def test_two_places_move_production_once_and_the_history_keeps_who_saw_what(
    pair: Pair, observers: Observers
):
    home, away, term = await pair.leads()
    number, _ = await pair.write_at(home, term)
    await observers.says(home.name, unfit=home)
    await observers.says("witness", unfit=home)
    assert await until_moved(pair, away, term) == term + 1
    assert await away.has(number)

    (told,) = [e for e in await pair.history() if e["term"] == term + 1]
    assert (told["kind"], told["by"]) == ("swap", f"health, agent {home.node}")
    assert "2 of 3 places see" in told["reason"]
    assert told["evidence"]["rule"] == "health-swap"
    assert told["evidence"]["seen by witness"] == f"unfit: {UNBOUND}"
    assert told["evidence"][f"seen by {away.name}"] == "fit"

    # The site that was left is unfit still, and the one that leads is fit: nothing moves back, nothing moves on.
    assert (await until_health(pair, away, "live-fit"))["live_site"] == away.name
    assert (await pair.leads())[::2] == (away, term + 1)


async def test_a_cut_between_the_sites_and_a_blind_place_move_nothing_until_a_second_place_sees_it(
    pair: Pair, observers: Observers
):
    home, away, term = await pair.leads()
    await observers.says(away.name, unfit=home)
    await observers.says("witness", unfit=home, blind=True)
    told = await until_health(pair, home, "too-few")
    await asyncio.sleep(3 * told["unfit_for_s"])  # that nothing happens has no signal
    told = await until_health(pair, home, "too-few")
    assert {vote["place"]: vote["word"] for vote in told["votes"]} == {
        home.name: "fit",
        away.name: "unfit",
        "witness": "blind",
    }
    assert (await pair.leads())[::2] == (home, term)
    await observers.says("witness", unfit=home)
    assert await until_moved(pair, away, term) == term + 1


async def test_agents_that_were_restarted_know_the_limit_and_an_operators_resume_lets_health_go_on(
    pair: Pair, observers: Observers
):
    home, away, term = await pair.leads()
    await observers.all_say(home)
    term = await until_moved(pair, away, term)
    for site in pair.sites:
        site.kill()
        site.start()
    await pair.until_two_site()
    leader, other, term = await pair.leads()
    await observers.all_say(leader)
    for site in pair.sites:
        told = await until_health(pair, site, "limit-reached")
        assert (told["swaps_within_hour"], told["max_swaps_per_hour"]) == (1, 1)
    assert (await pair.leads())[::2] == (leader, term)
    assert (await act(leader, "/resume", {"reason": "seen"}))[0] == 200
    await until_moved(pair, other, term)


async def test_a_site_in_maintenance_is_neither_left_by_health_nor_moved_to_and_an_operator_is_told_why(
    pair: Pair, observers: Observers
):
    home, away, term = await pair.leads()
    body = {"site": away.name, "for_s": 3_600, "reason": "a new router"}
    assert (await act(home, "/maintenance/begin", body))[0] == 200

    async def announced() -> bool:
        (_, first), (_, second) = [await site.ask("/cluster") for site in pair.sites]
        return [w["site"] for w in first["maintenance"]] == [away.name] and bool(second["maintenance"])

    await pair.until(announced, "both agents tell of the maintenance")
    status, answer = await home.swap(away)
    assert status == 409
    assert f"{away.name} is in maintenance until" in answer["detail"]
    assert "by ann: a new router" in answer["detail"]

    await observers.all_say(home)
    await until_health(pair, home, "target-in-maintenance")
    assert (await act(home, "/maintenance/begin", {**body, "site": home.name}))[0] == 200
    await until_health(pair, home, "live-in-maintenance")
    assert (await act(away, "/maintenance/end", {"site": home.name}))[0] == 200
    await until_health(pair, home, "target-in-maintenance")
    assert (await pair.leads())[::2] == (home, term)
    assert (await act(away, "/maintenance/end", {"site": away.name}))[0] == 200
    await until_moved(pair, away, term)


async def test_a_maintenance_that_cannot_be_is_refused_with_the_reason(pair: Pair):
    leader, _, _ = await pair.leads()
    good = {"site": "denver", "for_s": 60, "reason": "a router"}
    assert (await leader.ask("/maintenance/begin", json=good))[0] == 401
    for wrong in ({"site": "witness"}, {"for_s": 0}, {"for_s": 10**9}, {"reason": " "}, {"site": "no site"}):
        status, answer = await act(leader, "/maintenance/begin", {**good, **wrong})
        assert status == 422, answer
    status, answer = await act(leader, "/maintenance/end", {"site": "denver"})
    assert (status, answer["obstacles"]) == (
        409,
        ["no maintenance is announced for 'denver': there is none to end"],
    )
    assert (await leader.ask("/cluster"))[1]["maintenance"] == []
