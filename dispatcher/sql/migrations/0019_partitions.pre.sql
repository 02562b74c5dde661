-- message, delivery and event are partitioned by the time in the message's id. A look-up by id prunes to one partition;
-- what is old leaves by a drop, which costs nothing and leaves no dead rows. The tables of before are the first
-- partitions. Functions name the tables, so they need no change, and calls that are under way go on.
--
-- Not partitioned: work lists (queue, agenda, claim, doubt, unnamed, tally), which have rows only for what still has to
-- happen; submission and parked_receipt, which are asked by the carrier's id and whose rows go after 72 hours;
-- reference, which must stay unique whatever the time. docs/adr/0018-partitions.md has the reasons and measurements.

create sequence hotsite.event_no owned by none;

do $$
declare
    v_table text;
    v_bound text;
    v_triggers text[];
    v_trigger text;
begin
    -- Calls that write take them in either order: who would wait long gives up, and the whole is tried again.
    lock table hotsite.message, hotsite.delivery, hotsite.event in access exclusive mode;
    perform setval('hotsite.event_no', e.last_value, e.is_called) from hotsite.event_event_id_seq as e;
    alter table hotsite.event alter column event_id drop identity;

    foreach v_table in array array['message', 'delivery', 'event'] loop
        select substring(pg_get_constraintdef(c.oid) from '''([0-9a-f-]{36})''') into v_bound
        from pg_constraint as c
        where c.conrelid = ('hotsite.' || v_table)::regclass and c.conname = v_table || '_first';
        select coalesce(array_agg(pg_get_triggerdef(t.oid)), '{}') into v_triggers
        from pg_trigger as t where t.tgrelid = ('hotsite.' || v_table)::regclass and not t.tgisinternal;
        for v_trigger in
            select t.tgname from pg_trigger as t
            where t.tgrelid = ('hotsite.' || v_table)::regclass and not t.tgisinternal
        loop
            execute format('drop trigger %I on hotsite.%I', v_trigger, v_table);
        end loop;
        execute format('alter table hotsite.%I rename to %I', v_table, v_table || '_first');
        execute format(
            'create table hotsite.%I (like hotsite.%I including defaults including constraints)'
            ' partition by range (message_id)',
            v_table, v_table || '_first'
        );
        execute format('alter table hotsite.%I drop constraint %I', v_table, v_table || '_first');
        if v_table = 'message' then
            alter index hotsite.message_pkey rename to message_first_pkey;
            alter index hotsite.message_recipient rename to message_first_recipient;
            alter table hotsite.message add constraint message_pkey primary key (account_id, message_id);
            create index message_recipient on hotsite.message (account_id, recipient, message_id);
        elsif v_table = 'delivery' then
            alter index hotsite.delivery_pkey rename to delivery_first_pkey;
            alter table hotsite.delivery add constraint delivery_pkey primary key (message_id, segment);
        else
            alter index hotsite.event_pkey rename to event_first_pkey;
            alter index hotsite.event_message rename to event_first_message;
            alter index hotsite.event_doubt rename to event_first_doubt;
            alter table hotsite.event alter column event_id set default nextval('hotsite.event_no');
            create index event_message on hotsite.event (message_id);
            create index event_doubt on hotsite.event (term, event_id) where what in ('not_answered', 'given_up');
        end if;
        execute format(
            'alter table hotsite.%I attach partition hotsite.%I for values from (minvalue) to (%L)',
            v_table, v_table || '_first', v_bound
        );
        -- What no other partition takes, because somebody's clock was wrong or because none was made in time.
        execute format(
            'create table hotsite.%I partition of hotsite.%I default', v_table || '_odd', v_table
        );
        foreach v_trigger in array v_triggers loop
            execute v_trigger;
        end loop;
    end loop;
end
$$;

-- As of 0011, but each message is looked up by its id: an array of ids prunes nothing.
create or replace function hotsite.describe(p_account integer, p_ids uuid[])
returns table (
    message_id uuid, account_id integer, program text, recipient text, body text, reference text, encoding text,
    class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz, expires_at timestamptz,
    state text, segments jsonb, events jsonb
)
language sql stable as $$
    select
        m.message_id, m.account_id, p.name, m.recipient, m.body, m.reference, m.encoding,
        m.class, m.on_doubt, m.accepted_at, m.send_at, m.expires_at,
        d.state::text, d.segments, coalesce(e.events, '[]')
    from (select distinct u.id from unnest(p_ids) as u (id)) as u
    cross join lateral (
        select m.* from hotsite.message as m where m.account_id = p_account and m.message_id = u.id offset 0
    ) as m
    join hotsite.program as p on p.program_id = m.program_id
    cross join lateral (
        select
            min(d.state) as state,
            jsonb_agg(jsonb_build_object(
                'segment', d.segment, 'state', d.state, 'attempts', d.attempt, 'carrier', d.carrier,
                'carrier_message_id', d.carrier_message_id, 'command_status', d.command_status, 'error', d.error,
                'submitted_at', d.submitted_at, 'updated_at', d.updated_at
            ) order by d.segment) as segments
        from hotsite.delivery as d where d.message_id = m.message_id
    ) as d
    cross join lateral (
        select jsonb_agg(jsonb_build_object(
            'at', e.at, 'state', e.state, 'segment', e.segment, 'detail', e.detail,
            'what', e.what, 'attempt', e.attempt, 'carrier', e.carrier, 'command_status', e.command_status
        ) order by e.event_id) as events
        from hotsite.event as e where e.message_id = m.message_id
    ) as e
    where d.state is not null -- its deliveries may have left a moment before it
    order by m.message_id desc
$$;

