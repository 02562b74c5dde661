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
        and not exists (
            select from hotsite.submission as s
            where p.canonical <> '' and s.carrier = p.carrier
            and s.canonical = any (array[p.canonical, p.as_hex, p.as_decimal])
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
