"""What is written waits, stands still, diverges, or is exchanged for something older."""

from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.stage import Stage
from sitecontrol.lab import faults
from sitecontrol.lab.faults import other_site


async def replay_paused(stage: Stage, site: str) -> None:
    """The hot site receives but does not replay; that is named; then the live site dies, and it takes over whole."""
    await stage.strike("replay-paused", site)
    if (
        stage.in_swap
    ):  # the swap goes there all the same, for a promotion replays what was received; or it is rolled back
        await stage.until("the swap has ended", stage.no_swap, within=60)
    else:
        says = stage.says(site, "replays nothing")
        await stage.until(f"{site} says that it replays nothing", says, within=15)
        await stage.strike("site-loss", other_site(site))
        await stage.until(f"{site} is live", stage.is_live(site), within=20)
    await stage.steady(3)
    await stage.heal()


async def cancelled_commit(stage: Stage, site: str) -> None:
    """Commits that wait for the other site are cancelled, again and again: unknown is not acknowledged."""
    for _ in stage.in_turn(range(stage.times(20, quick=8))):
        await stage.strike("cancelled-commit", site, in_phase="requested")
        await stage.steady(1)
    await stage.heal()


async def diverged_return(stage: Stage, site: str) -> None:
    """The live site's last commits reach nobody before it dies; it comes back with them, and gives them up."""
    await stage.strike("one-way", site)
    await stage.steady(0.3)
    await stage.strike("site-loss", site)
    await stage.until(f"{other_site(site)} is live", stage.is_live(other_site(site)), within=20)
    await stage.steady(2)
    await stage.heal()


async def rewind_fails(stage: Stage, site: str) -> None:
    """The live site's last commits reach nobody before it dies, and it comes back without the WAL from before them: no
    rewind can work, so it is cloned.
    """
    clones = stage.clones(site)
    await stage.strike("one-way", site)
    segment = await faults.begin_wal_anew(stage.control, stage.node(site))
    await stage.strike("site-loss", site)
    faults.lose_older_wal(stage.control, stage.node(site), segment)
    await stage.until(f"{other_site(site)} is live", stage.is_live(other_site(site)), within=20)
    await stage.steady(2)
    await stage.heal()
    await stage.until(f"{site} is cloned", stage.is_cloned(site, times=clones + 1), within=60)


async def wal_missing(stage: Stage, site: str) -> None:
    """The hot site is away; meanwhile its slot is dropped, and the WAL that it needs next is gone: it is cloned."""
    clones = stage.clones(site)
    await stage.strike("standby-loss", site)
    await stage.until("the durability is told as one-site", stage.is_one_site, within=15)
    await stage.strike("slots-lost", other_site(site))
    await stage.heal()
    await stage.until(f"{site} is cloned", stage.is_cloned(site, times=clones + 1), within=60)


async def slot_lost(stage: Stage, site: str) -> None:
    """The hot site is away; meanwhile more WAL is written than its slot may keep: PostgreSQL gives the slot up, the
    leader makes it anew, and the node is cloned when it returns.
    """
    away = other_site(site)
    clones, lost = stage.clones(site), stage.lost_slots(away)
    await stage.strike("standby-loss", site)
    await stage.until("the durability is told as one-site", stage.is_one_site, within=15)
    await stage.strike("slots-outrun", away)
    anew = stage.has_lost_slots(away, more_than=lost)
    await stage.until(f"{away} makes the lost slot anew", anew, within=20)
    await stage.heal()
    await stage.until(f"{site} is cloned", stage.is_cloned(site, times=clones + 1), within=60)


async def wrong_disk(stage: Stage, site: str) -> None:
    """The hot site comes back with its disk of some time ago, and then with an empty one: both are made anew."""
    if not stage.in_swap:
        await stage.strike("standby-loss", site)
        await stage.keep_disk(site)
        await stage.heal()
        await stage.until("both sites are in step", stage.control.is_two_site, within=60)
        await stage.steady(2)
        await stage.strike("standby-loss", site)
        await stage.put_kept_disk_back(site)
        await stage.heal()
        await stage.until("both sites are in step", stage.control.is_two_site, within=60)
    clones = stage.clones(site)
    await stage.strike("standby-loss", site)
    await stage.until("the durability is told as one-site", stage.is_one_site, within=15)
    await stage.lose_disk(site)
    await stage.heal()
    await stage.until(f"{site} is cloned", stage.is_cloned(site, times=clones + 1), within=60)


DRILLS = (
    Drill(
        name="replay-paused",
        summary="the hot site receives but does not replay; then the live site is lost",
        story=replay_paused,
        strikes="hot",
        pause_limit=5.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        in_swap=True,
        takes="45 s",
    ),
    Drill(
        name="cancelled-commit",
        summary="waits for the other site cancelled, again and again",
        story=cancelled_commit,
        strikes="live",
        pause_limit=2.0,
        in_swap=True,
        takes="50 s",
        takes_quick="35 s",
    ),
    Drill(
        name="diverged-return",
        summary="the live site lost with commits that reached nobody, and back with them",
        story=diverged_return,
        strikes="live",
        pause_limit=6.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        in_swap=True,
        takes="40 s",
    ),
    Drill(
        name="rewind-fails",
        summary="the live site lost and back with commits that reached nobody, and no WAL to rewind by",
        story=rewind_fails,
        strikes="live",
        pause_limit=6.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        takes="45 s",
    ),
    Drill(
        name="wal-missing",
        summary="the hot site away, its slot and the WAL that it needs lost meanwhile",
        story=wal_missing,
        strikes="hot",
        pause_limit=1.0,
        in_swap=True,
        takes="45 s",
    ),
    Drill(
        name="slot-lost",
        summary="the hot site away while more WAL is written than its slot may keep",
        story=slot_lost,
        strikes="hot",
        pause_limit=1.0,
        in_swap=True,
        takes="45 s",
    ),
    Drill(
        name="wrong-disk",
        summary="the hot site back with an older disk, and with an empty one",
        story=wrong_disk,
        strikes="hot",
        pause_limit=1.0,
        in_swap=True,
        takes="80 s",
    ),
)
