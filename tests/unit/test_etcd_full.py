"""etcd's alarm that its store is full: how it is known, what it bars, and that it is told ahead."""

import dataclasses
import re
from pathlib import Path

import pytest

from healthcheck.probes.etcd import MemberProbe
from healthcheck.probes.result import Result
from healthcheck.targets import Kind, Target, What
from healthcheck.verdicts import Limits
from sitecontrol.etcd.api import FULL, QUOTA, MemberStatus
from sitecontrol.etcd.members import alarms_in
from sitecontrol.leadership.swapping import obstacles
from sitecontrol.leadership.why import outlook, site_loss
from tests.unit.health_scenes import member
from tests.unit.leadership_facts import DENVER, at_columbus

ROOT = Path(__file__).parents[2]
WELL = member("witness", 3)


def test_etcds_words_for_an_alarm_are_found_among_what_else_it_says():
    said = [
        "etcdserver: no leader",
        "memberID:9372538179322589801 alarm:NOSPACE ",
        "memberID:1 alarm:CORRUPT ",
    ]
    assert alarms_in(said) == {"NOSPACE", "CORRUPT"}
    assert alarms_in([]) == frozenset()


@pytest.mark.parametrize(("full", "told"), [(True, (FULL,)), (False, ())])
def test_a_full_etcd_is_what_stands_in_the_way_of_a_swap_and_of_taking_over(
    *, full: bool, told: tuple[str, ...]
):
    facts = at_columbus(etcd_full=full)
    assert obstacles(facts, DENVER) == told
    seen = outlook(facts, site_loss(facts))
    assert seen.in_the_way == told
    assert seen.would_lead == (() if full else (DENVER,))


@pytest.mark.parametrize(
    ("status", "ok", "detail"),
    [
        (WELL, True, "leads etcd"),
        (dataclasses.replace(WELL, db_size=int(QUOTA * 0.79)), True, "leads etcd"),
        (dataclasses.replace(WELL, db_size=int(QUOTA * 0.81)), False, "its store is 81% full"),
        (dataclasses.replace(WELL, alarms=frozenset({"NOSPACE"})), False, FULL),
        (
            dataclasses.replace(WELL, alarms=frozenset({"CORRUPT"})),
            False,
            "etcd has raised its alarm CORRUPT",
        ),
    ],
)
async def test_a_member_is_red_before_its_store_is_full_and_while_etcd_says_so(
    *,
    status: MemberStatus,
    ok: bool,
    detail: str,
):
    seen = Result(ok=True, detail="", evidence={"members": {"witness": status}})
    probe = MemberProbe(lambda _: seen)
    target = Target(
        name="etcd-member/witness",
        kind=Kind.MEMBER,
        place="witness",
        address="witness",
        what=What.MEMBER,
        every=1.0,
        timeout=1.0,
        limits=Limits(rise=1, fall=1),
    )
    told = await probe(target, 1.0)
    assert (told.ok, told.detail.startswith(detail)) == (ok, True)


@pytest.mark.parametrize("file", sorted(ROOT.glob("docker-compose.*.yml")), ids=lambda file: file.name)
def test_the_quota_that_the_alarm_is_reckoned_from_is_that_of_our_configurations(file: Path):
    assert re.findall(r"--quota-backend-bytes=(\d+)", file.read_text()) == [str(QUOTA)]
