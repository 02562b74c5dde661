"""The planned swap, undisturbed and disturbed."""

from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.stage import Party, Stage
from sitecontrol.lab.faults import other_site


async def swap(stage: Stage, site: str) -> None:
    """Production moves to the other site, works there, and comes home."""
    away = other_site(site)
    await stage.swap(to=away)
    await stage.steady(2)
    await stage.swap(to=site)


async def swap_interrupted(stage: Stage, _site: str) -> None:
    """A swap is asked for and the party that matters dies in each of its phases: it ends, one way or the other."""
    blows = (
        ("held", Party.FROM, "agent-crash"),
        ("handed", Party.TO, "agent-crash"),
        ("held", Party.TO, "postgres-crash"),
        ("checked", Party.FROM, "agent-crash"),
        ("opened", Party.FROM, "agent-crash"),
    )
    for phase, party, fault in blows[: stage.times(5, quick=3)]:
        await stage.interrupted_swap(phase, party, fault)


DRILLS = (
    Drill(
        name="swap",
        summary="a planned swap there and back",
        story=swap,
        several_nodes=True,
        strikes="live",
        pause_limit=1.0,
        term=Expect.MOVES,
        nothing_refused=True,
        takes="25 s",
    ),
    Drill(
        name="swap-interrupted",
        summary="a swap asked for, and an agent or PostgreSQL killed in each of its phases",
        story=swap_interrupted,
        strikes="live",
        pause_limit=12.0,
        live=Expect.EITHER,
        term=Expect.EITHER,
        takes="120 s",
        takes_quick="80 s",
    ),
)
