"""Ports for the servers that tests start.

Not from the kernel: between its telling a free port and our server's listening there, any connection of this
machine may be given that very port as its own end. These lie below the range that connections get theirs from, and
each worker of a parallel run has its own stretch. Labs have theirs below (`tests.labs`).
"""

import itertools
import os
import socket

FIRST, LAST = 20_000, 32_000
STRETCH = 1_500  # ports; eight workers

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % ((LAST - FIRST) // STRETCH)
_candidates = itertools.cycle(range(FIRST + _worker * STRETCH, FIRST + (_worker + 1) * STRETCH))


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
