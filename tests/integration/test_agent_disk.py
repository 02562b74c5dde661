"""Disks that fail under a PostgreSQL: each node's data lie on a file system of their own, in a file of some megabytes.

Frozen, a file system answers nothing: whoever writes to it sleeps in the kernel, where no signal wakes him.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.agents import SILENT, Pair
from tests.postgres import unprivileged_user
from tests.sites import Site

DATA = "disk/data"
SIZE = 400  # megabytes


def _unmountable() -> str:
    """Why no file system of its own can be had here; empty: it can."""
    if os.geteuid() != 0:
        return "only root mounts file systems"
    missing = [name for name in ("mkfs.ext4", "mount", "fsfreeze") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if Path("/dev/loop-control").exists() else "this kernel has no loop devices"


pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(_unmountable()), reason=_unmountable() or "can be mounted"),
]


def run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture(scope="module", autouse=True)
def disks(agents: Pair) -> Iterator[None]:
    mounted: list[Path] = []
    try:
        for site in agents.sites:
            image, disk = site.folder / "image", site.data.parent
            disk.mkdir()
            with image.open("wb") as file:
                file.truncate(SIZE * 1024 * 1024)
            run("mkfs.ext4", "-q", "-m", "0", image)
            run("mount", "-o", "loop", image, disk)
            mounted.append(disk)
            if (user := unprivileged_user()) is not None:
                shutil.chown(disk, user)
        yield
        asyncio.run(agents.end())
    finally:
        for disk in mounted:
            run("umount", disk)


@contextmanager
def frozen(site: Site) -> Iterator[None]:
    disk = site.data.parent
    run("fsfreeze", "--freeze", disk)
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", disk)


async def test_a_leader_whose_disk_answers_nothing_gives_the_lead_up_and_returns(pair: Pair):
    leader, standby, term = await pair.leads()
    with frozen(leader):
        new_term = await pair.until_leads(standby, above=term)
        await pair.write_at(standby, new_term)
        assert [entry["reason"] for entry in leader.events("giving_up")][-1] == "the disk takes no WAL"
    await pair.until_two_site()
    assert (await pair.leads())[0] is standby


@contextmanager
def full(site: Site) -> Iterator[None]:
    """Not one block is left to PostgreSQL's user."""
    ballast = site.data.parent / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for block in (1024 * 1024, 4096):
                with suppress(OSError):
                    while file.write(bytes(block)):
                        pass
        yield
    finally:
        ballast.unlink()


async def until_wal_needs_room(pair: Pair, leader: Site, term: int) -> None:
    """New segments are made until the disk has no room for one: then this leader, or its standby, stumbles."""
    for _ in range(5):
        try:
            await pair.write_at(leader, term)
            await leader.select("select pg_switch_wal()")
        except SILENT:
            return


async def test_a_leader_whose_disk_is_full_gives_the_lead_up_and_returns_when_there_is_room(pair: Pair):
    leader, standby, term = await pair.leads()
    with full(leader):
        await until_wal_needs_room(pair, leader, term)
        new_term = await pair.until_leads(standby, above=term)
        await pair.write_at(standby, new_term)
    await pair.until_two_site()
    assert (await pair.leads())[0] is standby


async def test_a_standby_whose_disk_is_full_leaves_step_and_comes_back_when_there_is_room(pair: Pair):
    leader, standby, term = await pair.leads()

    async def one_site() -> bool:
        return bool((await leader.status())["durability"] == "one-site")

    with full(standby):
        await until_wal_needs_room(pair, leader, term)
        await pair.until(one_site, "the standby has left step")
        await pair.write_at(leader, term)
    await pair.until_two_site()
    assert (await pair.leads())[::2] == (leader, term)
