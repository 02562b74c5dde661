"""etcd loses members, or has sick ones."""

from sitecontrol.drills.drill import Drill
from sitecontrol.drills.stage import Stage
from sitecontrol.lab.ports import PLACES


async def etcd_quorum_loss(stage: Stage, site: str) -> None:
    """Two etcd members die, then the third; after a minute all come back. Nobody notices, and nobody else leads."""
    await stage.strike("etcd-quorum-loss", site)
    await stage.steady(stage.lasting(30, quick=15))
    await stage.strike("etcd-loss", site)
    await stage.steady(stage.lasting(60, quick=15))
    await stage.heal()
    await stage.steady(8)


async def etcd_member_loss(stage: Stage, site: str) -> None:
    """Each member of etcd dies in turn, and comes back before the next one does; nobody notices."""
    for place in stage.in_turn((site, *(place for place in PLACES if place != site))):
        await stage.strike("etcd-member-loss", place)
        await stage.steady(3)
        await stage.heal()
        await stage.until(f"etcd of {place} is back", stage.etcd_serves(place), within=30)


async def etcd_sick(stage: Stage, site: str) -> None:
    """Each member of etcd hangs in turn with its sockets open, and then two at once; what they were sent they may still
    apply when they go on.
    """
    others = tuple(place for place in PLACES if place != site)
    for places in stage.in_turn(((site,), *((place,) for place in others), others)):
        for place in places:
            await stage.strike("etcd-member-hang", place)
        await stage.steady(stage.lasting(8, quick=4))
        await stage.heal()
        for place in places:
            await stage.until(f"etcd of {place} serves again", stage.etcd_serves(place), within=30)
    await stage.steady(3)


DRILLS = (
    Drill(
        name="etcd-quorum-loss",
        summary="two etcd members killed, then all three for a minute, then back",
        story=etcd_quorum_loss,
        strikes="live",
        pause_limit=1.0,
        nothing_refused=True,
        in_swap=True,
        takes="160 s",
        takes_quick="60 s",
    ),
    Drill(
        name="etcd-member-loss",
        summary="each member of etcd killed in turn",
        story=etcd_member_loss,
        strikes="live",
        pause_limit=1.0,
        nothing_refused=True,
        in_swap=True,
        takes="45 s",
    ),
    Drill(
        name="etcd-sick",
        summary="each member of etcd hanging in turn, its sockets open, then two at once",
        story=etcd_sick,
        strikes="live",
        pause_limit=1.0,
        nothing_refused=True,
        in_swap=True,
        takes="75 s",
        takes_quick="55 s",
    ),
)
