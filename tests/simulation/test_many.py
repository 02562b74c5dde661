"""Many seeds: beside each other they come to what they come to one by one, and what came of them is told."""

from tests.simulation.many import Chosen, Result, Total, result_of, results

SEEDS = range(40, 46)


def test_seeds_that_run_beside_each_other_come_to_what_they_come_to_one_by_one():
    chosen = Chosen()
    with results(chosen, SEEDS, jobs=2) as coming:
        found = {result.seed: result for result in coming}
    assert found == {seed: result_of(chosen, seed) for seed in SEEDS}


def a_result(seed: int, invariant: str | None = None) -> Result:
    return Result(
        seed=seed,
        invariant=invariant,
        said="",
        acknowledged=100,
        terms=2,
        faults=("cut", "swap"),
        ended_at=1_800.0,
    )


def test_the_end_tells_what_was_violated_how_often_and_where():
    total = Total(wanted=4)
    for seed, invariant in ((7, None), (9, "one-writer"), (8, "one-writer"), (10, "converges")):
        total.add(a_result(seed, invariant))
    first, second, last = total.summary()
    assert first.startswith("4 seeds in ")
    assert first.endswith("2.0 hours of virtual time")
    assert second == "8 faults of 2 kinds, 400 messages acknowledged, 8 terms"
    assert last == "violated: one-writer in 2, converges in 1; seeds 8, 9, 10"


def test_an_end_before_its_time_tells_how_far_it_got():
    total = Total(wanted=1_000)
    total.add(a_result(0))
    assert total.summary()[0].startswith("1 of 1,000 seeds in ")
    assert total.summary()[-1] == "every invariant held"
    assert Total(wanted=1_000).summary()[-1] == "nothing was looked at"
