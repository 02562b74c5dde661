-- What happened to a segment has a name. hotsite.transition is the table of `dispatcher.states`: who moves a segment
-- for a reason that its times do not tell writes a line of its story by `hotsite.tell`, which names the row. The version
-- before goes on reading the sentence.

create table hotsite.transition (
    what text primary key,
    before hotsite.state[] not null, -- empty: the segment is new
    after hotsite.state[] not null, -- empty: the state stays as it is
    by_carrier boolean not null, -- whether the line names the carrier and its answer
    sentence text not null
);

insert into hotsite.transition (what, before, after, by_carrier, sentence) values
    ('accepted', '{}', '{accepted, queued}', false,
        'Accepted.'),
    ('scheduled', '{}', '{scheduled}', false,
        'Accepted, to be sent at its time.'),
    ('suppressed', '{accepted, held, scheduled, queued}', '{suppressed}', false,
        'It must not be sent.'),
    ('held', '{accepted, scheduled, queued}', '{held}', false,
        'It waits for its time.'),
    ('due', '{accepted, held, scheduled}', '{queued}', false,
        'Its time came.'),
    ('claimed', '{queued}', '{submitting}', false,
        'Handed to a dispatcher for sending.'),
    ('taken', '{submitting}', '{submitted}', false,
        'The carrier took it.'),
    ('refused_for_now', '{submitting}', '{queued}', true,
        'The carrier refused it for now: it will be tried again.'),
    ('not_written', '{submitting}', '{queued}', false,
        'It was not sent in time: queued again.'),
    ('refused', '{submitting}', '{failed}', true,
        'The carrier refused it.'),
    ('cannot_be_made', '{submitting}', '{failed}', false,
        'SMPP cannot carry its text, its number or its short code.'),
    ('not_answered', '{submitting}', '{in_doubt}', true,
        'It was written to the carrier, and no answer came: it may have left.'),
    ('given_up', '{submitting}', '{in_doubt}', false,
        'Its dispatcher was lost before it told what became of it: it may have left.'),
    ('returned', '{submitting}', '{queued}', false,
        'Its dispatcher was never told of the claim, and sent nothing: queued again.'),
    ('taken_late', '{queued, in_doubt}', '{submitted}', true,
        'The carrier''s answer came late and settled the doubt: it was taken.'),
    ('taken_too', '{}', '{}', false,
        'The carrier''s answer to an earlier attempt came late: that attempt was taken, too.'),
    ('refused_late', '{in_doubt}', '{failed}', true,
        'The carrier''s answer came late and settled the doubt: it was refused.'),
    ('not_written_late', '{in_doubt}', '{queued}', false,
        'It was never sent, as its dispatcher told late: queued again.'),
    ('receipt', '{submitted}', '{delivered, undelivered, rejected, expired, unknown}', false,
        'The carrier''s receipt came.'),
    ('receipt_late', '{queued, submitting, submitted, in_doubt}', '{delivered, undelivered, rejected, expired, unknown}', false,
        'A receipt for an earlier attempt, or for one in doubt, settled it.'),
    ('receipt_fits', '{queued, in_doubt}', '{delivered, undelivered, rejected, expired, unknown}', false,
        'A receipt settled the doubt: numbers, time and text fit this segment and no other.'),
    ('resent', '{in_doubt}', '{queued}', false,
        'No answer and no receipt came: sent once more, it may arrive twice.'),
    ('resent_by_operator', '{in_doubt}', '{queued}', false,
        'An operator had it sent once more, it may arrive twice.'),
    ('let_go', '{in_doubt}', '{unknown}', false,
        'An operator decided to wait for nothing more.'),
    ('canceled', '{accepted, held, scheduled, queued}', '{canceled}', false,
        'Canceled by its account before it was sent.'),
    ('not_sent_again', '{queued}', '{in_doubt}', false,
        'Canceled by its account before it was sent again: the first attempt may have left.'),
    ('too_late', '{accepted, held, scheduled, queued}', '{expired}', false,
        'Its time ran out.'),
    ('too_late_again', '{queued}', '{in_doubt}', false,
        'Its time ran out before it was sent again: the first attempt may have left.'),
    ('no_receipt', '{submitted, in_doubt}', '{unknown}', false,
        'No receipt came in time.');

alter table hotsite.event
    add column what text, -- of hotsite.transition; null in lines of before
    add column attempt smallint,
    add column carrier text,
    add column command_status integer,
    add column term bigint; -- of the segment's last claim, while that is known

-- Adds a line to the stories of some segments, as they are now; to those of an earlier attempt where one is named.
create function hotsite.tell(p_messages uuid[], p_segments smallint[], p_what text[], p_attempts smallint[] default null)
returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    insert into hotsite.event (message_id, segment, state, what, attempt, carrier, command_status, term, detail)
    select
        d.message_id, d.segment, d.state, t.what, coalesce(p_attempts[u.ord], d.attempt),
        case when t.by_carrier then d.carrier end, case when t.by_carrier then d.command_status end, c.term, t.sentence
    from unnest(p_messages, p_segments, p_what) with ordinality as u (message_id, segment, what, ord)
    join hotsite.transition as t on t.what = u.what
    join hotsite.delivery as d on d.message_id = u.message_id and d.segment = u.segment
    left join hotsite.claim as c on c.claim_id = d.claim_id;
