-- No text is handed to a carrier past its expires_at. The version before claims by `claim`, which does not look at
-- it: that one now asks the new function, and goes with the last of them.

-- Claims up to p_limit queued segments, by class, then by age. Writes nothing when there is nothing to claim.
--
-- expires_in_s counts from the BEGIN of the claim, as its length does: whoever counts from before asking never
-- writes too late, and compares no two machines' clocks.
--
-- What has expired is not claimed but set aside, to be judged by `work_agenda`: there alone the clock makes
-- anything final, and only while it may be trusted. At '-infinity' it is due also when the clock goes back, and
-- returns to the queue if it was not late after all.
--
-- Looks further, a bounded number of times, while all that it found was set aside or stale: texts do not wait
-- behind a campaign that has expired.
create function hotsite.claim_unexpired(
    p_term bigint, p_dispatcher text, p_limit integer, p_claim_for_s double precision
)
returns table (
    claim_id bigint, message_id uuid, segment smallint, segments smallint, attempt smallint, account_id integer,
    program_id integer, source text, recipient text, body text, encoding text, class smallint,
    expires_in_s double precision
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_rows tid[];
    v_messages uuid[];
    v_segments smallint[];
    v_claim bigint;
    v_claimed bigint;
begin
    perform control.assert_leader(p_term);
    for round in 1 .. 20 loop
        select array_agg(q.ctid), array_agg(q.message_id), array_agg(q.segment)
        into v_rows, v_messages, v_segments
        from (
            select q.ctid, q.message_id, q.segment from hotsite.queue as q
            order by q.class, q.message_id, q.segment limit p_limit for update skip locked
        ) as q;
        exit when v_rows is null;
        v_claim := coalesce(v_claim, nextval('hotsite.claim_id'));
        return query
        with taken as (
            delete from hotsite.queue as q where q.ctid = any (v_rows)
            returning q.account_id, q.message_id, q.segment
        ), claimed as (
            update hotsite.delivery as d
            set state = 'submitting', attempt = d.attempt + 1, claim_id = v_claim, updated_at = now()
            from taken as t
            join hotsite.message as m on m.account_id = t.account_id and m.message_id = t.message_id
            where d.message_id = t.message_id and d.segment = t.segment and d.state = 'queued'
            and (m.expires_at is null or m.expires_at > now())
            returning
                d.message_id, d.segment, d.attempt, m.segments, m.account_id, m.program_id, m.recipient, m.body,
                m.encoding, m.class, extract(epoch from m.expires_at - now())::double precision as expires_in_s
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
            v_claim, c.message_id, c.segment, c.segments, c.attempt, c.account_id,
            c.program_id, p.source, c.recipient, c.body, c.encoding, c.class, c.expires_in_s
        from claimed as c
        join hotsite.program as p on p.program_id = c.program_id
        order by c.class, c.message_id, c.segment;
        get diagnostics v_claimed = row_count;
        if v_claimed < cardinality(v_rows) then
            insert into hotsite.agenda (at, message_id, account_id, segment)
            select '-infinity', d.message_id, d.account_id, d.segment
            from unnest(v_messages, v_segments) as u (message_id, segment)
            join hotsite.delivery as d on d.message_id = u.message_id and d.segment = u.segment
            join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
            where d.state = 'queued' and m.expires_at <= now()
            on conflict do nothing;
        end if;
        exit when v_claimed > 0;
    end loop;
end
$$;

create or replace function hotsite.claim(
    p_term bigint, p_dispatcher text, p_limit integer, p_claim_for_s double precision
)
returns table (
    claim_id bigint, message_id uuid, segment smallint, segments smallint, attempt smallint, account_id integer,
    program_id integer, source text, recipient text, body text, encoding text, class smallint, expires_at timestamptz
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select
        c.claim_id, c.message_id, c.segment, c.segments, c.attempt, c.account_id, c.program_id, c.source, c.recipient,
        c.body, c.encoding, c.class, now() + make_interval(secs => c.expires_in_s)
    from hotsite.claim_unexpired(p_term, p_dispatcher, p_limit, p_claim_for_s) as c;
end
$$;

-- Looks at the segments whose time has come: expires, or queues. Returns how many it moved.
--
-- Goes on, a bounded number of times, while less than p_limit were moved: a text that has long been delivered
-- leaves its expiry on the agenda, and what is due does not wait behind a campaign's worth of those.
create or replace function hotsite.work_agenda(p_limit integer) returns bigint
language plpgsql as $$
declare
    v_looked_at bigint;
    v_seen bigint;
    v_moved bigint := 0;
begin
    for round in 1 .. 10 loop
        with due as (
            delete from hotsite.agenda as a where a.ctid = any (array(
                select a.ctid from hotsite.agenda as a where a.at <= now()
                order by a.at, a.message_id, a.segment limit p_limit - v_moved for update skip locked
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
        select (select count(*) from due), (select count(*) from seen) into v_looked_at, v_seen;
        v_moved := v_moved + v_seen;
        exit when v_looked_at = 0 or v_moved >= p_limit;
    end loop;
    return v_moved;
end
$$;

grant execute on function hotsite.claim_unexpired(bigint, text, integer, double precision) to hotsite_dispatch;


-- Pages that say how far was looked. The version before calls `find`, which goes with the last of them, too.

-- As `find` of 0008, and in each row, or in one that tells of no message: how far was looked, null when there is no
-- more. So whoever goes on from there sees every message, also those in a state that few are in: one call looks
-- at 10,000 messages at most, and a page with fewer than p_limit, or none, need not be the last.
create function hotsite.find_page(
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
            select m.message_id
            from hotsite.reference as f
            join hotsite.message as m on m.account_id = f.account_id and m.message_id = f.message_id
            where f.account_id = p_account and f.reference = p_reference and m.message_id < v_before
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

grant execute on function hotsite.find_page(bigint, integer, text, text, text, timestamptz, uuid, uuid, integer)
to hotsite_dispatch;


-- A receipt and the answer it overtook may be committed side by side, each blind to the other.

-- Pairs of a parked receipt and an open segment whose numbers end alike. Segments that wait for their answer
-- are open as well: a receipt may be theirs. Where one number has more than fifty of either, none could be
-- told from the others, so they are left out. So is a receipt whose id an answer has named meanwhile: it is that
-- answer's and waits for `release_due` to bring the two together. Its segment is not open any more, and the receipt
-- would seem to fit whatever else is open at the same number.
create or replace function hotsite.doubt_candidates()
returns table (
    parked_id bigint, carrier text, written text, customer text, destination text, text text,
    message_id uuid, segment smallint, in_doubt boolean, recipient text, source text, encoding text, body text
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform hotsite.assert_open();
    return query
    with waiting as materialized (
        select p.*, count(*) over (partition by p.tail) as crowd
        from hotsite.parked_receipt as p
        where p.customer <> '' and exists (select from hotsite.doubt as d where d.tail = p.tail)
        and not exists ( -- to that number, as `apply_receipts` has it: a short id read in another base may be another's
            select from hotsite.submission as s
            join hotsite.message as m on m.account_id = s.account_id and m.message_id = s.message_id
            where p.canonical <> '' and s.carrier = p.carrier
            and s.canonical = any (array[p.canonical, p.as_hex, p.as_decimal])
            and right(m.recipient, length(p.customer)) = p.customer
        )
    ), open as materialized (
        select d.message_id, d.account_id, d.segment, d.state <> 'submitting' as in_doubt, min(o.claimed_at) as claimed_at
        from hotsite.doubt as o
        join hotsite.delivery as d on d.message_id = o.message_id and d.segment = o.segment
        where d.state in ('in_doubt', 'queued', 'submitting') and o.tail in (select w.tail from waiting as w)
        group by d.message_id, d.segment
        union all
        select d.message_id, d.account_id, d.segment, false, c.claimed_at
        from hotsite.claim as c
        cross join lateral unnest(c.message_ids, c.segments) as u (message_id, segment)
        join hotsite.delivery as d on d.message_id = u.message_id and d.segment = u.segment
        where d.claim_id = c.claim_id and d.state = 'submitting' and not d.resent
        and exists (select from waiting)
    ), known as materialized (
        select o.*, m.recipient, m.encoding, m.body, p.source, count(*) over (partition by hotsite.tail(m.recipient)) as crowd
        from open as o
        join hotsite.message as m on m.account_id = o.account_id and m.message_id = o.message_id
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


-- Ending what is in doubt, and the work that depends on no clock.

-- Submitted or in doubt, and no receipt in all that time: unknown for good. A segment may be in doubt by a later attempt
-- than its books say: it was to be sent again, came back unwritten, and then its time ran out, or it was canceled.
create or replace function hotsite.stop_waiting(p_limit integer) returns bigint
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
        returning o.message_id, o.segment
    ), moved as (
        update hotsite.delivery as d set state = 'unknown', updated_at = now()
        from (select distinct o.message_id, o.segment from old as o order by o.message_id, o.segment) as o
        where d.message_id = o.message_id and d.segment = o.segment and d.state = 'in_doubt'
        and not exists (
            select from hotsite.doubt as n
            where n.message_id = o.message_id and n.segment = o.segment and n.since > v_before
        )
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

-- What is due, and upkeep. Without p_clock_agrees nothing expires and nothing is released, but upkeep goes on: without
-- it, claims that ended pile up until nobody can look through them any more.
create function hotsite.release_due(p_term bigint, p_limit integer, p_clock_agrees boolean) returns bigint
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

grant execute on function hotsite.release_due(bigint, integer, boolean) to hotsite_dispatch;
