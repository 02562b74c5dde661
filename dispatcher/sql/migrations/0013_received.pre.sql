-- Replies that come in parts, and receipts for texts that the carrier took without telling an id.

-- Parts of customers' texts, each committed before it is acknowledged. A text is joined by the dispatcher, because only
-- it can read octets: a character may be cut in two. Then its parts are kept for as long as a carrier may bring one
-- again that it has not seen acknowledged.
create table hotsite.reply_part (
    part_id bigint generated always as identity primary key,
    stored_at timestamptz not null default now(),
    received_at timestamptz not null,
    carrier text not null,
    source text not null,
    destination text not null,
    reference integer not null,
    total smallint not null,
    number smallint not null,
    coding smallint not null, -- data_coding
    octets bytea not null,
    fingerprint bytea not null,
    series bigint not null default 0, -- 0: of the text that arrives under this reference now; else its first part_id
    joined_at timestamptz -- null: waits for the others
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
create unique index reply_part_place
    on hotsite.reply_part (source, destination, reference, total, carrier, series, number);
create index reply_part_fingerprint on hotsite.reply_part (fingerprint, stored_at);
create index reply_part_waiting on hotsite.reply_part (stored_at) where joined_at is null;
create index reply_part_joined on hotsite.reply_part (joined_at) where joined_at is not null;

-- Commits parts. One with the fingerprint of another of the last five minutes is that one again. One that stands where
-- another part stands, but is not that part, belongs to the next text under this reference: the one before gets no
-- more. Returns whether one of these texts is whole.
create function hotsite.reply_parts(
    p_carriers text[], p_sources text[], p_destinations text[], p_references integer[], p_totals smallint[],
    p_numbers smallint[], p_codings smallint[], p_octets bytea[], p_received_at timestamptz[], p_fingerprints bytea[]
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    r record;
    v_stored bigint := 0;
begin
    perform hotsite.assert_open();
    -- Two dispatchers may be handed parts of one text, or one part twice: the second waits here, and then sees the first.
    perform pg_advisory_xact_lock(l.key)
    from (
        select distinct hashtextextended(concat_ws(chr(31), 'reply_part', u.source, u.destination, u.reference), 0) as key
        from unnest(p_sources, p_destinations, p_references) as u (source, destination, reference) order by 1
    ) as l;
    for r in
        select u.* from unnest(
            p_carriers, p_sources, p_destinations, p_references, p_totals, p_numbers, p_codings, p_octets,
            p_received_at, p_fingerprints
        ) with ordinality as u (
            carrier, source, destination, reference, total, number, coding, octets, received_at, fingerprint, ord
        ) order by u.ord
    loop
        continue when exists (
            select from hotsite.reply_part as p
            where p.fingerprint = r.fingerprint and p.stored_at > now() - interval '5 minutes'
        );
        if exists (
            select from hotsite.reply_part as p
            where p.source = r.source and p.destination = r.destination and p.reference = r.reference
            and p.total = r.total and p.carrier = r.carrier and p.series = 0 and p.number = r.number
        ) then
            update hotsite.reply_part as p
            set series = (
                select min(o.part_id) from hotsite.reply_part as o
                where o.source = r.source and o.destination = r.destination and o.reference = r.reference
                and o.total = r.total and o.carrier = r.carrier and o.series = 0
            )
            where p.source = r.source and p.destination = r.destination and p.reference = r.reference
            and p.total = r.total and p.carrier = r.carrier and p.series = 0;
        end if;
        insert into hotsite.reply_part (
            received_at, carrier, source, destination, reference, total, number, coding, octets, fingerprint
        ) values (
            r.received_at, r.carrier, r.source, r.destination, r.reference, r.total, r.number, r.coding, r.octets,
            r.fingerprint
        );
        v_stored := v_stored + 1;
    end loop;
    if v_stored = 0 then
        perform hotsite.barrier();
    end if;
    return exists (
        select from unnest(p_carriers, p_sources, p_destinations, p_references, p_totals)
            as u (carrier, source, destination, reference, total)
        where (
            select count(*) from hotsite.reply_part as p
            where p.source = u.source and p.destination = u.destination and p.reference = u.reference
            and p.total = u.total and p.carrier = u.carrier and p.series = 0
        ) = u.total
    );
end
$$;

-- The parts of those of these texts that are whole.
create function hotsite.whole_replies(
    p_carriers text[], p_sources text[], p_destinations text[], p_references integer[], p_totals smallint[]
)
returns table (
    text_id bigint, part_id bigint, carrier text, source text, destination text, reference integer, total smallint,
    number smallint, coding smallint, octets bytea, received_at timestamptz, fingerprint bytea
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    perform hotsite.assert_open();
    return query
    with asked as (
        select distinct u.* from unnest(p_carriers, p_sources, p_destinations, p_references, p_totals)
            as u (carrier, source, destination, reference, total)
    ), found as (
        select
            p.*, min(p.part_id) over each as text_id, count(*) over each as parts
        from asked as a
        cross join lateral (
            select p.* from hotsite.reply_part as p
            where p.source = a.source and p.destination = a.destination and p.reference = a.reference
            and p.total = a.total and p.carrier = a.carrier and p.series = 0
            offset 0
        ) as p
        window each as (partition by p.source, p.destination, p.reference, p.total, p.carrier)
    )
    select
        f.text_id, f.part_id, f.carrier, f.source, f.destination, f.reference, f.total, f.number, f.coding, f.octets,
        f.received_at, f.fingerprint
    from found as f where f.parts >= f.total order by f.text_id, f.number;
end
$$;

-- The parts of all texts that are to be joined: those that are whole, those that get no more, and those for whose other parts
-- nobody has to wait any longer, because of their age or because of more than p_most parts waiting.
create function hotsite.parts_to_join(p_wait_s double precision, p_most bigint, p_limit integer)
returns table (
    text_id bigint, part_id bigint, carrier text, source text, destination text, reference integer, total smallint,
    number smallint, coding smallint, octets bytea, received_at timestamptz, fingerprint bytea
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform hotsite.assert_open();
    return query
    with texts as (
        select
            min(p.part_id) as text_id, p.carrier, p.source, p.destination, p.reference, p.total, p.series,
            count(*) as parts, max(p.stored_at) as last_at
        from hotsite.reply_part as p where p.joined_at is null
        group by p.carrier, p.source, p.destination, p.reference, p.total, p.series
    ), ranked as (
        select t.*, sum(t.parts) over (order by t.last_at desc, t.text_id desc) as so_many from texts as t
    ), due as (
        select t.* from ranked as t
        where t.parts >= t.total or t.series <> 0 or t.so_many > p_most
        or t.last_at <= now() - make_interval(secs => p_wait_s)
        order by t.text_id limit p_limit
    )
    select
        d.text_id, p.part_id, p.carrier, p.source, p.destination, p.reference, p.total, p.number, p.coding, p.octets,
        p.received_at, p.fingerprint
    from due as d
    join hotsite.reply_part as p
        on p.source = d.source and p.destination = d.destination and p.reference = d.reference and p.total = d.total
        and p.carrier = d.carrier and p.series = d.series and p.joined_at is null
    order by d.text_id, p.number;
end
$$;

-- Stores texts that were joined, unless somebody else has joined one of their parts. `p_texts_of` names for each of
-- p_parts its text, by its place in the other arrays. Returns how many were stored.
create function hotsite.join_replies(
    p_parts bigint[], p_texts_of integer[], p_carriers text[], p_sources text[], p_destinations text[], p_texts text[],
    p_received_at timestamptz[], p_fingerprints bytea[]
) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_stored bigint;
begin
    perform hotsite.assert_open();
    perform from hotsite.reply_part as p where p.part_id = any (p_parts) order by p.part_id for update;
    with told as (
        select u.part_id, u.text_of, min(u.part_id) over (partition by u.text_of) as text_id
        from unnest(p_parts, p_texts_of) as u (part_id, text_of)
    ), free as (
        select t.text_of from told as t
        left join lateral (
            select p.joined_at is null as waits from hotsite.reply_part as p where p.part_id = t.part_id offset 0
        ) as p on true
        group by t.text_of having count(*) filter (where p.waits) = count(*)
    ), joined as (
        update hotsite.reply_part as p set joined_at = now(), series = t.text_id
        from told as t where p.part_id = t.part_id and t.text_of in (select f.text_of from free as f)
    )
    insert into hotsite.reply (received_at, carrier, source, destination, text, fingerprint)
    select r.received_at, r.carrier, r.source, r.destination, r.text, r.fingerprint
    from unnest(p_carriers, p_sources, p_destinations, p_texts, p_received_at, p_fingerprints) with ordinality
        as r (carrier, source, destination, text, received_at, fingerprint, ord)
    where r.ord in (select f.text_of from free as f)
    order by r.ord;
    get diagnostics v_stored = row_count;
    return v_stored;
end
$$;


-- Texts that a carrier took (ESME_ROK) without telling an id. No receipt can name them; one may fit them as it may fit
-- a text in doubt, and settles them then.
insert into hotsite.transition (what, before, after, by_carrier, sentence) values
    ('receipt_unnamed', '{submitted}', '{delivered, undelivered, rejected, expired, unknown}', false,
        'The carrier had told no id, and a receipt was matched: numbers, time and text fit this segment and no other.');

create table hotsite.unnamed (
    message_id uuid not null,
    account_id integer not null,
    segment smallint not null,
    attempt smallint not null,
    carrier text collate "C" not null,
    tail text collate "C" not null,
    claimed_at timestamptz not null, -- it cannot have left before
    submitted_at timestamptz not null default now(),
    primary key (message_id, segment, attempt)
);
create index unnamed_tail on hotsite.unnamed (tail);
create index unnamed_age on hotsite.unnamed (submitted_at);

-- `settle`, and notes of what was submitted which texts have no id. `tails`: of those that a parked receipt may fit.
create function hotsite.settle_noted(
    p_claims bigint[], p_messages uuid[], p_segments smallint[], p_attempts smallint[], p_outcomes text[],
    p_carriers text[], p_written text[], p_canonical text[], p_as_hex text[], p_as_decimal text[],
    p_status integer[], p_retry_after double precision[], out may_settle boolean, out tails text[]
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    may_settle := hotsite.settle(
        p_claims, p_messages, p_segments, p_attempts, p_outcomes, p_carriers, p_written, p_canonical, p_as_hex,
        p_as_decimal, p_status, p_retry_after
    );
    tails := '{}';
    if '' = any (p_canonical) then
        with noted as (
            insert into hotsite.unnamed (message_id, account_id, segment, attempt, carrier, tail, claimed_at)
            select
                d.message_id, d.account_id, d.segment, d.attempt, r.carrier, hotsite.tail(m.recipient),
                coalesce(c.claimed_at, now())
            from unnest(p_messages, p_segments, p_attempts, p_outcomes, p_carriers, p_canonical)
                as r (message_id, segment, attempt, outcome, carrier, canonical)
            join hotsite.delivery as d on d.message_id = r.message_id and d.segment = r.segment
            join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
            left join hotsite.claim as c on c.claim_id = d.claim_id
            where r.outcome = 'submitted' and r.canonical = '' and d.state = 'submitted' and d.attempt = r.attempt
            on conflict do nothing
            returning tail
        )
        select coalesce(array_agg(distinct n.tail), '{}') into tails
        from noted as n where exists (select from hotsite.parked_receipt as p where p.tail = n.tail offset 0);
    end if;
end
$$;

-- `receipts`, and `tails`: of the texts without an id that one of these may fit.
create function hotsite.receipts_noted(
    p_carriers text[], p_written text[], p_canonical text[], p_as_hex text[], p_as_decimal text[],
    p_customers text[], p_states text[], p_errors text[], p_destinations text[], p_texts text[],
    p_done_at timestamptz[], out may_settle boolean, out tails text[]
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    may_settle := hotsite.receipts(
        p_carriers, p_written, p_canonical, p_as_hex, p_as_decimal, p_customers, p_states, p_errors, p_destinations,
        p_texts, p_done_at
    );
    tails := '{}';
    if exists (select from hotsite.unnamed) then
        tails := array(
            select t.tail from (select distinct hotsite.tail(c) as tail from unnest(p_customers) as c where c <> '') as t
            where exists (select from hotsite.unnamed as n where n.tail = t.tail offset 0)
        );
    end if;
end
$$;

-- As of 0010, but that a receipt may be that of a text without an id, too: then it settles no doubt.
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
        select
            d.message_id, d.account_id, d.segment, d.state <> 'submitting' as in_doubt, min(o.claimed_at) as claimed_at,
            null as carrier
        from (select distinct w.tail from waiting as w) as w
        cross join lateral (select o.* from hotsite.doubt as o where o.tail = w.tail offset 0) as o
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = o.message_id and d.segment = o.segment offset 0
        ) as d
        where d.state in ('in_doubt', 'queued', 'submitting')
        group by d.message_id, d.account_id, d.segment, d.state
        union all
        select d.message_id, d.account_id, d.segment, false, c.claimed_at, null
        from hotsite.claim as c
        cross join lateral unnest(c.message_ids, c.segments) as u (message_id, segment)
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = u.message_id and d.segment = u.segment offset 0
        ) as d
        where d.claim_id = c.claim_id and d.state = 'submitting' and not d.resent
        and exists (select from waiting)
        union all
        select d.message_id, d.account_id, d.segment, false, n.claimed_at, n.carrier
        from (select distinct w.tail from waiting as w) as w
        cross join lateral (select n.* from hotsite.unnamed as n where n.tail = w.tail offset 0) as n
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = n.message_id and d.segment = n.segment and d.attempt = n.attempt offset 0
        ) as d
        where d.state = 'submitted'
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
    join known as k on hotsite.tail(k.recipient) = w.tail and coalesce(k.carrier, w.carrier) = w.carrier
    where w.parked_at >= k.claimed_at and w.crowd <= 50 and k.crowd <= 50
    order by w.parked_id, k.message_id, k.segment;
end
$$;

-- The same for texts without an id to these numbers: here those in doubt, and those that wait for their answer, are the
-- others that a receipt may belong to.
create function hotsite.unnamed_candidates(p_tails text[])
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
        from unnest(p_tails) as t (tail)
        cross join lateral (
            select p.* from hotsite.parked_receipt as p where p.tail = t.tail and p.customer <> '' offset 0
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
        select
            d.message_id, d.account_id, d.segment, false as in_doubt, min(o.claimed_at) as claimed_at,
            null as carrier
        from (select distinct w.tail from waiting as w) as w
        cross join lateral (select o.* from hotsite.doubt as o where o.tail = w.tail offset 0) as o
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = o.message_id and d.segment = o.segment offset 0
        ) as d
        where d.state in ('in_doubt', 'queued', 'submitting')
        group by d.message_id, d.account_id, d.segment, d.state
        union all
        select d.message_id, d.account_id, d.segment, false, c.claimed_at, null
        from hotsite.claim as c
        cross join lateral unnest(c.message_ids, c.segments) as u (message_id, segment)
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = u.message_id and d.segment = u.segment offset 0
        ) as d
        where d.claim_id = c.claim_id and d.state = 'submitting' and not d.resent
        and exists (select from waiting)
        union all
        select d.message_id, d.account_id, d.segment, true, n.claimed_at, n.carrier
        from (select distinct w.tail from waiting as w) as w
        cross join lateral (select n.* from hotsite.unnamed as n where n.tail = w.tail offset 0) as n
        cross join lateral (
            select d.* from hotsite.delivery as d
            where d.message_id = n.message_id and d.segment = n.segment and d.attempt = n.attempt offset 0
        ) as d
        where d.state = 'submitted'
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
    join known as k on hotsite.tail(k.recipient) = w.tail and coalesce(k.carrier, w.carrier) = w.carrier
    where w.parked_at >= k.claimed_at and w.crowd <= 50 and k.crowd <= 50
    order by w.parked_id, k.message_id, k.segment;
end
$$;

-- Settles texts without an id by parked receipts, as they were paired; those in doubt are `settle_doubts`' part.
-- Returns how many.
create function hotsite.settle_unnamed(p_parked bigint[], p_messages uuid[], p_segments smallint[]) returns bigint
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
        continue when v_receipt.parked_id is null or d.state <> 'submitted' or not exists (
            select from hotsite.unnamed as n
            where n.message_id = d.message_id and n.segment = d.segment and n.attempt = d.attempt
        );
        update hotsite.delivery as l
        set state = v_receipt.state, error = v_receipt.error, carrier_message_id = v_receipt.written, updated_at = now()
        where l.message_id = d.message_id and l.segment = d.segment;
        -- So that its repeats are recognised.
        insert into hotsite.submission (message_id, account_id, segment, attempt, carrier, canonical, written)
        values (d.message_id, d.account_id, d.segment, d.attempt, v_receipt.carrier, v_receipt.canonical, v_receipt.written);
        delete from hotsite.unnamed as n where n.message_id = d.message_id and n.segment = d.segment;
        delete from hotsite.parked_receipt as p where p.parked_id = r.parked_id;
        perform hotsite.tally(d.state, v_receipt.state, 1);
        perform hotsite.tell(array[d.message_id], array[d.segment], array['receipt_unnamed']);
        v_settled := v_settled + 1;
    end loop;
    return v_settled;
end
$$;

-- What of all this waits for nothing any more: joined parts that may be brought again no longer, texts without an id that
-- are settled or given up. Asked first, so that an idle system commits nothing.
create function hotsite.received_is_tidy() returns boolean
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform hotsite.assert_open();
    return not exists (select from hotsite.reply_part as p where p.joined_at < now() - interval '5 minutes')
        and not exists (select from hotsite.unnamed as n where n.submitted_at < now() - hotsite.receipt_wait());
end
$$;

create function hotsite.tidy_received(p_limit integer) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
    perform hotsite.assert_open();
    delete from hotsite.reply_part as p where p.ctid = any (array(
        select p.ctid from hotsite.reply_part as p where p.joined_at < now() - interval '5 minutes'
        order by p.joined_at limit p_limit for update skip locked
    ));
    delete from hotsite.unnamed as n where n.ctid = any (array(
        select n.ctid from hotsite.unnamed as n where n.submitted_at < now() - hotsite.receipt_wait()
        order by n.submitted_at limit p_limit for update skip locked
    ));
end
$$;

grant execute on function
    hotsite.reply_parts(
        text[], text[], text[], integer[], smallint[], smallint[], smallint[], bytea[], timestamptz[], bytea[]
    ),
    hotsite.whole_replies(text[], text[], text[], integer[], smallint[]),
    hotsite.parts_to_join(double precision, bigint, integer),
    hotsite.join_replies(bigint[], integer[], text[], text[], text[], text[], timestamptz[], bytea[]),
    hotsite.settle_noted(
        bigint[], uuid[], smallint[], smallint[], text[], text[], text[], text[], text[], text[], integer[],
        double precision[]
    ),
    hotsite.receipts_noted(
        text[], text[], text[], text[], text[], text[], text[], text[], text[], text[], timestamptz[]
    ),
    hotsite.unnamed_candidates(text[]),
    hotsite.settle_unnamed(bigint[], uuid[], smallint[]),
    hotsite.received_is_tidy(),
    hotsite.tidy_received(integer)
to hotsite_dispatch;
