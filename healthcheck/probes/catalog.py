"""One probe for each kind, with what it needs: sessions, the monitor's password, the etcd client."""

import ssl
from collections.abc import Collection

from healthcheck.board import Board
from healthcheck.probes.etcd import EtcdProbe, MemberProbe
from healthcheck.probes.http import HttpProbe
from healthcheck.probes.icmp import IcmpProbe
from healthcheck.probes.postgres import CanaryProbe, PostgresProbe
from healthcheck.probes.result import Probe
from healthcheck.probes.smpp import LinkProbe
from healthcheck.probes.tcp import TcpProbe
from healthcheck.probes.tls import TlsProbe
from healthcheck.targets import Kind
from sitecontrol.clock import Clock
from sitecontrol.etcd.api import Etcd
from sitecontrol.settings import Secrets


class Catalog:
    """Stopping it closes what the probes keep open; stopping twice is safe."""

    def __init__(
        self,
        kinds: Collection[Kind],
        board: Board,
        etcd: Etcd,
        secrets: Secrets,
        clock: Clock,
        canary_max_age: float,
        tls: ssl.SSLContext,
    ) -> None:
        self._http = HttpProbe(tls)
        self._postgres = PostgresProbe(lambda: secrets.get("postgres-monitor"))
        self.probes: dict[Kind, Probe] = {
            Kind.HTTP: self._http,
            Kind.POSTGRES: self._postgres,
            Kind.CANARY: CanaryProbe(board.latest, clock, canary_max_age),
            Kind.ETCD: EtcdProbe(etcd),
            Kind.MEMBER: MemberProbe(board.latest),
            Kind.SMPP: LinkProbe(board.latest),
            Kind.TCP: TcpProbe(),
            Kind.TLS: TlsProbe(tls),
            Kind.ICMP: IcmpProbe(),
        }
        if Kind.DNS in kinds:
            self.probes[Kind.DNS] = _dns()

    async def aclose(self) -> None:
        await self._http.aclose()
        await self._postgres.aclose()


def _dns() -> Probe:
    """Loading dnspython takes a tenth of a second, and most places have no name to look up."""
    from healthcheck.probes.dns import DnsProbe  # noqa: PLC0415 - see above

    return DnsProbe()
