"""Which place does a connection come from, when several places use one door?

An etcd member advertises a single address to its peers, so the door in front of a member is used by both
others, and the emulator must know which of them is calling to delay or cut the right line. It asks the
kernel: the caller's socket (its local port, connected to our door) has an inode, and the process that holds
that inode has it among its /proc/<pid>/fd. This needs the caller to run as the same user as the emulator (or
the emulator as root), which holds in a lab.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

LOOPBACK = socket.inet_aton("127.0.0.1")
ANSWER_TIMEOUT = 1.0  # seconds; the kernel answers at once

# struct nlmsghdr and inet_diag_req_v2 of sock_diag(7): which one socket is asked for.
_ASK = struct.Struct("=IHHII BBBBI 2s2s16s16sIII")
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _REQUEST = 20, 1
_ANY_STATE, _ANY_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
_TYPE_AT, _REFUSED, _ERRNO_AT, _INODE_AT = 4, 2, 16, 84  # where the answer has what

_INODE = 8  # /proc/net/tcp: after both addresses, state, queues, timer, retransmits, uid and timeout


def socket_inode(*, local_port: int, remote_port: int) -> int | None:
    """The inode of a connected loopback socket; None when there is none.

    The kernel is asked of this one socket: its whole table has a line for every socket of the machine, tens of
    thousands in a bad hour, and a door that reads it for each call makes that hour worse. Where it cannot be asked (it
    may be built without), the table is read all the same.
    """
    try:
        return _asked_of_kernel(local_port, remote_port)
    except OSError:
        return inode_in(Path("/proc/net/tcp").read_bytes(), local_port=local_port, remote_port=remote_port)


def _asked_of_kernel(local_port: int, remote_port: int) -> int | None:
    address = LOOPBACK.ljust(16, b"\0")
    question = _ASK.pack(
        *(_ASK.size, _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0),
        *(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ANY_STATE),
        *(local_port.to_bytes(2, "big"), remote_port.to_bytes(2, "big"), address, address),
        *(0, _ANY_COOKIE, _ANY_COOKIE),
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWER_TIMEOUT)
        kernel.send(question)
        answer = kernel.recv(4096)
    (kind,) = struct.unpack_from("=H", answer, _TYPE_AT)
    if kind == _REFUSED:
        (error,) = struct.unpack_from("=i", answer, _ERRNO_AT)
        if -error == errno.ENOENT:
            return None
        raise OSError(-error, os.strerror(-error))
    (inode,) = struct.unpack_from("=I", answer, _INODE_AT)
    return int(inode)


def inode_in(table: bytes, *, local_port: int, remote_port: int) -> int | None:
    """The inode of a connected loopback socket, from the text of /proc/net/tcp."""
    address = LOOPBACK[::-1].hex().upper()
    start = table.find(f"{address}:{local_port:04X} {address}:{remote_port:04X} ".encode())
    if start < 0:
        return None
    fields = table[start : table.index(b"\n", start)].split()
    return int(fields[_INODE])


def holds_socket(pid: int, inode: int) -> bool:
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
    inode = socket_inode(local_port=local_port, remote_port=remote_port)
    if not inode:  # 0: the socket lives on without its process
        return None
    return next((place for place, pid in pids.items() if holds_socket(pid, inode)), None)
