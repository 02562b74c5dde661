"""Where a running server stands: as a primary what it has on disk, as a standby what it received and replayed."""

from dataclasses import dataclass

from replication import lsn
from replication.session import Session


@dataclass(frozen=True, kw_only=True)
class Position:
    system_id: str
    cluster_name: str
    in_recovery: bool
    timeline: int  # the newest one that it is on, or receives
    received: int  # primary: flushed; standby: the greater of received and replayed
    replayed: int  # primary: the same as received
    streaming: bool  # standby: its walreceiver is connected and streams
    upstream: str | None  # standby: "host:port" that it is told to follow, connected or not
    waits_for: str  # synchronous_standby_names as this server has it

    @property
    def replay_behind(self) -> int:
        """Bytes that are here, but not replayed yet: promotion has to wait for them."""
        return max(self.received - self.replayed, 0)


# A walreceiver that was started anew reports the beginning of a segment as received until it gets more; what was
# replayed was received for certain. Neither CASE branch is evaluated on the wrong kind of server.
QUERY = """
    select s.system_identifier,
           current_setting('cluster_name') as cluster_name,
           r.in_recovery,
           case when r.in_recovery
                then greatest(c.timeline_id, nullif(m.min_recovery_end_timeline, 0), w.received_tli)
                else ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
           end as timeline,
           case when r.in_recovery
                then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                else pg_current_wal_flush_lsn()
           end::text as received,
           case when r.in_recovery then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end::text
               as replayed,
           coalesce(w.status = 'streaming', false) as streaming,
           current_setting('primary_conninfo') as conninfo,
           current_setting('synchronous_standby_names') as waits_for
    from (select pg_is_in_recovery() as in_recovery) r,
         pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() m
    left join pg_stat_wal_receiver w on true
"""


async def look(session: Session, *, timeout: float) -> Position:
    """Ask a server, as its superuser."""
    row = (await session.read(QUERY, timeout=timeout))[0]
    conninfo = _pairs(row["conninfo"])
    return Position(
        system_id=str(row["system_identifier"] % 2**64),
        cluster_name=row["cluster_name"],
        in_recovery=row["in_recovery"],
        timeline=row["timeline"],
        received=lsn.parse(row["received"] or "0/0"),
        replayed=lsn.parse(row["replayed"] or "0/0"),
        streaming=row["streaming"],
        upstream=f"{conninfo['host']}:{conninfo['port']}" if row["in_recovery"] and conninfo else None,
        waits_for=row["waits_for"],
    )


def _pairs(conninfo: str) -> dict[str, str]:
    """The settings of a connection string that `configuration.conninfo` wrote."""
    return {
        key: value.strip("'")
        for key, _, value in (pair.partition("=") for pair in conninfo.split(" ") if pair)
    }
