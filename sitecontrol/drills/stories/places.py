"""A whole place is lost, or hangs."""

from sitecontrol.drills.drill import Drill, Expect
from sitecontrol.drills.stage import Stage
from sitecontrol.lab.faults import other_site


async def site_loss(stage: Stage, site: str) -> None:
    """Every process of the live site dies at once, all of its nodes too; the other site takes over; the lost one comes
    back.
    """
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


async def witness_loss(stage: Stage, _site: str) -> None:
    """Every process of the witness dies; nobody notices."""
    await stage.strike("witness-loss", "witness")
    await stage.steady(6)
    await stage.heal()


async def witness_then_site(stage: Stage, site: str) -> None:
    """The witness dies, and then the live site: nobody may lead without a majority, until they are back. It is told
    before, and then by who holds still.
    """
    hot = other_site(site)
    await stage.strike("witness-loss", "witness")
    no_majority = stage.in_the_way(site, "etcd would have 1 of its 3 members")
    await stage.until(f"{site} tells that nobody could follow it", no_majority, within=15)
    await stage.steady(3)
    await stage.strike("site-loss", site)
    await stage.until(f"{hot} says that it hears nobody", stage.rule_is(hot, "follows-unheard"), within=15)
    await stage.steady(4)
    await stage.until(f"{hot} still lets nobody in", stage.is_closed(hot), within=0)
    await stage.until(f"{hot} tells why", stage.in_the_way(hot, "etcd is not reached"), within=0)
    await stage.heal()


async def site_hang(stage: Stage, site: str) -> None:
    """Every process of the live site stops as it is; the other one takes over; then the stopped ones go on."""
    await stage.strike("site-hang", site)
    await stage.until(f"{other_site(site)} is live", stage.is_live(other_site(site)), within=20)
    await stage.steady(3)
    await stage.heal()


async def second_fault(stage: Stage, site: str) -> None:
    """The live site dies, or hangs; as soon as the other one leads, its agent, its PostgreSQL or its member of etcd
    dies: it is started again, or goes on without.
    """
    pairs = (
        ("site-loss", "agent-crash"),
        ("site-hang", "postgres-crash"),
        ("agent-hang", "etcd-member-loss"),
    )
    for first, second in stage.in_turn(pairs):
        hot = other_site(site)
        await stage.strike(first, site)
        await stage.until(f"{hot} holds the lead", stage.leads(hot), within=20)
        await stage.strike(second, hot)
        await stage.until(f"{hot} is live", stage.is_live(hot), within=20)
        await stage.steady(3)
        await stage.heal()
        await stage.until("both sites are in step", stage.control.is_two_site, within=90)
        site = hot


DRILLS = (
    Drill(
        name="site-loss",
        summary="every process of the live site killed at once",
        story=site_loss,
        strikes="live",
        pause_limit=5.0,
        median_limit=3.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        several_nodes=True,
        in_swap=True,
        takes="40 s",
    ),
    Drill(
        name="standby-loss",
        summary="every process of the hot site killed at once",
        story=standby_loss,
        strikes="hot",
        pause_limit=1.0,
        several_nodes=True,
        in_swap=True,
        takes="35 s",
    ),
    Drill(
        name="witness-loss",
        summary="every process of the witness killed",
        story=witness_loss,
        strikes="live",
        pause_limit=1.0,
        nothing_refused=True,
        in_swap=True,
        takes="30 s",
    ),
    Drill(
        name="witness-then-site",
        summary="the witness lost, and then the live site: no majority is left",
        story=witness_then_site,
        strikes="live",
        pause_limit=30.0,
        live=Expect.EITHER,
        term=Expect.EITHER,
        takes="45 s",
    ),
    Drill(
        name="site-hang",
        summary="every process of the live site stopped, and later continued",
        story=site_hang,
        strikes="live",
        pause_limit=6.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        in_swap=True,
        takes="40 s",
    ),
    Drill(
        name="second-fault",
        summary="the live site lost or hung, then one that the next leader needs",
        story=second_fault,
        strikes="live",
        pause_limit=8.0,
        live=Expect.MOVES,
        term=Expect.MOVES,
        in_swap=True,
        takes="100 s",
    ),
)
