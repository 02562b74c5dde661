-- Claiming and settling. A claim is durable before the first byte goes out; what becomes of it is matched by
-- claim, segment and attempt, so that an answer is right whenever and through whomever it comes.
--
-- Order of locks: a row of the queue before its delivery, deliveries by (message, segment) before doubts.

-- Puts segments that are `queued` back to where they are claimed from, each after so many seconds.
create function hotsite.requeue(p_messages uuid[], p_segments smallint[], p_after double precision[]) returns void
language plpgsql as $$
begin
    -- A hint that is there already is written anew, not left: who claims it now may have seen the old state.
    insert into hotsite.queue (message_id, account_id, class, segment)
    select m.message_id, m.account_id, m.class, d.segment
    from unnest(p_messages, p_segments, p_after) as r (message_id, segment, after)
    join hotsite.delivery as d on d.message_id = r.message_id and d.segment = r.segment
    join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
    where r.after <= 0
    on conflict (class, message_id, segment) do update set account_id = excluded.account_id;

    insert into hotsite.agenda (at, message_id, account_id, segment)
    select distinct t.at, d.message_id, d.account_id, d.segment
    from unnest(p_messages, p_segments, p_after) as r (message_id, segment, after)
    join hotsite.delivery as d on d.message_id = r.message_id and d.segment = r.segment
    join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
    cross join lateral (
        values (case when r.after > 0 then now() + make_interval(secs => r.after) end), (m.expires_at)
    ) as t (at)
    where t.at is not null
    on conflict (at, message_id, segment) do update set account_id = excluded.account_id;
end
$$;

-- Opens the books on segments that are `in_doubt` now.
create function hotsite.enter_doubt(p_messages uuid[], p_segments smallint[], p_detail text) returns void
language plpgsql as $$
begin
    insert into hotsite.doubt (message_id, account_id, segment, attempt, resend, tail, claimed_at)
    select
        d.message_id, d.account_id, d.segment, d.attempt, m.on_doubt = 'resend' and not d.resent,
        hotsite.tail(m.recipient), coalesce(c.claimed_at, now())
    from unnest(p_messages, p_segments) as r (message_id, segment)
    join hotsite.delivery as d on d.message_id = r.message_id and d.segment = r.segment
    join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
    left join hotsite.claim as c on c.claim_id = d.claim_id
    on conflict do nothing;

    insert into hotsite.event (message_id, segment, state, detail)
    select r.message_id, r.segment, 'in_doubt', p_detail
    from unnest(p_messages, p_segments) as r (message_id, segment);
end
$$;

-- Whether a receipt is parked that may belong to something in doubt: then the dispatcher compares the texts.
create function hotsite.doubt_may_settle() returns boolean
language sql stable as $$
    select exists (select from hotsite.doubt as d join hotsite.parked_receipt as p on p.tail = d.tail)
$$;

