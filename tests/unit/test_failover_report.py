"""The report of how long failures take: phases from an agent's log, and a page from figures."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from bench.failover.figures import DrillFigures, Figures, PeerFigures, of_outcome
from bench.failover.page import PROMISES, kept, page
from bench.failover.phases import PHASES, Noted, noted, phases
from bench.peers.patroni import Run, Writer
from sitecontrol.drills.stories import DRILLS
from tests.unit.test_json_shapes import OUTCOME

FAULT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def line(after: float, event: str, agent: str = "denver") -> Noted:
    return Noted(at=FAULT + timedelta(seconds=after), event=event, agent=agent)


LOST = [
    line(-9.0, "opened", "columbus"),
    line(2.0, "nobody_leads"),
    line(2.1, "lead_taken"),
    line(2.25, "promoted"),
    line(2.4, "opened"),
]


def found(events: list[Noted], **change: object) -> dict[str, float]:
    asked: dict[str, object] = {"fault_at": FAULT, "until": None, "answered_s": 2.5} | change
    return phases(events, **asked)  # type: ignore[arg-type] # each test changes one


def test_each_phase_begins_where_the_one_before_ended():
    assert found(LOST) == pytest.approx(
        {"detection": 2.0, "election": 0.1, "promotion": 0.15, "reopening": 0.15, "first answer": 0.1}
    )
    assert tuple(found(LOST)) == PHASES


def test_what_another_agent_noted_meanwhile_is_no_part_of_it():
    assert found([*LOST[:2], line(2.05, "promoted", "columbus"), *LOST[2:]]) == found(LOST)


def test_a_postgresql_that_came_back_in_place_is_no_failover():
    assert found([line(0.7, "opened", "columbus")]) == {}


def test_what_comes_after_the_healing_does_not_count():
    assert found(LOST, until=FAULT + timedelta(seconds=1)) == {}


def test_lines_of_a_log_that_are_no_events_are_passed_over():
    lines = [
        "Traceback (most recent call last):",
        json.dumps({"event": "opened", "timestamp": "2026-01-02T03:04:05.500000Z", "term": 3}),
        json.dumps({"event": "fencing", "timestamp": "2026-01-02T03:04:05Z"}),
        json.dumps(["opened"]),
    ]
    assert noted(lines, "denver") == [line(0.5, "opened")]


def run(drill: str, pause: float, **change: object) -> DrillFigures:
    values: dict[str, object] = {
        "drill": drill, "at": "2026-01-02T03:04:05.000+00:00", "quick": False, "rate": 100.0, "pause_s": pause,
        "accepted": 1000, "refused": 0, "acknowledged_lost": 0, "duplicates_undeclared": 0, "two_site_again_s": 4.0,
        "fencing_ms": {}, "phases": {}, "swaps": [], "not_held": [], "load": 1.0,
    }  # fmt: skip
    return DrillFigures.model_validate(values | change)


def test_every_drill_of_the_report_is_one_that_there_is():
    assert {promise.drill for promise in PROMISES} <= DRILLS.keys()


def test_the_page_tells_median_range_and_how_many_runs_there_were():
    told = page(
        Figures(drills=[run("site-loss", pause) for pause in (2.0, 3.5, 2.2)]), machine="m", wan_ms=35
    )
    assert "| `site-loss`: live site lost, all its processes at once | 3 | 2.20 | 2.00-3.50 |" in told
    assert "Patroni" not in told


@pytest.mark.parametrize(
    ("pauses", "lost", "again", "breaks"),
    [
        ((2.0, 4.0), 0, 30.0, None),
        ((2.0, 4.0), 0, None, None),
        ((2.0, 6.0), 0, 4.0, "max"),
        ((3.5, 3.6), 0, 4.0, "median"),
        ((2.0,), 1, 4.0, "lost"),
        ((2.0,), 0, 31.0, "return"),
    ],
)
def test_a_promise_is_kept_within_median_and_maximum_when_nothing_is_lost_and_the_return_does_not_take_long(
    pauses: tuple[float, ...], lost: int, again: float | None, breaks: str | None
):
    promise = next(p for p in PROMISES if p.drill == "site-loss")
    runs = [run("site-loss", pause, acknowledged_lost=lost, two_site_again_s=again) for pause in pauses]
    assert kept(promise, runs) is (breaks is None)


@pytest.mark.parametrize(
    ("gigabytes", "told"),
    [((0.0,), "little more than what was sent"), ((1.02, 1.01), "1 GB"), ((0.0, 1.0), "0 to 1 GB")],
)
def test_the_page_tells_how_much_data_there_was(gigabytes: tuple[float, ...], told: str):
    runs = [run("swap", 0.7, gigabytes=each) for each in gigabytes]
    assert f"each site held {told}." in page(Figures(drills=runs), machine="m", wan_ms=35)


def test_a_run_that_did_not_hold_is_named():
    assert "did not hold swap-ends" in page(
        Figures(drills=[run("swap", 0.8, not_held=["swap-ends"])]), machine="m", wan_ms=35
    )


def test_patroni_stands_beside_with_the_ratio_of_the_medians():
    peer = PeerFigures(
        version="4.1.5",
        settings={"ttl": 20},
        runs=[Run(fault="site-loss", pause_s=20.0, acknowledged=9, lost=0)],
    )
    told = page(Figures(drills=[run("site-loss", 2.5)], patroni=peer), machine="m", wan_ms=35)
    assert "| live node lost | 2.50 (2.50-2.50), 1 | 20.00 (20.00-20.00), 1 | 8.0 | 0 |" in told


def test_the_swaps_of_a_run_are_those_of_the_history_since_it_began():
    entry = {"kind": "swap", "at": "2026-01-02T03:04:09Z", "durations_ms": {"held": 5, "opened": 70}}
    older = entry | {"at": "2026-01-01T00:00:00Z"}
    figures = of_outcome(OUTCOME, phases={}, history=[older, entry, entry | {"kind": "failover"}], load=0.5)
    assert figures.swaps == [{"held": 5, "opened": 70}]


def test_figures_are_the_same_after_they_were_kept():
    figures = Figures(drills=[run("swap", 0.8, swaps=[{"held": 5}])])
    assert Figures.model_validate_json(figures.model_dump_json()) == figures


def test_a_writers_pause_is_the_longest_time_between_two_acknowledgements():
    writer = Writer([1], acknowledged=[(1.0, 1), (1.02, 2), (21.0, 3)])
    assert writer.longest_gap(end=21.02) == pytest.approx(19.98)


def test_a_writer_that_was_never_answered_again_waited_until_the_end():
    assert Writer([1], acknowledged=[(1.0, 1), (1.02, 2)]).longest_gap(end=31.02) == pytest.approx(30.0)
