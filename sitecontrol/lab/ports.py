"""The port plan of a lab: one hundred ports from `base` on, all on 127.0.0.1.

| from base | what |
|---|---|
| +0 … +9 | columbus: agent, health daemon, PostgreSQL, etcd for clients, for peers, dispatchers 1 to 5 |
| +10 … +19 | denver: the same |
| +20 … +24 | witness: (free), health daemon, (free), etcd for clients, etcd for peers |
| +25 … +28 | carrier simulators |
| +29, +30  | control of the supervisor, control of the WAN emulator |
| +31 … +95 | the WAN emulator's doors, one for each place and service that it reaches elsewhere |
| +96 … +99 | a second node's agent and PostgreSQL, if there is one: columbus, denver |

So two labs run side by side with bases that are 100 apart.
"""

import socket
from dataclasses import dataclass

from sitecontrol.lab.errors import LabRefusedError

DEFAULT_BASE = 7100
SPAN = 100
LOWEST_BASE = 1024  # below that, ports need root
HIGHEST_BASE = 65_535 - (SPAN - 1)
MAX_DISPATCHERS = 5  # per site
MAX_CARRIERS = 4
MAX_NODES = 2  # per site

SITES = ("columbus", "denver")
WITNESS = "witness"
PLACES = (*SITES, WITNESS)

_FIRST_DOOR, _SECOND_NODES = 31, 96


@dataclass(frozen=True, kw_only=True)
class PlacePorts:
    """Where the processes of one place listen themselves."""

    agent: int
    healthcheck: int
    postgres: int
    etcd_client: int
    etcd_peer: int
    dispatchers: tuple[int, ...]


@dataclass(frozen=True)
class PortPlan:
    base: int = DEFAULT_BASE

    def place(self, name: str) -> PlacePorts:
        first = self.base + 10 * PLACES.index(name)
        dispatchers = tuple(range(first + 5, first + 5 + MAX_DISPATCHERS)) if name in SITES else ()
        return PlacePorts(
            agent=first,
            healthcheck=first + 1,
            postgres=first + 2,
            etcd_client=first + 3,
            etcd_peer=first + 4,
            dispatchers=dispatchers,
        )

    def node(self, site: str, index: int) -> tuple[int, int]:
        """The ports of the agent and the PostgreSQL of a site's first (0) or second (1) node."""
        if index == 0:
            return self.place(site).agent, self.place(site).postgres
        first = self.base + _SECOND_NODES + 2 * SITES.index(site)
        return first, first + 1

    def carrier(self, index: int) -> int:
        return self.base + 25 + index

    @property
    def supervisor(self) -> int:
        return self.base + 29

    @property
    def wan(self) -> int:
        return self.base + 30

    @property
    def doors(self) -> range:
        return range(self.base + _FIRST_DOOR, self.base + _SECOND_NODES)


def free_base(first: int, last: int) -> int:
    """A base of which all ports are free at this moment: for labs beside others, such as those of tests and benches.

    Looks at `first` and every `SPAN` ports from there on, as far as they lie below `last`. Raises LabRefusedError.
    """
    for base in range(first, last - SPAN + 1, SPAN):
        if all(is_free(port) for port in range(base, base + SPAN)):
            return base
    raise LabRefusedError(f"no {SPAN} free ports in a row from {first} to {last}: end what uses them")


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
