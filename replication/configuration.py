"""The configuration files of a node, rendered for the role it is about to play. Pure.

Nothing of it lies inside the data directory, where `pg_basebackup` and `pg_rewind` would bring another node's.
`postgresql.conf` is what holds from one start to the next; it includes `role.conf`, which can change by a
reload: whom to wait for (a primary), whom to follow (a standby).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replication.errors import NodeError
from replication.session import Target

Value = str | int | float | bool

SETTINGS: Mapping[str, Value] = {
    # A commit is on disk here, and wherever synchronous_standby_names says, before it returns.
    "fsync": True,
    "full_page_writes": True,
    "synchronous_commit": "on",
    "client_min_messages": "warning",  # a cancelled wait must be heard of
    # After a crash of one backend the postmaster exits: whoever supervises it decides what comes next.
    "restart_after_crash": False,
    # Replication, and coming back by pg_rewind.
    "wal_level": "replica",
    "hot_standby": True,
    "wal_log_hints": True,
    "recovery_target_timeline": "latest",
}
"""What the guarantees rest on; cannot be overridden."""

DEFAULTS: Mapping[str, Value] = {
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "wal_keep_size": "512MB",  # what a returning node may need to be rewound
    "max_slot_wal_keep_size": "4GB",
    "hot_standby_feedback": True,
    # Promotion waits for replay: replay must not fall behind for the sake of a query.
    "max_standby_streaming_delay": "500ms",
    "max_standby_archive_delay": "500ms",
    # One hung walreceiver holds a fast shutdown for this long.
    "wal_sender_timeout": "2s",
    "wal_receiver_timeout": "3s",
    "wal_receiver_status_interval": "1s",
    # Longer than from the end of a swap's old leader to the promotion, which waits for a receiver that is dialling.
    "wal_retrieve_retry_interval": "500ms",
    "tcp_keepalives_idle": 2,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": "5s",
    "max_connections": 200,
    "superuser_reserved_connections": 10,
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    # After a crash one call, instead of a flush for each of thousands of files (needs Linux 5.8 to hear of errors).
    "recovery_init_sync_method": "syncfs",
    "jit": False,  # its compile time stalls short statements
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",  # errors are recognised
    "logging_collector": False,
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_checkpoints": False,
}

PRIVATE: Mapping[str, Value] = {
    "listen_addresses": "",
    "default_transaction_read_only": True,
    "autovacuum": False,
    "max_wal_senders": 0,
    # Its checkpoints must not throw away the WAL that pg_rewind will want.
    "wal_keep_size": "1000GB",
}
"""For a server that is opened for nobody but us, to look at what it holds (see `Node.open_privately`)."""

OURS = frozenset(
    {
        "data_directory",
        "config_file",
        "hba_file",
        "ident_file",
        "external_pid_file",
        "cluster_name",
        "listen_addresses",
        "port",
        "unix_socket_directories",
        "synchronous_standby_names",
        "primary_conninfo",
        "primary_slot_name",
        "restore_command",
        "allow_alter_system",
    }
)

RECEIVER = {
    "connect_timeout": "2",
    "keepalives_idle": "2",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
"""How a standby's connection to its upstream notices that the other end is gone."""


@dataclass(frozen=True, kw_only=True)
class Primary:
    """Takes writes. `waits_for`: every one of these standbys must have flushed a commit before it returns."""

    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standby:
    """Follows. Without an upstream it only replays what it has (on its way to be promoted)."""

    upstream: Target | None = None


Role = Primary | Standby


def check_parameters(parameters: Mapping[str, Value]) -> None:
    """Raise NodeError if one of these may not be set by hand."""
    for name in parameters:
        if not re.fullmatch(r"[a-z][a-z0-9_.]*", name):
            raise NodeError(f"replication.parameters: {name!r} is not the name of a PostgreSQL setting")
        if name in SETTINGS:
            raise NodeError(f"replication.parameters: {name} is always {_text(SETTINGS[name])}: remove it")
        if name in OURS or name.startswith(("recovery_target", "archive_")):
            raise NodeError(f"replication.parameters: {name} is set by the node itself: remove it")


