"""A line is cut, or bad: between the places, or to a carrier."""

from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.stage import Stage
from sitecontrol.lab.faults import other_site


async def wan_cut(stage: Stage, site: str) -> None:
    """The sites cannot reach each other, the witness sees both: production stays where it is."""
    await stage.strike("wan-cut", site)
    await stage.until("the durability is told as one-site", stage.is_one_site, within=15)
    await stage.steady(5)
    await stage.heal()


async def live_isolated(stage: Stage, site: str) -> None:
    """The live site reaches nobody: the other one takes over, and the isolated one acknowledges nothing."""
    await stage.strike("live-isolated", site)
    await stage.until(f"{other_site(site)} is live", stage.is_live(other_site(site)), within=20)
    await stage.steady(5)
    await stage.heal()


async def carrier_loss(stage: Stage, site: str) -> None:
    """The live site's line to one of its carriers goes dead; what can go another way does."""
    await stage.strike("carrier-loss", site)
    await stage.steady(13)
    await stage.heal()


async def standby_isolated(stage: Stage, site: str) -> None:
    """The hot site reaches nobody: production stays, on one site."""
    await stage.strike("standby-isolated", site)
    await stage.until("the durability is told as one-site", stage.is_one_site, within=15)
    await stage.steady(5)
    await stage.heal()


async def witness_cut(stage: Stage, site: str) -> None:
    """The live site does not reach the witness; nobody notices."""
    await stage.strike("witness-cut", site)
    await stage.steady(8)
    await stage.heal()


async def one_way(stage: Stage, site: str) -> None:
    """What one site sends to the other is lost, and then what the other one sends: production stays."""
    for source in stage.in_turn((site, other_site(site))):
        await stage.strike("one-way", source)
        await stage.until("the durability is told as one-site", stage.is_one_site, within=15)
        await stage.steady(3)
        await stage.heal()
        await stage.until("both sites are in step", stage.control.is_two_site, within=60)


async def wan_flap(stage: Stage, site: str) -> None:
    """The line between the sites goes and comes, every few seconds and every minute: production stays."""
    for lasts in (2.5, 5, 2.5, 10, 5, 30, 10, 60)[: stage.times(8, quick=3)]:
        await stage.strike("wan-cut", site)
        await stage.steady(lasts)
        await stage.heal()
        await stage.steady(lasts)


async def wan_slow(stage: Stage, site: str) -> None:
    """All lines between the places turn slow and unsteady, and every fifth connection breaks: production stays. On
    such lines no lease of two seconds can be kept: it may have to wait.
    """
    await stage.strike("wan-slow", site)
    await stage.steady(stage.lasting(60, quick=15))
    await stage.heal()


async def carriers_loss(stage: Stage, site: str) -> None:
    """The live site's lines to all carriers go dead: health moves production to the other site."""
    away = other_site(site)
    await stage.strike("carriers-loss", site)
    await stage.until(f"{away} is live, by health's swap", stage.is_live(away), within=60)
    await stage.steady(3)
    await stage.heal()


DRILLS = (
    Drill(
        name="wan-cut",
        summary="the line between the sites dead, the witness sees both",
        story=wan_cut,
        strikes="live",
        pause_limit=5.0,
        in_swap=True,
        takes="35 s",
    ),
    Drill(
        name="live-isolated",
        summary="the live site cut from the hot site and the witness",
        story=live_isolated,
        strikes="live",
        pause_limit=6.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        silent_when_cut=True,
        in_swap=True,
        takes="40 s",
    ),
    Drill(
        name="carrier-loss",
        summary="the live site's line to its first carrier dead",
        story=carrier_loss,
        strikes="live",
        pause_limit=1.0,
        takes="45 s",
    ),
    Drill(
        name="standby-isolated",
        summary="the hot site cut from the live site and the witness",
        story=standby_isolated,
        strikes="hot",
        pause_limit=5.0,
        in_swap=True,
        takes="35 s",
    ),
    Drill(
        name="witness-cut",
        summary="the live site cut from the witness only",
        story=witness_cut,
        strikes="live",
        pause_limit=1.0,
        nothing_refused=True,
        in_swap=True,
        takes="30 s",
    ),
    Drill(
        name="one-way",
        summary="the line between the sites dead in one direction, each in turn",
        story=one_way,
        strikes="live",
        pause_limit=5.0,
        in_swap=True,
        takes="60 s",
    ),
    Drill(
        name="wan-flap",
        summary="the line between the sites gone for 2.5 s up to a minute, again and again",
        story=wan_flap,
        strikes="live",
        pause_limit=5.0,
        in_swap=True,
        takes="5 min",
        takes_quick="45 s",
    ),
    Drill(
        name="wan-slow",
        summary="half a second, jitter, and every fifth connection reset between all places",
        story=wan_slow,
        strikes="live",
        pause_limit=40.0,
        in_swap=True,
        takes="90 s",
        takes_quick="45 s",
    ),
    Drill(
        name="carriers-loss",
        summary="the live site's lines to all carriers dead: health moves production",
        story=carriers_loss,
        strikes="live",
        pause_limit=1.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        nothing_refused=True,
        takes="60 s",
    ),
)
