"""A swap that is asked for while somebody else writes."""

from types import SimpleNamespace
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from sitecontrol.agent.api import TRIES, AgentApi
from sitecontrol.agent.state import AgentState
from tests.unit.leadership_facts import at_columbus


class Busy:
    """An etcd in which others come first, so often."""

    def __init__(self, others: int) -> None:
        self.others = others
        self.tries = 0

    async def txn(self, *_: object) -> SimpleNamespace:
        self.tries += 1
        return SimpleNamespace(succeeded=self.tries > self.others)


async def ask(etcd: Any) -> tuple[int, dict[str, Any]]:
    state = AgentState(prefix="/hotsite/test/", facts=at_columbus(), version="1")
    app = AgentApi(state, etcd, "token", CollectorRegistry()).app()
    async with TestClient(TestServer(app)) as client:
        answer = await client.post("/swap", json={"to": "denver"}, headers={"Authorization": "Bearer token"})
        return answer.status, await answer.json(content_type=None)


async def test_a_swap_is_decided_anew_when_another_word_in_the_audit_log_came_first():
    etcd = Busy(others=1)
    status, told = await ask(etcd)
    assert (status, told["to"], etcd.tries) == (202, "denver-a", 2)


async def test_a_swap_that_is_overtaken_again_and_again_is_refused_with_what_to_do():
    etcd = Busy(others=TRIES)
    status, told = await ask(etcd)
    assert (status, etcd.tries) == (409, TRIES)
    assert "ask again" in told["detail"]
