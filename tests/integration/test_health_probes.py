"""Each probe against a real socket, a real server, or a real silence."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from aiohttp import web

from healthcheck.probes.dns import DnsProbe
from healthcheck.probes.etcd import EtcdProbe, MemberProbe
from healthcheck.probes.http import MAX_BODY, HttpProbe
from healthcheck.probes.icmp import IcmpProbe
from healthcheck.probes.postgres import PostgresProbe
from healthcheck.probes.result import Probe, Result
from healthcheck.probes.tcp import TcpProbe
from healthcheck.probes.tls import TlsProbe
from healthcheck.scheduler import look
from healthcheck.targets import Kind, Target, What
from healthcheck.verdicts import Limits
from sitecontrol.settings import SettingsError
from tests.certificates import make_certificates
from tests.etcd import run_cluster
from tests.message_store import NODE, TERM, prepare
from tests.noc_server import closed_port, serving
from tests.postgres import PostgresServer


def target_at(address: str, what: What = What.DEVICE, *, timeout: float = 5.0, **more: Any) -> Target:
    values: dict[str, Any] = {
        "name": f"{what}/x",
        "what": what,
        "kind": Kind.TCP,
        "address": address,
        "place": "columbus",
        "every": 1.0,
        "timeout": timeout,
        "limits": Limits(rise=1, fall=1),
    }
    return Target(**(values | more))


@asynccontextmanager
async def listening(serve: Callable[..., Any], context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server whose connections are all closed when the block ends."""
    open_now: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.add(writer)
        with suppress(ConnectionError):
            await serve(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_now:
            writer.transport.abort()
        for writer in open_now:
            with suppress(OSError):
                await writer.wait_closed()


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.fixture
async def http() -> AsyncIterator[HttpProbe]:
    probe = HttpProbe()
    yield probe
    await probe.aclose()


# ---- tcp --------------------------------------------------------------------------------------------------------


async def test_a_port_that_accepts_is_good() -> None:
    async with listening(hang_up) as port:
        result = await look(TcpProbe(), target_at(f"127.0.0.1:{port}"))
    assert result.ok
    assert 0 < result.latency < 5


async def test_a_port_that_refuses_is_bad_and_says_so() -> None:
    result = await look(TcpProbe(), target_at(f"127.0.0.1:{closed_port()}"))
    assert result.ok is False
    assert "refused" in result.detail.lower()


# ---- http -------------------------------------------------------------------------------------------------------


async def answer_with(**arguments: Any) -> web.Application:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(**arguments)

    app = web.Application()
    app.router.add_get("/{tail:.*}", handler)
    return app


@pytest.mark.parametrize(
    ("arguments", "ok"),
    [
        ({"status": 204}, True),
        ({"status": 503}, False),
        ({"status": 302, "headers": {"Location": "/x"}}, False),
    ],
)
async def test_a_page_is_judged_by_its_own_status(
    http: HttpProbe, arguments: dict[str, Any], ok: object
) -> None:
    async with serving(await answer_with(**arguments)) as url:
        result = await look(http, target_at(f"{url}/page"))
    assert result.ok is ok
    assert str(arguments["status"]) in result.detail


async def test_an_agents_report_is_brought_home(http: HttpProbe) -> None:
    async with serving(await answer_with(text='{"role": "leader"}', content_type="application/json")) as url:
        result = await look(http, target_at(f"{url}/status", What.AGENT))
    assert result.evidence["report"] == {"role": "leader"}


@pytest.mark.parametrize("body", ["", "[]", "{", "\x00\xff", "nul", '{"a":' * 2000])
async def test_an_agent_that_answers_no_report_is_bad(http: HttpProbe, body: str) -> None:
    async with serving(await answer_with(text=body)) as url:
        result = await look(http, target_at(f"{url}/status", What.AGENT))
    assert (result.ok, result.detail) == (False, "HTTP 200 without a report")


async def test_a_flood_is_not_read_to_its_end(http: HttpProbe) -> None:
    async with serving(await answer_with(body=b"x" * (MAX_BODY + 1))) as url:
        result = await look(http, target_at(f"{url}/status", What.AGENT))
    assert result.ok is False
    assert "more than" in result.detail


async def test_a_server_that_accepts_and_is_silent_is_cut_off(http: HttpProbe) -> None:
    async with listening(say_nothing) as port:
        result = await look(http, target_at(f"http://127.0.0.1:{port}/", timeout=0.1))
    assert (result.ok, result.detail) == (False, "no answer within 0.1 s")


async def test_a_server_that_talks_nonsense_is_bad(http: HttpProbe) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-hello\r\n\x00\x01\x02<script>\r\n\r\n")
        writer.close()

    async with listening(nonsense) as port:
        result = await look(http, target_at(f"http://127.0.0.1:{port}/"))
    assert result.ok is False
    assert result.detail.isprintable()


async def test_one_connection_serves_many_looks(http: HttpProbe) -> None:
    connections = set()

    async def handler(request: web.Request) -> web.Response:
        connections.add(id(request.transport))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    async with serving(app) as url:
        for _ in range(5):
            await look(http, target_at(f"{url}/"))
    assert len(connections) == 1


# ---- tls --------------------------------------------------------------------------------------------------------


async def test_a_certificate_of_an_authority_we_trust_is_read_and_one_near_its_end_is_bad(
    tmp_path: Path,
) -> None:
    certificates = make_certificates(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    async with listening(say_nothing, server) as port:
        result = await look(TlsProbe(certificates.client_context()), target_at(f"127.0.0.1:{port}"))
    assert result.ok is False  # it is good for an hour only
    assert "valid for another 0 days" in result.detail


async def test_a_certificate_of_a_stranger_is_refused(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    async with listening(say_nothing, server) as port:
        result = await look(TlsProbe(), target_at(f"127.0.0.1:{port}"))
    assert result.ok is False
    assert "certificate refused" in result.detail


# ---- dns --------------------------------------------------------------------------------------------------------


class NameServer(asyncio.DatagramProtocol):
    """Knows one name, and nothing of any other."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        name = query.question[0].name
        if name.to_text() == "carrier.example.":
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7"))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)


@pytest.mark.parametrize(("name", "ok"), [("carrier.example", True), ("nobody.example", False)])
async def test_a_name_is_asked_of_the_named_server(name: str, ok: object) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        result = await look(DnsProbe(), target_at(f"{name}@127.0.0.1:{port}"))
    finally:
        transport.close()
    assert result.ok is ok
    assert ("192.0.2.7" in result.detail) is ok


async def test_a_name_server_that_is_silent_is_cut_off() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        result = await look(DnsProbe(), target_at(f"carrier.example@127.0.0.1:{port}", timeout=0.2))
    finally:
        transport.close()
    assert result.ok is False


# ---- icmp -------------------------------------------------------------------------------------------------------


async def test_an_echo_of_ourselves_answers_or_it_is_said_that_it_may_not_be_asked() -> None:
    result = await look(IcmpProbe(), target_at("127.0.0.1"))
    assert result.ok is True or (result.ok is None and "ping_group_range" in result.detail)


# ---- postgres ---------------------------------------------------------------------------------------------------


async def test_the_database_tells_its_term_and_its_canary(store_server: PostgresServer) -> None:
    database = store_server.create_database()
    await prepare(database)
    probe = PostgresProbe(lambda: "unused", database=database.database)
    try:
        target = target_at(f"{database.host}:{database.port}", What.POSTGRES)
        first, second = await look(probe, target), await look(probe, target)
    finally:
        await probe.aclose()
    assert first.ok
    assert first.evidence["term"] == TERM
    assert first.evidence["node"] == NODE
    assert first.evidence["is_open"] is True
    assert second.detail == f"answers, open in term {TERM}"
    assert second.latency < first.latency  # the connection was kept


async def test_a_connection_that_was_cut_is_made_anew(store_server: PostgresServer) -> None:
    database = store_server.create_database()
    await prepare(database)
    probe = PostgresProbe(lambda: "unused", database=database.database)
    target = target_at(f"{database.host}:{database.port}", What.POSTGRES)
    try:
        assert (await look(probe, target)).ok
        store_server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hotsite_monitor'"
        )
        await look(probe, target)
        assert (await look(probe, target)).ok
    finally:
        await probe.aclose()


async def test_a_database_that_accepts_and_hangs_is_cut_off() -> None:
    probe = PostgresProbe(lambda: "unused")
    async with listening(say_nothing) as port:
        result = await look(probe, target_at(f"127.0.0.1:{port}", What.POSTGRES, timeout=0.2))
    assert result.ok is False
    assert "no answer" in result.detail or "Timeout" in result.detail


async def test_a_missing_password_says_nothing_about_the_database() -> None:
    def missing() -> str:
        raise SettingsError("the secret 'postgres-monitor' is missing")

    result = await look(PostgresProbe(missing), target_at("127.0.0.1:1", What.POSTGRES))
    assert (result.ok, "postgres-monitor" in result.detail) == (None, True)


# ---- etcd -------------------------------------------------------------------------------------------------------


async def test_etcd_tells_of_each_member_and_of_a_lost_quorum() -> None:
    with run_cluster(["one", "two", "three"]) as cluster:
        etcd = cluster.client()
        results: dict[str, Result] = {}
        cluster_target = target_at("/hotsite/test/term", What.ETCD, name="etcd", timeout=10.0)
        probe: Probe = EtcdProbe(etcd)
        try:
            results["etcd"] = await look(probe, cluster_target)
            assert results["etcd"].ok
            follower, other = cluster.followers
            member = target_at(follower.name, What.MEMBER, name="etcd-member/x", source="etcd")
            assert (await look(MemberProbe(results.get), member)).ok
            follower.kill()
            results["etcd"] = await look(probe, cluster_target)
            assert results["etcd"].ok
            assert (await look(MemberProbe(results.get), member)).detail == "does not answer"
            other.kill()
            results["etcd"] = await look(probe, cluster_target)
            assert results["etcd"].ok is False
            assert "no quorum" in results["etcd"].detail
        finally:
            await etcd.aclose()
