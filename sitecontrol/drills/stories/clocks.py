"""A place's wall clock jumps by an hour."""

from sitecontrol.drills.drill import Drill
from sitecontrol.drills.stage import Stage
from sitecontrol.lab.faults import HOUR, other_site
from sitecontrol.lab.ports import WITNESS


async def clock_jump(stage: Stage, site: str) -> None:
    """One place's wall clock after the other jumps an hour ahead, is put right, and jumps an hour back: nobody who
    decides looks at it.
    """
    for place in stage.in_turn((site, other_site(site), WITNESS)):
        for fault, seconds in (("clock-ahead", HOUR), ("clock-behind", -HOUR)):
            await stage.strike(fault, place)
            off = stage.clock_is_off(place, seconds)
            await stage.until(f"{place} tells a time that is {seconds:+.0f} s off", off, within=15)
            await stage.steady(stage.lasting(8, quick=2))
            await stage.heal()
            right = stage.clock_is_off(place, 0.0)
            await stage.until(f"{place} tells the right time", right, within=15)


DRILLS = (
    Drill(
        name="clock-jump",
        summary="the wall clock of each place an hour ahead, and an hour behind",
        story=clock_jump,
        strikes="live",
        pause_limit=1.0,
        nothing_refused=True,
        in_swap=True,
        takes="90 s",
        takes_quick="45 s",
    ),
)
