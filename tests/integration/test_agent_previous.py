"""An agent of the version before this one beside one of this: as while a system is upgraded, site by site.

Denver runs the older one. Neither takes what the other writes for garbage; production goes from each to the other and
back, and each takes over when the other is lost.
"""

from collections.abc import Iterator

import pytest

from tests.agents import LEASE_TTL, SITES, Pair, run_pair
from tests.integration.test_agent_swap import swap
from tests.postgres import short_folder
from tests.previous_version import put_previous_version
from tests.sites import Site

pytestmark = pytest.mark.long

LOOKS = 5  # times that each agent tells of its node, once a second
STAY = ("initialize", "term", "leader", "sync", "swap", "desired", "audit-head")


@pytest.fixture(scope="module")
def agents() -> Iterator[Pair]:
    with short_folder("hotsite-old-") as folder:
        put_previous_version(folder)
        with run_pair(lease_ttl=LEASE_TTL) as made:
            made.denver.program = folder
            yield made


async def lead(pair: Pair, wanted: Site) -> int:
    """The term in which that site leads, perhaps after a swap."""
    leader, other, term = await pair.leads()
    if leader is wanted:
        return term
    await swap(pair, leader, other)
    return (await pair.leads())[2]


async def written(pair: Pair) -> dict[str, int]:
    """Key → the revision of its last write."""
    async with pair.keys() as etcd:
        answer = await etcd.get_prefix(pair.prefix)
    return {kv.key.removeprefix(pair.prefix): kv.mod_revision for kv in answer.kvs}


async def test_a_swap_from_this_version_to_the_one_before_and_back_keeps_every_message(pair: Pair):
    term = await lead(pair, pair.columbus)
    number, label = await pair.write_at(pair.columbus, term)
    assert label == "two-site"
    await swap(pair, pair.columbus, pair.denver)
    later, label = await pair.write_at(pair.denver, term + 1)
    assert label == "two-site"
    await swap(pair, pair.denver, pair.columbus)
    assert [await pair.columbus.has(n) for n in (number, later)] == [True, True]
    assert (await pair.leads())[::2] == (pair.columbus, term + 2)


@pytest.mark.parametrize("leads", SITES, ids=["this-one-leads", "the-one-before-leads"])
async def test_neither_writes_over_what_the_other_wrote_nor_takes_it_for_bad(pair: Pair, leads: str):
    await lead(pair, pair.site(leads))
    before = await written(pair)
    words: dict[str, set[int]] = {f"members/{site.node}": set() for site in pair.sites}

    async def told() -> bool:
        now = await written(pair)
        for key, seen in words.items():
            seen.add(now[key])
        return all(len(seen) > LOOKS for seen in words.values())

    await pair.until(told, f"each agent has told of its node {LOOKS} times")
    after = await written(pair)
    assert {key: after.get(key) for key in STAY} == {key: before.get(key) for key in STAY}
    assert {key for key in after if key.startswith(("audit/", "history/"))} == {
        key for key in before if key.startswith(("audit/", "history/"))
    }
    assert [(await site.status())["bad_records"] for site in pair.sites] == [{}, {}]


@pytest.mark.parametrize("leads", SITES, ids=["this-one-is-lost", "the-one-before-is-lost"])
async def test_when_the_leader_of_one_version_is_lost_the_other_takes_over_and_it_comes_back(
    pair: Pair, leads: str
):
    lost = pair.site(leads)
    term = await lead(pair, lost)
    number, label = await pair.write_at(lost, term)
    assert label == "two-site"
    await lost.end()
    other = pair.other(lost)
    later = await pair.until_leads(other, above=term)
    assert await other.has(number)
    await pair.write_at(other, later)
    await pair.heal()
    assert await lost.has(number)
    assert await pair.lost() == set()
