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

grant execute on function hotsite.claimed_by(bigint, text) to hotsite_dispatch;
