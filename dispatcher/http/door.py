"""How many connections are open, of whom, and whether one more is let in. Pure: time is passed in.

Rules:

* One source holds at most so many connections, and all together at most so many, so that nobody takes the open
  files and the memory of everybody. A load balancer speaks for many: it can be named, and only the total bounds it.
* When there is no room, the connection that has been silent for longest makes room: one that is open for a while
  and whose first request has not come. So a client that only opens connections, or drips its headers, displaces
  itself, and others are served meanwhile, also behind the same address.
* When every connection is in use, the new one is refused.
"""

from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol

SILENT_FOR_S: Final = 1.0  # what connected a moment ago may have its request on the way
SITE_BITS: Final = 64  # of an IPv6 address; the rest a single client chooses as it likes


class Bound(StrEnum):
    """What stands in the way of one more connection."""

    SOURCE = "source"  # too many of this source
    TOTAL = "total"  # too many of all


class Guest(Protocol):
    """A connection, as the door sees it."""

    @property
    def asked(self) -> bool:
        """Whether the headers of a first request have come."""
        ...

    def drop(self) -> None:
        """Close at once."""
        ...


# Who had not asked when last looked at, in the order of coming, and since when.
Line = OrderedDict[Guest, float]


@dataclass(eq=False, slots=True)
class Source:
    key: str
    open: int = 0
    silent: Line = field(default_factory=OrderedDict)


class Door:
    """`enter` for each connection that was made, `leave` when it is gone."""

    def __init__(self, *, most: int, most_per_source: int, uncapped: Sequence[str] = ()) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._uncapped = tuple(map(ip_network, uncapped))
        self._inside: dict[Guest, Source] = {}
        self._sources: dict[str, Source] = {}
        self._silent: Line = OrderedDict()
        self.refused: Tally[Bound] = Tally()
        self.displaced = 0

    @property
    def open(self) -> int:
        return len(self._inside)

    def enter(self, guest: Guest, address: str, now: float) -> Bound | None:
        """Let it in, or say why not. May drop another one."""
        key, capped = source_of(address, self._uncapped)
        source = self._sources.get(key) or Source(key)
        bound = None
        if capped and source.open >= self._most_per_source and not self._make_room(source.silent, now):
            bound = Bound.SOURCE
        elif len(self._inside) >= self._most and not self._make_room(self._silent, now):
            bound = Bound.TOTAL
        if bound is not None:
            self.refused[bound] += 1
            return bound
        self._sources[key] = source
        self._inside[guest] = source
        source.open += 1
        source.silent[guest] = self._silent[guest] = now
        return None

    def leave(self, guest: Guest) -> None:
        """Safe to repeat, and for who was never let in."""
        source = self._inside.pop(guest, None)
        if source is None:
            return
        self._silent.pop(guest, None)
        source.silent.pop(guest, None)
        source.open -= 1
        if not source.open:
            del self._sources[source.key]

    def _make_room(self, line: Line, now: float) -> bool:
        while line:
            guest, since = next(iter(line.items()))
            if guest.asked:
                del line[guest]
            elif now - since < SILENT_FOR_S:
                return False  # those behind it came later
            else:
                self.leave(guest)
                self.displaced += 1
                guest.drop()
                return True
        return False


def source_of(address: str, uncapped: Sequence[IPv4Network | IPv6Network]) -> tuple[str, bool]:
    """By what the connections of an address are counted together, and whether they are bounded."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:  # a client that was gone before it could be asked for its address
        return address, True
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    capped = not any(ip in network for network in uncapped)
    if isinstance(ip, IPv6Address):
        return str(ip_network((ip, SITE_BITS), strict=False)), capped
    return str(ip), capped
