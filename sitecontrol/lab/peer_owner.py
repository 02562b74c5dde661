"""Which place does a connection come from, when several places use one door?

An etcd member advertises a single address to its peers, so the door in front of a member is used by both
others, and the emulator must know which of them is calling to delay or cut the right line. It asks the
kernel: the caller's socket (its local port, connected to our door) stands in /proc/net/tcp with an inode, and
the process that holds that inode has it among its /proc/<pid>/fd. This needs the caller to run as the same
user as the emulator (or the emulator as root), which holds in a lab.
"""

import os
from collections.abc import Mapping
from pathlib import Path

LOOPBACK = "0100007F"
_INODE = 8  # after both addresses, state, queues, timer, retransmits, uid and timeout


def socket_inode(table: bytes, *, local_port: int, remote_port: int) -> str | None:
    """The inode of a connected loopback socket, from the text of /proc/net/tcp (thousands of lines, at times)."""
    addresses = f"{LOOPBACK}:{local_port:04X} {LOOPBACK}:{remote_port:04X} ".encode()
    start = table.find(addresses)
    if start < 0:
        return None
    fields = table[start : table.index(b"\n", start)].split()
    return fields[_INODE].decode()


def holds_socket(pid: int, inode: str) -> bool:
    wanted = f"socket:[{inode}]"
    try:
        return any(_names(descriptor) == wanted for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # the process has gone
        return False


def _names(descriptor: Path) -> str | None:
    try:
        return os.readlink(descriptor)  # noqa: PTH115 # it is no path: "socket:[4711]"
    except OSError:  # closed while we looked
        return None


def place_of(pids: Mapping[str, int], *, local_port: int, remote_port: int) -> str | None:
    """The place whose process holds the other end, or None when it has gone already."""
    inode = socket_inode(Path("/proc/net/tcp").read_bytes(), local_port=local_port, remote_port=remote_port)
    if inode is None or inode == "0":
        return None
    return next((place for place, pid in pids.items() if holds_socket(pid, inode)), None)
