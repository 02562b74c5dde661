"""What is said of a drill's runs: over a series of them, on the terminal, in JSON, by the exit code."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from rich.console import Console

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Globals
from sitecontrol.drills import cli
from sitecontrol.drills.outcome import Moment, Outcome
from sitecontrol.drills.report import outcome_table, summary_table, write_html
from sitecontrol.drills.run import Order
from sitecontrol.drills.series import series_of
from sitecontrol.drills.stage import DrillFailedError
from sitecontrol.drills.stories import DRILLS
from sitecontrol.lab.plan import LabOptions

FAILS = 1_003  # the seed of a run that cannot be made


def outcome(pause: float | None = 1.0, *, drill: str = "site-loss", **change) -> Outcome:
    limit = DRILLS[drill].pause_limit
    given = Outcome(
        drill=drill,
        seed=1,
        site="columbus",
        started_at="2026-03-14T15:05:00.000+00:00",
        fault_at="2026-03-14T15:05:03.000+00:00",
        healed_at="2026-03-14T15:05:20.000+00:00",
        quick=False,
        in_swap=False,
        rate=100.0,
        pause_s=pause,
        pause_limit_s=limit,
        pause_from_s=0.0,
        first_ack_after_fault_s=1.1,
        first_submit_after_fault_s=1.2,
        accepted=2_000,
        refused=3,
        connections_broken=4,
        connections_broken_unexpectedly=0,
        unanswered=0,
        acknowledged_lost=0,
        not_final=0,
        in_doubt=2,
        duplicates_at_carrier=0,
        duplicates_declared=0,
        not_delivered=0,
        by_state={"delivered": 2_000},
        at_carriers=2_000,
        two_site_again_s=6.0,
        fencing_ms={},
        live_before="columbus",
        live_after="denver",
        term_before=1,
        term_after=2,
        held={} if pause is None else {"pause-within-limit": pause <= limit},
        timeline=[Moment(t=0.0, what="struck", where="columbus")],
    )
    return replace(given, **change)


def printed(thing) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


# -- a series ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pauses", "broken"),
    [
        ((2.0, 2.9, 4.9), []),
        ((2.0, 3.1, 4.9), ["median-within-limit"]),
        ((2.0, 2.5, 5.1), ["pause-within-limit"]),
        ((4.0, 4.0), ["median-within-limit"]),
        ((4.0,), []),  # one run has no median
    ],
)
def test_the_median_of_a_series_of_site_losses_is_at_most_3_s_and_its_largest_5_s(pauses, broken) -> None:
    [series] = series_of([outcome(pause) for pause in pauses])
    assert [name for name, held in series.held.items() if not held] == broken
    assert series.ok is not bool(broken)
    assert (series.pause_min_s, series.pause_max_s) == (min(pauses), max(pauses))


@pytest.mark.parametrize(
    ("drill", "limit"),
    [
        ("swap", 1.0),
        ("postgres-crash", 2.0),
        ("standby-loss", 1.0),
        ("etcd-quorum-loss", 1.0),
        ("site-loss", 5.0),
    ],
)
def test_no_run_of_a_series_may_pause_longer_than_the_drill_allows(drill, limit) -> None:
    [good] = series_of([outcome(limit / 2, drill=drill)] * 3 + [outcome(limit, drill=drill)])
    [bad] = series_of([outcome(limit / 2, drill=drill)] * 3 + [outcome(limit + 0.001, drill=drill)])
    assert good.ok
    assert bad.held["pause-within-limit"] is False


def test_each_drill_is_a_series_of_its_own() -> None:
    runs = [outcome(1.0), outcome(0.5, drill="swap"), outcome(2.0)]
    assert [(series.drill, series.runs) for series in series_of(runs)] == [("site-loss", 2), ("swap", 1)]


def test_the_summary_shows_median_smallest_largest_and_what_is_allowed() -> None:
    text = printed(summary_table([outcome(pause) for pause in (2.11, 3.22, 4.33)]))
    for figure in ("3.22 s", "2.11 s", "4.33 s", "median 3 s", "5 s"):
        assert figure in text
    assert "median-within-limit" in text


# -- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch) -> list[Order]:
    """The orders that were given; each run pauses for as many seconds as its seed says."""
    orders: list[Order] = []

    async def run_all(
        _options, given: Sequence[Order], _report, outcomes: list[Outcome], *, lenient: bool
    ) -> None:
        orders.extend(given)
        for order in given:
            if order.seed == FAILS:
                raise DrillFailedError("the swap was refused")
            outcomes.append(outcome(float(order.seed), drill=order.drill.name, quick=order.quick))

    monkeypatch.setattr(cli, "run_all", run_all)
    return orders


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(sitectl, ["drill", "run", *words], obj=Globals(), env={"NO_COLOR": "1"})
    return result.exit_code, result.stdout


def test_where_no_status_line_is_drawn_a_drill_says_when_it_begins(monkeypatch) -> None:
    class Whole:
        plan = SimpleNamespace(lab=SimpleNamespace(options=LabOptions()))

        @classmethod
        @asynccontextmanager
        async def open(cls, _folder: Path, *, patience: float) -> AsyncIterator["Whole"]:
            yield cls()

        async def state(self) -> None:
            pass

    async def whole(*_given: object) -> None:
        pass

    async def run_drill(*_given: object, **_more: object) -> Outcome:
        return outcome(1.0)

    monkeypatch.setattr(cli, "LabControl", Whole)
    monkeypatch.setattr(cli, "wait_until_whole", whole)
    monkeypatch.setattr(cli, "run_drill", run_drill)
    told = CliRunner().invoke(sitectl, ["drill", "run", "site-loss", "--json"], obj=Globals())
    assert told.stderr.splitlines()[0] == f"site-loss: takes about {DRILLS['site-loss'].takes}"
    assert json.loads(told.stdout)["ok"]


def test_a_series_whose_median_is_too_long_fails_though_every_run_held(ran) -> None:
    assert run("site-loss", "--repeat", "2", "--seed", "2")[0] == 0  # 2 s and 3 s
    assert run("site-loss", "--repeat", "3", "--seed", "3")[0] == 1  # 3 s, 4 s and 5 s
    assert all(order.seed <= DRILLS["site-loss"].pause_limit for order in ran)


def test_a_run_that_cannot_be_made_takes_nothing_from_those_before_it(ran) -> None:
    first = str(FAILS - 2)
    told = CliRunner().invoke(
        sitectl, ["drill", "run", "swap", "--repeat", "3", "--seed", first, "--json"], obj=Globals()
    )
    assert told.exit_code == 1
    assert [document["pause_s"] for document in json.loads(told.stdout)] == [FAILS - 2, FAILS - 1]
    assert "run 3 of 3: the swap was refused" in told.stderr


def test_the_json_of_a_series_is_a_list_of_runs_each_with_the_figures_of_all(ran) -> None:
    code, output = run("site-loss", "--repeat", "3", "--seed", "3", "--json")
    documents = json.loads(output)
    assert code == 1
    assert [document["pause_s"] for document in documents] == [3.0, 4.0, 5.0]
    assert all(document["ok"] for document in documents)
    for document in documents:
        assert document["series"] == {
            "drill": "site-loss",
            "runs": 3,
            "pause_median_s": 4.0,
            "pause_min_s": 3.0,
            "pause_max_s": 5.0,
            "median_limit_s": 3.0,
            "pause_limit_s": 5.0,
            "held": {"median-within-limit": False, "pause-within-limit": True},
            "ok": False,
        }


def test_the_json_of_one_run_is_that_run(ran) -> None:
    code, output = run("swap", "--seed", "1", "--json")
    document = json.loads(output)
    assert code == 0
    assert document["series"]["runs"] == 1


def test_a_shorter_run_is_asked_for_and_says_so(ran) -> None:
    assert json.loads(run("etcd-quorum-loss", "--seed", "1", "--quick", "--json")[1])["quick"] is True
    assert json.loads(run("etcd-quorum-loss", "--seed", "1", "--json")[1])["quick"] is False
    assert [order.quick for order in ran] == [True, False]


# -- one run -----------------------------------------------------------------------------------------------------


def test_a_run_that_healed_nothing_counts_the_way_back_from_the_fault() -> None:
    assert "both sites in step again, after the healing" in printed(outcome_table(outcome()))
    assert "both sites in step again, after the fault" in printed(outcome_table(outcome(healed_at=None)))


def test_the_steps_of_a_fencing_are_shown_when_there_was_one() -> None:
    assert "fencing" not in printed(outcome_table(outcome()))
    text = printed(outcome_table(outcome(fencing_ms={"decided": 12.0, "postgres_ended": 25.4})))
    assert "decided 12 ms, postgres ended 25 ms" in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "mended at 2026-03-14T15:05:20"),
        ({"healed_at": None}, "nothing had to be mended"),
        ({"quick": True}, "shorter than the fault matrix has it"),
    ],
)
def test_the_page_says_what_was_mended_and_whether_it_was_shorter(tmp_path: Path, change, told) -> None:
    assert told in write_html(outcome(**change), tmp_path).read_text()
