-- Receipts and replies. Both pass without a term: they are true whoever leads.
--
-- A receipt finds its attempt by the carrier's id: as written, else in canonical form, else in the other
-- readings (one carrier answers in hexadecimal and reports in decimal). Numbers must fit, too: a short id
-- read in another base may well be somebody else's. In the other readings exactly one attempt may fit.
-- What finds none is parked: its answer may still be under way, or its attempt may be in doubt.

-- Applies receipts whose id an answer has named. Tells which they are, by their places in the arrays, and how many
-- segments moved.
create function hotsite.apply_receipts(
    p_carriers text[], p_written text[], p_canonical text[], p_as_hex text[], p_as_decimal text[],
    p_customers text[], p_states text[], p_errors text[], out known bigint[], out moved bigint
)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v record;
begin
    with found as (
        select
            r.ord, r.state::hotsite.state as state, r.error, s.message_id, s.segment, s.attempt, s.submitted_at,
            case when s.written = r.written then 1 when s.canonical = r.canonical then 2 else 3 end as reading
        from unnest(p_carriers, p_written, p_canonical, p_as_hex, p_as_decimal, p_customers, p_states, p_errors)
            with ordinality as r (carrier, written, canonical, as_hex, as_decimal, customer, state, error, ord)
        join hotsite.submission as s
            on s.carrier = r.carrier and s.canonical = any (array[r.canonical, r.as_hex, r.as_decimal])
        join hotsite.message as m on m.account_id = s.account_id and m.message_id = s.message_id
        where r.canonical <> '' and right(m.recipient, length(r.customer)) = r.customer
    ), ranked as (
        select
            f.*,
            count(*) over (partition by f.ord, f.reading) as alike,
            -- Ids come round again: the newest is meant.
            row_number() over (partition by f.ord order by f.reading, f.submitted_at desc, f.message_id desc) as nth
        from found as f
    ), chosen as (
        select * from ranked as f where f.nth = 1 and (f.reading < 3 or f.alike = 1)
    ), each as ( -- one for a segment: that it was delivered, by any attempt, is the better news
        select distinct on (c.message_id, c.segment) c.*
        from chosen as c order by c.message_id, c.segment, c.state = 'delivered' desc, c.ord
    ), settled as (
        update hotsite.delivery as l set state = e.state, error = e.error, updated_at = now()
        from each as e
        where l.message_id = e.message_id and l.segment = e.segment
        and l.state = 'submitted' and (l.attempt = e.attempt or e.state = 'delivered')
        returning l.message_id, l.segment, l.state
    ), counted as (
        insert into hotsite.tally (state, delta)
        select s.state, count(*) from settled as s group by s.state
        union all
        select 'submitted', -count(*) from settled having count(*) > 0
    )
    select
        (select coalesce(array_agg(c.ord), '{}') from chosen as c) as known,
        (select count(*) from settled) as moved,
        count(*) as segments_named,
        array_agg(e.message_id) as messages, array_agg(e.segment) as segments, array_agg(e.attempt) as attempts,
        array_agg(e.state) as states, array_agg(e.error) as errors
    into v from each as e;

    moved := v.moved;
    known := v.known;
    if v.moved < v.segments_named then -- rare, so it need not find out which
        moved := moved + hotsite.apply_late(v.messages, v.segments, v.attempts, v.states, v.errors);
    end if;
end
$$;

-- Receipts for segments that are not simply `submitted`: repeats, and attempts that were given up or sent
-- again meanwhile; those that have just been settled are passed over. That an attempt failed says nothing
-- about a later one; that it was delivered settles all.
create function hotsite.apply_late(
    p_messages uuid[], p_segments smallint[], p_attempts smallint[], p_states hotsite.state[], p_errors text[]
) returns bigint
language plpgsql as $$
declare
    r record;
    d hotsite.delivery;
    v_moved bigint := 0;