-- As of 0011, but each segment is looked up: over many partitions the planner liked to begin with all of them.
create or replace function hotsite.tell(
    p_messages uuid[], p_segments smallint[], p_what text[], p_attempts smallint[] default null
)
returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    insert into hotsite.event (message_id, segment, state, what, attempt, carrier, command_status, term, detail)
    select
        d.message_id, d.segment, d.state, t.what, coalesce(p_attempts[u.ord], d.attempt),
        case when t.by_carrier then d.carrier end, case when t.by_carrier then d.command_status end, c.term, t.sentence
    from unnest(p_messages, p_segments, p_what) with ordinality as u (message_id, segment, what, ord)
    join hotsite.transition as t on t.what = u.what
    cross join lateral (
        select d.* from hotsite.delivery as d
        where d.message_id = u.message_id and d.segment = u.segment offset 0
    ) as d
    left join lateral (
        select c.term from hotsite.claim as c where c.claim_id = d.claim_id offset 0
    ) as c on true;
end
$$;

-- As of 0009, but the message of a reference is looked up.
create or replace function hotsite.find_page(
    p_term bigint, p_account integer, p_reference text, p_state text, p_to text, p_since timestamptz, p_oldest uuid,
    p_after uuid, p_limit integer
)
returns table (
    reached uuid, message_id uuid, account_id integer, program text, recipient text, body text, reference text,
    encoding text, class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz,
    expires_at timestamptz, state text, segments jsonb, events jsonb
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
    v_before constant uuid := coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    v_oldest constant uuid := coalesce(p_oldest, '00000000-0000-0000-0000-000000000000');
    v_since constant timestamptz := coalesce(p_since, '-infinity');
    v_reach constant integer := case when p_state is null then p_limit + 1 else 10000 end;
    v_ids uuid[];
    v_reached uuid;
begin
    perform control.assert_leader(p_term);
    if p_reference is not null then
        v_ids := array(
            select f.message_id
            from hotsite.reference as f
            cross join lateral (
                select m.recipient, m.accepted_at from hotsite.message as m
                where m.account_id = f.account_id and m.message_id = f.message_id offset 0
            ) as m
            where f.account_id = p_account and f.reference = p_reference and f.message_id < v_before
            and (p_to is null or m.recipient = p_to) and m.accepted_at >= v_since
        );
    elsif p_to is not null then
        -- Compared in pairs, which the index of recipients can do and the primary key cannot: a plan that was made
        -- while the table was empty must not walk all of an account's messages for those to one number.
        v_ids := array(
            select m.message_id from hotsite.message as m
            where m.account_id = p_account and m.recipient = p_to
            and (m.recipient, m.message_id) < (p_to, v_before) and (m.recipient, m.message_id) >= (p_to, v_oldest)
            and m.accepted_at >= v_since
            order by m.message_id desc limit v_reach
        );
    else
        v_ids := array(
            select m.message_id from hotsite.message as m
            where m.account_id = p_account
            and m.message_id < v_before and m.message_id >= v_oldest and m.accepted_at >= v_since
            order by m.message_id desc limit v_reach
        );
    end if;
    if p_state is not null then
        if cardinality(v_ids) = v_reach then
            v_reached := v_ids[v_reach];
        end if;
        v_ids := array(
            select i.id from unnest(v_ids) as i (id)
            where (select min(d.state) from hotsite.delivery as d where d.message_id = i.id) = p_state::hotsite.state
            order by i.id desc limit p_limit + 1
        );
    end if;
    if cardinality(v_ids) > p_limit then
        v_ids := v_ids[:p_limit];
        v_reached := v_ids[p_limit];
    end if;
    return query
    select v_reached, d.*
    from (select) as one left join hotsite.describe(p_account, v_ids) as d on true
    order by d.message_id desc;
    perform hotsite.barrier();
end
$$;

-- As of 0012, but each segment and each message is looked up.
create or replace function hotsite.doubts(
    p_term bigint, p_account integer, p_of_term bigint, p_after bigint, p_limit integer
)
returns table (
    event_id bigint, message_id uuid, reference text, segment smallint, attempt smallint, carrier text, at timestamptz,
    state text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    perform control.assert_leader(p_term);
    return query
    select e.event_id, e.message_id, m.reference, e.segment, e.attempt, e.carrier, e.at, d.state::text
    from hotsite.event as e
    cross join lateral (
        select d.state, d.account_id from hotsite.delivery as d
        where d.message_id = e.message_id and d.segment = e.segment offset 0
    ) as d
    cross join lateral (
        select m.reference from hotsite.message as m
        where m.account_id = d.account_id and m.message_id = e.message_id offset 0
    ) as m
    where e.what in ('not_answered', 'given_up') and e.term = p_of_term and e.event_id > p_after
    and d.account_id = p_account
    order by e.event_id limit p_limit;
    perform hotsite.barrier();
end
$$;

-- The same for operators: of all accounts, or of one. Not granted to dispatchers.
create function hotsite.known_doubts(p_of_term bigint, p_account text)
returns table (
    account text, message_id uuid, reference text, segment smallint, attempt smallint, carrier text, at timestamptz,
    term bigint, state text, on_doubt text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    return query
    select
        a.name, e.message_id, m.reference, e.segment, e.attempt, e.carrier, e.at, e.term, d.state::text, m.on_doubt
    from hotsite.event as e
    cross join lateral (
        select d.state, d.account_id from hotsite.delivery as d
        where d.message_id = e.message_id and d.segment = e.segment offset 0
    ) as d
    cross join lateral (
        select m.reference, m.on_doubt from hotsite.message as m
        where m.account_id = d.account_id and m.message_id = e.message_id offset 0
    ) as m
    join hotsite.account as a on a.account_id = d.account_id
    where e.what in ('not_answered', 'given_up') and e.term = p_of_term and (p_account is null or a.name = p_account)
    order by e.event_id;
end
$$;
