-- What happens because time has passed, and the numbers. The caller decides whether the clock may be trusted.
-- One session at a time does this work; another that comes meanwhile is told that nothing was to be done.

-- How long a receipt is waited for, and how long ids and parked receipts are kept.
create function hotsite.receipt_wait() returns interval
language sql immutable as $$
    select interval '72 hours'
$$;

-- Looks at the segments whose time has come: expires, or queues. Returns how many it moved.
create function hotsite.work_agenda(p_limit integer) returns bigint
language plpgsql as $$
declare
    v_moved bigint;
begin
    with due as (
        delete from hotsite.agenda as a where a.ctid = any (array(
            select a.ctid from hotsite.agenda as a where a.at <= now()
            order by a.at, a.message_id, a.segment limit p_limit for update skip locked
        ))
        returning a.message_id, a.segment
    ), seen as (
        select
            d.message_id, d.account_id, d.segment, d.state as was, m.class,
            case
                when m.expires_at > now() or m.expires_at is null then 'queued'
                when d.resent then 'in_doubt' -- its first attempt may have left
                else 'expired'
            end::hotsite.state as becomes
        from (select distinct u.message_id, u.segment from due as u order by u.message_id, u.segment) as u
        join hotsite.delivery as d on d.message_id = u.message_id and d.segment = u.segment
        join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
        where d.state in ('scheduled', 'held', 'queued')
        for update of d
    ), moved as (
        update hotsite.delivery as d set state = s.becomes, updated_at = now()
        from seen as s
        where d.message_id = s.message_id and d.segment = s.segment and s.becomes <> s.was
    ), queued as (
        insert into hotsite.queue (message_id, account_id, class, segment)
        select s.message_id, s.account_id, s.class, s.segment from seen as s where s.becomes = 'queued'
        on conflict (class, message_id, segment) do update set account_id = excluded.account_id
    ), counted as (
        insert into hotsite.tally (state, delta)
        select t.state, sum(t.delta)
        from seen as s cross join lateral (values (s.was, -1), (s.becomes, 1)) as t (state, delta)
        where s.was <> s.becomes
        group by t.state
    )
    select count(*) into v_moved from seen;
    return v_moved;
end
$$;

-- Submitted or in doubt, and no receipt in all that time: unknown for good.
create function hotsite.stop_waiting(p_limit integer) returns bigint
language plpgsql as $$
declare
    v_before constant timestamptz := now() - hotsite.receipt_wait();
    v_submitted bigint;
    v_doubted bigint;
begin
    with old as (
        delete from hotsite.submission as s where s.ctid = any (array(
            select s.ctid from hotsite.submission as s where s.submitted_at <= v_before
            order by s.submitted_at limit p_limit for update skip locked
        ))
        returning s.message_id, s.segment
    ), moved as (
        update hotsite.delivery as d set state = 'unknown', updated_at = now()
        from (select distinct o.message_id, o.segment from old as o order by o.message_id, o.segment) as o
        where d.message_id = o.message_id and d.segment = o.segment
        and d.state = 'submitted' and d.submitted_at <= v_before
        returning d.message_id
    )
    select count(*) into v_submitted from moved;

    with old as (
        delete from hotsite.doubt as o where o.ctid = any (array(
            select o.ctid from hotsite.doubt as o where o.since <= v_before
            order by o.since limit p_limit for update skip locked
        ))
        returning o.message_id, o.segment, o.attempt
    ), moved as (
        update hotsite.delivery as d set state = 'unknown', updated_at = now()
        from old as o
        where d.message_id = o.message_id and d.segment = o.segment
        and d.attempt = o.attempt and d.state = 'in_doubt'
        returning d.message_id
    )
    select count(*) into v_doubted from moved;

    perform hotsite.tally('submitted', 'unknown', v_submitted);
    perform hotsite.tally('in_doubt', 'unknown', v_doubted);
    delete from hotsite.parked_receipt as p where p.ctid = any (array(
        select p.ctid from hotsite.parked_receipt as p where p.parked_at <= v_before
        order by p.parked_at limit p_limit for update skip locked
    ));
    return v_submitted + v_doubted;
end
$$;

-- Clears away what only costs: claims without open segments, single lines of the tally.
create function hotsite.tidy() returns void
language plpgsql as $$
begin
    delete from hotsite.claim as c where c.ctid = any (array(
        select c.ctid from hotsite.claim as c
        where not exists (
            select from unnest(c.message_ids, c.segments) as u (message_id, segment)
            join hotsite.delivery as d on d.message_id = u.message_id and d.segment = u.segment
            where d.claim_id = c.claim_id and d.state = 'submitting'
        )
        limit 1000 for update skip locked
    ));
    if (select count(*) from (select from hotsite.tally limit 500) as t) = 500 then
        with gone as (
            delete from hotsite.tally returning state, delta
        )
        insert into hotsite.tally (state, delta)
        select g.state, sum(g.delta) from gone as g group by g.state having sum(g.delta) <> 0;
    end if;
end
$$;

create function hotsite.release_due(p_term bigint, p_limit integer) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_moved bigint;
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
        )
        order by p.parked_at limit p_limit
    ));
    v_moved := hotsite.work_agenda(p_limit) + hotsite.stop_waiting(p_limit);
    perform hotsite.tidy();
    return v_moved;
end
$$;

-- Sends doubtful segments again whose program says so, once, after the grace. The doubt itself stays on the
-- books: a late answer or receipt for the first attempt still settles it.
create function hotsite.resend_doubtful(p_term bigint, p_grace_s double precision, p_limit integer) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
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
    from unnest(v_messages, v_segments, v_attempts) as u (message_id, segment, attempt)
    where o.message_id = u.message_id and o.segment = u.segment and o.attempt = u.attempt;
    if v_total > 0 then
        perform hotsite.requeue(v_sent_messages, v_sent_segments, array_fill(0.0::double precision, array[v_total::integer]));
        perform hotsite.tally('in_doubt', 'queued', v_total);
    end if;
    return v_total;
end
$$;

create function hotsite.counts(
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
    select array_agg(c.class), array_agg(extract(epoch from clock_timestamp() - f.updated_at))
    into classes, oldest_s
    from generate_series(0, 2) as c (class)
    cross join lateral (
        select d.updated_at
        from hotsite.queue as q
        join hotsite.delivery as d on d.message_id = q.message_id and d.segment = q.segment
        where q.class = c.class
        order by q.message_id, q.segment limit 1
    ) as f;
end
$$;

grant execute on function
    hotsite.release_due(bigint, integer),
    hotsite.resend_doubtful(bigint, double precision, integer),
    hotsite.counts(bigint)
to hotsite_dispatch;
