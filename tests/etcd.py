"""Real etcd members for tests: one, or three that form a cluster, to be stopped, hung, restarted and wiped.

Fixtures (import them by `pytest_plugins = ["tests.etcd"]` or by name in a conftest):

* `etcd_member` (session): a running cluster of one. Keep to a prefix of your own: `etcd_prefix`.
* `etcd_prefix` (function): such a prefix.
* `etcd_cluster` (function): three members named columbus, denver and witness, to be stopped and hung.

For anything else (`Certificates`, authentication) use `run_cluster`. Heartbeat and election timeout are those
of the lab, so that leases have the lab's floor of 2 s.
"""

import contextlib
import itertools
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import psutil
import pytest
from aetcd.rpc import rpc_pb2, rpc_pb2_grpc

from sitecontrol.clock import SystemClock
from sitecontrol.etcd.binaries import find_etcd
from sitecontrol.etcd.client import GrpcEtcd
from tests.certificates import Certificates
from tests.hosts import ALL_HERE, HERE, Host
from tests.ports import free_ports

START_WITHIN = 30.0  # seconds, on a machine that does much else
BALLAST = b"/ballast"  # the key that fills a store

_serial = itertools.count(1)


def wait_until(condition: Callable[[], bool], within: float, what: str) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def suppress_full() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        if "database space exceeded" not in str(error):
            raise


@dataclass
class Member:
    """One etcd process, started with `arguments`, and its data."""

    name: str
    url: str
    folder: Path
    arguments: list[str]
    certificates: Certificates | None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process. `wait_healthy` tells when it serves."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.arguments, stdout=log, stderr=log)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, whatever state it is in; its data stay."""
        if self._process is None:
            return
        self.send(number)
        self.send(signal.SIGCONT)
        self._process.wait(timeout=10)
        self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def hang(self) -> None:
        """Stop it with its sockets open: nobody is told, and what it is sent waits for it."""
        assert self._process is not None
        self.send(signal.SIGSTOP)
        process = psutil.Process(self._process.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, 5, f"{self.name} hangs")

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def wipe(self) -> None:
        """Lose the disk. The member must be stopped."""
        shutil.rmtree(self.folder / "data")

    def healthy(self) -> bool:
        """Whether it serves, with a leader."""
        context = self.certificates.client_context() if self.certificates else None
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2, context=context) as answer:  # noqa: S310  # our own member
                return b'"true"' in answer.read()
        except (OSError, urllib.error.URLError, ssl.SSLError):
            return False


@dataclass
class Cluster:
    members: tuple[Member, ...]

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members]

    def client(self, first: Member | None = None, **options: Any) -> GrpcEtcd:
        """A client that asks `first` first. Inside a running loop; to be closed."""
        start = self.members.index(first) if first else 0
        members = self.members[start:] + self.members[:start]
        return GrpcEtcd([member.url for member in members], SystemClock(), **options)

    def start(self) -> None:
        for member in self.members:
            member.start()
        self.wait_healthy()

    def wait_healthy(self) -> None:
        for member in self.members:
            wait_until(member.healthy, START_WITHIN, f"{member.name} serves; see {member.folder / 'log'}")

    def heal(self) -> None:
        """Have all members run again."""
        for member in self.members:
            if member.running:
                member.resume()
            else:
                member.start()
        self.wait_healthy()

    def stop(self) -> None:
        for member in self.members:
            member.kill()

    @property
    def leader(self) -> Member:
        """The member that leads now."""
        for member in self.members:
            with self._channel(member) as channel:
                status = rpc_pb2_grpc.MaintenanceStub(channel).Status(rpc_pb2.StatusRequest(), timeout=5)
            if status.leader == status.header.member_id:
                return member
        raise AssertionError("no member leads")

    @property
    def followers(self) -> list[Member]:
        leader = self.leader
        return [member for member in self.members if member is not leader]

    def compact(self, revision: int) -> None:
        with self._channel(self.members[0]) as channel:
            rpc_pb2_grpc.KVStub(channel).Compact(
                rpc_pb2.CompactionRequest(revision=revision, physical=True), timeout=5
            )

    def fill(self) -> None:
        """Write until etcd takes no more: from then on it raises its alarm, and refuses whatever needs room."""
        with self._channel(self.members[0]) as channel:
            kv = rpc_pb2_grpc.KVStub(channel)
            block = rpc_pb2.PutRequest(key=BALLAST, value=bytes(1024 * 1024))
            with suppress_full():
                while True:
                    kv.Put(block, timeout=5)

    def make_room(self) -> None:
        """As the manual says it: compact, defragment, and end the alarm. A store that is not full is left as it is."""
        with self._channel(self.members[0]) as channel:
            kv = rpc_pb2_grpc.KVStub(channel)
            if not kv.Range(rpc_pb2.RangeRequest(key=BALLAST), timeout=5).count:
                return
            gone = kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=BALLAST), timeout=5)
            kv.Compact(rpc_pb2.CompactionRequest(revision=gone.header.revision, physical=True), timeout=5)
        for member in self.members:
            wait_until(partial(self._defragmented, member), 10, f"{member.name} has room")
        with self._channel(self.members[0]) as channel:
            maintenance = rpc_pb2_grpc.MaintenanceStub(channel)
            for raised in maintenance.Alarm(rpc_pb2.AlarmRequest(action="GET"), timeout=5).alarms:
                ended = rpc_pb2.AlarmRequest(
                    action="DEACTIVATE", memberID=raised.memberID, alarm=raised.alarm
                )
                maintenance.Alarm(ended, timeout=5)

    def _defragmented(self, member: Member) -> bool:
        """To be repeated: a member compacts when it comes to it, and gives nothing back before."""
        with self._channel(member) as channel:
            maintenance = rpc_pb2_grpc.MaintenanceStub(channel)
            maintenance.Defragment(rpc_pb2.DefragmentRequest(), timeout=10)
            return bool(maintenance.Status(rpc_pb2.StatusRequest(), timeout=5).dbSize < 1024 * 1024)

    def enable_authentication(self, password: str, *, user: str, readable: str) -> None:
        """Switch authentication on: `root`, and `user` (same password) with rights below `readable` only."""
        with self._channel(self.members[0]) as channel:
            auth = rpc_pb2_grpc.AuthStub(channel)
            for role, name in (("root", "root"), ("ours", user)):
                auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name=role), timeout=5)
                auth.UserAdd(rpc_pb2.AuthUserAddRequest(name=name, password=password), timeout=5)
                auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user=name, role=role), timeout=5)
            auth.RoleGrantPermission(
                rpc_pb2.AuthRoleGrantPermissionRequest(
                    name="ours",
                    perm={
                        "permType": "READWRITE",
                        "key": readable.encode(),
                        "range_end": readable.encode()[:-1] + b"0",
                    },
                ),
                timeout=5,
            )
            auth.AuthEnable(rpc_pb2.AuthEnableRequest(), timeout=5)

    @staticmethod
    def _channel(member: Member) -> grpc.Channel:
        target = member.url.partition("://")[2]
        if member.certificates is None:
            return grpc.insecure_channel(target)
        return grpc.secure_channel(target, member.certificates.client_credentials())


