-- What the dispatchers of the live site need to keep the partitions: made ahead, archived, detached, dropped. Each call
-- takes its locks one at a time and gives up after a moment, so that traffic never queues behind one for long; whoever
-- asked asks again. Each may be repeated, and does nothing when its work is done.
--
-- A period is what lies between two bounds: a partition of each table, named <table>_<period> after the first day.

-- What has left or is about to. A line is made when the archive of a period is whole (or none is wanted), and stays.
create table hotsite.retired (
    period text primary key,
    since timestamptz, -- null: from the beginning
    until timestamptz not null,
    noted_at timestamptz not null default now(),
    site text not null, -- whose dispatcher
    folder text, -- where it put the archive, at that site; null: none was wanted
    manifest text, -- its text
    dropped_at timestamptz
);

create function hotsite.assert_partitioned(p_table text) returns void
language plpgsql immutable as $$
begin
    if p_table not in ('message', 'delivery', 'event') or p_table is null then
        raise exception '% has no partitions', p_table using errcode = 'undefined_table';
    end if;
end
$$;

create function hotsite.is_final(p_state hotsite.state) returns boolean
language sql immutable as $$
    select p_state not in ('in_doubt', 'submitting', 'queued', 'held', 'scheduled', 'accepted', 'submitted')
$$;

