"""ICMP: the way to a far end, by an echo request (RFC 792, RFC 4443).

Uses the kernel's unprivileged echo sockets, which send no other ICMP and see no other answers. Where the
system does not permit them (`net.ipv4.ping_group_range`) this place cannot tell, and says how to permit them.
"""

import asyncio
import itertools
import socket
import struct
import time

from healthcheck.probes.result import Result
from healthcheck.targets import Target

ECHO = {socket.AF_INET: (8, socket.IPPROTO_ICMP), socket.AF_INET6: (128, socket.IPPROTO_ICMPV6)}


class IcmpProbe:
    def __init__(self) -> None:
        self._sequence = itertools.count(1)

    async def __call__(self, target: Target, deadline: float) -> Result:
        del deadline  # the scheduler's cut is enough: cancelling closes the socket
        loop = asyncio.get_running_loop()
        family, _, _, _, address = (await loop.getaddrinfo(target.address, None))[0]
        kind, protocol = ECHO[socket.AddressFamily(family)]
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
        except PermissionError:
            return Result(
                ok=None, detail="echo requests are not permitted here: set net.ipv4.ping_group_range"
            )
        with sock:
            sock.settimeout(0)
            sock.connect(address)
            sequence = next(self._sequence) & 0xFFFF
            began = time.perf_counter()
            # The kernel fills in the identifier and the checksum.
            await loop.sock_sendall(sock, struct.pack("!BBHHH", kind, 0, 0, 0, sequence))
            while True:
                answer = await loop.sock_recv(sock, 1024)
                if len(answer) >= 8 and struct.unpack_from("!H", answer, 6)[0] == sequence:
                    break
        latency = time.perf_counter() - began
        return Result(ok=True, latency=latency, detail="answers an echo request")
