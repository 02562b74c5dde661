-- The database knows its leader (docs/failover.md, rule 8). Applied by the agent, as superuser, each time before
-- it opens; every statement can be repeated.
--
-- "Who am I" is the setting cluster_name, '<node>/<boot>': it is fixed when a PostgreSQL starts, no session can
-- change it, and boot is random for every start. So a row that was replicated, restored or left from before a
-- crash never matches by itself: the agent has to open each start of each node anew.
--
-- All of it in plpgsql: a function in SQL that is SECURITY DEFINER is parsed and planned again for each call, which
-- cost more than what it does, several hundred times a second.

create schema if not exists control;
revoke all on schema control from public;

create table if not exists control.leadership (
    only_row boolean primary key default true check (only_row),
    term bigint not null,
    node text not null,
    boot text not null,
    -- Standbys in *other* sites for which every commit waits. Set after waiting has really begun and the standby
    -- holds everything older; emptied (by a commit that does not wait) before the names are cleared.
    remote_in_step text[] not null default '{}',
    opened_at timestamptz not null
);

create table if not exists control.canary (
    only_row boolean primary key default true check (only_row),
    seq bigint not null,
    term bigint not null,
    written_at timestamptz not null
) with (fillfactor = 10);
insert into control.canary values (true, 0, 0, now()) on conflict do nothing;

-- Refuses whoever acts in another term than the one this very start of this very node was opened for.
create or replace function control.assert_leader(p_term bigint) returns void
language plpgsql stable security definer set search_path = pg_catalog as $$
declare
    v control.leadership;
begin
    select * into v from control.leadership;
    if v.term is distinct from p_term
       or v.node || '/' || v.boot is distinct from current_setting('cluster_name')
       or pg_is_in_recovery() then
        raise exception using
            errcode = 'HS001',
            message = format('not the leader of term %s', p_term),
            detail = format('the row says term %s, node %s; this server is %s',
                            v.term, v.node, split_part(current_setting('cluster_name'), '/', 1));
    end if;
end $$;

create or replace function control.state()
returns table (term bigint, node text, is_open boolean, in_recovery boolean, durability text,
               canary_seq bigint, canary_age_s double precision)
language plpgsql stable security definer set search_path = pg_catalog as $$
begin
    return query
    select l.term, l.node,
           not pg_is_in_recovery() and l.node || '/' || l.boot = current_setting('cluster_name'),
           pg_is_in_recovery(),
           case when l.remote_in_step = '{}' then 'one-site' else 'two-site' end,
           c.seq, extract(epoch from clock_timestamp() - c.written_at)::double precision
    from (select 1) one
    left join control.leadership l on true
    left join control.canary c on true;
end $$;

-- Where a commit that was just *known* to have returned is on disk. `p_before` is pg_current_wal_insert_lsn()
-- taken inside its transaction.
--
-- Why this is the truth (rule 7): the agent empties remote_in_step before it clears synchronous_standby_names, and
-- fills it only after a position taken once waiting had really begun was flushed there. So a name that stands here
-- *after* the commit returned was waited for, or was flushed past our commit before it was put here. The flush
-- position is compared as well: it must at least have passed the point where our transaction was still open.
-- Asked after every group, so it names the two functions that it needs of the view pg_stat_replication.
create or replace function control.durability(p_before pg_lsn) returns text
language plpgsql volatile security definer set search_path = pg_catalog as $$
begin
    return case when exists (
        select from control.leadership l
        cross join pg_stat_get_wal_senders() w
        cross join lateral pg_stat_get_activity(w.pid) r
        where r.application_name = any (l.remote_in_step) and w.flush_lsn >= p_before
    ) then 'two-site' else 'one-site' end;
end $$;

revoke all on all functions in schema control from public;
grant usage on schema control to hotsite_dispatch, hotsite_monitor, hotsite_migrate;
grant execute on function control.assert_leader(bigint) to hotsite_dispatch, hotsite_migrate;
grant execute on function control.state() to hotsite_dispatch, hotsite_monitor, hotsite_migrate;
grant execute on function control.durability(pg_lsn) to hotsite_dispatch, hotsite_migrate;

-- What pg_rewind asks its source for. Here and not where the role is made: a grant on a function counts only in the
-- database in which it was given, and pg_rewind connects to this one.
grant execute on function pg_ls_dir(text, boolean, boolean) to hotsite_rewind;
grant execute on function pg_stat_file(text, boolean) to hotsite_rewind;
grant execute on function pg_read_binary_file(text) to hotsite_rewind;
grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to hotsite_rewind;
