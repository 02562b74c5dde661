-- What came into doubt in which term, what an operator decides about it, and what a dispatcher that has ended held.

create index event_doubt on hotsite.event (term, event_id) where what in ('not_answered', 'given_up');

-- The segments of an account that came into doubt by claims of one term, in the order in which they did, and what has
-- become of each.
create function hotsite.doubts(p_term bigint, p_account integer, p_of_term bigint, p_after bigint, p_limit integer)
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
    join hotsite.delivery as d on d.message_id = e.message_id and d.segment = e.segment
    join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
    where e.what in ('not_answered', 'given_up') and e.term = p_of_term and e.event_id > p_after
    and d.account_id = p_account
    order by e.event_id limit p_limit;
    perform hotsite.barrier();
end
$$;

-- An operator decides about what is in doubt: it is sent once more, whatever its program says, or nobody waits for it
-- any more. Returns what was in doubt, and is decided now.
create function hotsite.decide_doubts(p_messages uuid[], p_resend boolean)
returns table (message_id uuid, segment smallint)
language plpgsql set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_messages uuid[];
    v_segments smallint[];
    v_count integer;
begin
    perform hotsite.assert_open();
    with moved as (
        update hotsite.delivery as d
        set state = case when p_resend then 'queued' else 'unknown' end::hotsite.state,
            resent = d.resent or p_resend, updated_at = now()
        from (
            select l.message_id, l.segment
            from unnest(p_messages) as u (id)
            cross join lateral (
                select l.message_id, l.segment from hotsite.delivery as l
                where l.message_id = u.id and l.state = 'in_doubt' offset 0
            ) as l
            order by l.message_id, l.segment
        ) as l
        where d.message_id = l.message_id and d.segment = l.segment and d.state = 'in_doubt'
        returning d.message_id, d.segment
    )
    select coalesce(array_agg(m.message_id), '{}'), coalesce(array_agg(m.segment), '{}'), count(*)
    into v_messages, v_segments, v_count from moved as m;
    if v_count > 0 then
        if p_resend then
            update hotsite.doubt as o set resend = false
            from unnest(v_messages, v_segments) as u (message_id, segment)
            where o.message_id = u.message_id and o.segment = u.segment;
            perform hotsite.requeue(v_messages, v_segments, array_fill(0.0::double precision, array[v_count]));
        else
            delete from hotsite.doubt as o
            using unnest(v_messages, v_segments) as u (message_id, segment)
            where o.message_id = u.message_id and o.segment = u.segment;
        end if;
        perform hotsite.tally('in_doubt', case when p_resend then 'queued' else 'unknown' end::hotsite.state, v_count);
        perform hotsite.tell(
            v_messages, v_segments,
            array_fill(case when p_resend then 'resent_by_operator' else 'let_go' end, array[v_count])
        );
    end if;
    return query select u.message_id, u.segment from unnest(v_messages, v_segments) as u (message_id, segment);
end
$$;

-- What a dispatcher that has ended held: its next life tells by its journal what of it was never written.
create function hotsite.claimed_by(p_term bigint, p_dispatcher text)
returns table (claim_id bigint, message_id uuid, segment smallint, attempt smallint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    perform control.assert_leader(p_term);
    return query
    select c.claim_id, u.message_id, u.segment, d.attempt
    from hotsite.claim as c
    cross join lateral unnest(c.message_ids, c.segments) as u (message_id, segment)
    cross join lateral (
        select d.attempt, d.claim_id, d.state from hotsite.delivery as d
        where d.message_id = u.message_id and d.segment = u.segment
        offset 0
    ) as d
    where c.dispatcher = p_dispatcher and d.claim_id = c.claim_id and d.state = 'submitting'
    order by c.claim_id, u.message_id, u.segment;
end
$$;

grant execute on function
    hotsite.doubts(bigint, integer, bigint, bigint, integer),
    hotsite.claimed_by(bigint, text)
to hotsite_dispatch;
