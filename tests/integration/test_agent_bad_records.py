"""Whatever anybody writes under the cluster's keys in etcd: the leader serves on, and writes over what is its own."""

import shutil
from datetime import UTC, datetime

import pytest

from sitecontrol.records import Initialize, Leader, Phase, Swap, Sync, Term
from tests.agents import Pair, steady_writing
from tests.ports import free_ports
from tests.sites import TOKEN, Site

GARBAGE = b"\x00garbage"
KEYS = ("term", "leader", "sync", "swap", "initialize", "members/columbus-a", "members/denver-a")
MENDED = ("reached", "desired")  # by the leader, like most of those above
STAYS = ("dispatchers/nobody", "observations/witness", "history/0000000001-nobody")  # until it is deleted
LOG = ("audit/nobody", "audit-head")  # of the audit log, which is looked at when somebody asks for it
NO_KEY = ("nobody", "\u00fc/\x7f")  # of ours
LONG = 600  # seconds of a lease that is nobody's
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


async def test_nothing_that_does_not_decode_closes_the_live_site(pair: Pair):
    leader, _, term = await pair.leads()
    fenced = len(leader.events("fencing"))
    async with steady_writing(pair, leader, term), pair.keys() as etcd:
        for key in KEYS:
            at = await etcd.put(pair.prefix + key, GARBAGE)

            async def mended(key: str = key, at: int = at) -> bool:
                kv = (await etcd.get(pair.prefix + key)).one
                assert (await leader.status())["live"]
                return kv is None or (kv.mod_revision > at and kv.value != GARBAGE)

            await pair.until(mended, f"{key} is written over")
    assert (await pair.leads())[::2] == (leader, term)
    assert len(leader.events("fencing")) == fenced
    named = {event["key"] for event in leader.events("bad_record")}
    assert set(KEYS) <= named

    async def believed() -> bool:
        return not any([(await site.status())["bad_records"] for site in pair.sites])

    await pair.until(believed, "everything in etcd is believed again")


async def test_garbage_under_any_other_key_is_named_and_neither_stops_the_service_nor_a_swap(pair: Pair):
    leader, standby, term = await pair.leads()
    for path in ("/pause", "/resume"):  # `desired` is there to be spoilt
        assert (await leader.ask(path, json={"reason": "a test", "by": "tester"}, headers=OPERATOR))[0] == 200
    others = (*MENDED, *STAYS, *LOG, *NO_KEY)
    async with pair.keys() as etcd:
        try:
            async with steady_writing(pair, leader, term):
                for key in others:
                    await etcd.put(pair.prefix + key, GARBAGE)

                async def settled() -> bool:
                    mended = [(await etcd.get(pair.prefix + key)).one for key in MENDED]
                    named = (await leader.status())["bad_records"]
                    return all(kv is not None and kv.value != GARBAGE for kv in mended) and set(named) == set(
                        STAYS
                    )

                await pair.until(settled, "what is the leader's is written over, and the rest is named")
                flawed = {flaw["key"] for flaw in (await leader.ask("/audit"))[1]["flaws"]}
            assert "audit/nobody" in flawed
            assert (await pair.leads())[::2] == (leader, term)
            assert (await leader.swap(standby))[0] == 202
            await pair.until_leads(standby, above=term)
        finally:
            for key in others:
                if key not in (*MENDED, "audit-head"):
                    await etcd.delete(pair.prefix + key)


@pytest.mark.parametrize("lease", ["none", "nobody's"])
async def test_a_forged_leader_fences_nobody(pair: Pair, lease: str):
    leader, standby, term = await pair.leads()
    fenced = len(leader.events("fencing"))
    forged = Leader(node=standby.node, incarnation="forged", site=standby.name, term=term + 1)
    async with steady_writing(pair, leader, term), pair.keys() as etcd:
        bound = await etcd.grant(LONG) if lease == "nobody's" else 0
        at = await etcd.put(pair.prefix + "leader", forged.encode(), lease=bound)

        async def mended() -> bool:
            kv = (await etcd.get(pair.prefix + "leader")).one
            return kv is not None and kv.mod_revision > at and b"forged" not in kv.value

        await pair.until(mended, "`leader` names the leader again")
    assert (await pair.leads())[::2] == (leader, term)
    assert len(leader.events("fencing")) == fenced


