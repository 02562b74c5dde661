-- Accepting, looking up, cancelling. Each function checks the caller's term before anything else, and what
-- tells of a row ends in a commit that writes WAL, so that the answer proves the row to be on every disk.
--
-- Planner settings stand on the busy functions: their inputs are arrays of unknown length and their tables
-- grow from nothing to millions, so the plan that is right at every size is fixed: walk the array, look up by index.

-- Puts one line into the books: `p_count` segments went from one state (null: from nowhere) to another.
create function hotsite.tally(p_from hotsite.state, p_to hotsite.state, p_count bigint) returns void
language sql as $$
    insert into hotsite.tally (state, delta)
    select change.state, change.delta from (values (p_from, -p_count), (p_to, p_count)) as change (state, delta)
    where change.state is not null and p_count <> 0
$$;

-- A commit that waits for the standbys needs something in the WAL to wait for.
create function hotsite.barrier() returns void
language sql as $$
    select pg_logical_emit_message(true, 'hotsite', '')
$$;

-- For what passes without a term (answers, receipts, replies): this server must lead in *its* term.
create function hotsite.assert_open() returns void
language plpgsql as $$
begin
    if not coalesce((select s.is_open and not s.in_recovery from control.state() as s), false) then
        raise exception 'this server does not lead' using errcode = 'HS001';
    end if;
end
$$;

-- Stores a group. The arrays stand beside each other, one element a message. The answer has their order:
-- the id (of the first message when it is a duplicate), 'new' | 'duplicate' | 'conflict', the state, and a
-- position in the WAL before the commit, for control.durability. A row that was stored by an earlier try of
-- the same group is recognised by its id and is 'new' again.
create function hotsite.accept(
    p_term bigint, p_ids uuid[], p_accounts integer[], p_programs integer[], p_recipients text[], p_bodies text[],
    p_encodings text[], p_segments smallint[], p_classes smallint[], p_on_doubt text[], p_references text[],
    p_fingerprints bytea[], p_send_at timestamptz[], p_expires_at timestamptz[],
    out ids uuid[], out verdicts text[], out states text[], out lsn text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_new bigint;
    v_stored bigint;
begin
    perform control.assert_leader(p_term);
    if exists (
        select from (select distinct r.account, r.program from unnest(p_accounts, p_programs) as r (account, program)) as r
        where not exists (
            select from hotsite.program as p where p.program_id = r.program and p.account_id = r.account
        )
    ) then
        raise exception 'a message names a program that is not its account''s' using errcode = 'foreign_key_violation';
    end if;

    -- Sorted, so that two groups which share references wait for each other in one order. The first of a
    -- reference wins, inside this group too; a second one that is still being committed is waited for.
    insert into hotsite.reference (account_id, reference, message_id, fingerprint)
    select r.account, r.reference, r.id, r.fingerprint
    from unnest(p_accounts, p_references, p_ids, p_fingerprints) with ordinality
        as r (account, reference, id, fingerprint, ord)
    where r.reference is not null
    order by r.account, r.reference collate "C", r.ord
    on conflict do nothing;

    with judged as (
        select
            r.*,
            coalesce(f.message_id, r.id) as first_id,
            case
                when f.message_id is null or (f.message_id = r.id and f.fingerprint = r.fingerprint) then 'new'
                when f.fingerprint = r.fingerprint then 'duplicate'
                else 'conflict'
            end as verdict,
            case when r.send_at > now() then 'scheduled' else 'queued' end::hotsite.state as state
        from unnest(
            p_ids, p_accounts, p_programs, p_recipients, p_bodies, p_encodings, p_segments, p_classes, p_on_doubt,
            p_references, p_fingerprints, p_send_at, p_expires_at
        ) with ordinality as r (
            id, account, program, recipient, body, encoding, segments, class, on_doubt,
            reference, fingerprint, send_at, expires_at, ord
        )
        left join hotsite.reference as f on f.account_id = r.account and f.reference = r.reference
    ), stored as (
        insert into hotsite.message (
            account_id, message_id, program_id, class, segments, send_at, expires_at, recipient, reference, encoding,
            on_doubt, body
        )
        select
            j.account, j.id, j.program, j.class, j.segments, j.send_at, j.expires_at, j.recipient, j.reference,
            j.encoding, j.on_doubt, j.body
        from judged as j where j.verdict = 'new'
        on conflict do nothing
        returning account_id, message_id, class, segments, send_at, expires_at
    ), parts as (
        select
            s.*, g.segment::smallint as segment,
            case when s.send_at > now() then 'scheduled' else 'queued' end::hotsite.state as state
        from stored as s, generate_series(1, s.segments) as g (segment)
    ), delivered as (
        insert into hotsite.delivery (message_id, account_id, segment, state)
        select p.message_id, p.account_id, p.segment, p.state from parts as p
    ), queued as (
        insert into hotsite.queue (message_id, account_id, class, segment)
        select p.message_id, p.account_id, p.class, p.segment from parts as p where p.state = 'queued'
    ), noted as (
        insert into hotsite.agenda (at, message_id, account_id, segment)
        select distinct t.at, p.message_id, p.account_id, p.segment
        from parts as p, lateral (values (case when p.state = 'scheduled' then p.send_at end), (p.expires_at)) as t (at)
        where t.at is not null
    ), counted as (
        insert into hotsite.tally (state, delta) select p.state, count(*) from parts as p group by p.state
    )
    select
        array_agg(j.first_id order by j.ord),
        array_agg(j.verdict order by j.ord),
        array_agg(case when j.verdict = 'new' then j.state::text end order by j.ord),
        count(*) filter (where j.verdict = 'new'),
        (select count(*) from stored)
    into ids, verdicts, states, v_new, v_stored
    from judged as j;

    -- What was there before has a state of its own by now: a duplicate, and (not told apart from the really new
    -- ones here, it is rare) a row of an earlier try.
    if v_stored < cardinality(p_ids) then
        select array_agg(coalesce(
            case when v_stored = v_new then r.state end,
            (select min(d.state)::text from hotsite.delivery as d where d.message_id = r.id)
        ) order by r.ord)
        into states
        from unnest(ids, states) with ordinality as r (id, state, ord);
    end if;
    if v_stored = 0 then
        perform hotsite.barrier();
    end if;
    lsn := pg_current_wal_insert_lsn();
end
$$;

-- Everything about some messages of one account, newest first.
create function hotsite.describe(p_account integer, p_ids uuid[])
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
    from hotsite.message as m
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
            'at', e.at, 'state', e.state, 'segment', e.segment, 'detail', e.detail
        ) order by e.event_id) as events
        from hotsite.event as e where e.message_id = m.message_id
    ) as e
    where m.account_id = p_account and m.message_id = any (p_ids)
    order by m.message_id desc