-- Every partition, and what was detached and is not dropped yet (attached is false). Of the odd ones the rows are
-- counted, up to 10,001.
create function hotsite.partitions(p_term bigint)
returns table (
    in_table text, period text, since timestamptz, until timestamptz, attached boolean, bytes bigint,
    rows_estimated bigint
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform control.assert_leader(p_term);
    return query
    select
        t.name, b.period, b.since, b.until, b.attached, pg_total_relation_size(b.oid),
        case
            when b.period <> 'odd' then greatest(b.reltuples, 0)::bigint
            when t.name = 'message' then (select count(*) from (select from hotsite.message_odd limit 10001) as o)
            when t.name = 'delivery' then (select count(*) from (select from hotsite.delivery_odd limit 10001) as o)
            else (select count(*) from (select from hotsite.event_odd limit 10001) as o)
        end
    from (values (1, 'message'), (2, 'delivery'), (3, 'event')) as t (place, name)
    cross join lateral (
        select
            c.oid, c.reltuples, substr(c.relname, length(t.name) + 2) as period, true as attached,
            hotsite.time_of(substring(x.bound from 'FROM \(''([0-9a-f-]+)''\)')::uuid) as since,
            hotsite.time_of(substring(x.bound from 'TO \(''([0-9a-f-]+)''\)')::uuid) as until
        from pg_inherits as i
        join pg_class as c on c.oid = i.inhrelid
        cross join lateral (select pg_get_expr(c.relpartbound, c.oid) as bound) as x
        where i.inhparent = ('hotsite.' || t.name)::regclass
        union all
        select c.oid, c.reltuples, r.period, false, r.since, r.until
        from hotsite.retired as r
        join pg_class as c on c.relnamespace = 'hotsite'::regnamespace and c.relname = t.name || '_' || r.period
        where r.dropped_at is null and not c.relispartition
    ) as b
    order by t.place, b.until nulls last;
end
$$;

-- Makes a partition. What an odd clock has put into the one that takes the rest moves home with it, unless it is more
-- than p_most rows: those would be moved under a lock for long. Returns whether it was made now.
create function hotsite.add_partition(p_table text, p_since timestamptz, p_until timestamptz, p_most bigint)
returns boolean
language plpgsql
set lock_timeout = '300ms' set enable_seqscan = off
as $$
declare
    v_name constant text := p_table || '_' || to_char(p_since at time zone 'UTC', 'YYYYMMDD');
    v_odd constant text := p_table || '_odd';
    v_from constant uuid := hotsite.first_id(p_since);
    v_to constant uuid := hotsite.first_id(p_until);
    v_count bigint;
begin
    perform hotsite.assert_partitioned(p_table);
    if to_regclass('hotsite.' || v_name) is not null then
        return false;
    end if;
    execute format(
        'create table hotsite.%I (like hotsite.%I including defaults including constraints) with (%s)',
        v_name, p_table, case p_table
            -- Written once: what a vacuum does for it is to mark its pages, for good.
            when 'message' then 'autovacuum_vacuum_insert_scale_factor = 0.05'
            when 'delivery' then 'fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05'
            else 'autovacuum_vacuum_insert_scale_factor = 0.05'
        end
    );
    execute format('lock table hotsite.%I in access exclusive mode', v_odd);
    execute format(
        'select count(*) from (select from hotsite.%I where message_id >= $1 and message_id < $2 limit $3 + 1) as o', v_odd
    ) into v_count using v_from, v_to, p_most;
    if v_count > p_most then
        raise exception 'more than % rows of hotsite.% belong to %', p_most, v_odd, v_name
            using errcode = 'object_not_in_prerequisite_state',
            hint = 'Its partition was not made in time. docs/retention.md tells what to do.';
    end if;
    if v_count > 0 then
        execute format(
            'with gone as (delete from hotsite.%I where message_id >= $1 and message_id < $2 returning *)'
            ' insert into hotsite.%I select * from gone', v_odd, v_name
        ) using v_from, v_to;
    end if;
    execute format(
        'alter table hotsite.%I attach partition hotsite.%I for values from (%L) to (%L)', p_table, v_name, v_from, v_to
    );
    return true;
end
$$;

create function hotsite.make_partition(
    p_term bigint, p_table text, p_since timestamptz, p_until timestamptz, p_most bigint
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform control.assert_leader(p_term);
    return hotsite.add_partition(p_table, p_since, p_until, p_most);
end
$$;

-- One upkeep at a time, for as long as its session lasts.
create function hotsite.begin_upkeep(p_term bigint) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform control.assert_leader(p_term);
    return pg_try_advisory_lock(hashtext('hotsite.upkeep'));
end
$$;

-- A piece of a partition for its archive: p_blocks pages from p_block on, a line of JSON for each row. `blocks`: how many
-- pages it has. `open`: some messages with segments that are not final, which must not go.
create function hotsite.archive_piece(
    p_term bigint, p_table text, p_period text, p_block bigint, p_blocks bigint,
    out lines text, out row_count bigint, out open uuid[], out blocks bigint
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
declare
    v_name constant text := p_table || '_' || p_period;
begin
    perform control.assert_leader(p_term);
    perform hotsite.assert_partitioned(p_table);
    blocks := pg_relation_size(format('hotsite.%I', v_name)::regclass) / current_setting('block_size')::bigint;
    execute format(
        'select coalesce(string_agg(to_json(t)::text || chr(10), %L), %L), count(*), %s from hotsite.%I as t'
        ' where t.ctid >= $1 and t.ctid < $2', '', '',
        case p_table
            when 'delivery' then '(array_agg(t.message_id) filter (where not hotsite.is_final(t.state)))[1:10]'
            else 'null::uuid[]'
        end, v_name
    ) into lines, row_count, open
    using format('(%s,0)', p_block)::tid, format('(%s,0)', p_block + p_blocks)::tid;
    open := coalesce(open, '{}');
end
$$;

-- Some messages of a period that have segments which are not final. Reads the period's deliveries.
create function hotsite.open_in(p_term bigint, p_period text) returns uuid[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_open uuid[];
begin
    perform control.assert_leader(p_term);
    execute format(
        'select array(select t.message_id from hotsite.%I as t where not hotsite.is_final(t.state) limit 10)',
        'delivery_' || p_period
    ) into v_open;
    return v_open;
end
$$;

-- The archive of a period is whole, or none is wanted: from now on it may go.
create function hotsite.note_retired(
    p_term bigint, p_period text, p_since timestamptz, p_until timestamptz, p_site text, p_folder text, p_manifest text
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform control.assert_leader(p_term);
    -- Receipts may come for so long, whatever somebody has set.
    if p_until > now() - hotsite.receipt_wait() then
        raise exception 'period % is not over for long enough', p_period
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    insert into hotsite.retired (period, since, until, site, folder, manifest)
    values (p_period, p_since, p_until, p_site, p_folder, p_manifest)
    on conflict (period) do update
    set noted_at = now(), site = excluded.site, folder = excluded.folder, manifest = excluded.manifest;
end
$$;

-- Takes a partition of a period that was noted out of its table. Nobody sees its rows any more.
create function hotsite.detach_partition(p_term bigint, p_table text, p_period text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '300ms'
as $$
begin
    perform control.assert_leader(p_term);
    perform hotsite.assert_partitioned(p_table);
    if not exists (select from hotsite.retired as r where r.period = p_period and r.dropped_at is null) then
        raise exception 'period % was not noted', p_period using errcode = 'object_not_in_prerequisite_state';
    end if;
    if not coalesce((
        select c.relispartition from pg_class as c where c.oid = to_regclass(format('hotsite.%I', p_table || '_' || p_period))
    ), false) then
        return false;
    end if;
    execute format('alter table hotsite.%I detach partition hotsite.%I', p_table, p_table || '_' || p_period);
    return true;
end
$$;

-- Puts a detached partition back: it holds what must not go. First it is given its bounds as a constraint, which reads
-- all of it while it is nobody's; then it is attached without a look. Returns whether it is back; if not, ask again.
create function hotsite.reattach_partition(p_term bigint, p_table text, p_period text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '300ms'
as $$
declare
    v_name constant text := p_table || '_' || p_period;
    v_oid constant regclass := to_regclass(format('hotsite.%I', v_name));
    r hotsite.retired;
begin
    perform control.assert_leader(p_term);
    perform hotsite.assert_partitioned(p_table);
    select * into r from hotsite.retired as o where o.period = p_period;
    if v_oid is null or r.period is null then
        raise exception 'there is no detached partition %', v_name using errcode = 'undefined_table';
    end if;
    if (select c.relispartition from pg_class as c where c.oid = v_oid) then
        return true;
    end if;
    if not exists (select from pg_constraint as c where c.conrelid = v_oid and c.conname = v_name || '_bounds') then
        execute format(
            'alter table hotsite.%I add constraint %I check (message_id >= %L and message_id < %L)',
            v_name, v_name || '_bounds',
            coalesce(hotsite.first_id(r.since), '00000000-0000-0000-0000-000000000000'), hotsite.first_id(r.until)
        );
        return false;
    end if;
    execute format(
        'alter table hotsite.%I attach partition hotsite.%I for values from (%s) to (%L)', p_table, v_name,
        coalesce(quote_literal(hotsite.first_id(r.since)), 'minvalue'), hotsite.first_id(r.until)
    );
    execute format('alter table hotsite.%I drop constraint %I', v_name, v_name || '_bounds');
    return true;
end
$$;

-- How many rows a detached partition has: what the archive says must be true now, when nothing can change them.
create function hotsite.detached_rows(p_term bigint, p_table text, p_period text) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    perform control.assert_leader(p_term);
    perform hotsite.assert_partitioned(p_table);
    execute format('select count(*) from hotsite.%I', p_table || '_' || p_period) into v_count;
    return v_count;
end
$$;

-- Drops what was detached. The line stays, with the archive's manifest.
create function hotsite.drop_partition(p_term bigint, p_table text, p_period text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '300ms'
as $$
declare
    v_name constant text := p_table || '_' || p_period;
begin
    perform control.assert_leader(p_term);
    perform hotsite.assert_partitioned(p_table);
    if not exists (select from hotsite.retired as r where r.period = p_period) then
        raise exception 'period % was not noted', p_period using errcode = 'object_not_in_prerequisite_state';
    end if;
    if (select c.relispartition from pg_class as c where c.oid = to_regclass(format('hotsite.%I', v_name))) then
        raise exception 'partition % is still attached', v_name using errcode = 'object_not_in_prerequisite_state';
    end if;
    if to_regclass(format('hotsite.%I', v_name)) is null then
        return false;
    end if;
    execute format('drop table hotsite.%I', v_name);
    update hotsite.retired as r set dropped_at = now()
    where r.period = p_period and not exists (
        select from pg_class as c
        where c.relnamespace = 'hotsite'::regnamespace
        and c.relname in ('message_' || p_period, 'delivery_' || p_period, 'event_' || p_period)
    );
    return true;
end
$$;

create function hotsite.retired_periods(p_term bigint)
returns table (
    period text, since timestamptz, until timestamptz, noted_at timestamptz, site text, folder text, manifest text,
    dropped_at timestamptz
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform control.assert_leader(p_term);
    return query
    select r.period, r.since, r.until, r.noted_at, r.site, r.folder, r.manifest, r.dropped_at
    from hotsite.retired as r order by r.until desc limit 1000;
end
$$;

-- Forgets references of messages of before p_before that are gone themselves: looks at the p_limit next ones after
-- (p_account, p_after) in the order of the primary key, so that no further index has to be kept for every message.
-- Tells where it came to; nulls at the end.
create function hotsite.forget_references(
    p_term bigint, p_before timestamptz, p_account integer, p_after text, p_limit integer,
    out account_id integer, out reference text, out forgotten bigint
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_before constant uuid := hotsite.first_id(p_before);
    v record;
begin
    perform control.assert_leader(p_term);
    select
        count(*) as looked_at,
        array_agg(f.account_id order by f.account_id, f.reference) as accounts,
        array_agg(f.reference order by f.account_id, f.reference) as names,
        array_agg(f.message_id order by f.account_id, f.reference) as messages,
        array_agg(f.ctid order by f.account_id, f.reference) as places
    into v
    from (
        select f.ctid, f.account_id, f.reference, f.message_id from hotsite.reference as f
        where (f.account_id, f.reference) > (p_account, p_after)
        order by f.account_id, f.reference limit p_limit
    ) as f;
    delete from hotsite.reference as f
    where f.ctid = any (array(
        select u.place from unnest(v.accounts, v.messages, v.places) as u (account_id, message_id, place)
        where u.message_id < v_before and not exists (
            select from hotsite.message as m where m.account_id = u.account_id and m.message_id = u.message_id offset 0
        )
    ))
    and f.message_id < v_before; -- its place may be another's by now
    get diagnostics forgotten = row_count;
    if v.looked_at = p_limit then
        account_id := v.accounts[p_limit];
        reference := v.names[p_limit];
    end if;
end
$$;

grant execute on function
    hotsite.partitions(bigint),
    hotsite.make_partition(bigint, text, timestamptz, timestamptz, bigint),
    hotsite.begin_upkeep(bigint),
    hotsite.archive_piece(bigint, text, text, bigint, bigint),
    hotsite.open_in(bigint, text),
    hotsite.note_retired(bigint, text, timestamptz, timestamptz, text, text, text),
    hotsite.detach_partition(bigint, text, text),
    hotsite.reattach_partition(bigint, text, text),
    hotsite.detached_rows(bigint, text, text),
    hotsite.drop_partition(bigint, text, text),
    hotsite.retired_periods(bigint),
    hotsite.forget_references(bigint, timestamptz, integer, text, integer)
to hotsite_dispatch;

-- What comes and goes with every text, and must stay as small as what is under way: cleared long before a fifth of it is
-- dead, and without giving pages back, which would need a lock that stops everything.
alter table hotsite.submission set (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);
alter table hotsite.agenda set (autovacuum_vacuum_cost_delay = 0);
alter table hotsite.doubt set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off
);
alter table hotsite.parked_receipt set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off
);

-- Partitions for the time until the first upkeep by a new version. A week each: what a look-up costs, and each plan, grows
-- with their number (docs/adr/0018-partitions.md).
do $$
declare
    v_since timestamptz;
    v_table text;
begin
    select max(p.until) into v_since from (
        select hotsite.time_of(substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([0-9a-f-]+)''\)')::uuid) as until
        from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = 'hotsite.message'::regclass
    ) as p;
    for week in 0 .. 3 loop
        foreach v_table in array array['message', 'delivery', 'event'] loop
            perform hotsite.add_partition(
                v_table, v_since + week * interval '7 days', v_since + (week + 1) * interval '7 days', 0
            );
        end loop;
    end loop;
end
$$;
