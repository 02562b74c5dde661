"""One process crashes or hangs."""

from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.stage import Stage
from sitecontrol.lab.faults import other_site


async def postgres_crash(stage: Stage, site: str) -> None:
    """The leader's postmaster is killed; its agent starts it again within a second, or another node takes over, the
    site's second one first if it has one: nothing is mended.
    """
    await stage.strike("postgres-crash", site)
    await stage.steady(6)


async def postgres_broken(stage: Stage, site: str) -> None:
    """The leader's PostgreSQL dies and cannot start again, for its WAL is gone: its agent tries once and gives the
    lead up; the other site takes over, and the broken disk is exchanged for a copy. Nothing is mended.
    """
    away, clones = other_site(site), stage.clones(site)
    await stage.strike("postgres-broken", site)
    await stage.until(f"{away} is live", stage.is_live(away), within=20)
    await stage.until(f"{site} is cloned", stage.is_cloned(site, times=clones + 1), within=60)


async def dispatcher_crash(stage: Stage, site: str) -> None:
    """One of the live site's dispatchers is killed in the middle of its work; the others go on. It is started again."""
    await stage.strike("dispatcher-crash", site)
    await stage.steady(8)


async def postgres_hang(stage: Stage, site: str) -> None:
    """The leader's PostgreSQL stops as it is, its sockets open; its agent gives the lead up. Nothing is mended."""
    await stage.strike("postgres-hang", site)
    await stage.until(f"{other_site(site)} is live", stage.is_live(other_site(site)), within=20)
    await stage.steady(3)


async def agent_crash(stage: Stage, site: str) -> None:
    """The leader's agent is killed and started again: it takes its lease up, or the other site takes over."""
    await stage.strike("agent-crash", site)
    await stage.steady(6)


async def agent_hang(stage: Stage, site: str) -> None:
    """The leader's agent stops as it is, past its lease, and goes on when the other site leads."""
    await stage.strike("agent-hang", site)
    await stage.until(f"{other_site(site)} is live", stage.is_live(other_site(site)), within=20)
    await stage.steady(3)
    await stage.heal()


DRILLS = (
    Drill(
        name="postgres-crash",
        summary="the leader's postmaster killed",
        story=postgres_crash,
        several_nodes=True,
        strikes="live",
        pause_limit=2.0,
        live=Expect.EITHER,
        term=Expect.EITHER,
        in_swap=True,
        takes="30 s",
    ),
    Drill(
        name="postgres-broken",
        summary="the leader's PostgreSQL killed, and unable to start again",
        story=postgres_broken,
        strikes="live",
        pause_limit=2.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        takes="35 s",
    ),
    Drill(
        name="dispatcher-crash",
        summary="one dispatcher of the live site killed",
        story=dispatcher_crash,
        strikes="live",
        pause_limit=1.0,
        one_window_in_doubt=True,
        in_swap=True,
        takes="30 s",
    ),
    Drill(
        name="postgres-hang",
        summary="the leader's PostgreSQL stopped, its sockets open",
        story=postgres_hang,
        strikes="live",
        pause_limit=8.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        in_swap=True,
        takes="45 s",
    ),
    Drill(
        name="agent-crash",
        summary="the leader's agent killed; it is started again",
        story=agent_crash,
        strikes="live",
        pause_limit=5.0,
        live=Expect.EITHER,
        term=Expect.EITHER,
        in_swap=True,
        takes="30 s",
    ),
    Drill(
        name="agent-hang",
        summary="the leader's agent stopped past its lease, and later continued",
        story=agent_hang,
        strikes="live",
        pause_limit=6.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        in_swap=True,
        takes="40 s",
    ),
)
