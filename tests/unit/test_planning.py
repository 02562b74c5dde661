"""A swap for a time to come: when it is due, who begins it, what is refused, and that it happens once or not at all."""

from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitecontrol.cli.session import Exit
from sitecontrol.cli.tables import status_lines
from sitecontrol.cli.why import why_lines
from sitecontrol.leadership import planning
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import BeginPlanned, DropPlanned
from sitecontrol.leadership.facts import Facts, LeaseFacts
from sitecontrol.leadership.observed import NEVER, look
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Deed, Desired, Phase, Planned, Swap
from tests import schemas
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    WALL,
    at_columbus,
    at_denver,
    cluster,
    entry,
    swap,
    sync,
)
from tests.unit.test_nodes import Bench, without
from tests.unit.test_sitectl_acts import answering, call
from tests.unit.test_sitectl_tables import shown

AT = WALL + timedelta(minutes=10)
WANTED = Planned(id="p1", to="denver", at=AT, asked_at=WALL, by="anna", reason="new UPS")


def facts(*, wall_s: float, seen_s: float | None = None, base: Facts | None = None, **change: Any) -> Facts:
    """So long after it was planned, by the wall clock and by our own; None: we did not see it planned."""
    f = base or at_columbus()
    began = NEVER if seen_s is None else f.now - seen_s
    return replace(
        f,
        wall=WALL + timedelta(seconds=wall_s),
        health=replace(f.health, windows={WANTED: began}),
        cluster=replace(f.cluster, **({"desired": entry(Desired(planned=WANTED), mod_revision=6)} | change)),
    )


def rule(f: Facts) -> str:
    return decide(Lane.SWAP, f).rule


def test_it_begins_at_its_time_and_goes_to_the_sites_best_node():
    assert rule(facts(wall_s=599)) == "no-swap"
    decision = decide(Lane.SWAP, facts(wall_s=600))
    assert (decision.rule, decision.effect) == ("planned-begins", BeginPlanned(to_node=DENVER))


def test_a_wall_clock_that_jumps_begins_nothing_early():
    assert rule(facts(wall_s=7_200, seen_s=599)) == "no-swap"
    assert rule(facts(wall_s=7_200, seen_s=601)) == "planned-begins", "and is not late for it"
    assert rule(facts(wall_s=0, seen_s=900)) == "no-swap"


@given(wall_s=st.floats(-1e5, 1e5), seen_s=st.none() | st.floats(0, 1e5))
def test_whatever_the_clocks_say_it_never_begins_before_both_do(wall_s: float, seen_s: float | None):
    f = facts(wall_s=wall_s, seen_s=seen_s)
    begins = isinstance(decide(Lane.SWAP, f).effect, BeginPlanned)
    late = min(f.wall.timestamp() - AT.timestamp(), float("inf") if seen_s is None else seen_s - 600)
    assert begins is (0 <= late <= planning.LATE)


def test_what_nobody_could_begin_in_time_is_dropped():
    decision = decide(Lane.SWAP, facts(wall_s=600 + planning.LATE + 1))
    assert decision.rule == "planned-missed"
    assert isinstance(decision.effect, DropPlanned)
    assert "301 s late" in decision.effect.reason


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (without(facts(wall_s=600), DENVER), "the agent of denver-a is not heard"),
        (facts(wall_s=600, sync=entry(sync(COLUMBUS))), "denver-a is not in step"),
        (
            facts(wall_s=600, desired=entry(Desired(planned=WANTED.model_copy(update={"to": "boston"})))),
            "no site and no node 'boston' is configured",
        ),
        (
            facts(wall_s=600, desired=entry(Desired(planned=WANTED.model_copy(update={"to": "columbus"})))),
            "columbus-a leads already",
        ),
    ],
)
def test_what_stands_in_its_way_then_is_told_and_nothing_moves(f: Facts, why: str):
    decision = decide(Lane.SWAP, f)
    assert decision.rule == "planned-refused"
    assert isinstance(decision.effect, DropPlanned)
    assert why in decision.effect.reason


def test_it_is_the_open_leader_that_begins_it_beside_no_other_swap():
    assert rule(facts(wall_s=600, base=at_denver())) == "no-swap"
    assert rule(replace(facts(wall_s=600), etcd_heard_at=None)) == "no-swap"
    closed = facts(wall_s=600)
    assert rule(replace(closed, pg=replace(closed.pg, open_term=None))) == "no-swap"
    assert rule(replace(closed, lease=LeaseFacts(id=closed.lease.id, ends_at=closed.now))) == "no-swap"
    assert rule(facts(wall_s=600, swap=entry(swap(Phase.REQUESTED)))) == "check"


