"""What an operator wants of the cluster: what a dry run tells, that it writes nothing, and what is refused."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.leadership import wishes
from sitecontrol.records import Desired, Maintenance, Phase
from tests import schemas
from tests.unit.leadership_facts import DENVER, WALL, at_columbus, cluster, entry, swap, sync
from tests.unit.test_nodes import Bench, in_cluster

WORK = {"site": "denver", "for_s": 3_600, "reason": "new disks", "by": "anna"}
WINDOW = Maintenance(site="denver", since=WALL, until=WALL + timedelta(hours=2), by="joe", reason="cables")
PAUSED = Desired(paused=True, paused_by="joe", paused_reason="storm", maintenance=(WINDOW,))


def bench(desired: Desired | None = None) -> Bench:
    """With `desired` in etcd, as the agent has seen it."""
    found = Bench(at_columbus(cluster=cluster(sync=entry(sync("columbus-a", DENVER, term=1)))))
    if desired is not None:
        found.log.put("desired", desired.encode())
        seen = replace(found.state.facts.cluster, desired=found.log.snapshot.desired)
        found.state.facts = replace(found.state.facts, cluster=seen)
    return found


def kept(found: Bench) -> Any:
    return found.log.kvs


@pytest.mark.parametrize(
    ("path", "body", "would", "changes"),
    [
        (
            "pause",
            {"reason": "x", "by": "anna"},
            "pause",
            {"paused_by": ["joe", "anna"], "paused_reason": ["storm", "x"]},
        ),
        (
            "resume",
            {"by": "anna"},
            "resume",
            {
                "paused": [True, False],
                "paused_by": ["joe", "anna"],
                "paused_reason": ["storm", ""],
                "acknowledged_revision": [None, 9],
            },
        ),
        (
            "maintenance/end",
            {"site": "denver"},
            "maintenance end",
            {"maintenance": [[WINDOW.model_dump(mode="json")], None]},
        ),
    ],
)
async def test_a_dry_run_tells_each_field_that_would_change_and_the_act_then_changes_just_these(
    path: str, body: dict[str, Any], would: str, changes: dict[str, Any]
):
    found = bench(PAUSED)
    before = kept(found)
    status, told = await found.post(f"/{path}", **body, dry_run=True)
    assert (status, told["would"], told["changes"]) == (200, would, changes)
    schemas.check(would.split(), told)
    assert kept(found) == before
    status, wanted = await found.post(f"/{path}", **body)
    assert (status, wanted) == (200, told["wanted"])
    assert found.log.snapshot.desired.record == Desired.model_validate(wanted)  # type: ignore[union-attr] # just written


async def test_a_dry_run_of_maintenance_says_what_it_replaces_and_that_swaps_there_are_refused():
    found = bench(PAUSED)
    status, told = await found.post("/maintenance/begin", **WORK, dry_run=True)
    assert status == 200
    assert [window["reason"] for window in told["wanted"]["maintenance"]] == ["new disks"]
    comes = " ".join(told["consequences"])
    assert "`sitectl swap --to denver` is refused" in comes
    assert "replaces what was announced: until 2026-01-01 02:00+00:00, by joe: cables" in comes
    assert "stays there" not in comes
    live = await found.post("/maintenance/begin", **{**WORK, "site": "columbus"}, dry_run=True)
    assert "production runs in columbus, and stays there" in " ".join(live[1]["consequences"])


async def test_a_dry_run_that_etcd_does_not_answer_is_no_yes_and_another_agent_can_be_asked():
    found = bench()
    etcd = MemoryEtcd(found.log.store)
    etcd.cut()
    found.etcd = etcd
    status, told = await found.post("/pause", reason="x", dry_run=True)
    assert (status, told["title"]) == (503, "etcd does not answer")


async def test_a_dry_run_asks_etcd_whether_it_would_be_written():
    found = bench()
    found.log.put("desired", PAUSED.encode())  # and the agent has not seen it
    status, told = await found.post("/pause", reason="x", dry_run=True)
    assert status == 409
    assert "ask again" in told["detail"]


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": " \t"}])
@pytest.mark.parametrize("path", ["/pause", "/maintenance/begin"])
async def test_without_a_reason_nothing_is_wanted_and_the_problem_says_what_is_missing(
    path: str, body: dict[str, Any]
):
    found = bench()
    before = kept(found)
    work = {"site": "denver", "for_s": 60} if "maintenance" in path else {}
    status, told = await found.post(path, **work, **body)
    assert status == 422
    assert told["detail"] == "reason: say why, for those who look at the status"
    assert [error["field"] for error in told["errors"]] == ["reason"]
    assert kept(found) == before


async def test_a_site_that_there_is_not_has_no_maintenance_to_begin_or_to_end():
    found = bench()
    for path, body in (
        ("/maintenance/begin", WORK | {"site": "boston"}),
        ("/maintenance/end", {"site": "boston"}),
    ):
        status, told = await found.post(path, **body)
        assert (status, told["title"]) == (422, "No such site")
        assert "columbus, denver" in told["detail"]
    status, told = await found.post("/maintenance/end", site="denver", dry_run=True)
    assert (status, told["obstacles"]) == (
        409,
        ["no maintenance is announced for 'denver': there is none to end"],
    )


def test_a_pause_says_what_it_means_at_that_moment():
    calm = at_columbus()
    assert "a lost leader is replaced by nobody, until `sitectl resume`" in " ".join(
        wishes.pause(calm, by="a", reason="x").comes
    )
    again = in_cluster(calm, desired=entry(PAUSED))
    assert "paused already, by joe: storm" in wishes.pause(again, by="a", reason="x").comes[0]
    leaderless = in_cluster(calm, leader=None)
    assert (
        "nobody takes the lead before `sitectl resume`"
        in wishes.pause(leaderless, by="a", reason="x").comes[-1]
    )
    swapping = in_cluster(calm, swap=entry(swap(Phase.HELD)))
    assert (
        "swap s1 to denver-a is in progress (held) and goes on"
        in wishes.pause(swapping, by="a", reason="x").comes
    )


def test_a_resume_says_whether_somebody_takes_the_lead_because_of_it():
    calm = at_columbus()
    assert wishes.resume(calm, by="a", reason="").comes[0] == "automatic swaps are on already"
    waiting = in_cluster(calm, desired=entry(PAUSED), leader=None)
    assert "takes the lead as soon as this is read" in wishes.resume(waiting, by="a", reason="").comes[0]
