"""Acts that are asked for while somebody else writes: decided anew, a few times, and then refused with what to do."""

from dataclasses import replace
from typing import Any

import pytest

from sitecontrol.agent import asking
from sitecontrol.agent.asking import TRIES
from sitecontrol.etcd.api import TxnResult
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.leadership.facts import Facts
from tests.unit.leadership_facts import COLUMBUS, DENVER, at_columbus, at_denver, cluster, entry, sync
from tests.unit.test_nodes import Bench, without

WORK = {"site": "denver", "for_s": 60, "reason": "new disks"}


def in_step(*nodes: str) -> Any:
    return cluster(sync=entry(sync(COLUMBUS, *nodes, term=1)))


def boston_gone() -> Facts:
    facts = without(at_denver(cluster=in_step()), COLUMBUS)
    return replace(facts, site_of={**facts.site_of, "boston-a": "boston"})


ACTS: dict[str, tuple[Facts, dict[str, Any], int]] = {
    "/swap": (at_columbus(cluster=in_step(DENVER)), {"to": "denver"}, 202),
    "/pause": (at_columbus(cluster=in_step(DENVER)), {"reason": "storm"}, 200),
    "/resume": (at_columbus(cluster=in_step(DENVER)), {}, 200),
    "/maintenance/begin": (at_columbus(cluster=in_step(DENVER)), WORK, 200),
    "/node/reclone": (at_denver(cluster=in_step(DENVER)), {"node": DENVER}, 202),
    "/node/rejoin": (at_denver(cluster=in_step()), {"node": DENVER}, 202),
    "/node/remove": (boston_gone(), {"node": "boston-a"}, 202),
}


class Busy(MemoryEtcd):
    """An etcd in which others come first, so often."""

    def __init__(self, bench: Bench, others: int) -> None:
        super().__init__(bench.log.store)
        self.bench = bench
        self.others = others
        self.tries = 0

    async def txn(self, compares: Any, puts_and_deletes: Any, **how: Any) -> TxnResult:
        self.tries += 1
        if self.tries <= self.others:
            return TxnResult(succeeded=False, revision=1)
        return await super().txn(compares, puts_and_deletes, **how)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SEEN_AFTER", 0.0)


def busy(facts: Facts, *, others: int) -> tuple[Bench, Busy]:
    bench = Bench(facts)
    assert facts.cluster.sync is not None
    bench.log.put("sync", facts.cluster.sync.record.encode())
    seen = replace(bench.state.facts.cluster, sync=bench.log.snapshot.sync)
    bench.state.facts = replace(bench.state.facts, cluster=seen)
    etcd = Busy(bench, others)
    bench.etcd = etcd
    return bench, etcd


@pytest.mark.parametrize("path", ACTS)
async def test_an_act_is_decided_anew_when_another_word_in_the_audit_log_came_first(path: str):
    facts, body, done = ACTS[path]
    bench, etcd = busy(facts, others=TRIES - 1)
    before = len(bench.log.entries)
    status, told = await bench.post(path, **body)
    assert (status, etcd.tries) == (done, TRIES), told
    assert len(bench.log.entries) == before + 1


@pytest.mark.parametrize("path", ACTS)
async def test_an_act_that_is_overtaken_again_and_again_is_refused_with_what_to_do(path: str):
    facts, body, _ = ACTS[path]
    bench, etcd = busy(facts, others=TRIES)
    status, told = await bench.post(path, **body)
    assert (status, etcd.tries) == (409, TRIES)
    assert "ask again" in told["detail"]


class Seeing(Busy):
    """The agent sees, after each try, what stands there."""

    async def txn(self, compares: Any, puts_and_deletes: Any, **how: Any) -> TxnResult:
        answer = await super().txn(compares, puts_and_deletes, **how)
        now, state = self.bench.log.snapshot, self.bench.state
        seen = replace(state.facts.cluster, desired=now.desired, log_end=now.log_end)
        state.facts = replace(state.facts, cluster=seen)
        return answer


async def test_an_act_is_decided_anew_from_the_picture_of_that_moment():
    """Maintenance that another operator announced meanwhile, and we had not seen, is kept."""
    bench, _ = busy(at_columbus(cluster=in_step(DENVER)), others=0)
    assert (await bench.post("/maintenance/begin", **{**WORK, "site": "columbus"}))[0] == 200
    assert bench.state.facts.cluster.desired is None
    bench.etcd = Seeing(bench, others=0)
    status, told = await bench.post("/maintenance/begin", **WORK)
    assert (status, [window["site"] for window in told["maintenance"]]) == (200, ["columbus", "denver"])