def test_that_it_was_seen_planned_is_remembered_and_one_from_before_the_agent_counts_by_the_wall_clock():
    seen = cluster(desired=entry(Desired(planned=WANTED)))
    asked = {"wall": WALL, "places": ("columbus",), "site_of": at_columbus().site_of, "etcd_here": True}
    first = look(at_columbus().health, now=100.0, cluster=seen, **asked)
    assert first.windows == {WANTED: NEVER}
    later = look(look(first, now=101.0, cluster=cluster(), **asked), now=102.0, cluster=seen, **asked)
    assert later.windows == {WANTED: 102.0}
    assert look(later, now=103.0, cluster=seen, **asked).windows == {WANTED: 102.0}


# -- what is written -----------------------------------------------------------------------------------------------


def planned_bench() -> Bench:
    bench = Bench(at_columbus(cluster=cluster(sync=entry(sync(COLUMBUS, DENVER, term=1)))))
    see(bench)
    return bench


def see(bench: Bench) -> None:
    kept = bench.log.snapshot
    seen = replace(bench.state.facts.cluster, desired=kept.desired, log_end=kept.log_end)
    bench.state.facts = replace(bench.state.facts, cluster=seen)


async def plan(bench: Bench, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = await bench.post(
        "/swap/plan", **({"to": "denver", "in_s": 600, "by": "anna", "reason": "UPS"} | body)
    )
    see(bench)
    return answer


def of(bench: Bench) -> Planned:
    kept = bench.log.snapshot.desired
    assert kept is not None
    assert kept.record.planned is not None
    return kept.record.planned


def written(bench: Bench, transaction: Any) -> bool:
    return bench.log.apply(transaction)


async def test_it_is_kept_shown_and_cancelled_and_each_is_told_in_the_audit_log():
    bench = planned_bench()
    status, dry = await plan(bench, dry_run=True)
    assert (status, dry["would"]) == (200, "swap plan")
    schemas.check(["swap"], dry)
    assert bench.log.snapshot.desired is None
    assert (await plan(bench))[0] == 200
    assert (of(bench).to, of(bench).at, of(bench).by) == ("denver", AT, "anna")
    told = bench.state.cluster()["planned"]
    assert (told["id"], told["in_the_way"]) == (of(bench).id, [])
    assert bench.state.why()["planned"] == told
    line = f"swap {of(bench).id} to denver is planned for 2026-01-01 00:10:00 UTC, by anna: UPS"
    assert line in shown(status_lines(bench.state.cluster()))
    assert line in shown(why_lines(bench.state.why()))
    again, refused = await plan(bench)
    assert (again, "is planned already: cancel it first" in refused["detail"]) == (409, True)
    assert (await bench.post("/swap/cancel", by="joe"))[0] == 200
    see(bench)
    assert bench.state.cluster()["planned"] is None
    assert bench.told[-2:] == [Deed.SWAP_PLANNED, Deed.SWAP_CANCELLED]
    assert (await bench.post("/swap/cancel"))[0] == 409
    assert bench.log.flaws == ()


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"in_s": None, "at": "2025-12-31T23:59:59Z"}, 409, "is past"),
        ({"in_s": None, "at": "2026-01-08T00:00:01Z"}, 409, "more than 7 days ahead"),
        ({"in_s": None, "at": "2026-01-01T03:00:00"}, 422, "timezone"),
        ({"in_s": None, "at": "0001-01-01T00:00:00+10:00"}, 422, "no such time in UTC"),
        ({"in_s": None}, 422, "either"),
        ({"at": "2026-01-01T03:00:00Z"}, 422, "either"),
        ({"in_s": 8 * 86_400}, 422, "in_s"),
        ({"to": "boston"}, 422, "no site"),
    ],
)
async def test_what_is_no_time_or_no_site_is_refused(body: dict[str, Any], status: int, why: str):
    bench = planned_bench()
    got, told = await plan(bench, **body)
    assert got == status
    assert why in told["detail"]
    assert bench.log.snapshot.desired is None


async def test_what_would_refuse_it_as_it_is_now_is_told_and_does_not_keep_it_from_being_planned():
    bench = planned_bench()
    bench.state.facts = without(bench.state.facts, DENVER)
    _, dry = await plan(bench, dry_run=True, to=DENVER)
    assert dry["consequences"][1] == "as it is now it would be refused: the agent of denver-a is not heard"
    assert (await plan(bench, to=DENVER, in_s=None, at="2026-01-01T05:00:00+02:00"))[0] == 200
    assert of(bench).at.tzinfo == UTC
    lines = " ".join(shown(status_lines(bench.state.cluster())))
    assert "planned for 2026-01-01 03:00:00 UTC" in lines
    assert "as it is now it would be refused" in lines