UNITS = {"": 0.001, "us": 1e-6, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}


def wal_sender_timeout(parameters: Mapping[str, Value]) -> float:
    """Seconds that a clean shutdown may wait for one hung receiver; infinity when that is switched off."""
    value = parameters.get("wal_sender_timeout", DEFAULTS["wal_sender_timeout"])
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value))
    if found is None or found[2] not in UNITS:
        raise NodeError(
            f"replication.parameters: wal_sender_timeout = {value!r} is no time; for example: "
            + repr(DEFAULTS["wal_sender_timeout"])
        )
    return float(found[1]) * UNITS[found[2]] or math.inf


def postgresql_conf(
    *,
    listen: str,
    port: int,
    socket_dir: str,
    cluster_name: str,
    parameters: Mapping[str, Value],
    major: int,
    private: bool = False,
) -> str:
    """Holds until the next start."""
    check_parameters(parameters)
    settings: dict[str, Value] = {
        **DEFAULTS,
        **parameters,
        **SETTINGS,
        "listen_addresses": listen,
        "port": port,
        "unix_socket_directories": socket_dir,
        "cluster_name": cluster_name,
        **(PRIVATE if private else {}),
    }
    if major >= 17:
        settings["allow_alter_system"] = False
    lines = [f"{name} = {quote(_text(value))}" for name, value in settings.items()]
    return "\n".join(["# Written at each start; changes are lost.", *lines, "include 'role.conf'", ""])


def role_conf(role: Role, *, name: str, passfile: str) -> str:
    """What a reload can change. `name` is how upstream knows this node."""
    # No standby uses a slot: what it feeds back would go on holding when it is away (docs/adr/0008).
    settings = {"synchronous_standby_names": "", "primary_slot_name": "", "primary_conninfo": ""}
    if isinstance(role, Primary):
        settings["synchronous_standby_names"] = standby_names(role.waits_for)
    elif role.upstream is not None:
        settings["primary_conninfo"] = conninfo(
            role.upstream, application_name=name, passfile=passfile, **RECEIVER
        )
    return "".join(f"{setting} = {quote(value)}\n" for setting, value in settings.items())


def standby_names(names: Sequence[str]) -> str:
    """A value of synchronous_standby_names by which *every* one of `names` is waited for."""
    if len(set(names)) != len(names):
        raise NodeError(f"a standby is named twice: {', '.join(names)}")
    if not names:
        return ""
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    return f"FIRST {len(names)} ({quoted})"


def pg_hba_conf(superuser: str) -> str:
    """The superuser only over the unix socket, as certain system users; all others with a password."""
    return (
        f'local  all          "{superuser}"  peer map={superuser}\n'
        f'host   all,replication  "{superuser}"  all  reject\n'
        "host   all          all  all  scram-sha-256\n"
        "host   replication  all  all  scram-sha-256\n"
    )


def pg_ident_conf(superuser: str, system_users: Sequence[str]) -> str:
    return "".join(f'{superuser}  "{user}"  "{superuser}"\n' for user in dict.fromkeys(system_users))


def conninfo(target: Target, **options: str) -> str:
    """A libpq connection string, without the password (that is in a passfile)."""
    pairs = {"host": target.host, "port": str(target.port), "user": target.user, **options}
    return " ".join(f"{key}={_conninfo_value(value)}" for key, value in pairs.items())


def passfile_line(target: Target) -> str:
    """One line of a libpq password file, for `target`'s user wherever it connects to."""
    user, password = (re.sub(r"([\\:])", r"\\\1", text) for text in (target.user, target.password or ""))
    return f"*:*:*:{user}:{password}\n"


def quote(value: str) -> str:
    """A string in postgresql.conf."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise NodeError(f"a setting of PostgreSQL must be one line: {value!r}")
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _conninfo_value(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _text(value: Value) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
