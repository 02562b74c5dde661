"""Three places as network namespaces on one bridge, and lines between them on which packets really vanish.

What a userland relay cannot do: a packet that is dropped tells nobody. Sockets stay open, no reset comes, and loss can
be in one direction only, where what one place says arrives and what it is answered does not.

Nothing is left behind, even when the tests are killed: a namespace has no name and lives as long as the process that
holds it, which ends with its standard input; links and rules go with their namespaces. The tests themselves stand
outside and reach every place by a link of their own to the bridge; only what they send can be lost on it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

from tests.hosts import Host

PLACES = ("columbus", "denver", "witness")
TESTS = "tests"  # where the tests stand, as the source of a line on which packets are lost
# From the block that RFC 2544 sets aside for tests of networks: no real host has such an address. Runs of the tests
# beside each other differ in the third number.
ADDRESSES = {
    name: f"198.18.{os.getpid() % 256}.{number}" for number, name in enumerate((TESTS, *PLACES), start=1)
}
LINK = f"hotsite{os.getpid()}"  # our end of the link to the bridge; 15 characters at most


@cache
def unavailable() -> str:
    """Why no network of namespaces can be had here; empty: it can."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    missing = [name for name in ("ip", "iptables", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        with network():
            return ""
    except NetworkError as error:
        return f"no network namespaces here: {error}"


class NetworkError(Exception):
    """A command that makes the network was refused."""


@dataclass(frozen=True)
class Network:
    """Each place's namespace, as the process that holds it."""

    holders: Mapping[str, int]

    def hosts(self) -> dict[str, Host]:
        return {place: Host(address=ADDRESSES[place], enter=_enter(self.holders[place])) for place in PLACES}

    @contextmanager
    def lost(self, *directions: tuple[str, str]) -> Iterator[None]:
        """Whatever the first of two places sends to the second one vanishes on its way, until the block ends."""
        with ExitStack() as undo:
            for source, target in directions:
                self._drop("-A", source, target)
                undo.callback(self._drop, "-D", source, target)
            yield

    @contextmanager
    def lossy(self, share: float, *directions: tuple[str, str]) -> Iterator[None]:
        """Of what the first of two places sends to the second one that share vanishes, by chance, until the block ends;
        some of each must have vanished by then.
        """
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
        with ExitStack() as undo:
            for source, target in directions:
                self._drop("-A", source, target, *chance)
                undo.callback(self._drop, "-D", source, target, *chance)
            yield
            assert all(self._dropped(source, target) for source, target in directions)

    def _dropped(self, source: str, target: str) -> int:
        """Packets, since the rule was made."""
        listed = _run(*_enter(self.holders[target]), "iptables", "-w", "-n", "-v", "-x", "-L", "INPUT")
        rules = (line.split() for line in listed.splitlines())
        return next(int(rule[0]) for rule in rules if "DROP" in rule and ADDRESSES[source] in rule)

    def _drop(self, act: str, source: str, target: str, *when: str) -> None:
        # Where it would arrive: dropped at its source, a packet would be an error to whoever sends it.
        rule = ("iptables", "-w", act, "INPUT", "-s", ADDRESSES[source], *when, "-j", "DROP")
        _run(*_enter(self.holders[target]), *rule)


def both_ways(place: str, *others: str) -> list[tuple[str, str]]:
    return [direction for other in others for direction in ((place, other), (other, place))]


@contextmanager
def network() -> Iterator[Network]:
    with ExitStack() as stack:
        bridge = stack.enter_context(_namespace())
        _in(bridge, "ip", "link", "add", "bridge", "type", "bridge")
        _in(bridge, "ip", "link", "set", "bridge", "up")
        holders = {}
        for place in PLACES:
            holders[place] = holder = stack.enter_context(_namespace())
            _in(
                holder,
                "ip",
                "link",
                "add",
                "line",
                "type",
                "veth",
                "peer",
                "name",
                place,
                "netns",
                str(bridge),
            )
            _in(holder, "ip", "address", "add", f"{ADDRESSES[place]}/24", "dev", "line")
            _in(holder, "ip", "link", "set", "line", "up")
            _in(bridge, "ip", "link", "set", place, "master", "bridge", "up")
            # Made now: the first rule of a kernel loads modules, and a cut is to be at once.
            _in(holder, "iptables", "-w", "-L", "-n")
        _run("ip", "link", "add", LINK, "type", "veth", "peer", "name", TESTS, "netns", str(bridge))
        stack.callback(subprocess.run, ["ip", "link", "delete", LINK], capture_output=True, check=False)
        _run("ip", "address", "add", f"{ADDRESSES[TESTS]}/24", "dev", LINK)
        _run("ip", "link", "set", LINK, "up")
        _in(bridge, "ip", "link", "set", TESTS, "master", "bridge", "up")
        yield Network(holders)


@contextmanager
def _namespace() -> Iterator[int]:
    """A network namespace with its own loopback; the process that holds it."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo made && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != b"made\n":
            raise NetworkError(holder.communicate(timeout=5)[1].decode().strip())
        yield holder.pid
    finally:
        holder.stdin.close()
        holder.wait(timeout=5)
        holder.stdout.close()
        if holder.stderr is not None:
            holder.stderr.close()


def _enter(holder: int) -> tuple[str, ...]:
    return ("nsenter", "--target", str(holder), "--net", "--")


def _in(holder: int, *command: str) -> None:
    _run(*_enter(holder), *command)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
