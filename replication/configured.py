"""What a node is configured with, and the files that are rendered from it before each start."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from replication import configuration
from replication.binaries import Binaries
from replication.configuration import Role, Standby, Value
from replication.directory import write
from replication.errors import NodeError
from replication.processes import Account

SOCKET_PATH_MAX = 107  # bytes, Linux
SIGNAL_FILES = ("standby.signal", "recovery.signal")
PRIVATE_FOLDER = (
    "alone"  # in the socket's folder; with the port below no longer than the ordinary socket's path
)
PRIVATE_PORT = 1  # there is no port: it only names the socket


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    name: str  # as which its upstream knows it: the application_name of its walreceiver
    binaries: Binaries
    data_dir: Path  # its parent must be writable and on the same file system
    config_dir: (
        Path  # rendered files, the log, records about the data directory; outside of the data directory
    )
    socket_dir: Path
    host: str  # listen_addresses
    port: int
    run_as: str | None = None  # the system user, when we are root
    parameters: Mapping[str, Value] = field(default_factory=dict)
    superuser: str = "hotsite_agent"


def check(settings: NodeSettings) -> None:
    for name in (f".s.PGSQL.{settings.port}", f"{PRIVATE_FOLDER}/.s.PGSQL.{PRIVATE_PORT}"):
        socket = str(settings.socket_dir / name)
        if len(socket.encode()) > SOCKET_PATH_MAX:
            raise NodeError(f"replication.socket_dir: {socket} is too long: at most {SOCKET_PATH_MAX} bytes")
    if os.path.ismount(settings.data_dir):
        raise NodeError(
            f"replication.data_dir: {settings.data_dir} is a mount point, and a clone could not take its place;"
            f' use a folder inside of it: "{settings.data_dir / "data"}"'
        )
    if settings.config_dir.is_relative_to(settings.data_dir):
        raise NodeError("the configuration must not lie inside the data directory: a clone would replace it")
    configuration.check_parameters(settings.parameters)


class Rendered:
    """The files of one node. Each is written whole, for the system user that runs PostgreSQL."""

    def __init__(self, settings: NodeSettings, account: Account) -> None:
        self.settings = settings
        self.account = account

    def config(self, name: str) -> Path:
        return self.settings.config_dir / name

    def private_folder(self) -> Path:
        return self.settings.socket_dir / PRIVATE_FOLDER

    def render(self, role: Role, *, cluster_name: str, private: bool = False) -> None:
        settings = self.settings
        system_users = [self.account.name, Account.ours()]
        files = {
            "postgresql.conf": configuration.postgresql_conf(
                listen=settings.host,
                port=PRIVATE_PORT if private else settings.port,
                socket_dir=str(self.private_folder() if private else settings.socket_dir),
                cluster_name=cluster_name,
                parameters=settings.parameters,
                major=settings.binaries.major,
                private=private,
            ),
            "pg_hba.conf": configuration.pg_hba_conf(settings.superuser),
            "pg_ident.conf": configuration.pg_ident_conf(settings.superuser, system_users),
        }
        for name, text in files.items():
            write(self.config(name), text, owner=self.account.owner)
        # Its settings would win over ours, and it may come from another node.
        write(settings.data_dir / "postgresql.auto.conf", "", owner=self.account.owner)
        self.write_role(role)

    def write_role(self, role: Role) -> None:
        passfile = self.config("upstream.pass")
        if isinstance(role, Standby) and role.upstream is not None:
            line = configuration.passfile_line(role.upstream)
            write(passfile, line, owner=self.account.owner)
        text = configuration.role_conf(role, name=self.settings.name, passfile=str(passfile))
        write(self.config("role.conf"), text, owner=self.account.owner)

    def set_signal(self, *, standby: bool) -> None:
        for name in SIGNAL_FILES:
            (self.settings.data_dir / name).unlink(missing_ok=True)
        if standby:
            write(self.settings.data_dir / "standby.signal", "", owner=self.account.owner)
