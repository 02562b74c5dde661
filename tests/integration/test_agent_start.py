"""How a pair begins: the first start of all, the second node, and what is refused."""

import asyncio
import shutil
import subprocess

from tests.agents import Pair
from tests.ports import free_ports
from tests.postgres import tools, unprivileged_user
from tests.sites import Site, clean_environment, command


async def test_a_first_start_that_is_cut_off_leaves_nothing_behind_and_is_done_again(agents: Pair):
    await agents.end()
    columbus = agents.columbus
    columbus.start()

    async def reserved() -> bool:
        return "initialize" in await agents.read_keys()

    await agents.until(reserved, "the first start is reserved")
    columbus.kill()
    assert "term" not in await agents.read_keys()

    async def nothing() -> bool:
        return await agents.read_keys() == {}

    await agents.until(nothing, "nothing is left in etcd")
    columbus.start()
    assert await agents.until_leads(columbus) == 1


async def test_an_empty_node_clones_the_leader_and_comes_into_step(pair: Pair):
    leader, standby, term = await pair.leads()
    await standby.end()
    standby.wipe()
    number, _ = await pair.write_at(leader, term)
    standby.start()
    await pair.until_two_site()
    assert standby.events("cloned")
    assert await standby.has(number)


async def test_data_of_another_cluster_is_refused_with_the_reason(pair: Pair):
    _, standby, _ = await pair.leads()
    await standby.end()
    standby.wipe()
    make_foreign_data(standby)
    standby.start()
    await pair.until_rule(standby, "foreign-data")
    status = await standby.status()
    assert not status["ready"]
    assert any("belongs to another cluster" in reason for reason in status["reasons"])
    await standby.end()
    standby.wipe()


def make_foreign_data(site: Site) -> None:
    user = unprivileged_user()
    site.data.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(site.data, user)
    subprocess.run(
        [tools()["initdb"], "-D", site.data, "-A", "trust", "-N"],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
        cwd=site.folder,
    )


async def test_a_second_agent_on_the_same_data_directory_ends_with_one_clear_line(pair: Pair):
    (port,) = free_ports(1)
    site = pair.denver
    config = site.config.with_name("second.toml")
    listen = f'listen = "127.0.0.1:{site.agent_port}"'
    config.write_text(site.config.read_text().replace(listen, f'listen = "127.0.0.1:{port}"'))
    ended = await asyncio.to_thread(
        subprocess.run,
        command(config),
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"{site.data} is used by another agent" in line


async def test_an_act_without_the_operators_token_is_refused(pair: Pair):
    leader, standby, term = await pair.leads()
    assert (await leader.swap(standby, token="another"))[0] == 401
    assert (await leader.ask("/pause", json={}))[0] == 401
    assert (await leader.status())["swap"] is None
    assert (await pair.leads())[2] == term
