"""What a drill waits for before it strikes in the middle of a swap."""

import json
from collections.abc import Iterable
from typing import Any, cast

import pytest

from sitecontrol.drills.stage import Party, Stage
from sitecontrol.drills.watch import Watch
from sitecontrol.lab import faults
from sitecontrol.lab.control import Json, LabControl
from sitecontrol.lab.faults import Fault


def swap(phase: str, named: str = "ours") -> Json:
    return {"id": named, "phase": phase, "to_node": "denver", "by": "sitectl drill"}


class FakeLab:
    """What the agents show of the swap, one thing after the other; the last one stays."""

    def __init__(self, shown: Iterable[Json | None]) -> None:
        self._shown = list(shown)
        self.now: Json | None = self._shown[0]
        self.struck: list[str] = []

    async def cluster(self) -> Json:
        self.now = self._shown.pop(0) if len(self._shown) > 1 else self._shown[0]
        return {"term": 3, "live_site": "columbus", "swap": self.now}

    async def agents(self) -> dict[str, Json]:
        return {"columbus": await self.cluster()}

    async def is_two_site(self) -> bool:
        return True


class AskedStage(Stage):
    """Its requests for a swap are taken, or get the answers that a test gives."""

    answers: tuple[tuple[int, str], ...] = ()

    async def _post_swap(self, to: str, *, dry_run: bool) -> tuple[int, str]:
        if dry_run:
            return 200, ""
        first, *rest = self.answers or ((202, json.dumps({"id": "ours"})),)
        self.answers = tuple(rest)
        return first


def stage_of(lab: FakeLab, *, in_swap: bool = True) -> AskedStage:
    control = cast("LabControl", lab)
    return AskedStage(
        control=control, watch=Watch(control), live_before="columbus", term_before=3, in_swap=in_swap
    )


@pytest.fixture
def phases_struck(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """In which phase of the swap each blow fell; None: no swap was seen then."""
    found: list[str | None] = []

    async def note(control: Any, _: str) -> None:
        found.append(control.now["phase"] if control.now else None)

    blow = Fault(name="blow", summary="a blow", strikes="live", strike=note)
    monkeypatch.setitem(faults.FAULTS, "blow", blow)
    return found


async def test_a_blow_in_the_middle_of_a_swap_waits_until_the_swap_is_shown_and_holds_requests(
    phases_struck: list[str | None],
):
    """Just after it was asked for no agent shows it yet, or one still shows the swap before it."""
    other = swap("in step", named="an older one")
    lab = FakeLab([None, other, None, swap("requested"), swap("checked"), swap("held")])
    stage = stage_of(lab)
    await stage.strike("blow", "columbus")
    assert (phases_struck, stage.missed) == (["held"], [])


async def test_each_blow_of_an_interrupted_swap_waits_for_its_own_phase(phases_struck: list[str | None]):
    lab = FakeLab([None, None, swap("requested"), swap("held"), swap("handed"), None])
    stage = stage_of(lab, in_swap=False)
    await stage.interrupted_swap("handed", Party.FROM, "blow")
    assert (phases_struck, stage.missed) == (["handed"], [])


async def test_a_swap_that_ends_before_the_phase_is_a_missed_fact(phases_struck: list[str | None]):
    stage = stage_of(FakeLab([None, swap("requested"), None]))
    await stage.strike("blow", "columbus")
    assert stage.missed == ["ended before: the swap to denver is held"]
    assert any("ended before it was held" in what for _, what, _ in stage.watch.events)
    assert phases_struck == [None]


async def test_a_swap_of_which_nobody_knows_whether_it_was_begun_is_known_by_who_asked_for_it(
    phases_struck: list[str | None],
):
    health = {**swap("held", named="another"), "by": "health, agent denver-a"}
    stage = stage_of(FakeLab([health, swap("requested"), swap("held")]))
    stage.answers = ((503, "etcd gave no answer"), (409, "in progress"))
    await stage.strike("blow", "columbus")
    assert (phases_struck, stage.missed) == (["held"], [])
