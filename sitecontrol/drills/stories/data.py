"""What is written waits, stands still, diverges, or is exchanged for something older."""

from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.stage import Stage
from sitecontrol.lab.faults import other_site


async def replay_paused(stage: Stage, site: str) -> None:
    """The hot site receives but does not replay; that is named; then the live site dies, and it takes over whole."""
    await stage.strike("replay-paused", site)
    await stage.until(f"{site} says that it replays nothing", stage.says(site, "replays nothing"), within=15)
    await stage.strike("site-loss", other_site(site))
    await stage.until(f"{site} is live", stage.is_live(site), within=20)
    await stage.steady(3)
    await stage.heal()


async def cancelled_commit(stage: Stage, site: str) -> None:
    """Commits that wait for the other site are cancelled, again and again: unknown is not acknowledged."""
    for _ in range(stage.times(20, quick=8)):
        await stage.strike("cancelled-commit", site)
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


async def wrong_disk(stage: Stage, site: str) -> None:
    """The hot site comes back with its disk of some time ago, and then with an empty one: both are made anew."""
    await stage.strike("standby-loss", site)
    await stage.keep_disk(site)
    await stage.heal()
    await stage.until("both sites are in step", stage.control.is_two_site, within=60)
    await stage.steady(2)
    await stage.strike("standby-loss", site)
    await stage.put_kept_disk_back(site)
    await stage.heal()
    await stage.until("both sites are in step", stage.control.is_two_site, within=60)
    await stage.strike("standby-loss", site)
    await stage.lose_disk(site)
    await stage.heal()


DRILLS = (
    Drill(
        name="replay-paused",
        summary="the hot site receives but does not replay; then the live site is lost",
        story=replay_paused,
        strikes="hot",
        pause_limit=5.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        takes="45 s",
    ),
    Drill(
        name="cancelled-commit",
        summary="waits for the other site cancelled, again and again",
        story=cancelled_commit,
        strikes="live",
        pause_limit=2.0,
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
        name="wrong-disk",
        summary="the hot site back with an older disk, and with an empty one",
        story=wrong_disk,
        strikes="hot",
        pause_limit=1.0,
        takes="80 s",
    ),
)
