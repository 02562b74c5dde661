"""TLS between our own processes, with an authority of our own: who answers by it, and who trusts it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from healthcheck.__main__ import listen
from healthcheck.daemon import Daemon
from healthcheck.targets import targets_of
from sitecontrol.agent.api import AgentApi
from sitecontrol.agent.process import _listen, other_with_data, tls_context
from sitecontrol.agent.state import AgentState
from sitecontrol.cli.agents import Agents
from sitecontrol.cli.session import Exit, Globals, Problem
from sitecontrol.clock import SystemClock
from sitecontrol.etcd.memory import MemoryEtcd
from sitecontrol.etcd.memory_store import MemoryStore
from sitecontrol.settings import Environment, Secrets, SecuritySettings, Settings, SettingsError, load
from sitecontrol.tls import client_context, server_context
from tests.certificates import Certificates, make_certificates
from tests.ports import free_port
from tests.unit.leadership_facts import DENVER, at_denver, standby

PORT = "@PORT@"
SETTINGS = f"""
[site]
name = "columbus"
node = "columbus-a"
state_dir = "/nonexistent"
secrets_dir = "/nonexistent"

[etcd]
endpoints = ["http://127.0.0.1:1"]

[healthcheck]
listen = "127.0.0.1:0"

[[place]]
name = "columbus"

[[place]]
name = "denver"
nodes = [{{ name = "denver-a", postgres = "127.0.0.1:1", agent = "https://127.0.0.1:{PORT}" }}]

[security]
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Place:
    """Columbus, which is no lab, and the agent of Denver as it is reached from there: by TLS only."""

    def __init__(self, folder: Path, certificates: Certificates, port: int) -> None:
        self._folder = folder
        self._certificates = certificates
        self.port = port

    def file(self, *, trusts: bool) -> Path:
        path = self._folder / f"trusts-{trusts}.toml"
        ca = f'ca_file = "{self._certificates.path("ca.crt")}"\n' if trusts else ""
        path.write_text(SETTINGS.replace(PORT, str(self.port)) + ca)
        return path

    def settings(self, *, trusts: bool) -> Settings:
        return load(self.file(trusts=trusts))


def own(certificates: Certificates) -> SecuritySettings:
    return SecuritySettings(
        tls_cert_file=certificates.path("server.crt"),
        tls_key_file=certificates.path("server.key"),
        ca_file=certificates.path("ca.crt"),
    )


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


@pytest.fixture
async def place(tmp_path: Path, certificates: Certificates) -> AsyncIterator[Place]:
    unused: Any = None
    state = AgentState(prefix="/p/", facts=at_denver(), version="1")
    api = AgentApi(state, unused, "token", CollectorRegistry())
    there = Place(tmp_path, certificates, free_port())
    settings = there.settings(trusts=True).model_copy(update={"security": own(certificates)})
    async with running(api.app()) as runner:
        await _listen(runner, f"127.0.0.1:{there.port}", tls_context(settings))
        yield there


async def test_an_agent_outside_a_lab_answers_by_tls_and_not_without(
    place: Place, certificates: Certificates
) -> None:
    async with aiohttp.ClientSession() as http:
        context = client_context(own(certificates))
        async with http.get(f"https://127.0.0.1:{place.port}/health", ssl=context) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://127.0.0.1:{place.port}/health")


async def test_sitectl_asks_an_agent_whose_authority_the_settings_name(place: Place) -> None:
    agents = Agents(Globals(config=place.file(trusts=True)))
    told = await asyncio.to_thread(agents.get, "/cluster")
    assert told["told_by"] == DENVER


async def test_sitectl_tells_that_it_is_the_certificate_and_names_the_setting(place: Place) -> None:
    agents = Agents(Globals(config=place.file(trusts=False)))
    with pytest.raises(
        Problem, match=r"certificate of https://.* is refused: .*security\.ca_file"
    ) as problem:
        await asyncio.to_thread(agents.get, "/cluster")
    assert problem.value.exit_code == Exit.UNREACHABLE


@pytest.mark.parametrize(("trusts", "found"), [(True, DENVER), (False, None)])
async def test_a_first_start_asks_the_other_agents_whether_they_have_data(
    place: Place, *, trusts: bool, found: str | None
) -> None:
    assert await other_with_data(place.settings(trusts=trusts), "columbus-a") == found


async def test_what_another_first_start_has_left_unfinished_is_no_data(
    tmp_path: Path, certificates: Certificates
) -> None:
    unused: Any = None
    facts = at_denver(pg=replace(standby(), unfinished=True))
    api = AgentApi(AgentState(prefix="/p/", facts=facts, version="1"), unused, "token", CollectorRegistry())
    there = Place(tmp_path, certificates, free_port())
    settings = there.settings(trusts=True).model_copy(update={"security": own(certificates)})
    async with running(api.app()) as runner:
        await _listen(runner, f"127.0.0.1:{there.port}", tls_context(settings))
        assert await other_with_data(there.settings(trusts=True), "columbus-a") is None


@pytest.mark.parametrize("trusts", [True, False])
async def test_the_health_daemon_looks_at_agents_by_the_same_authority(place: Place, *, trusts: bool) -> None:
    settings, clock = place.settings(trusts=trusts), SystemClock()
    assert settings.healthcheck is not None
    (agent,) = [t for t in targets_of(settings, settings.healthcheck) if t.address.startswith("https://")]
    etcd = MemoryEtcd(MemoryStore(clock))
    daemon = Daemon(settings, settings.healthcheck, etcd, Secrets.of(settings), clock)
    probe = daemon._catalog.probes[agent.kind]
    try:
        if trusts:
            assert (await probe(agent, clock.now() + 5)).ok
        else:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await probe(agent, clock.now() + 5)
    finally:
        await daemon.aclose()
        await etcd.aclose()


async def test_the_health_daemon_answers_by_tls_when_a_certificate_is_named(
    certificates: Certificates,
) -> None:
    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    app = web.Application()
    app.router.add_get("/health", healthy)
    address = f"127.0.0.1:{free_port()}"
    async with running(app) as runner, aiohttp.ClientSession() as http:
        await listen(runner, address, own(certificates))
        async with http.get(f"https://{address}/health", ssl=client_context(own(certificates))) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"http://{address}/health")


# -- mistakes in the settings


async def test_outside_a_lab_an_agent_without_a_certificate_is_refused(place: Place) -> None:
    with pytest.raises(SettingsError, match="outside a lab the agent speaks TLS only"):
        tls_context(place.settings(trusts=True))


async def test_in_a_lab_it_goes_without(place: Place) -> None:
    settings = place.settings(trusts=False)
    lab = settings.model_copy(
        update={"site": settings.site.model_copy(update={"environment": Environment.LAB})}
    )
    assert tls_context(lab) is None


def test_a_certificate_that_cannot_be_used_is_named_with_its_setting(
    certificates: Certificates, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "missing.pem"):
        with pytest.raises(SettingsError, match=r"security\.tls_cert_file.*\.pem"):
            server_context(own(certificates).model_copy(update={"tls_cert_file": path}))
        with pytest.raises(SettingsError, match=r"security\.ca_file.*\.pem"):
            client_context(SecuritySettings(ca_file=path))
