"""A real name server, Knot DNS, that is primary for a zone of ours and takes updates signed with one key.

`name_server` (fixture): running, its zone as ZONE says.
"""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.tsig
import dns.update
import pytest

from sitecontrol.settings import DnsTraffic
from sitecontrol.traffic.dns import DnsAdapter
from tests.ports import free_port
from tests.waiting import eventually

PROGRAM = shutil.which("knotd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_knot = pytest.mark.skipif(PROGRAM is None, reason="needs a name server, Knot DNS: apt install knot")

KEY_NAME = "hotsite"
SECRET = "aG90c2l0ZSBtb3ZlcyBjbGllbnRzLCBzaWduZWQgaGVyZQ=="
RECORD = "texts.example.net"
COLUMBUS, DENVER = ("203.0.113.10",), ("198.51.100.10", "2001:db8::10")

CONFIG = """
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
    background-workers: 1
    udp-workers: 1
    tcp-workers: 1
log:
  - target: stderr
    any: info
control:
    listen: "{folder}/knot.sock"
database:
    storage: "{folder}"
    journal-db-max-size: 16M
key:
  - id: {key_name}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: updates
    key: {key_name}
    action: update
    update-owner: name
    update-owner-match: equal
    update-owner-name: [texts, _hotsite-term.texts, alias, _hotsite-term.alias]
zone:
  - domain: example.net
    storage: "{folder}"
    file: example.net.zone
    acl: updates
"""
ZONE = """
example.net. 3600 SOA ns.example.net. hostmaster.example.net. 1 3600 600 86400 5
example.net. 3600 NS ns.example.net.
ns.example.net. 3600 A 127.0.0.1
alias.example.net. 3600 CNAME elsewhere.example.org.
"""


@dataclass
class NameServer:
    port: int

    def adapter(self, *, secret: str = SECRET, **changed: Any) -> DnsAdapter:
        settings = DnsTraffic.model_validate(
            {
                "server": f"127.0.0.1:{self.port}",
                "zone": "example.net",
                "record": RECORD,
                "key_name": KEY_NAME,
                "addresses": {"columbus": COLUMBUS, "denver": DENVER},
                "deadline": 10.0,
                **changed,
            }
        )
        return DnsAdapter(settings, key(settings.key_name, secret))

    async def says(self, name: str, kind: str, within: float = 10.0) -> list[str]:
        """As a client asks: over UDP, without a key."""
        answer = await dns.asyncquery.udp(
            dns.message.make_query(name, kind), "127.0.0.1", port=self.port, timeout=within
        )
        return sorted(record.to_text() for records in answer.answer for record in records)

    async def serial(self) -> int:
        [soa] = await self.says("example.net", "SOA")
        return int(soa.split()[2])

    async def send(self, update: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        return (await dns.asyncquery.tcp(update, "127.0.0.1", port=self.port, timeout=5)).rcode()

    def update(self) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage("example.net", keyring=key())

    async def answers(self) -> bool:
        try:
            return bool(await self.says("example.net", "SOA", within=0.2))
        except (dns.exception.DNSException, OSError):
            return False


def key(name: str = KEY_NAME, secret: str = SECRET) -> dns.tsig.Key:
    return dns.tsig.Key(dns.name.from_text(name), secret, "hmac-sha256.")


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    assert PROGRAM is not None
    config = folder / "knot.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, key_name=KEY_NAME, secret=SECRET))
    (folder / "example.net.zone").write_text(ZONE)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([PROGRAM, "-c", config], stdout=log, stderr=log)


@pytest.fixture
async def name_server(tmp_path: Path) -> AsyncIterator[NameServer]:
    server = NameServer(free_port())
    process = _start(tmp_path, server.port)
    try:
        await eventually(lambda: process.poll() is not None or server.answers())
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield server
    finally:
        process.kill()
        process.wait()
