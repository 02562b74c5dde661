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