@pytest.mark.parametrize(
    ("key", "forged"),
    [
        ("term", Term(term=77)),
        ("sync", Sync(term=9_000, leader="denver-a", leader_incarnation="forged")),
        ("initialize", Initialize(system_id="12345")),
    ],
    ids=["a-term-to-come", "another-ones-sync", "another-clusters-identifier"],
)
async def test_a_record_that_contradicts_the_others_is_written_over(pair: Pair, key: str, forged: Term):
    leader, _, term = await pair.leads()
    before = (await pair.read_keys())[key]
    async with steady_writing(pair, leader, term), pair.keys() as etcd:
        at = await etcd.put(pair.prefix + key, forged.encode())

        async def mended() -> bool:
            kv = (await etcd.get(pair.prefix + key)).one
            return kv is not None and kv.mod_revision > at

        await pair.until(mended, f"{key} is written over")
    after = (await pair.read_keys())[key]
    assert {**after, "serial": 0} == {**before, "serial": 0}
    assert (await pair.leads())[::2] == (leader, term)


@pytest.mark.parametrize("phase", [Phase.HANDED, Phase.FOLLOWING])
async def test_a_forged_swap_that_says_it_was_handed_over_moves_nothing(pair: Pair, phase: Phase):
    leader, standby, term = await pair.leads()
    forged = Swap(
        id="forged",
        from_node=leader.node,
        to_node=standby.node,
        by="nobody",
        phase=phase,
        term=term,
        requested_at=datetime.now(UTC),
    )
    async with steady_writing(pair, leader, term), pair.keys() as etcd:
        await etcd.put(pair.prefix + "swap", forged.encode())

        async def ended() -> bool:
            return (await etcd.get(pair.prefix + "swap")).one is None

        await pair.until(ended, "it is taken for one that was overtaken")
    assert (await pair.leads())[::2] == (leader, term)


async def test_a_leader_that_is_started_again_beside_garbage_leads_on(pair: Pair):
    leader, _, term = await pair.leads()
    async with pair.keys() as etcd:
        leader.kill()
        await etcd.put(pair.prefix + "term", GARBAGE)
        await etcd.put(pair.prefix + "sync", GARBAGE)
        leader.start()
        assert await pair.until_leads(leader) >= term
    await pair.until_two_site()


async def test_a_second_agent_with_a_copied_configuration_stays_out(pair: Pair):
    leader, standby, term = await pair.leads()
    second = _copy(standby)
    try:
        second.start()
        async with steady_writing(pair, leader, term):
            await pair.until_rule(second, "name-taken")
            reasons = (await second.status())["reasons"]
        assert any(standby.node in reason and "site.node" in reason for reason in reasons)
        assert not second.data.exists()
    finally:
        await second.end()
        shutil.rmtree(second.folder)
    assert (await pair.leads())[::2] == (leader, term)


def _copy(site: Site) -> Site:
    """Another folder, other ports, and the same name. The lease's file comes along, as with a copied state_dir."""
    agent, postgres = free_ports(2)
    folder = site.folder.with_name(f"{site.name}-2")
    (folder / "state").mkdir(parents=True)
    shutil.copy2(site.folder / "state" / "lease", folder / "state" / "lease")
    text = site.config.read_text().replace(str(site.folder), str(folder))
    head, places = text.split("[[place]]", 1)
    for old, new in ((site.agent_port, agent), (site.postgres_port, postgres)):
        head = head.replace(f':{old}"', f':{new}"')
    config = folder / "copied.toml"
    config.write_text(f"{head}[[place]]{places}")
    return Site(
        name=site.name,
        folder=folder,
        data=folder / "data",
        config=config,
        agent_port=agent,
        postgres_port=postgres,
        host=site.host,
    )
