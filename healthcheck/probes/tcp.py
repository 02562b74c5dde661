"""TCP: a port accepts a connection."""

import asyncio
import time

from healthcheck.probes.result import Result, host_port
from healthcheck.targets import Target


class TcpProbe:
    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline  # the scheduler's cut is enough
        host, port = host_port(target.address)
        began = time.perf_counter()
        _, writer = await asyncio.open_connection(host, port)
        latency = time.perf_counter() - began
        writer.close()
        return Result(ok=True, latency=latency, detail="the port accepts")
