"""Something is full: the volume of a node's data, or etcd's store."""

from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.stage import Stage
from sitecontrol.etcd.api import FULL
from sitecontrol.lab.faults import other_site
from sitecontrol.lab.ports import SITES


async def disk_full(stage: Stage, site: str) -> None:
    """No room is left on the hot site's volume: it says so, leaves step, and comes back with room. Then on the live
    site's: it gives the lead up, and comes back with room.
    """
    hot = other_site(site)
    await stage.strike("disk-full", hot)
    await stage.until(f"{hot} names it, with the cure", stage.says(hot, "make room there"), within=20)
    await stage.until("the durability is told as one-site", stage.is_one_site, within=30)
    await stage.steady(3)
    await stage.heal()
    if stage.in_swap:
        return
    await stage.until("both sites are in step", stage.control.is_two_site, within=60)
    await stage.strike("disk-full", site)
    await stage.until(f"{hot} is live", stage.is_live(hot), within=30)
    await stage.steady(3)
    await stage.heal()


async def etcd_full(stage: Stage, site: str) -> None:
    """Etcd's store is full: both sites name it with the cure, a swap is refused with it, and service goes on, far
    beyond a lease.
    """
    await stage.strike("etcd-full", site)
    for place in SITES:
        await stage.until(f"{place} names it, with the cure", stage.names_alarm(place, FULL), within=20)
    refused = stage.swap_is_refused(other_site(site), FULL)
    await stage.until("a swap is refused with the cure", refused, within=5)
    await stage.steady(stage.lasting(30, quick=8))
    await stage.heal()
    for place in SITES:
        await stage.until(f"{place} names nothing any more", stage.names_alarm(place, None), within=20)


DRILLS = (
    Drill(
        name="disk-full",
        summary="no room on the hot site's volume, and then on the live site's",
        story=disk_full,
        strikes="live",
        pause_limit=8.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        needs_volumes=True,
        in_swap=True,
        takes="60 s",
    ),
    Drill(
        name="etcd-full",
        summary="etcd's store full up to its quota, and room again",
        story=etcd_full,
        strikes="live",
        pause_limit=1.0,
        nothing_refused=True,
        takes="90 s",
        takes_quick="60 s",
    ),
)