-- Claims up to p_limit queued segments, by class, then by age. Writes nothing when there is nothing to claim.
create function hotsite.claim(p_term bigint, p_dispatcher text, p_limit integer, p_claim_for_s double precision)
returns table (
    claim_id bigint, message_id uuid, segment smallint, segments smallint, attempt smallint, account_id integer,
    program_id integer, source text, recipient text, body text, encoding text, class smallint, expires_at timestamptz
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_rows tid[];
    v_claim bigint;
begin
    perform control.assert_leader(p_term);
    v_rows := array(
        select q.ctid from hotsite.queue as q
        order by q.class, q.message_id, q.segment limit p_limit for update skip locked
    );
    if cardinality(v_rows) = 0 then
        return;
    end if;
    v_claim := nextval('hotsite.claim_id');
    return query
    with taken as (
        delete from hotsite.queue as q where q.ctid = any (v_rows) returning q.message_id, q.segment
    ), claimed as (
        update hotsite.delivery as d
        set state = 'submitting', attempt = d.attempt + 1, claim_id = v_claim, updated_at = now()
        from taken as t
        where d.message_id = t.message_id and d.segment = t.segment and d.state = 'queued'
        returning d.account_id, d.message_id, d.segment, d.attempt
    ), recorded as (
        insert into hotsite.claim (claim_id, term, dispatcher, claim_for_s, message_ids, segments)
        select v_claim, p_term, p_dispatcher, p_claim_for_s, array_agg(c.message_id), array_agg(c.segment)
        from claimed as c having count(*) > 0
    ), counted as (
        insert into hotsite.tally (state, delta)
        select t.state, t.sign * c.count
        from (select count(*) as count from claimed) as c,
            (values ('queued'::hotsite.state, -1), ('submitting', 1)) as t (state, sign)
        where c.count > 0
    )
    select
        v_claim, c.message_id, c.segment, m.segments, c.attempt, c.account_id,
        m.program_id, p.source, m.recipient, m.body, m.encoding, m.class, m.expires_at
    from claimed as c
    join hotsite.message as m on m.account_id = c.account_id and m.message_id = c.message_id
    join hotsite.program as p on p.program_id = m.program_id
    order by m.class, c.message_id, c.segment;
end
$$;

-- What the plain way of `settle` did not know where to put: answers to attempts that were given up or sent
-- again meanwhile, and what was told before. Row by row: they are few.
create function hotsite.settle_late(
    p_claims bigint[], p_messages uuid[], p_segments smallint[], p_attempts smallint[], p_outcomes text[],
    p_carriers text[], p_written text[], p_canonical text[], p_status integer[], p_retry_after double precision[]
) returns void
language plpgsql as $$
declare
    r record;
    d hotsite.delivery;
    v_new boolean;
begin
    for r in
        select u.*
        from unnest(
            p_claims, p_messages, p_segments, p_attempts, p_outcomes, p_carriers, p_written, p_canonical, p_status,
            p_retry_after
        ) as u (claim, message_id, segment, attempt, outcome, carrier, written, canonical, status, retry_after)
        join hotsite.delivery as l on l.message_id = u.message_id and l.segment = u.segment
        where u.attempt <= l.attempt and u.outcome <> 'in_doubt'
        and not (l.claim_id = u.claim and l.attempt = u.attempt and l.state = u.outcome::hotsite.state)
        order by u.message_id, u.segment
    loop
        select * into d from hotsite.delivery as l
        where l.message_id = r.message_id and l.segment = r.segment for update;
        v_new := false;
        if r.outcome = 'submitted' then
            insert into hotsite.submission (message_id, account_id, segment, attempt, carrier, canonical, written)
            select d.message_id, d.account_id, d.segment, r.attempt, r.carrier, r.canonical, r.written
            where not exists (
                select from hotsite.submission as s
                where s.carrier = r.carrier and s.canonical = r.canonical and s.message_id = d.message_id
                and s.segment = d.segment and s.attempt = r.attempt
            );
            v_new := found;
        end if;
        if r.outcome = 'submitted' and d.state in ('in_doubt', 'queued') then
            update hotsite.delivery as l
            set state = 'submitted', carrier = r.carrier, carrier_message_id = r.written, command_status = r.status,
                submitted_at = now(), updated_at = now()
            where l.message_id = d.message_id and l.segment = d.segment;
            delete from hotsite.doubt as o where o.message_id = d.message_id and o.segment = d.segment;
            perform hotsite.tally(d.state, 'submitted', 1);
            insert into hotsite.event (message_id, segment, state, detail)
            values (d.message_id, d.segment, 'submitted',
                format('The carrier''s answer to attempt %s came late and settled the doubt.', r.attempt));
        elsif v_new then
            insert into hotsite.event (message_id, segment, state, detail)
            values (d.message_id, d.segment, d.state,
                format('The carrier''s answer to attempt %s came late: that attempt was taken, too.', r.attempt));
        elsif r.outcome in ('failed', 'queued') and d.state = 'in_doubt' and d.attempt = r.attempt then
            update hotsite.delivery as l
            set state = r.outcome::hotsite.state, carrier = r.carrier, command_status = r.status, updated_at = now()
            where l.message_id = d.message_id and l.segment = d.segment;
            delete from hotsite.doubt as o
            where o.message_id = d.message_id and o.segment = d.segment and o.attempt = r.attempt;
            perform hotsite.tally(d.state, r.outcome::hotsite.state, 1);
            insert into hotsite.event (message_id, segment, state, detail)
            values (d.message_id, d.segment, r.outcome::hotsite.state, case r.outcome
                when 'failed' then format('The carrier''s refusal of attempt %s came late and settled the doubt.', r.attempt)
                else format('Attempt %s was never sent, as its dispatcher told late: queued again.', r.attempt)
            end);
            if r.outcome = 'queued' then
                perform hotsite.requeue(array[d.message_id], array[d.segment], array[r.retry_after]);
            end if;
        end if;
    end loop;
end
$$;

-- What became of claimed segments. Needs no term. Returns hotsite.doubt_may_settle() when doubts were added.
create function hotsite.settle(
    p_claims bigint[], p_messages uuid[], p_segments smallint[], p_attempts smallint[], p_outcomes text[],
    p_carriers text[], p_written text[], p_canonical text[], p_as_hex text[], p_as_decimal text[],
    p_status integer[], p_retry_after double precision[]
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v record;
begin
    perform hotsite.assert_open();
    with moved as (
        update hotsite.delivery as d
        set state = r.outcome::hotsite.state, carrier = r.carrier, carrier_message_id = r.written,
            command_status = r.status, submitted_at = case when r.outcome = 'submitted' then now() end, updated_at = now()
        from unnest(
            p_claims, p_messages, p_segments, p_attempts, p_outcomes, p_carriers, p_written, p_canonical, p_status,
            p_retry_after
        ) as r (claim, message_id, segment, attempt, outcome, carrier, written, canonical, status, retry_after)
        where d.message_id = r.message_id and d.segment = r.segment and d.claim_id = r.claim
        and d.attempt = r.attempt and d.state = 'submitting'
        returning
            d.account_id, d.message_id, d.segment, d.attempt, r.outcome, r.carrier, r.written, r.canonical, r.retry_after
    ), noted as (
        insert into hotsite.submission (message_id, account_id, segment, attempt, carrier, canonical, written)
        select m.message_id, m.account_id, m.segment, m.attempt, m.carrier, m.canonical, m.written
        from moved as m where m.outcome = 'submitted'
    ), counted as (
        insert into hotsite.tally (state, delta)
        select m.outcome::hotsite.state, count(*) from moved as m group by m.outcome
        union all
        select 'submitting', -count(*) from moved having count(*) > 0
    )
    select
        count(*) as total,
        array_agg(m.message_id) filter (where m.outcome = 'queued') as queued,
        array_agg(m.segment) filter (where m.outcome = 'queued') as queued_segments,
        array_agg(m.retry_after) filter (where m.outcome = 'queued') as queued_after,
        array_agg(m.message_id) filter (where m.outcome = 'in_doubt') as doubted,
        array_agg(m.segment) filter (where m.outcome = 'in_doubt') as doubted_segments
    into v from moved as m;

    if v.queued is not null then
        perform hotsite.requeue(v.queued, v.queued_segments, v.queued_after);
    end if;
    if v.doubted is not null then
        perform hotsite.enter_doubt(
            v.doubted, v.doubted_segments, 'It was written to the carrier, and no answer came: it may have left.'
        );
    end if;
    if v.total < cardinality(p_claims) then
        perform hotsite.settle_late(
            p_claims, p_messages, p_segments, p_attempts, p_outcomes, p_carriers, p_written, p_canonical, p_status,
            p_retry_after
        );
    end if;
    if exists (select from hotsite.parked_receipt) then
        perform hotsite.unpark(array(
            select p.parked_id
            from unnest(p_outcomes, p_carriers, p_canonical, p_as_hex, p_as_decimal)
                as r (outcome, carrier, canonical, as_hex, as_decimal)
            join hotsite.parked_receipt as p
                on p.carrier = r.carrier and p.canonical = any (array[r.canonical, r.as_hex, r.as_decimal])
            where r.outcome = 'submitted' and r.canonical <> ''
        ));
    end if;
    if v.total = 0 then
        perform hotsite.barrier();
    end if;
    return v.doubted is not null and hotsite.doubt_may_settle();
end
$$;

-- The claims with segments that are still `submitting`. (`release_due` removes the others.)
create function hotsite.open_claims(p_term bigint)
returns table (claim_id bigint, dispatcher text, term bigint, claim_for_s double precision, segments bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    perform control.assert_leader(p_term);
    return query
    select c.claim_id, c.dispatcher, c.term, c.claim_for_s, count(*)
    from hotsite.claim as c
    cross join lateral unnest(c.message_ids, c.segments) as u (message_id, segment)
    -- Looked up one by one, whatever the planner knew of the size of the tables: this is asked all the time.
    where (
        select d.claim_id = c.claim_id and d.state = 'submitting'
        from hotsite.delivery as d where d.message_id = u.message_id and d.segment = u.segment
    )
    group by c.claim_id
    order by c.claim_id;
end
$$;

-- Takes what is still `submitting` under some claims out of it, and closes them.
create function hotsite.close_claims(p_claim_ids bigint[], p_to hotsite.state)
returns table (message_ids uuid[], part_numbers smallint[], total bigint)
language plpgsql as $$
begin
    return query
    with moved as (
        update hotsite.delivery as d set state = p_to, updated_at = now()
        from (
            select c.claim_id, u.message_id, u.segment
            from hotsite.claim as c cross join lateral unnest(c.message_ids, c.segments) as u (message_id, segment)
            where c.claim_id = any (p_claim_ids)
            order by u.message_id, u.segment
        ) as u
        where d.message_id = u.message_id and d.segment = u.segment and d.claim_id = u.claim_id
        and d.state = 'submitting'
        returning d.message_id, d.segment
    )
    select
        coalesce(array_agg(m.message_id), '{}'), coalesce(array_agg(m.segment), '{}'), count(*)
    from moved as m;
end
$$;

create function hotsite.give_up_claims(p_term bigint, p_claim_ids bigint[], out given_up bigint, out may_settle boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v record;
begin
    perform control.assert_leader(p_term);
    select * into v from hotsite.close_claims(p_claim_ids, 'in_doubt');
    given_up := v.total;
    may_settle := false;
    if given_up > 0 then
        perform hotsite.enter_doubt(
            v.message_ids, v.part_numbers, 'Its dispatcher was lost before it told what became of it: it may have left.'
        );
        perform hotsite.tally('submitting', 'in_doubt', given_up);
        may_settle := hotsite.doubt_may_settle();
    end if;
    delete from hotsite.claim as c where c.claim_id = any (p_claim_ids);
end
$$;

create function hotsite.return_claims(p_term bigint, p_dispatcher text, p_claim_ids bigint[]) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_claims bigint[];
    v record;
begin
    perform control.assert_leader(p_term);
    v_claims := array(
        select c.claim_id from hotsite.claim as c
        where c.claim_id = any (p_claim_ids) and c.dispatcher = p_dispatcher
    );
    select * into v from hotsite.close_claims(v_claims, 'queued');
    if v.total > 0 then
        perform hotsite.requeue(v.message_ids, v.part_numbers, array_fill(0.0::double precision, array[v.total::integer]));
        perform hotsite.tally('submitting', 'queued', v.total);
    end if;
    delete from hotsite.claim as c where c.claim_id = any (v_claims);
    return v.total;
end
$$;

grant execute on function
    hotsite.claim(bigint, text, integer, double precision),
    hotsite.settle(
        bigint[], uuid[], smallint[], smallint[], text[], text[], text[], text[], text[], text[], integer[],
        double precision[]
    ),
    hotsite.open_claims(bigint),
    hotsite.give_up_claims(bigint, bigint[]),
    hotsite.return_claims(bigint, text, bigint[])
to hotsite_dispatch;