$$;

create function hotsite.read(p_term bigint, p_account integer, p_id uuid)
returns table (
    message_id uuid, account_id integer, program text, recipient text, body text, reference text, encoding text,
    class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz, expires_at timestamptz,
    state text, segments jsonb, events jsonb
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform control.assert_leader(p_term);
    return query select * from hotsite.describe(p_account, array[p_id]);
    perform hotsite.barrier();
end
$$;

-- Newest first. With p_state no more than the 10,000 newest messages (before p_after) are looked at: the
-- state of a message is nowhere stored, so that it need not be written with each change of a segment.
create function hotsite.find(
    p_term bigint, p_account integer, p_reference text, p_state text, p_to text, p_after uuid, p_limit integer
)
returns table (
    message_id uuid, account_id integer, program text, recipient text, body text, reference text, encoding text,
    class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz, expires_at timestamptz,
    state text, segments jsonb, events jsonb
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
    v_before constant uuid := coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    v_reach constant integer := case when p_state is null then p_limit else 10000 end;
    v_ids uuid[];
begin
    perform control.assert_leader(p_term);
    if p_reference is not null then
        v_ids := array(
            select m.message_id
            from hotsite.reference as f
            join hotsite.message as m on m.account_id = f.account_id and m.message_id = f.message_id
            where f.account_id = p_account and f.reference = p_reference and m.message_id < v_before
            and (p_to is null or m.recipient = p_to)
        );
    elsif p_to is not null then
        v_ids := array(
            select m.message_id from hotsite.message as m
            where m.account_id = p_account and m.recipient = p_to and m.message_id < v_before
            order by m.message_id desc limit v_reach
        );
    else
        v_ids := array(
            select m.message_id from hotsite.message as m
            where m.account_id = p_account and m.message_id < v_before
            order by m.message_id desc limit v_reach
        );
    end if;
    if p_state is not null then
        v_ids := array(
            select i.id from unnest(v_ids) as i (id)
            where (select min(d.state) from hotsite.delivery as d where d.message_id = i.id) = p_state::hotsite.state
            order by i.id desc limit p_limit
        );
    end if;
    return query select * from hotsite.describe(p_account, v_ids);
    perform hotsite.barrier();
end
$$;

-- Cancels the segments that have not left. One that waits to be sent again after a doubt may have left
-- before: it is in doubt again, and is not resent.
create function hotsite.cancel(p_term bigint, p_account integer, p_id uuid)
returns table (
    message_id uuid, account_id integer, program text, recipient text, body text, reference text, encoding text,
    class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz, expires_at timestamptz,
    state text, segments jsonb, events jsonb
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    v_part record;
    v_to hotsite.state;
begin
    perform control.assert_leader(p_term);
    update hotsite.doubt as d set resend = false
    where d.message_id = p_id and d.account_id = p_account and d.resend;
    for v_part in
        select d.segment, d.state, d.resent from hotsite.delivery as d
        where d.message_id = p_id and d.account_id = p_account
        and d.state in ('accepted', 'held', 'scheduled', 'queued')
        order by d.segment for update
    loop
        v_to := case when v_part.resent then 'in_doubt' else 'canceled' end;
        update hotsite.delivery as d set state = v_to, updated_at = now()
        where d.message_id = p_id and d.segment = v_part.segment;
        perform hotsite.tally(v_part.state, v_to, 1);
        insert into hotsite.event (message_id, segment, state, detail)
        values (p_id, v_part.segment, v_to, 'Canceled by its account before it was sent.');
    end loop;
    return query select * from hotsite.describe(p_account, array[p_id]);
    perform hotsite.barrier();
end
$$;

grant execute on function
    hotsite.accept(
        bigint, uuid[], integer[], integer[], text[], text[], text[], smallint[], smallint[], text[], text[], bytea[],
        timestamptz[], timestamptz[]
    ),
    hotsite.read(bigint, integer, uuid),
    hotsite.find(bigint, integer, text, text, text, uuid, integer),
    hotsite.cancel(bigint, integer, uuid)
to hotsite_dispatch;
