"""Schedules of faults that are likely to need one certain rule."""

import random
from dataclasses import replace

from tests.simulation.faults import ANY, END, Fault, Kind, schedule


def cut_then_isolated(rng: random.Random) -> tuple[Fault, ...]:
    """The line between the sites goes, and a little later the live site's other one, as it stops waiting."""
    later = round(5.0 + rng.uniform(0.7, 1.1), 2)
    return (
        Fault(5.0, 12.0, Kind.CUT, "columbus", "denver"),
        Fault(later, 8.0, Kind.CUT, "columbus", "witness"),
    )


def cut_then_lost(rng: random.Random) -> tuple[Fault, ...]:
    """The line between the sites goes, and then the live site."""
    lost = round(6.0 + rng.uniform(0.7, 2.5), 2)
    return (Fault(6.0, 10.0, Kind.CUT, "columbus", "denver"), Fault(lost, 6.0, Kind.KILL_SITE, "columbus"))


def lost_while_joining(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site comes back into step, and the live one is cut off and lost at about that moment."""
    cut = round(rng.uniform(9.2, 11.0), 2)
    lost = round(cut + rng.uniform(0.0, 0.6), 2)
    return (
        Fault(5.0, 4.0, Kind.CUT, "columbus", "denver"),
        Fault(cut, 8.0, Kind.CUT, "columbus", "denver"),
        Fault(lost, 5.0, Kind.KILL_SITE, "columbus"),
    )


def late_writes(rng: random.Random) -> tuple[Fault, ...]:
    """etcd applies calls long after their callers have given them up, while the lead changes again and again."""
    return tuple(
        sorted((*schedule(rng, MOVES), *schedule(rng, MOVES), Fault(3.0, 19.0, Kind.ETCD_SICK, "columbus")))
    )


def old_copy_then_lost(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site comes back with an older copy under its own name, and the live one is lost before it is seen."""
    lost = round(6.0 + rng.uniform(0.0, 1.0), 2)
    return (Fault(6.0, 0.6, Kind.WRONG_DISK, "denver"), Fault(lost, 8.0, Kind.KILL_SITE, "columbus"))


MOVES = (Kind.SWAP, Kind.KILL_SITE, Kind.CUT, Kind.STOP_AGENT, Kind.KILL_POSTGRES, Kind.ISOLATE)


def dispatcher_stopped(rng: random.Random) -> tuple[Fault, ...]:
    """The sending process stands still for longer than its claims last, and goes on; another site may lead by then."""
    at = round(rng.uniform(3.0, 6.0), 2)
    stopped = Fault(at, round(rng.uniform(4.0, 8.0), 2), Kind.STOP_DISPATCHER, "columbus")
    moves = Fault(
        round(at + rng.uniform(-0.5, 0.5), 2), 7.0, rng.choice((Kind.KILL_AGENT, Kind.SWAP)), "columbus"
    )
    return tuple(sorted((stopped, moves)))


def dispatcher_lost(rng: random.Random) -> tuple[Fault, ...]:
    """The sending process dies, again and again, with texts under way; then there is time for what becomes of them."""
    died = (
        Fault(round(at + rng.uniform(0.0, 1.5), 2), 0.2, Kind.KILL_DISPATCHER, "columbus")
        for at in (3.0, 5.0, 7.0)
    )
    return (*died, Fault(18.0, 0.1, Kind.ETCD_LEADER, "witness"))


def carrier_silent(_: random.Random) -> tuple[Fault, ...]:
    """The carrier takes all texts, and answers nothing for a long while."""
    return (Fault(3.0, 15.0, Kind.CARRIER_SILENT, "columbus"),)


def moves_and_losses(rng: random.Random) -> tuple[Fault, ...]:
    return tuple(sorted((*schedule(rng, MOVES), *schedule(rng, MOVES))))


def standby_loses_power(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site's machine goes, with what was not flushed, and is just back when the live site is lost."""
    gone = round(5.0 + rng.uniform(0.0, 0.5), 2)
    lost = round(gone + 0.1 + rng.uniform(0.0, 0.7), 2)
    return (Fault(gone, 0.1, Kind.LOSE_POWER, "denver"), Fault(lost, 9.0, Kind.KILL_SITE, "columbus"))


def late_joins(rng: random.Random) -> tuple[Fault, ...]:
    """etcd applies late what brought the hot site back into step, while the live one, perhaps restarted, is cut off."""
    cut = Fault(3.0, 1.2, Kind.CUT, "columbus", "denver")
    late = Fault(4.2, round(rng.uniform(0.5, 1.6), 2), Kind.ETCD_LATE, "columbus")
    alone = Fault(round(rng.uniform(6.0, 8.5), 2), 12.0, Kind.ISOLATE, "columbus")
    restarts = Fault(round(rng.uniform(4.5, 5.5), 2), 0.2, Kind.KILL_POSTGRES, "columbus")
    return tuple(sorted((cut, late, alone, restarts) if rng.random() < 0.5 else (cut, late, alone)))


def late_join(rng: random.Random) -> tuple[Fault, ...]:
    """As `late_joins`, with the cut just after the leader has stopped waiting for the hot site again."""
    cut = Fault(3.0, 1.2, Kind.CUT, "columbus", "denver")
    late = Fault(4.2, 0.92, Kind.ETCD_LATE, "columbus")
    return (cut, late, Fault(round(rng.uniform(6.3, 6.6), 2), 12.0, Kind.ISOLATE, "columbus"))


def forgetful_disk(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site has come back into step; its disk turns out to have kept less than that, and the live site goes."""
    lost = round(9.0 + rng.uniform(0.0, 1.0), 2)
    return (
        Fault(3.0, 1.2, Kind.CUT, "columbus", "denver"),
        Fault(9.0, 0.6, Kind.FORGETFUL_DISK, "denver"),
        Fault(lost, 8.0, Kind.KILL_SITE, "columbus"),
    )


def older_leader(rng: random.Random) -> tuple[Fault, ...]:
    """Both sites are lost at once; the live one is back first, with an older copy of its whole volume."""
    lost = round(rng.uniform(12.0, 13.0), 2)
    back = round(rng.uniform(0.3, 1.5), 2)
    return (
        Fault(lost, back, Kind.OLDER_SNAPSHOT, "columbus"),
        Fault(round(lost + 0.01, 2), 6.0, Kind.KILL_SITE, "denver"),
    )


def older_standby(rng: random.Random) -> tuple[Fault, ...]:
    """As `older_leader`, and it is the hot site that is back first, with an older copy."""
    lost = round(rng.uniform(12.0, 13.0), 2)
    back = round(rng.uniform(0.3, 1.5), 2)
    return (
        Fault(lost, back, Kind.OLDER_SNAPSHOT, "denver"),
        Fault(round(lost + 0.01, 2), 6.0, Kind.KILL_SITE, "columbus"),
    )


def etcd_lost(rng: random.Random) -> tuple[Fault, ...]:
    """All of etcd, alone, and its return."""
    return (Fault(5.0, round(rng.uniform(4.0, 12.0), 2), Kind.ETCD_QUORUM, "witness"),)


def etcd_lost_in_swap(rng: random.Random) -> tuple[Fault, ...]:
    """All of etcd, in one of the phases of a swap."""
    lost = round(5.0 + rng.uniform(0.1, 0.9), 2)
    return (
        Fault(5.0, 0.1, Kind.SWAP, "columbus"),
        Fault(lost, round(rng.uniform(10.0, 13.0), 2), Kind.ETCD_QUORUM, "witness"),
    )


def old_leader_returns(rng: random.Random) -> tuple[Fault, ...]:
    """The live site is lost and returns, just as the one that took over is lost."""
    back = round(8.9 + rng.uniform(0.0, 1.0), 2)
    return (Fault(5.0, 4.0, Kind.KILL_SITE, "columbus"), Fault(back, 6.0, Kind.KILL_SITE, "denver"))


def overwritten(rng: random.Random) -> tuple[Fault, ...]:
    """Somebody overwrites one record after the other, for as long as the run lasts."""
    return schedule(rng, (*(Kind.GARBAGE,) * 6, Kind.SWAP, Kind.KILL_SITE, Kind.KILL_AGENT, Kind.CUT))


def forced_lead(rng: random.Random) -> tuple[Fault, ...]:
    """The hot site falls out of step, the live one is lost after it has acknowledged more, and an operator has the hot
    one lead on; then the old leader comes back. Something else may go wrong on the way.
    """
    cut = round(rng.uniform(2.0, 4.0), 2)
    lost = round(cut + rng.uniform(1.5, 4.0), 2)
    away = round(rng.uniform(4.0, 11.0), 2)
    back = round(cut + rng.uniform(1.0, 8.0), 2)  # the line is back before the site is lost, or after
    kind = rng.choice((Kind.KILL_SITE, Kind.LOSE_POWER))
    wanted = Fault(round(lost + rng.uniform(0.0, 1.5), 2), 14.0, Kind.FORCE, "denver")
    beside = schedule(rng, BESIDE)[: rng.randint(0, 3)]
    return tuple(
        sorted(
            (
                Fault(cut, round(back - cut, 2), Kind.CUT, "columbus", "denver"),
                Fault(lost, away, kind, "columbus"),
                wanted,
                *beside,
            )
        )
    )


def forced_in_any_storm(rng: random.Random) -> tuple[Fault, ...]:
    """Whatever goes wrong; at either site an operator stands by who has it lead on as soon as that is not refused."""
    first, other = rng.sample(("columbus", "denver"), 2)
    lost, gone = round(rng.uniform(5.0, 9.0), 2), rng.choice((Kind.KILL_SITE, Kind.LOSE_POWER))
    before = round(lost - rng.uniform(0.3, 3.0), 2)
    losses = (
        Fault(before, round(rng.uniform(1.0, 12.0), 2), rng.choice((gone, Kind.CUT)), first, other),
        Fault(lost, round(rng.uniform(2.0, 11.0), 2), gone, other),
    )
    return tuple(sorted((*schedule(rng)[: rng.randint(0, 5)], *losses, *STAND_BY)))


def forced_older_copy(rng: random.Random) -> tuple[Fault, ...]:
    """As `older_leader`; an operator has that copy lead on, and then the other one comes back, which holds more of what
    was its timeline.
    """
    lost = round(rng.uniform(12.0, 13.0), 2)
    first, other = rng.sample(("columbus", "denver"), 2)
    gone = Fault(
        round(lost + rng.uniform(-2.0, 0.5), 2), round(rng.uniform(6.0, 12.0), 2), Kind.KILL_SITE, other
    )
    older = Fault(lost, round(rng.uniform(0.3, 3.0), 2), Kind.OLDER_SNAPSHOT, first)
    return tuple(sorted((gone, older, *STAND_BY)))


def planned_swap(rng: random.Random) -> tuple[Fault, ...]:
    """A swap is planned, and something goes wrong before its time, at it, or while it is under way."""
    at = round(rng.uniform(2.0, 6.0), 2)
    plan = Fault(at, round(rng.uniform(1.0, 8.0), 2), Kind.PLAN, rng.choice(("columbus", "denver")), "denver")
    return tuple(sorted((plan, *schedule(rng, STORM)[: rng.randint(0, 5)])))


def planned_while_clocks_jump(rng: random.Random) -> tuple[Fault, ...]:
    """A swap is planned; wall clocks that jump by an hour before its time begin nothing early."""
    plan = Fault(
        1.6, round(rng.uniform(4.0, 12.0), 2), Kind.PLAN, rng.choice(("columbus", "denver")), "denver"
    )
    jumps = (
        Fault(round(rng.uniform(2.0, 8.0), 2), round(rng.uniform(1.0, 10.0), 2), Kind.CLOCK_JUMPS, site)
        for site in ("columbus", "denver")
    )
    return tuple(sorted((plan, *jumps, *schedule(rng, BESIDE_CLOCKS)[: rng.randint(0, 2)])))


def away_from_home(rng: random.Random) -> tuple[Fault, ...]:
    """Production is driven from home, where it goes back to by itself; something may go wrong before that, or then."""
    gone = rng.choice(
        (
            Fault(1.6, 3.0, Kind.KILL_SITE, "columbus"),
            Fault(1.6, 3.0, Kind.CARRIER_LOST, "columbus"),
            Fault(1.6, 0.1, Kind.SWAP, "columbus"),
        )
    )
    later = (replace(fault, at=round(fault.at + rng.uniform(0.0, 6.0), 2)) for fault in schedule(rng))
    beside = sorted(fault for fault in later if fault.at + fault.lasts < END)
    return (gone, *[fault for fault in beside if fault.at > gone.at][: rng.randint(0, 4)])


def records_lost(rng: random.Random) -> tuple[Fault, ...]:
    """Somebody deletes records of etcd, or all; something else may be wrong, as when nobody serves at that moment."""
    at = round(rng.uniform(3.0, 8.0), 2)
    return _with_losses(rng, Fault(at, 0.1, Kind.KEYS_LOST, "witness", _who_is_named(rng)))


def etcd_made_anew(rng: random.Random) -> tuple[Fault, ...]:
    """All of etcd's data are lost with its members, which are made anew."""
    at = round(rng.uniform(3.0, 8.0), 2)
    lasts = round(rng.uniform(0.5, 6.0), 2)
    return _with_losses(rng, Fault(at, lasts, Kind.ETCD_ANEW, "witness", _who_is_named(rng)))


def _who_is_named(rng: random.Random) -> str:
    """As the one who holds everything by an operator's word; mostly he names nobody but who does."""
    return rng.choice(("", "", "columbus", "denver"))


def _with_losses(rng: random.Random, lost: Fault) -> tuple[Fault, ...]:
    sites = tuple(
        Fault(
            round(lost.at + rng.uniform(-2.5, 2.0), 2),
            round(rng.uniform(0.5, 9.0), 2),
            rng.choice((Kind.KILL_SITE, Kind.LOSE_POWER, Kind.KILL_POSTGRES, Kind.CUT)),
            *rng.choice((("columbus", "denver"), ("denver", "columbus"))),
        )
        for _ in range(rng.randint(0, 2))
    )
    return tuple(sorted((lost, *sites, *schedule(rng, BESIDE)[: rng.randint(0, 2)])))


def lost_target(rng: random.Random) -> tuple[Fault, ...]:
    """The target of a swap leaves step after the checks; or somebody writes a swap past them, that nobody checked."""
    at = round(rng.uniform(3.0, 6.0), 2)
    if rng.random() < 0.5:
        cut = round(at + rng.uniform(-0.9, 0.5), 2)
        return tuple(
            sorted(
                (
                    Fault(at, 0.1, rng.choice((Kind.SWAP, Kind.ODD_SWAP)), "columbus", "denver"),
                    Fault(cut, round(rng.uniform(1.0, 9.0), 2), Kind.CUT, "columbus", "denver"),
                )
            )
        )
    to = rng.choice(("nobody-a", "columbus", "denver"))
    return tuple(sorted((Fault(at, 0.1, Kind.ODD_SWAP, "columbus", to), *schedule(rng, MOVES)[:2])))


BESIDE_CLOCKS = (
    Kind.CUT,
    Kind.ETCD_MEMBER,
    Kind.ETCD_LEADER,
    Kind.WATCH_STALLS,
    Kind.KILL_POSTGRES,
    Kind.SWAP,
)
STORM = tuple(kind for kind in ANY if kind not in (Kind.CLOCK_JUMPS, Kind.GARBAGE))
STAND_BY = tuple(Fault(3.0, 60.0, Kind.FORCE, site) for site in ("columbus", "denver"))
BESIDE = (
    *(Kind.ETCD_SICK, Kind.ETCD_LATE, Kind.ETCD_LEADER, Kind.ETCD_MEMBER, Kind.WATCH_STALLS),
    *(Kind.KILL_AGENT, Kind.STOP_AGENT, Kind.KILL_POSTGRES, Kind.REPLAY_PAUSED, Kind.COMPACTION, Kind.SWAP),
)


def neither_starts(rng: random.Random) -> tuple[Fault, ...]:
    """PostgreSQL of the leader crashes, that of the other is promoted and crashes, and neither can be started again."""
    at = round(rng.uniform(3.0, 6.0), 2)
    return (
        Fault(2.0, 17.0, Kind.PROMOTION_FAILS, "denver"),
        Fault(2.0, 17.0, Kind.STARTS_FAIL, "columbus"),
        Fault(2.0, 17.0, Kind.STARTS_FAIL, "denver"),
        Fault(at, 0.1, Kind.KILL_POSTGRES, "columbus"),
    )
