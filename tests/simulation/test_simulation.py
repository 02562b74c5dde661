"""The simulation itself: it repeats itself, and shortens what failed. And what single faults do."""

import random
from unittest.mock import patch

import pytest

from replication.errors import NodeError
from tests.simulation.faults import ANY, LINES, Fault, Kind, schedule
from tests.simulation.mutations import MUTATIONS
from tests.simulation.own_postgres import ModelPostgres
from tests.simulation.run import run, shrink


@pytest.mark.parametrize("seed", [2, 7, 10, 26])  # in 2 health asks, and a swap gets an id by chance
def test_a_seed_replays_exactly(seed: int):
    first, again = run(seed), run(seed)
    assert first.log == again.log
    assert (first.acknowledged, first.ended_at) == (again.acknowledged, again.ended_at)


def test_a_failing_schedule_is_shortened_to_the_faults_that_are_needed():
    [mutation] = [m for m in MUTATIONS if m.name == "whoever has data may lead"]
    beside = (Fault(15.0, 0.5, Kind.ETCD_MEMBER, "witness"), Fault(16.0, 1.0, Kind.CLOCK_JUMPS, "denver"))
    schedules = ((seed, mutation.scenario(random.Random(seed))) for seed in range(50))
    with mutation.patch():
        seed, needed = next((s, f) for s, f in schedules if run(s, (*f, *beside)).violation is not None)
        assert set(shrink(run(seed, (*needed, *beside))).faults) == set(needed)


@pytest.mark.parametrize("lasts", [3.0, 15.0])
@pytest.mark.parametrize("seed", range(5))
def test_etcd_alone_lost_and_returning_interrupts_nothing(seed: int, lasts: float):
    """`serves-through-dcs-loss`: the same leader, the same term, and no pause beyond a second."""
    outcome = run(seed, (Fault(5.0, lasts, Kind.ETCD_QUORUM, "witness"),))
    assert outcome.violation is None
    assert (outcome.terms, outcome.longest_gap < 1.5) == (1, True)


@pytest.mark.parametrize("seed", range(40))
def test_garbage_in_etcd_alone_interrupts_nothing(seed: int):
    """The same leader, the same term, no pause beyond a second, and in the end every record is believed again."""
    outcome = run(seed, tuple(Fault(at, 1.5, Kind.GARBAGE, "columbus") for at in (4.0, 4.1, 7.0, 9.0, 9.2)))
    assert outcome.violation is None, "\n".join(outcome.log[-60:])
    assert (outcome.terms, outcome.longest_gap < 1.5) == (1, True)


@pytest.mark.parametrize("kind", ANY, ids=lambda k: k.value)
def test_every_fault_by_itself_is_outlived(kind: Kind):
    for seed in range(6):
        outcome = run(
            seed,
            (Fault(5.0, 4.0, kind, "columbus", "denver" if kind in {Kind.CUT, Kind.CUT_ONE_WAY} else ""),),
        )
        assert outcome.violation is None, "\n".join(outcome.log[-60:])


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.CUT_ONE_WAY], ids=lambda k: k.value)
@pytest.mark.parametrize(("one", "other"), [("columbus", "denver"), ("denver", "columbus")])
def test_a_cut_between_the_sites_alone_moves_nothing(kind: Kind, one: str, other: str):
    """Each site sees the other unfit; the witness sees both."""
    for seed in range(5):
        outcome = run(seed, (Fault(4.0, 12.0, kind, one, other),))
        assert outcome.violation is None
        assert not any("ASKED" in line for line in outcome.log)
        assert outcome.terms == 1 or kind is Kind.CUT_ONE_WAY


@pytest.mark.parametrize("first", [0, 10, 20])
def test_whatever_lines_fail_a_leader_is_fenced_when_its_lease_runs_out(first: int):
    for seed in range(first, first + 10):
        outcome = run(seed, schedule(random.Random(seed), LINES))
        assert outcome.violation is None, "\n".join(outcome.log[-60:])


def test_a_live_site_without_carriers_is_left_by_a_swap_that_health_asks_for():
    outcome = run(0, (Fault(4.0, 12.0, Kind.CARRIER_LOST, "columbus"),))
    assert outcome.violation is None
    assert [line.split()[1] for line in outcome.log if "ASKED" in line] == ["ASKED"]
    assert outcome.terms == 2


@pytest.mark.parametrize("kind", [Kind.SWAP, Kind.STOP_AGENT], ids=lambda k: k.value)
def test_a_winner_that_cannot_be_promoted_leaves_the_lead_to_the_other_who_is_complete(kind: Kind):
    """Its agent and its PostgreSQL are well, and the end of recovery never comes."""
    promote = ModelPostgres.promote

    async def only_at_columbus(self: ModelPostgres) -> None:
        if self.database.place == "denver":
            raise NodeError("the promotion did not end")
        await promote(self)

    with patch.object(ModelPostgres, "promote", only_at_columbus):
        outcome = run(0, (Fault(3.0, 5.0, kind, "columbus"),))
    assert outcome.violation is None, "\n".join(outcome.log[-60:])
    assert outcome.terms == 3


def test_a_line_between_the_sites_that_was_dead_costs_no_copy_of_the_leader():
    """The standby takes from the leader again by itself as soon as the line is back."""
    for seed in range(12):
        outcome = run(seed, (Fault(3.0, 6.0 + seed % 6, Kind.CUT, "columbus", "denver"),))
        assert outcome.violation is None
        assert not any("done" in line and "Clone" in line for line in outcome.log), "\n".join(outcome.log)
