"""Ports for the servers that tests start.

Not from the kernel: between its telling a free port and our server's listening there, any connection of this
machine may be given that very port as its own end. These lie below the range that connections get theirs from, and
each process that runs tests has its own stretch, also beside another run. Labs have theirs below (`tests.labs`).
"""

import itertools
import socket

FIRST, LAST = 20_000, 32_000
STRETCH = 600  # ports; twenty processes


def _own_stretch() -> tuple[socket.socket, int]:
    """The number of a stretch that nobody has, and what holds it until this process ends: its first port, bound."""
    for number in range((LAST - FIRST) // STRETCH):
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", FIRST + number * STRETCH))
        except OSError:
            holder.close()
        else:
            return holder, number
    raise AssertionError(f"all ports from {FIRST} to {LAST} are taken by other runs of tests")


_holder, NUMBER = _own_stretch()
_candidates = itertools.cycle(range(FIRST + NUMBER * STRETCH + 1, FIRST + (NUMBER + 1) * STRETCH))


def free_port() -> int:
    """A port that nobody listens on, and that was not given out for a long time."""
    for port in itertools.islice(_candidates, STRETCH):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port from {FIRST} to {LAST}")


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]
