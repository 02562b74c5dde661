-- Work lists are looked up by key, whatever the planner believes of their size.
--
-- They run empty all the time. A table that is vacuumed in that moment is believed to be empty until it is vacuumed
-- again, and for an empty table it is all the same whether it is looked up in or read from end to end. With 70,000
-- parked receipts in it, it was not: `settle` took a minute, claims ran out meanwhile, and texts went out twice.
--
-- So a table whose rows go away again is never joined, but looked up for each row of what comes before:
-- `cross join lateral (select … offset 0)`, or an `exists (… offset 0)`, which the planner may not turn round.

-- A carrier alone finds nothing: only the id is to be looked up, for which `is not distinct from` leaves no choice.
create function hotsite.unpark_answered(
    p_outcomes text[], p_carriers text[], p_canonical text[], p_as_hex text[], p_as_decimal text[]
) returns void
language plpgsql as $$
begin
    if exists (select from hotsite.parked_receipt) then
        perform hotsite.unpark(array(
            select p.parked_id
            from unnest(p_outcomes, p_carriers, p_canonical, p_as_hex, p_as_decimal)
                as r (outcome, carrier, canonical, as_hex, as_decimal)
            cross join lateral (
                select p.parked_id from hotsite.parked_receipt as p
                where p.canonical = any (array[r.canonical, r.as_hex, r.as_decimal])
                and p.carrier is not distinct from r.carrier
                offset 0
            ) as p
            where r.outcome = 'submitted' and r.canonical <> ''
        ));
    end if;
end
$$;

-- Applies parked receipts whose answer has come.
create or replace function hotsite.unpark(p_parked bigint[]) returns void
language plpgsql as $$
declare
    v record;
    v_known bigint[];
begin
    if cardinality(p_parked) = 0 then
        return;
    end if;
    select
        array_agg(p.parked_id) as ids, array_agg(p.carrier) as carriers, array_agg(p.written) as written,
        array_agg(p.canonical) as canonical, array_agg(p.as_hex) as as_hex, array_agg(p.as_decimal) as as_decimal,
        array_agg(p.customer) as customers, array_agg(p.state::text) as states, array_agg(p.error) as errors
    into v
    from (
        select * from hotsite.parked_receipt as p where p.parked_id = any (p_parked) order by p.parked_id for update
    ) as p;
    if v.ids is null then
        return;
    end if;
    select a.known into v_known from hotsite.apply_receipts(
        v.carriers, v.written, v.canonical, v.as_hex, v.as_decimal, v.customers, v.states, v.errors
    ) as a;
    delete from hotsite.parked_receipt as p
    where p.parked_id = any (array(select v.ids[u.ord] from unnest(v_known) as u (ord)));
end
$$;

-- Whether a receipt is parked that may belong to one of these segments, which came into doubt just now: then the
-- dispatcher compares the texts.
create function hotsite.doubt_may_settle(p_messages uuid[], p_segments smallint[]) returns boolean
language plpgsql stable as $$
begin
    return exists (
        select
        from unnest(p_messages, p_segments) as u (message_id, segment)
        cross join lateral (
            select d.tail from hotsite.doubt as d
            where d.message_id = u.message_id and d.segment = u.segment
            offset 0
        ) as d
        where exists (select from hotsite.parked_receipt as p where p.tail = d.tail offset 0)
    );
end
$$;

