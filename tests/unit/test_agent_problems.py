"""What the agent's API refuses before any of its handlers sees it."""

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from sitecontrol.agent.api import AgentApi
from sitecontrol.agent.state import AgentState
from tests.unit.leadership_facts import at_columbus


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/swap", 405)])
async def test_what_is_not_served_is_a_problem_as_all_else(method: str, path: str, status: int):
    unused: Any = None
    state = AgentState(prefix="/hotsite/test/", facts=at_columbus(), version="1")
    app = AgentApi(state, unused, "token", CollectorRegistry()).app()
    async with TestClient(TestServer(app)) as client, client.request(method, path) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        assert path in (await answer.json())["detail"]
        assert ("Allow" in answer.headers) == (status == 405)
