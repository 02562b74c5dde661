-- What the agent asks its own PostgreSQL ten times a second, on a primary and on a standby alike.
select
    pg_is_in_recovery() as in_recovery,
    l.term as row_term,
    l.node || '/' || l.boot = current_setting('cluster_name') as opened_here,
    extract(epoch from clock_timestamp() - l.opened_at)::float8 as opened_for,
    coalesce(l.remote_in_step, '{}') as remote_in_step,
    c.seq as canary_seq,
    c.term as canary_term,
    c.written_at as canary_written_at,
    current_setting('synchronous_standby_names') as names,
    case when pg_is_in_recovery()
         then greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'), coalesce(pg_last_wal_replay_lsn(), '0/0'))
         else pg_current_wal_flush_lsn() end - '0/0'::pg_lsn as lsn,
    -- What is to be flushed, without waiting for any disk.
    case when not pg_is_in_recovery() then pg_current_wal_insert_lsn() - '0/0'::pg_lsn end as inserted,
    case when pg_is_in_recovery()
         then coalesce(pg_last_wal_replay_lsn(), '0/0')
         else pg_current_wal_flush_lsn() end - '0/0'::pg_lsn as replayed,
    case when pg_is_in_recovery()
         then greatest(
             (select timeline_id from pg_control_checkpoint()),
             (select min_recovery_end_timeline from pg_control_recovery()),
             coalesce((select received_tli from pg_stat_wal_receiver), 0))
         else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end as timeline,
    -- A promotion writes the new timeline as the end of recovery; a rewind of another node goes by the checkpoint alone.
    case when pg_is_in_recovery()
         then greatest(
             (select timeline_id from pg_control_checkpoint()),
             (select min_recovery_end_timeline from pg_control_recovery()))
         else (select timeline_id from pg_control_checkpoint()) end as control_timeline,
    exists (select from pg_stat_wal_receiver where status = 'streaming') as upstream,
    (select coalesce(json_agg(json_build_object(
                'name', application_name,
                'streaming', state = 'streaming',
                'flush', coalesce(flush_lsn, '0/0') - '0/0'::pg_lsn,
                'replay', coalesce(replay_lsn, '0/0') - '0/0'::pg_lsn,
                'flush_lag', extract(epoch from flush_lag)::float8,
                'replay_lag', extract(epoch from replay_lag)::float8)), '[]')
     from pg_stat_replication
     where application_name !~ '^pg_') as standbys,
    (select coalesce(json_agg(json_build_object(
                'name', slot_name,
                'lsn', coalesce(restart_lsn, '0/0') - '0/0'::pg_lsn,
                'lost', coalesce(wal_status = 'lost', false))), '[]')
     from pg_replication_slots where slot_type = 'physical' and not temporary) as slots
from (select 1) one
left join control.leadership l on true
left join control.canary c on true