begin
    for r in
        select u.* from unnest(p_messages, p_segments, p_attempts, p_states, p_errors)
            as u (message_id, segment, attempt, state, error)
        order by u.message_id, u.segment
    loop
        select * into d from hotsite.delivery as l
        where l.message_id = r.message_id and l.segment = r.segment for update;
        continue when not (
            (d.state in ('submitted', 'in_doubt') and d.attempt = r.attempt)
            or (d.state in ('submitted', 'in_doubt', 'queued', 'submitting') and r.state = 'delivered')
        );
        update hotsite.delivery as l set state = r.state, error = r.error, updated_at = now()
        where l.message_id = d.message_id and l.segment = d.segment;
        delete from hotsite.doubt as o where o.message_id = d.message_id and o.segment = d.segment;
        perform hotsite.tally(d.state, r.state, 1);
        insert into hotsite.event (message_id, segment, state, detail)
        values (d.message_id, d.segment, r.state, format('A receipt for attempt %s settled it late.', r.attempt));
        v_moved := v_moved + 1;
    end loop;
    return v_moved;
end
$$;

-- Commits receipts: applies those whose id is known, parks the others. Returns whether one of these may belong
-- to something in doubt. `p_customers` are digits only. A repeat changes nothing.
create function hotsite.receipts(
    p_carriers text[], p_written text[], p_canonical text[], p_as_hex text[], p_as_decimal text[],
    p_customers text[], p_states text[], p_errors text[], p_destinations text[], p_texts text[],
    p_done_at timestamptz[]
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v record;
    v_tails text[];
begin
    perform hotsite.assert_open();
    select * into v from hotsite.apply_receipts(
        p_carriers, p_written, p_canonical, p_as_hex, p_as_decimal, p_customers, p_states, p_errors
    );
    if cardinality(v.known) < cardinality(p_written) then
        with parked as (
            insert into hotsite.parked_receipt (
                carrier, written, canonical, as_hex, as_decimal, customer, tail, state, error, destination, text, done_at
            )
            select
                r.carrier, r.written, r.canonical, r.as_hex, r.as_decimal, r.customer, hotsite.tail(r.customer),
                r.state::hotsite.state, r.error, r.destination, r.text, r.done_at
            from unnest(
                p_carriers, p_written, p_canonical, p_as_hex, p_as_decimal, p_customers, p_states, p_errors,
                p_destinations, p_texts, p_done_at
            ) with ordinality as r (
                carrier, written, canonical, as_hex, as_decimal, customer, state, error, destination, text, done_at, ord
            )
            where r.ord <> all (v.known)
            order by r.carrier, r.written, r.state
            on conflict do nothing
            returning tail
        )
        select array_agg(p.tail) into v_tails from parked as p;
    end if;
    if v.moved = 0 and v_tails is null then
        perform hotsite.barrier();
    end if;
    return v_tails is not null and exists (select from hotsite.doubt as d where d.tail = any (v_tails));
end
$$;

-- Applies parked receipts whose answer has come.
create function hotsite.unpark(p_parked bigint[]) returns void
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
    using unnest(v.ids) with ordinality as u (id, ord) where p.parked_id = u.id and u.ord = any (v_known);
end
$$;

-- Commits replies. One with the fingerprint of another of the last five minutes is that one again, sent by a
-- carrier that did not see our answer.
create function hotsite.replies(
    p_carriers text[], p_sources text[], p_destinations text[], p_texts text[], p_received_at timestamptz[],
    p_fingerprints bytea[]
) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    v_stored bigint;
begin
    perform hotsite.assert_open();
    -- Two dispatchers may be handed the same reply at once: the second waits here, and then sees the first.
    perform pg_advisory_xact_lock(l.key)
    from (select distinct hashtextextended(encode(f, 'hex'), 0) as key from unnest(p_fingerprints) as f order by 1) as l;
    insert into hotsite.reply (received_at, carrier, source, destination, text, fingerprint)
    select distinct on (r.fingerprint)
        r.received_at, r.carrier, r.source, r.destination, r.text, r.fingerprint
    from unnest(p_carriers, p_sources, p_destinations, p_texts, p_received_at, p_fingerprints) with ordinality
        as r (carrier, source, destination, text, received_at, fingerprint, ord)
    where not exists (
        select from hotsite.reply as o
        where o.fingerprint = r.fingerprint and o.stored_at > now() - interval '5 minutes'
    )
    order by r.fingerprint, r.ord;
    get diagnostics v_stored = row_count;
    if v_stored = 0 then
        perform hotsite.barrier();
    end if;
    return v_stored;
end
$$;

grant execute on function
    hotsite.receipts(
        text[], text[], text[], text[], text[], text[], text[], text[], text[], text[], timestamptz[]
    ),
    hotsite.replies(text[], text[], text[], text[], timestamptz[], bytea[])
to hotsite_dispatch;