end
$$;

-- As of 0002, but for what the lines say.
create or replace function hotsite.describe(p_account integer, p_ids uuid[])
returns table (
    message_id uuid, account_id integer, program text, recipient text, body text, reference text, encoding text,
    class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz, expires_at timestamptz,
    state text, segments jsonb, events jsonb
)
language sql stable as $$
    select
        m.message_id, m.account_id, p.name, m.recipient, m.body, m.reference, m.encoding,
        m.class, m.on_doubt, m.accepted_at, m.send_at, m.expires_at,
        d.state::text, d.segments, coalesce(e.events, '[]')
    from hotsite.message as m
    join hotsite.program as p on p.program_id = m.program_id
    cross join lateral (
        select
            min(d.state) as state,
            jsonb_agg(jsonb_build_object(
                'segment', d.segment, 'state', d.state, 'attempts', d.attempt, 'carrier', d.carrier,
                'carrier_message_id', d.carrier_message_id, 'command_status', d.command_status, 'error', d.error,
                'submitted_at', d.submitted_at, 'updated_at', d.updated_at
            ) order by d.segment) as segments
        from hotsite.delivery as d where d.message_id = m.message_id
    ) as d
    cross join lateral (
        select jsonb_agg(jsonb_build_object(
            'at', e.at, 'state', e.state, 'segment', e.segment, 'detail', e.detail,
            'what', e.what, 'attempt', e.attempt, 'carrier', e.carrier, 'command_status', e.command_status
        ) order by e.event_id) as events
        from hotsite.event as e where e.message_id = m.message_id
    ) as e
    where m.account_id = p_account and m.message_id = any (p_ids)
    order by m.message_id desc
$$;

-- As of 0003, but for the name of what happened.
drop function hotsite.enter_doubt(uuid[], smallint[], text);
create function hotsite.enter_doubt(p_messages uuid[], p_segments smallint[], p_what text) returns void
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
    perform hotsite.tell(p_messages, p_segments, array_fill(p_what, array[cardinality(p_messages)]));
end
$$;

-- As of 0010, but for the stories: each attempt that came back is told, by its carrier's answer or without one.
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
            d.account_id, d.message_id, d.segment, d.attempt, r.outcome, r.carrier, r.written, r.canonical, r.status,
            r.retry_after
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
        array_agg(case when m.status = 0 then 'not_written' else 'refused_for_now' end)
            filter (where m.outcome = 'queued') as queued_what,
        array_agg(m.message_id) filter (where m.outcome = 'failed') as failed,
        array_agg(m.segment) filter (where m.outcome = 'failed') as failed_segments,
        array_agg(case when m.status = 0 then 'cannot_be_made' else 'refused' end)
            filter (where m.outcome = 'failed') as failed_what,
        array_agg(m.message_id) filter (where m.outcome = 'in_doubt') as doubted,
        array_agg(m.segment) filter (where m.outcome = 'in_doubt') as doubted_segments
    into v from moved as m;

    if v.queued is not null then
        perform hotsite.requeue(v.queued, v.queued_segments, v.queued_after);
        perform hotsite.tell(v.queued, v.queued_segments, v.queued_what);
    end if;
    if v.failed is not null then
        perform hotsite.tell(v.failed, v.failed_segments, v.failed_what);
    end if;
    if v.doubted is not null then
        perform hotsite.enter_doubt(v.doubted, v.doubted_segments, 'not_answered');
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

-- As of 0003, but for the name of what happened, and for the id of an attempt whose predecessor's answer came late.
create or replace function hotsite.settle_late(
    p_claims bigint[], p_messages uuid[], p_segments smallint[], p_attempts smallint[], p_outcomes text[],
    p_carriers text[], p_written text[], p_canonical text[], p_status integer[], p_retry_after double precision[]
) returns void
language plpgsql as $$
declare
    r record;
    d hotsite.delivery;
    v_new boolean;
    v_what text;
