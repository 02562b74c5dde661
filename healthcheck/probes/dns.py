"""DNS: a name resolves. Target: `name`, or `name@server`, or `name@server:port` to ask one server.

dnspython does the asking: the system's resolver works in threads that cannot be cut off at a deadline.
"""

import asyncio
import time

import dns.asyncresolver
import dns.exception
import dns.resolver

from healthcheck.probes.result import Result, plain
from healthcheck.targets import Target


class DnsProbe:
    def __init__(self) -> None:
        self._resolvers: dict[str, dns.asyncresolver.Resolver] = {}

    async def __call__(self, target: Target, deadline: float) -> Result:
        name, _, server = target.address.partition("@")
        resolver = self._resolvers.get(server) or self._resolvers.setdefault(server, resolver_of(server))
        left = max(0.01, deadline - asyncio.get_running_loop().time())
        began = time.perf_counter()
        try:
            answer = await resolver.resolve(name, "A", lifetime=left, search=False)
        except dns.exception.DNSException as error:
            latency = time.perf_counter() - began
            return Result(ok=False, latency=latency, detail=plain(error) or type(error).__name__)
        latency = time.perf_counter() - began
        addresses = sorted(record.to_text() for record in answer)
        shown = ", ".join(addresses[:4])
        return Result(
            ok=True, latency=latency, detail=f"{name} is {shown}", evidence={"addresses": addresses}
        )


def resolver_of(server: str) -> dns.asyncresolver.Resolver:
    """The system's servers when `server` is empty, else only that one: `address` or `address:port`."""
    resolver = dns.asyncresolver.Resolver(configure=not server)
    if server:
        host, colon, port = server.rpartition(":")
        resolver.nameservers = [host if colon else server]
        resolver.port = int(port) if colon else 53
    return resolver
