"""Every drill as a short story: what strikes, how it is mended, and what must hold besides the invariants.

While a story runs, clients at both sites send steadily. What must hold in all of them is checked by `checks`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from sitecontrol.drills.stage import Stage
from sitecontrol.lab.faults import other_site

Story = Callable[[Stage, str], Awaitable[None]]


class Expect(Enum):
    STAYS = "stays"
    MOVES = "moves"
    EITHER = "either"


@dataclass(frozen=True, kw_only=True)
class Drill:
    name: str
    summary: str
    story: Story
    strikes: str  # "live" or "hot": the site that the story is about, when none is named
    pause_limit: float  # seconds between two acknowledgements, at most
    median_limit: float | None = None  # of several runs, the median of their pauses, at most
    live: Expect = Expect.STAYS  # the site that leads afterwards is the one from before
    term: Expect = Expect.STAYS  # and nobody led in between
    nothing_refused: bool = False  # and no connection breaks, but those to what the story kills
    silent_when_cut: bool = False  # the site that is cut off acknowledges nothing, and fences
    takes: str = ""  # how long, roughly


async def swap(stage: Stage, site: str) -> None:
    """Production moves to the other site, works there, and comes home."""
    away = other_site(site)
    await stage.swap(to=away)
    await stage.steady(2)
    await stage.swap(to=site)


async def site_loss(stage: Stage, site: str) -> None:
    """Every process of the live site dies at once; the other site takes over; the lost one comes back."""
    await stage.strike("site-loss", site)
    await stage.until(f"{other_site(site)} is live", stage.is_live(other_site(site)), within=20)
    await stage.steady(3)
    await stage.heal()


async def standby_loss(stage: Stage, site: str) -> None:
    """Every process of the hot site dies at once; production goes on, on one site, until it is back."""
    await stage.strike("standby-loss", site)
    await stage.until("the durability is told as one-site", stage.is_one_site, within=15)
    await stage.steady(3)
    await stage.heal()


async def postgres_crash(stage: Stage, site: str) -> None:
    """The leader's postmaster is killed; its agent starts it again, or the other site takes over: nothing is mended."""
    await stage.strike("postgres-crash", site)
    await stage.steady(6)


async def dispatcher_crash(stage: Stage, site: str) -> None:
    """One of the live site's dispatchers is killed in the middle of its work; the others go on. It is started again."""
    await stage.strike("dispatcher-crash", site)
    await stage.steady(8)


async def carrier_loss(stage: Stage, site: str) -> None:
    """The live site's line to one of its carriers goes dead; what can go another way does."""
    await stage.strike("carrier-loss", site)
    await stage.steady(13)
    await stage.heal()


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


async def etcd_quorum_loss(stage: Stage, site: str) -> None:
    """Two etcd members die, then the third; after a minute all come back. Nobody notices, and nobody else leads."""
    await stage.strike("etcd-quorum-loss", site)
    await stage.steady(stage.lasting(30, quick=15))
    await stage.strike("etcd-loss", site)
    await stage.steady(stage.lasting(60, quick=15))
    await stage.heal()
    await stage.steady(8)


DRILLS: dict[str, Drill] = {
    drill.name: drill
    for drill in (
        Drill(
            name="swap",
            summary="a planned swap there and back",
            story=swap,
            strikes="live",
            pause_limit=1.0,
            term=Expect.MOVES,
            nothing_refused=True,
            takes="25 s",
        ),
        Drill(
            name="site-loss",
            summary="every process of the live site killed at once",
            story=site_loss,
            strikes="live",
            pause_limit=5.0,
            median_limit=3.0,
            live=Expect.MOVES,
            term=Expect.MOVES,
            takes="40 s",
        ),
        Drill(
            name="standby-loss",
            summary="every process of the hot site killed at once",
            story=standby_loss,
            strikes="hot",
            pause_limit=1.0,
            takes="35 s",
        ),
        Drill(
            name="postgres-crash",
            summary="the leader's postmaster killed",
            story=postgres_crash,
            strikes="live",
            pause_limit=2.0,
            live=Expect.EITHER,
            term=Expect.EITHER,
            takes="30 s",
        ),
        Drill(
            name="dispatcher-crash",
            summary="one dispatcher of the live site killed",
            story=dispatcher_crash,
            strikes="live",
            pause_limit=1.0,
            takes="30 s",
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
            name="wan-cut",
            summary="the line between the sites dead, the witness sees both",
            story=wan_cut,
            strikes="live",
            pause_limit=5.0,
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
            takes="40 s",
        ),
        Drill(
            name="etcd-quorum-loss",
            summary="two etcd members killed, then all three for a minute, then back",
            story=etcd_quorum_loss,
            strikes="live",
            pause_limit=1.0,
            nothing_refused=True,
            takes="160 s",  # --quick: 60 s
        ),
    )
}