begin
    for r in
        select u.*
        from unnest(
            p_claims, p_messages, p_segments, p_attempts, p_outcomes, p_carriers, p_written, p_canonical, p_status,
            p_retry_after
        ) as u (claim, message_id, segment, attempt, outcome, carrier, written, canonical, status, retry_after)
        join hotsite.delivery as l on l.message_id = u.message_id and l.segment = u.segment
        where u.attempt <= l.attempt and u.outcome <> 'in_doubt'
        -- Submitted may be by an earlier attempt's late answer: then this one's id is news.
        and (u.outcome = 'submitted' or l.claim_id <> u.claim or l.attempt <> u.attempt or l.state <> u.outcome::hotsite.state)
        order by u.message_id, u.segment
    loop
        select * into d from hotsite.delivery as l
        where l.message_id = r.message_id and l.segment = r.segment for update;
        v_new := false;
        v_what := null;
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
            v_what := 'taken_late';
            update hotsite.delivery as l
            set state = 'submitted', carrier = r.carrier, carrier_message_id = r.written, command_status = r.status,
                submitted_at = now(), updated_at = now()
            where l.message_id = d.message_id and l.segment = d.segment;
            delete from hotsite.doubt as o where o.message_id = d.message_id and o.segment = d.segment;
            perform hotsite.tally(d.state, 'submitted', 1);
        elsif v_new then
            v_what := 'taken_too';
        elsif r.outcome in ('failed', 'queued') and d.state = 'in_doubt' and d.attempt = r.attempt then
            v_what := case r.outcome when 'failed' then 'refused_late' else 'not_written_late' end;
            update hotsite.delivery as l
            set state = r.outcome::hotsite.state, carrier = r.carrier, command_status = r.status, updated_at = now()
            where l.message_id = d.message_id and l.segment = d.segment;
            delete from hotsite.doubt as o
            where o.message_id = d.message_id and o.segment = d.segment and o.attempt = r.attempt;
            perform hotsite.tally(d.state, r.outcome::hotsite.state, 1);
            if r.outcome = 'queued' then
                perform hotsite.requeue(array[d.message_id], array[d.segment], array[r.retry_after]);
            end if;
        end if;
        if v_what is not null then
            perform hotsite.tell(array[d.message_id], array[d.segment], array[v_what], array[r.attempt]);
        end if;
    end loop;
end
$$;

-- As of 0010, but for the name of what happened.
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
        perform hotsite.enter_doubt(v.message_ids, v.part_numbers, 'given_up');
        perform hotsite.tally('submitting', 'in_doubt', given_up);
        may_settle := hotsite.doubt_may_settle(v.message_ids, v.part_numbers);
    end if;
    delete from hotsite.claim as c where c.claim_id = any (p_claim_ids);
end
$$;

-- As of 0003, but for the stories.
create or replace function hotsite.return_claims(p_term bigint, p_dispatcher text, p_claim_ids bigint[]) returns bigint
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
        perform hotsite.tell(v.message_ids, v.part_numbers, array_fill('returned'::text, array[v.total::integer]));
    end if;
    delete from hotsite.claim as c where c.claim_id = any (v_claims);
    return v.total;
end
$$;

-- As of 0004, but for the name of what happened.
create or replace function hotsite.apply_late(
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
        perform hotsite.tell(array[d.message_id], array[d.segment], array['receipt_late'], array[r.attempt]);
        v_moved := v_moved + 1;
    end loop;
    return v_moved;
end
$$;

-- As of 0005, but for the name of what happened.
create or replace function hotsite.settle_doubts(p_parked bigint[], p_messages uuid[], p_segments smallint[])
returns bigint
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
        perform hotsite.tell(array[d.message_id], array[d.segment], array['receipt_fits']);
        v_settled := v_settled + 1;
    end loop;
    return v_settled;
end
$$;

-- As of 0010, but for the name of what happened.
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
        perform hotsite.tell(v_sent_messages, v_sent_segments, array_fill('resent'::text, array[v_total::integer]));
    end if;
    return v_total;
end
$$;

-- As of 0002, but for the name of what happened.
create or replace function hotsite.cancel(p_term bigint, p_account integer, p_id uuid)
returns table (
    message_id uuid, account_id integer, program text, recipient text, body text, reference text, encoding text,
    class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz, expires_at timestamptz,
    state text, segments jsonb, events jsonb
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    v_part record;
    v_to hotsite.state;
begin
    perform control.assert_leader(p_term);
    update hotsite.doubt as d set resend = false
    where d.message_id = p_id and d.account_id = p_account and d.resend;
    for v_part in
        select d.segment, d.state, d.resent from hotsite.delivery as d
        where d.message_id = p_id and d.account_id = p_account
        and d.state in ('accepted', 'held', 'scheduled', 'queued')
        order by d.segment for update
    loop
        v_to := case when v_part.resent then 'in_doubt' else 'canceled' end;
        update hotsite.delivery as d set state = v_to, updated_at = now()
        where d.message_id = p_id and d.segment = v_part.segment;
        perform hotsite.tally(v_part.state, v_to, 1);
        perform hotsite.tell(
            array[p_id], array[v_part.segment], array[case when v_part.resent then 'not_sent_again' else 'canceled' end]
        );
    end loop;
    return query select * from hotsite.describe(p_account, array[p_id]);
    perform hotsite.barrier();
end
$$;

-- As of 0009, but for what is in doubt again: its story says so.
create or replace function hotsite.work_agenda(p_limit integer) returns bigint
language plpgsql as $$
declare
    v record;
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
        select
            (select count(*) from due) as looked_at, count(*) as seen,
            array_agg(s.message_id) filter (where s.becomes = 'in_doubt') as doubted,
            array_agg(s.segment) filter (where s.becomes = 'in_doubt') as doubted_segments
        into v from seen as s;
        if v.doubted is not null then
            perform hotsite.tell(
                v.doubted, v.doubted_segments, array_fill('too_late_again'::text, array[cardinality(v.doubted)])
            );
        end if;
        v_moved := v_moved + v.seen;
        exit when v.looked_at = 0 or v_moved >= p_limit;
    end loop;
    return v_moved;
end
$$;
