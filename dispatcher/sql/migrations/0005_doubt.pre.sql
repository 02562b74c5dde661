-- Doubts that a receipt may settle although no answer ever named its id. Which receipt belongs to which segment
-- is judged by `dispatcher.doubt`, because only the dispatcher can cut a text into its segments; here candidates
-- are found and the judgement is carried out, if nothing else has settled the segment meanwhile.

-- Pairs of a parked receipt and an open segment whose numbers end alike. Segments that wait for their answer
-- are open as well: a receipt may be theirs. Where one number has more than fifty of either, none could be
-- told from the others, so they are left out.
create function hotsite.doubt_candidates()
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

-- Settles segments by parked receipts, as they were paired. Returns how many.
create function hotsite.settle_doubts(p_parked bigint[], p_messages uuid[], p_segments smallint[]) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    r record;
    d hotsite.delivery;
    v_receipt hotsite.parked_receipt;
    v_settled bigint := 0;
begin
    perform hotsite.assert_open();
    for r in
        select u.* from unnest(p_parked, p_messages, p_segments) as u (parked_id, message_id, segment)
        order by u.message_id, u.segment
    loop
        select * into d from hotsite.delivery as l
        where l.message_id = r.message_id and l.segment = r.segment for update;
        select * into v_receipt from hotsite.parked_receipt as p where p.parked_id = r.parked_id for update;
        continue when v_receipt.parked_id is null or not (
            d.state = 'in_doubt' or (d.state = 'queued' and d.resent and v_receipt.state = 'delivered')
        );
        update hotsite.delivery as l
        set state = v_receipt.state, error = v_receipt.error, carrier = v_receipt.carrier,
            carrier_message_id = v_receipt.written, updated_at = now()
        where l.message_id = d.message_id and l.segment = d.segment;
        -- So that its repeats are recognised.
        insert into hotsite.submission (message_id, account_id, segment, attempt, carrier, canonical, written)
        values (d.message_id, d.account_id, d.segment, d.attempt, v_receipt.carrier, v_receipt.canonical, v_receipt.written);
        delete from hotsite.doubt as o where o.message_id = d.message_id and o.segment = d.segment;
        delete from hotsite.parked_receipt as p where p.parked_id = r.parked_id;
        perform hotsite.tally(d.state, v_receipt.state, 1);
        insert into hotsite.event (message_id, segment, state, detail)
        values (d.message_id, d.segment, v_receipt.state,
            'A receipt settled the doubt: numbers, time and text fit this segment and no other.');
        v_settled := v_settled + 1;
    end loop;
    return v_settled;
end
$$;

grant execute on function
    hotsite.doubt_candidates(),
    hotsite.settle_doubts(bigint[], uuid[], smallint[])
to hotsite_dispatch;