-- As of 0003, but for the look-ups.
create or replace function hotsite.settle(
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
    perform hotsite.unpark_answered(p_outcomes, p_carriers, p_canonical, p_as_hex, p_as_decimal);
    if v.total = 0 then
        perform hotsite.barrier();
    end if;
    return v.doubted is not null and hotsite.doubt_may_settle(v.doubted, v.doubted_segments);
end
$$;

-- As of 0003, but for the look-ups and for a limit: a row that an answer holds is given up the next time, when that
-- answer will have settled it. Whoever waited for it was cut off sooner or later, and asked again beside those that
-- were still waiting for him here.
create or replace function hotsite.give_up_claims(
    p_term bigint, p_claim_ids bigint[], out given_up bigint, out may_settle boolean
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
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
        may_settle := hotsite.doubt_may_settle(v.message_ids, v.part_numbers);
    end if;
    delete from hotsite.claim as c where c.claim_id = any (p_claim_ids);
end
$$;

-- As of 0009, but for the look-ups: from the doubts, which are few, to what is parked.
create or replace function hotsite.doubt_candidates()
returns table (
    parked_id bigint, carrier text, written text, customer text, destination text, text text,
    message_id uuid, segment smallint, in_doubt boolean, recipient text, source text, encoding text, body text
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform hotsite.assert_open();
    return query
    with waiting as materialized (
        select p.*, count(*) over (partition by p.tail) as crowd
        from (select distinct d.tail from hotsite.doubt as d) as d
        cross join lateral (
            select p.* from hotsite.parked_receipt as p where p.tail = d.tail and p.customer <> '' offset 0
        ) as p
        where not exists ( -- to that number, as `apply_receipts` has it: a short id read in another base may be another's
            select from hotsite.submission as s
            join hotsite.message as m on m.account_id = s.account_id and m.message_id = s.message_id
            where p.canonical <> '' and s.carrier = p.carrier
            and s.canonical = any (array[p.canonical, p.as_hex, p.as_decimal])
            and right(m.recipient, length(p.customer)) = p.customer
            offset 0
        )
    ), open as materialized (
        select d.message_id, d.account_id, d.segment, d.state <> 'submitting' as in_doubt, min(o.claimed_at) as claimed_at
        from (select distinct w.tail from waiting as w) as w
        cross join lateral (select o.* from hotsite.doubt as o where o.tail = w.tail offset 0) as o
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = o.message_id and d.segment = o.segment offset 0
        ) as d
        where d.state in ('in_doubt', 'queued', 'submitting')
        group by d.message_id, d.account_id, d.segment, d.state
        union all
        select d.message_id, d.account_id, d.segment, false, c.claimed_at
        from hotsite.claim as c
        cross join lateral unnest(c.message_ids, c.segments) as u (message_id, segment)
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = u.message_id and d.segment = u.segment offset 0
        ) as d
        where d.claim_id = c.claim_id and d.state = 'submitting' and not d.resent
        and exists (select from waiting)
    ), known as materialized (
        select o.*, m.recipient, m.encoding, m.body, p.source, count(*) over (partition by hotsite.tail(m.recipient)) as crowd
        from open as o
        cross join lateral (
            select m.* from hotsite.message as m
            where m.account_id = o.account_id and m.message_id = o.message_id offset 0
        ) as m
        join hotsite.program as p on p.program_id = m.program_id
    )
    select
        w.parked_id, w.carrier, w.written, w.customer, w.destination, w.text,
        k.message_id, k.segment, k.in_doubt, k.recipient, k.source, k.encoding, k.body
    from waiting as w
    join known as k on hotsite.tail(k.recipient) = w.tail
    where w.parked_at >= k.claimed_at and w.crowd <= 50 and k.crowd <= 50
    order by w.parked_id, k.message_id, k.segment;
end
$$;

-- As of 0006, but for the look-ups.
create or replace function hotsite.resend_doubtful(p_term bigint, p_grace_s double precision, p_limit integer)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_messages uuid[];
    v_segments smallint[];
    v_attempts smallint[];
    v_sent_messages uuid[];
    v_sent_segments smallint[];
    v_total bigint;
begin
    perform control.assert_leader(p_term);
    if not pg_try_advisory_xact_lock(hashtext('hotsite.resend_doubtful')) then
        return 0;
    end if;
    select array_agg(o.message_id), array_agg(o.segment), array_agg(o.attempt)
    into v_messages, v_segments, v_attempts
    from (
        select o.message_id, o.segment, o.attempt from hotsite.doubt as o
        where o.resend and o.since <= now() - make_interval(secs => p_grace_s)
        order by o.since limit p_limit
    ) as o;
    if v_messages is null then
        return 0;
    end if;
    with moved as (
        update hotsite.delivery as d set state = 'queued', resent = true, updated_at = now()
        from (
            select u.* from unnest(v_messages, v_segments, v_attempts) as u (message_id, segment, attempt)
            order by u.message_id, u.segment
        ) as u, hotsite.message as m
        where d.message_id = u.message_id and d.segment = u.segment and d.attempt = u.attempt
        and d.state = 'in_doubt' and not d.resent
        and m.account_id = d.account_id and m.message_id = d.message_id
        and (m.expires_at is null or m.expires_at > now())
        returning d.message_id, d.segment
    ), told as (
        insert into hotsite.event (message_id, segment, state, detail)
        select m.message_id, m.segment, 'queued', 'No answer and no receipt came: sent once more, it may arrive twice.'
        from moved as m
    )
    select array_agg(m.message_id), array_agg(m.segment), count(*)
    into v_sent_messages, v_sent_segments, v_total from moved as m;
    update hotsite.doubt as o set resend = false
    where o.ctid = any (array(
        select o.ctid
        from unnest(v_messages, v_segments, v_attempts) as u (message_id, segment, attempt)
        cross join lateral (
            select o.ctid from hotsite.doubt as o
            where o.message_id = u.message_id and o.segment = u.segment and o.attempt = u.attempt
            offset 0
        ) as o
    ));
    if v_total > 0 then
        perform hotsite.requeue(v_sent_messages, v_sent_segments, array_fill(0.0::double precision, array[v_total::integer]));
        perform hotsite.tally('in_doubt', 'queued', v_total);
    end if;
    return v_total;
end
$$;

-- As of 0006, but the first of each class is found before it is looked up: sorting all of them would be no dearer in
-- the planner's eyes.
create or replace function hotsite.counts(
    p_term bigint, out states text[], out totals bigint[], out classes smallint[], out oldest_s double precision[]
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform control.assert_leader(p_term);
    select array_agg(t.state::text), array_agg(t.total) into states, totals
    from (select t.state, sum(t.delta) as total from hotsite.tally as t group by t.state) as t
    where t.total <> 0;
    select array_agg(c.class), array_agg(extract(epoch from clock_timestamp() - d.updated_at))
    into classes, oldest_s
    from generate_series(0, 2) as c (class)
    cross join lateral (
        select q.message_id, q.segment from hotsite.queue as q
        where q.class = c.class
        order by q.message_id, q.segment limit 1
    ) as q
    join hotsite.delivery as d on d.message_id = q.message_id and d.segment = q.segment;
end
$$;

-- As of 0009, but for the look-up.
create or replace function hotsite.release_due(p_term bigint, p_limit integer, p_clock_agrees boolean) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_moved bigint := 0;
begin
    perform control.assert_leader(p_term);
    if not pg_try_advisory_xact_lock(hashtext('hotsite.release_due')) then
        return 0;
    end if;
    -- A receipt and the answer it overtook may have been committed side by side, each blind to the other.
    perform hotsite.unpark(array(
        select p.parked_id
        from hotsite.parked_receipt as p
        where p.parked_at > now() - interval '10 minutes' and p.canonical <> '' and exists (
            select from hotsite.submission as s
            where s.carrier = p.carrier and s.canonical = any (array[p.canonical, p.as_hex, p.as_decimal])
            offset 0
        )
        order by p.parked_at limit p_limit
    ));
    if p_clock_agrees then
        v_moved := hotsite.work_agenda(p_limit) + hotsite.stop_waiting(p_limit);
    end if;
    perform hotsite.tidy();
    return v_moved;
end
$$;