async def test_it_begins_once_and_is_planned_no_more():
    bench = planned_bench()
    await plan(bench)
    wanted = of(bench)
    begun = Swap(
        id=wanted.id,
        from_node=COLUMBUS,
        to_node=DENVER,
        by="anna",
        phase=Phase.REQUESTED,
        term=1,
        requested_at=AT,
    )
    transaction = bench.log.writer().begin_planned(begun, planning.without(bench.state.facts))
    assert written(bench, transaction)
    assert not written(bench, transaction), "a late one"
    snapshot = bench.log.snapshot
    assert (snapshot.swap.record.id if snapshot.swap else None) == wanted.id
    assert snapshot.desired is not None
    assert snapshot.desired.record.planned is None
    assert bench.log.flaws == ()


@pytest.mark.parametrize("program", ["ours", "older"])
async def test_one_that_is_cancelled_at_the_last_moment_does_not_begin(program: str):
    bench = planned_bench()
    await plan(bench)
    before, wanted = bench.log.writer(), of(bench)
    dropping = before.drop_planned(wanted, planning.without(bench.state.facts), "not in step", AT)
    begun = Swap(
        id="p", from_node=COLUMBUS, to_node=DENVER, by="a", phase=Phase.REQUESTED, term=1, requested_at=AT
    )
    beginning = before.begin_planned(begun, planning.without(bench.state.facts))
    if program == "ours":
        assert (await bench.post("/swap/cancel"))[0] == 200
    else:  # which has no audit log
        bench.log.put("desired", Desired().encode())
    assert not written(bench, beginning)
    assert not written(bench, dropping)


async def test_what_was_refused_stands_in_the_history_by_its_id():
    bench = planned_bench()
    await plan(bench)
    wanted = of(bench)
    dropped = bench.log.writer().drop_planned(wanted, planning.without(bench.state.facts), "denver burns", AT)
    assert written(bench, dropped)
    [told] = [e.record for key, e in bench.log.snapshot.history.items() if key.endswith(f"-{wanted.id}")]
    assert (told.kind, told.reason, told.evidence["asked_because"]) == (
        "swap rolled back",
        "denver burns",
        "UPS",
    )
    assert bench.told[-1] == Deed.SWAP_ROLLED_BACK
    assert bench.log.flaws == ()


# -- the command ---------------------------------------------------------------------------------------------------

KEPT = Desired(planned=WANTED).model_dump(mode="json")


def told(folder: Path, *words: str, typed: str = "", desired: Any = None) -> tuple[Any, list[Any]]:
    answer = (200, KEPT if desired is None else desired)
    with answering(**{"swap/plan": answer, "swap/cancel": answer}) as agent:
        return call(folder, "swap", *words, columbus=1, denver=agent.server_port, typed=typed), agent.acts


def test_a_time_is_given_with_its_zone_or_from_now(tmp_path: Path):
    for time, asked in (("+10m", {"in_s": 600}), ("2026-01-01T00:10:00Z", {"at": AT.isoformat()})):
        said, acts = told(tmp_path, "--to", "denver", "--at", time, typed="denver\n")
        assert said.exit_code == Exit.DONE, said.stderr
        assert asked.items() <= acts[-1][1].items()
        assert said.stdout == "swap p1 to denver is planned for 2026-01-01 00:10:00 UTC, by anna: new UPS\n"
    said, acts = told(tmp_path, "--to", "denver", "--at", "+10m", "--json", "--yes")
    schemas.check(["swap"], KEPT)
    assert said.stdout.startswith("{")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--to", "denver", "--at", "2026-01-01T00:10:00"), "has no zone"),
        (("--to", "denver", "--at", "tomorrow"), "give a time as"),
        (("--to", "denver", "--at", "+10x"), "give a number and"),
        (("--to", "denver", "--cancel"), "or --cancel what is planned"),
        (("--cancel", "--at", "+1m"), "or --cancel what is planned"),
        ((), "say where to"),
    ],
)
def test_what_is_no_time_is_a_mistake_in_the_arguments(words: tuple[str, ...], why: str, tmp_path: Path):
    said, acts = told(tmp_path, *words)
    assert (said.exit_code, acts) == (Exit.USAGE, [])
    assert why in said.stderr


def test_it_is_cancelled_without_a_word_to_type(tmp_path: Path):
    said, acts = told(tmp_path, "--cancel", desired=Desired().model_dump(mode="json"))
    assert (said.exit_code, said.stdout) == (Exit.DONE, "No swap is planned any more.\n")
    assert [path for path, _ in acts] == ["/swap/cancel"]