@contextlib.contextmanager
def run_cluster(
    names: Sequence[str],
    certificates: Certificates | None = None,
    hosts: Mapping[str, Host] = ALL_HERE,
    options: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Cluster]:
    """Members that serve, ended and removed on leaving. With certificates, clients need one, too. `options`: etcd's,
    without their dashes, besides ours.
    """
    folder = Path(tempfile.mkdtemp(prefix="hotsite-etcd-"))
    cluster = Cluster(members=_members(names, folder, certificates, hosts, options))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _members(
    names: Sequence[str],
    folder: Path,
    certificates: Certificates | None,
    hosts: Mapping[str, Host],
    more: Mapping[str, str],
) -> tuple[Member, ...]:
    ports = free_ports(2 * len(names))
    clients = dict(zip(names, ports[: len(names)], strict=True))
    addresses = {name: hosts.get(name, HERE).address for name in names}
    peers = {
        name: f"http://{addresses[name]}:{port}"
        for name, port in zip(names, ports[len(names) :], strict=True)
    }
    token = f"test-{os.getpid()}-{next(_serial)}"
    scheme = "https" if certificates else "http"
    members = []
    for name in names:
        url = f"{scheme}://{addresses[name]}:{clients[name]}"
        own = folder / name
        own.mkdir()
        options = {
            "name": name,
            "data-dir": str(own / "data"),
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peers[name],
            "initial-advertise-peer-urls": peers[name],
            "initial-cluster": ",".join(f"{other}={peer}" for other, peer in peers.items()),
            "initial-cluster-token": token,
            "heartbeat-interval": "100",
            "election-timeout": "1000",
            "pre-vote": "true",
            **(certificates.etcd_options() if certificates else {}),
            **more,
        }
        arguments = [
            *hosts.get(name, HERE).enter,
            str(find_etcd().path),
            *(f"--{option}={value}" for option, value in options.items()),
        ]
        members.append(Member(name=name, url=url, folder=own, arguments=arguments, certificates=certificates))
    return tuple(members)


@pytest.fixture(scope="session")
def etcd_member() -> Iterator[Cluster]:
    """A cluster of one that all tests of the session share; nobody may break it."""
    with run_cluster(["single"]) as cluster:
        yield cluster


@pytest.fixture
def etcd_prefix() -> str:
    """Where in the shared member a test keeps its keys."""
    return f"/test/{os.getpid()}-{next(_serial)}/"


@pytest.fixture(scope="session")
def _three_members() -> Iterator[Cluster]:
    with run_cluster(["columbus", "denver", "witness"]) as cluster:
        yield cluster


@pytest.fixture
def etcd_cluster(_three_members: Cluster) -> Iterator[Cluster]:
    """Three members to stop and hang; healed afterwards. Keys stay: keep to `etcd_prefix`."""
    yield _three_members
    _three_members.heal()
