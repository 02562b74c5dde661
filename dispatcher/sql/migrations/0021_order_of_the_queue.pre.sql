-- The order of the queue: accounts take turns, and a newer text takes the place of an older one of its topic. Functions
-- that both have to do with (requeue, work_agenda) come last.
--
-- Accounts take turns: inside a class a claim takes as many segments of each account that has some waiting, so that one
-- account's million bills hold up nobody else's thousand.
--
-- The queue is kept by class, then account, then age. A claim finds the accounts with work by skipping from one to the
-- next (an index descent each, however much lies between), takes some segments of each, and goes on after the last one
-- the next time. So it costs the same however long the queue is, and however many accounts wait. The place where it goes
-- on is a sequence: it is kept without a lock that would last until the commit, and two dispatchers that begin at the
-- same account hurt nobody, for neither waits for a row that the other holds.
--
-- The old order stays beside the new one until `post`: a call that was under way when this file came names it.

create unique index queue_turns on hotsite.queue (class, account_id, message_id, segment);

-- The account that was served last, by class.
create sequence hotsite.turn_0 minvalue 0;
create sequence hotsite.turn_1 minvalue 0;
create sequence hotsite.turn_2 minvalue 0;

-- Accounts that one claim serves at most, and how many segments it takes of each at least, if there are so many: each
-- account costs two index descents.
create function hotsite.most_turns() returns integer
language sql immutable as $$
    select 128
$$;
create function hotsite.least_turn() returns integer
language sql immutable as $$
    select 4
$$;

-- The highest number of an attempt: what a smallint holds.
create function hotsite.most_attempts() returns integer
language sql immutable as $$
    select 32767
$$;

-- Accounts with something of a class in the queue, in turn: those after p_after, then from the first on; p_limit at most.
create function hotsite.whose_turn(p_class smallint, p_after integer, p_limit integer) returns integer[]
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_accounts integer[] := '{}';
    v_last integer := p_after;
    v_wrapped boolean := false;
begin
    while cardinality(v_accounts) < p_limit loop
        select q.account_id into v_last from hotsite.queue as q
        where q.class = p_class and q.account_id > v_last order by q.class, q.account_id limit 1;
        if v_last is null then
            exit when v_wrapped;
            v_wrapped := true;
            v_last := -1;
        elsif v_wrapped and v_last > p_after then
            exit;
        else
            v_accounts := v_accounts || v_last;
        end if;
    end loop;
    return v_accounts;
end
$$;

-- Takes the next p_limit hints of a class out of the queue, the oldest of each account, evenly. What another session
-- holds is passed over. What an account has too little of, the others get.
create function hotsite.take_turns(
    p_class smallint, p_limit integer, out accounts integer[], out messages uuid[], out segments smallint[]
)
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off
set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
    v_turn constant regclass := ('hotsite.turn_' || p_class)::regclass;
    v_after constant integer := coalesce(pg_sequence_last_value(v_turn), 0);
    v_next integer := v_after;
    v_missing integer := p_limit;
    v_served integer := 0;
    v_asked integer;
    v_waiting integer[];
    v_all boolean; -- accounts with something in the queue are among these
    v_here integer; -- what these are to give
    v_share integer;
    v_extra integer; -- so many of the first give one more
    v record;
begin
    accounts := '{}';
    messages := '{}';
    segments := '{}';
    while v_missing > 0 and v_served < hotsite.most_turns() loop
        v_asked := least(greatest(1, v_missing / hotsite.least_turn()), hotsite.most_turns() - v_served);
        v_waiting := hotsite.whose_turn(p_class, v_next, v_asked);
        exit when cardinality(v_waiting) = 0;
        v_served := v_served + cardinality(v_waiting);
        v_all := cardinality(v_waiting) < v_asked;
        v_extra := v_missing % cardinality(v_waiting);
        if v_all then -- whoever gives one more stands last the next time
            v_here := v_missing;
            v_next := case when v_extra > 0 then v_waiting[v_extra] else v_next end;
        else -- as much of each, and the rest of those who come next
            v_here := v_missing - v_extra;
            v_next := v_waiting[cardinality(v_waiting)];
        end if;
        while v_here > 0 and cardinality(v_waiting) > 0 loop
            v_share := v_here / cardinality(v_waiting);
            v_extra := v_here % cardinality(v_waiting);
            with picked as (
                select q.hint
                from unnest(v_waiting) with ordinality as w (account_id, place)
                cross join lateral (
                    select q.ctid as hint from hotsite.queue as q
                    where q.class = p_class and q.account_id = w.account_id
                    order by q.class, q.account_id, q.message_id, q.segment
                    limit v_share + (w.place <= v_extra)::integer
                    for update skip locked
                ) as q
            ), taken as (
                delete from hotsite.queue as q where q.ctid = any (array(select p.hint from picked as p))
                returning q.account_id, q.message_id, q.segment
            )
            select
                coalesce(array_agg(t.account_id), '{}') as accounts,
                coalesce(array_agg(t.message_id), '{}') as messages,
                coalesce(array_agg(t.segment), '{}') as segments
            into v from taken as t;
            accounts := accounts || v.accounts;
            messages := messages || v.messages;
            segments := segments || v.segments;
            v_here := v_here - cardinality(v.accounts);
            v_missing := v_missing - cardinality(v.accounts);
            exit when not v_all; -- what these lack, those who come next may have
            if v_here > 0 then -- those who gave all that was asked of them may have more
                v_waiting := array(
                    select w.account_id from unnest(v_waiting) with ordinality as w (account_id, place)
                    where v_share + (w.place <= v_extra)::integer
                        = (select count(*) from unnest(v.accounts) as t (account_id) where t.account_id = w.account_id)
                );
            end if;
        end loop;
        exit when v_all;
    end loop;
    if v_next <> v_after and cardinality(accounts) > 0 then
        perform setval(v_turn, v_next);
    end if;
end
$$;

-- Claims up to p_limit queued segments of the classes up to p_down_to, by class; inside one accounts take turns, each
-- with its oldest. Writes nothing when there is nothing to claim. Expiry is as of 0009: what has expired is set aside,
-- and expires_in_s counts from the BEGIN. Attempts are counted up to a number: see 0022.
create function hotsite.claim_in_turn(
    p_term bigint, p_dispatcher text, p_limit integer, p_claim_for_s double precision, p_down_to smallint
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
    v record;
    v_accounts integer[];
    v_messages uuid[];
    v_segments smallint[];
    v_claim bigint;
    v_claimed bigint;
begin
    perform control.assert_leader(p_term);
    for round in 1 .. 20 loop
        v_accounts := '{}';
        v_messages := '{}';
        v_segments := '{}';
        for class in 0 .. p_down_to loop
            v := hotsite.take_turns(class::smallint, p_limit - cardinality(v_accounts));
            v_accounts := v_accounts || v.accounts;
            v_messages := v_messages || v.messages;
            v_segments := v_segments || v.segments;
            exit when cardinality(v_accounts) >= p_limit;
        end loop;
        exit when cardinality(v_accounts) = 0;
        v_claim := coalesce(v_claim, nextval('hotsite.claim_id'));
        return query
        with claimed as (
            update hotsite.delivery as d
            set state = 'submitting', attempt = least(d.attempt + 1, hotsite.most_attempts() - (not d.resent)::integer),
                claim_id = v_claim, updated_at = now()
            from (
                select t.account_id, t.message_id, t.segment
                from unnest(v_accounts, v_messages, v_segments) as t (account_id, message_id, segment)
                order by t.message_id, t.segment
            ) as t
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
        if v_claimed < cardinality(v_accounts) then
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

grant execute on function hotsite.claim_in_turn(bigint, text, integer, double precision, smallint) to hotsite_dispatch;

-- What the version before calls: it takes turns, too.
create or replace function hotsite.claim_unexpired(
    p_term bigint, p_dispatcher text, p_limit integer, p_claim_for_s double precision
)
returns table (
    claim_id bigint, message_id uuid, segment smallint, segments smallint, attempt smallint, account_id integer,
    program_id integer, source text, recipient text, body text, encoding text, class smallint,
    expires_in_s double precision
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select * from hotsite.claim_in_turn(p_term, p_dispatcher, p_limit, p_claim_for_s, 2::smallint);
end
$$;

-- As of 0010, but the oldest of a class is the oldest of the first of each account, of a thousand accounts at most.
create or replace function hotsite.counts(
    p_term bigint, out states text[], out totals bigint[], out classes smallint[], out oldest_s double precision[]
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
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
        select q.message_id, q.segment
        from unnest(hotsite.whose_turn(c.class::smallint, 0, 1000)) as w (account_id)
        cross join lateral (
            select q.message_id, q.segment from hotsite.queue as q
            where q.class = c.class and q.account_id = w.account_id
            order by q.class, q.account_id, q.message_id, q.segment limit 1
        ) as q
        order by q.message_id, q.segment limit 1
    ) as q
    join hotsite.delivery as d on d.message_id = q.message_id and d.segment = q.segment;
end
$$;

-- As of 0016, in the new order.
create or replace function hotsite.sweep_campaigns(p_term bigint, p_id uuid, p_batches integer) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
    v record;
    v_message uuid;
    v_waiting integer;
    v_locked integer;
    v_busy boolean := false;
    v_canceled integer := 0;
begin
    perform control.assert_leader(p_term);
    for v in
        select c.campaign_id, c.account_id, c.upload, c.class, c.to_sweep from hotsite.campaign as c
        where c.to_sweep > 0 and (p_id is null or c.campaign_id = p_id)
        order by c.campaign_id limit 1 for update skip locked
    loop
        for batch in 1 .. least(p_batches, v.to_sweep) loop
            for v_message in
                select u.id
                from hotsite.campaign_batch as b
                cross join lateral unnest(b.message_ids) as u (id)
                where b.campaign_id = v.campaign_id and b.upload = v.upload and b.batch = v.to_sweep
                and exists (
                    select from hotsite.delivery as d
                    where d.message_id = u.id
                    and d.state in ('accepted', 'held', 'scheduled', 'queued', 'in_doubt') offset 0
                )
                order by u.id
            loop
                select count(*) into v_waiting from hotsite.queue as q
                where q.class = v.class and q.account_id = v.account_id and q.message_id = v_message;
                select count(*) into v_locked from (
                    select from hotsite.queue as q
                    where q.class = v.class and q.account_id = v.account_id and q.message_id = v_message
                    for update skip locked
                ) as q;
                if v_locked < v_waiting then
                    v_busy := true;
                else
                    perform hotsite.cancel(p_term, v.account_id, v_message);
                    v_canceled := v_canceled + 1;
                end if;
            end loop;
            exit when v_busy;
            v.to_sweep := v.to_sweep - 1;
            exit when v_canceled >= 500;
        end loop;
        update hotsite.campaign as c set to_sweep = v.to_sweep where c.campaign_id = v.campaign_id;
    end loop;
    return coalesce((
        select sum(c.to_sweep) from hotsite.campaign as c where c.to_sweep > 0 and (p_id is null or c.campaign_id = p_id)
    ), 0);
end
$$;

-- Topics: a newer text about the same thing (an outage, say) to the same number takes the place of an older one that
-- has not left yet, in the transaction that accepts it.
--
-- topic      the newest text of each topic: of an account and program, to a number. Its row's lock puts those who write
--            of the same topic in order.
-- topical    each text that has a topic, and by which it was superseded. A text that was claimed at that moment is let
--            go on; when it comes back unsent, it is told by this row that it is not wanted any more.
--
-- Newer is by topic_at, if the caller tells it: as of when what the text says holds. A text without is as of the moment
-- in which it is accepted, and newer than all that is there. Where two are equal, the one accepted last is newer. So an
-- older estimate that was held up on its way, and comes when a newer one is there (sent or not), is superseded at once.
-- A repeat of a reference is no new text and moves nothing, nor does a group that is stored a second time.
--
-- Rows of both tables are kept for hotsite.topic_kept(): whoever adds some removes twice as many that are older.

create table hotsite.topic (
    account_id integer not null,
    program_id integer not null,
    recipient text collate "C" not null,
    topic text collate "C" not null,
    at timestamptz not null,
    message_id uuid not null, -- the newest
    primary key (account_id, program_id, recipient, topic)
) with (fillfactor = 80, vacuum_truncate = off);
create index topic_age on hotsite.topic (message_id);

create table hotsite.topical (
    message_id uuid primary key,
    superseded_by uuid,
    topic_at timestamptz, -- as it was told
    topic text -- null when it was told too long ago
) with (fillfactor = 80, vacuum_truncate = off);

create function hotsite.topic_kept() returns interval
language sql immutable as $$
    select interval '30 days'
$$;

insert into hotsite.transition (what, before, after, by_carrier, sentence) values
    ('superseded', '{accepted, held, scheduled, queued}', '{canceled}', false,
        'Superseded by a newer text of its topic.'),
    ('superseded_again', '{queued}', '{in_doubt}', false,
        'Superseded by a newer text of its topic before it was sent again: the first attempt may have left.');

-- Writes into the stories of segments by which text they were superseded.
create function hotsite.tell_superseded(p_messages uuid[], p_segments smallint[], p_newer uuid[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    insert into hotsite.event (message_id, segment, state, what, detail)
    select d.message_id, d.segment, d.state, t.what, replace(t.sentence, 'a newer text', u.newer || ', a newer text')
    from unnest(p_messages, p_segments, p_newer) as u (message_id, segment, newer)
    cross join lateral (
        select d.* from hotsite.delivery as d where d.message_id = u.message_id and d.segment = u.segment offset 0
    ) as d
    join hotsite.transition as t
        on t.what = case when d.state = 'canceled' then 'superseded' else 'superseded_again' end
    order by d.message_id, d.segment;
end
$$;

-- Lets go of what has not left of some texts, each with the text that is in its place.
--
-- Hints first, without waiting: what a claim holds at this moment is its own, and stays. Then the segments, whatever
-- state they are seen in: one that is just coming back must not slip through (it sees our mark, or we its state).
create function hotsite.supersede(p_messages uuid[], p_newer uuid[]) returns void
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_bitmapscan = off
as $$
declare
    v_hints tid[];
    v record;
begin
    v_hints := array(
        select q.hint
        from (select u.message_id from unnest(p_messages) as u (message_id) order by u.message_id) as u
        cross join lateral (
            select d.account_id from hotsite.delivery as d
            where d.message_id = u.message_id and d.segment = 1 offset 0
        ) as d
        cross join lateral (
            select m.class from hotsite.message as m
            where m.account_id = d.account_id and m.message_id = u.message_id offset 0
        ) as m
        cross join lateral (
            select q.ctid as hint from hotsite.queue as q
            where q.class = m.class and q.account_id = d.account_id and q.message_id = u.message_id
            for update skip locked
        ) as q
    );
    insert into hotsite.topical (message_id, superseded_by)
    select u.message_id, u.newer from unnest(p_messages, p_newer) as u (message_id, newer) order by u.message_id
    on conflict (message_id) do update set superseded_by = excluded.superseded_by;
    with seen as (
        select u.message_id, d.segment, d.state, d.resent, u.newer
        from (select u.* from unnest(p_messages, p_newer) as u (message_id, newer) order by u.message_id) as u
        cross join lateral (
            select d.segment, d.state, d.resent from hotsite.delivery as d
            where d.message_id = u.message_id order by d.segment for update
        ) as d
    ), moved as (
        update hotsite.delivery as d
        set state = case when s.resent then 'in_doubt' else 'canceled' end::hotsite.state, updated_at = now()
        from seen as s
        where d.message_id = s.message_id and d.segment = s.segment
        and s.state in ('accepted', 'held', 'scheduled', 'queued')
        returning d.message_id, d.segment, d.state, s.state as was, s.newer
    ), counted as (
        insert into hotsite.tally (state, delta)
        select t.state, sum(t.delta)
        from moved as m cross join lateral (values (m.was, -1), (m.state, 1)) as t (state, delta)
        group by t.state
    )
    select array_agg(m.message_id) as messages, array_agg(m.segment) as segments, array_agg(m.newer) as newer
    into v from moved as m;
    if v.messages is not null then
        perform hotsite.tell_superseded(v.messages, v.segments, v.newer);
    end if;
    delete from hotsite.queue as q where q.ctid = any (v_hints);
    update hotsite.doubt as o set resend = false where o.ctid = any (array(
        select o.row
        from unnest(p_messages) as u (message_id)
        cross join lateral (
            select o.ctid as row from hotsite.doubt as o where o.message_id = u.message_id and o.resend offset 0
        ) as o
    ));
end
$$;

-- Puts texts that were stored just now in their places among those of their topics. Returns all that is superseded now.
create function hotsite.follow_topics(
    p_ids uuid[], p_accounts integer[], p_programs integer[], p_recipients text[], p_topics text[],
    p_topic_at timestamptz[]
) returns uuid[]
language plpgsql
set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_old constant uuid := (
        lpad(to_hex(floor(extract(epoch from now() - hotsite.topic_kept()) * 1000)::bigint), 12, '0') || repeat('0', 20)
    )::uuid;
    v_gone uuid[] := '{}';
    v_newer uuid[] := '{}';
    v record;
    v_newest hotsite.topic;
begin
    for v in
        -- Only those that are not there yet: a group may be stored twice, the second time when newer ones have come.
        with fresh as (
            insert into hotsite.topical (message_id, topic, topic_at)
            select u.id, u.topic, u.at from unnest(p_ids, p_topics, p_topic_at) as u (id, topic, at) order by u.id
            on conflict do nothing
            returning message_id
        ), newest as materialized (
            select
                r.account, r.program, r.recipient collate "C" as recipient, r.topic collate "C" as topic,
                array_agg(r.id order by coalesce(r.at, now()) desc, r.id desc) as ids,
                (array_agg(r.at order by coalesce(r.at, now()) desc, r.id desc))[1] as at
            from unnest(p_ids, p_accounts, p_programs, p_recipients, p_topics, p_topic_at)
                as r (id, account, program, recipient, topic, at)
            join fresh as f on f.message_id = r.id
            group by r.account, r.program, r.recipient collate "C", r.topic collate "C"
        ), first as (
            insert into hotsite.topic (account_id, program_id, recipient, topic, at, message_id)
            select n.account, n.program, n.recipient, n.topic, coalesce(n.at, now()), n.ids[1] from newest as n
            order by n.account, n.program, n.recipient, n.topic
            on conflict do nothing
            returning message_id
        )
        select
            n.ids[1] as id, n.ids[2:] as others, n.account, n.program, n.recipient, n.topic, n.at,
            f.message_id is not null as first
        from newest as n
        left join first as f on f.message_id = n.ids[1]
        order by n.account, n.program, n.recipient, n.topic
    loop
        if not v.first then
            select * into v_newest from hotsite.topic as t
            where t.account_id = v.account and t.program_id = v.program and t.recipient = v.recipient
            and t.topic = v.topic for update;
            if v.at < v_newest.at then
                v.others := v.others || v.id;
                v.id := v_newest.message_id;
            else
                update hotsite.topic as t
                set at = coalesce(v.at, greatest(now(), v_newest.at)), message_id = v.id
                where t.account_id = v.account and t.program_id = v.program and t.recipient = v.recipient
                and t.topic = v.topic;
                v.others := v.others || v_newest.message_id;
            end if;
        end if;
        v_gone := v_gone || v.others;
        v_newer := v_newer || array_fill(v.id, array[cardinality(v.others)]);
    end loop;
    if cardinality(v_gone) > 0 then
        perform hotsite.supersede(v_gone, v_newer);
    end if;

    delete from hotsite.topical as t where t.message_id = any (array(
        select t.message_id from hotsite.topical as t where t.message_id < v_old
        order by t.message_id limit 2 * cardinality(p_ids) for update skip locked
    ));
    delete from hotsite.topic as t where t.ctid = any (array(
        select t.ctid from hotsite.topic as t where t.message_id < v_old
        order by t.message_id limit 2 * cardinality(p_ids) for update skip locked
    ));
    return v_gone;
end
$$;

-- As `accept`, for texts of which some have topics.
create function hotsite.accept_topical(
    p_term bigint, p_ids uuid[], p_accounts integer[], p_programs integer[], p_recipients text[], p_bodies text[],
    p_encodings text[], p_segments smallint[], p_classes smallint[], p_on_doubt text[], p_references text[],
    p_fingerprints bytea[], p_send_at timestamptz[], p_expires_at timestamptz[], p_topics text[],
    p_topic_at timestamptz[],
    out ids uuid[], out verdicts text[], out states text[], out lsn text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v record;
    v_gone uuid[];
begin
    select a.ids, a.verdicts, a.states into ids, verdicts, states from hotsite.accept(
        p_term, p_ids, p_accounts, p_programs, p_recipients, p_bodies, p_encodings, p_segments, p_classes, p_on_doubt,
        p_references, p_fingerprints, p_send_at, p_expires_at
    ) as a;
    select
        array_agg(r.id) as ids, array_agg(r.account) as accounts, array_agg(r.program) as programs,
        array_agg(r.recipient) as recipients, array_agg(r.topic) as topics, array_agg(r.at) as at
    into v
    from unnest(p_ids, p_accounts, p_programs, p_recipients, p_topics, p_topic_at, verdicts)
        as r (id, account, program, recipient, topic, at, verdict)
    where r.topic is not null and r.verdict = 'new';
    if v.ids is not null then
        v_gone := hotsite.follow_topics(v.ids, v.accounts, v.programs, v.recipients, v.topics, v.at);
        if v_gone && ids then
            states := array(
                select case when r.id = any (v_gone) and r.verdict = 'new' then 'canceled' else r.state end
                from unnest(ids, verdicts, states) with ordinality as r (id, verdict, state, ord) order by r.ord
            );
        end if;
    end if;
    lsn := pg_current_wal_insert_lsn();
end
$$;

grant execute on function hotsite.accept_topical(
    bigint, uuid[], integer[], integer[], text[], text[], text[], smallint[], smallint[], text[], text[], bytea[],
    timestamptz[], timestamptz[], text[], timestamptz[]
) to hotsite_dispatch;

-- What a text is about, and by which it was superseded; nulls if it has no topic, or if that was too long ago.
create function hotsite.topic_of(
    p_account integer, p_message uuid, out topic text, out topic_at timestamptz, out superseded_by uuid
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
as $$
begin
    select t.topic, t.topic_at, t.superseded_by into topic, topic_at, superseded_by
    from hotsite.topical as t
    where t.message_id = p_message and exists (
        select from hotsite.message as m where m.account_id = p_account and m.message_id = p_message offset 0
    );
end
$$;

grant execute on function hotsite.topic_of(integer, uuid) to hotsite_dispatch;

-- As of 0003, in the new order, but what was superseded meanwhile is looked at by `work_agenda` and not claimed.
create or replace function hotsite.requeue(p_messages uuid[], p_segments smallint[], p_after double precision[])
returns void
language plpgsql as $$
begin
    -- A hint that is there already is written anew, not left: who claims it now may have seen the old state.
    insert into hotsite.queue (message_id, account_id, class, segment)
    select m.message_id, m.account_id, m.class, d.segment
    from unnest(p_messages, p_segments, p_after) as r (message_id, segment, after)
    join hotsite.delivery as d on d.message_id = r.message_id and d.segment = r.segment
    join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
    where r.after <= 0 and not exists (
        select from hotsite.topical as t where t.message_id = r.message_id and t.superseded_by is not null offset 0
    )
    on conflict (class, account_id, message_id, segment) do update set segment = excluded.segment;

    insert into hotsite.agenda (at, message_id, account_id, segment)
    select distinct t.at, d.message_id, d.account_id, d.segment
    from unnest(p_messages, p_segments, p_after) as r (message_id, segment, after)
    join hotsite.delivery as d on d.message_id = r.message_id and d.segment = r.segment
    join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
    cross join lateral (
        values
            (case when r.after > 0 then now() + make_interval(secs => r.after) end),
            (m.expires_at),
            (case when exists (
                select from hotsite.topical as t
                where t.message_id = r.message_id and t.superseded_by is not null offset 0
            ) then '-infinity'::timestamptz end)
    ) as t (at)
    where t.at is not null
    on conflict (at, message_id, segment) do update set account_id = excluded.account_id;
end
$$;

-- As of 0011, in the new order, and what was superseded while it was claimed is let go of.
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
                d.message_id, d.account_id, d.segment, d.state as was, m.class, t.superseded_by,
                case
                    when (m.expires_at > now() or m.expires_at is null) and t.superseded_by is null then 'queued'
                    when d.resent then 'in_doubt' -- its first attempt may have left
                    when t.superseded_by is not null then 'canceled'
                    else 'expired'
                end::hotsite.state as becomes
            from (select distinct u.message_id, u.segment from due as u order by u.message_id, u.segment) as u
            join hotsite.delivery as d on d.message_id = u.message_id and d.segment = u.segment
            join hotsite.message as m on m.account_id = d.account_id and m.message_id = d.message_id
            left join lateral (
                select t.superseded_by from hotsite.topical as t where t.message_id = d.message_id offset 0
            ) as t on true
            where d.state in ('scheduled', 'held', 'queued')
            for update of d
        ), moved as (
            update hotsite.delivery as d set state = s.becomes, updated_at = now()
            from seen as s
            where d.message_id = s.message_id and d.segment = s.segment and s.becomes <> s.was
        ), queued as (
            insert into hotsite.queue (message_id, account_id, class, segment)
            select s.message_id, s.account_id, s.class, s.segment from seen as s where s.becomes = 'queued'
            on conflict (class, account_id, message_id, segment) do update set segment = excluded.segment
        ), counted as (
            insert into hotsite.tally (state, delta)
            select t.state, sum(t.delta)
            from seen as s cross join lateral (values (s.was, -1), (s.becomes, 1)) as t (state, delta)
            where s.was <> s.becomes
            group by t.state
        )
        select
            (select count(*) from due) as looked_at, count(*) as seen,
            array_agg(s.message_id) filter (where s.becomes = 'in_doubt' and s.superseded_by is null) as doubted,
            array_agg(s.segment) filter (where s.becomes = 'in_doubt' and s.superseded_by is null) as doubted_segments,
            array_agg(s.message_id) filter (where s.superseded_by is not null) as superseded,
            array_agg(s.segment) filter (where s.superseded_by is not null) as superseded_segments,
            array_agg(s.superseded_by) filter (where s.superseded_by is not null) as superseded_by
        into v from seen as s;
        if v.doubted is not null then
            perform hotsite.tell(
                v.doubted, v.doubted_segments, array_fill('too_late_again'::text, array[cardinality(v.doubted)])
            );
        end if;
        if v.superseded is not null then
            perform hotsite.tell_superseded(v.superseded, v.superseded_segments, v.superseded_by);
        end if;
        v_moved := v_moved + v.seen;
        exit when v.looked_at = 0 or v_moved >= p_limit;
    end loop;
    return v_moved;
end
$$;

-- As of 0016, and a row may have a topic. What a campaign says holds as of its start, whenever a row's turn comes: a
-- list that is slowly fed takes no place of what was said after it.
create or replace function hotsite.feed_batch(p_term bigint, p_campaign hotsite.campaign, p_first uuid, p_skip bigint)
returns integer
language plpgsql
as $$
declare
    v hotsite.campaign_batch;
    v_to text[];
    v_bodies text[];
    v_topics text[];
    v_ids uuid[] := '{}';
    v_references text[];
    v_fingerprints bytea[];
    v_accepted record;
begin
    select b.* into v from hotsite.campaign_batch as b
    where b.campaign_id = p_campaign.campaign_id and b.upload = p_campaign.upload
    and b.batch = p_campaign.fed_batches + 1;
    if v.size > 0 then
        v_ids := hotsite.ids_from(p_first, p_skip, v.size);
        v_to := array(select json_array_elements_text(v.texts->'to'));
        v_bodies := array(select json_array_elements_text(v.texts->'body'));
        v_topics := case
            when v.texts->'topic' is null then array_fill(null::text, array[v.size])
            else array(select json_array_elements_text(v.texts->'topic'))
        end;
        select
            array_agg('campaign/' || v.campaign_id || '/' || r.line order by r.ord),
            array_agg(sha256(convert_to(r.recipient || ' ' || r.body, 'UTF8')) order by r.ord)
        into v_references, v_fingerprints
        from unnest(array(select json_array_elements_text(v.texts->'line')), v_to, v_bodies) with ordinality
            as r (line, recipient, body, ord);
        begin
            select a.ids, a.verdicts into v_accepted from hotsite.accept_topical(
                p_term, v_ids, array_fill(p_campaign.account_id, array[v.size]),
                array_fill(p_campaign.program_id, array[v.size]), v_to, v_bodies,
                array(select json_array_elements_text(v.texts->'encoding')),
                array(select s::smallint from json_array_elements_text(v.texts->'segments') as s),
                array_fill(p_campaign.class, array[v.size]), array_fill(p_campaign.on_doubt, array[v.size]),
                v_references, v_fingerprints, array_fill(null::timestamptz, array[v.size]),
                array_fill(p_campaign.expires_at, array[v.size]), v_topics,
                array_fill(p_campaign.started_at, array[v.size])
            ) as a;
        exception when data_exception or integrity_constraint_violation then
            update hotsite.campaign as c
            set state = 'paused', note = 'The database refuses a text of batch ' || v.batch || ': ' || sqlerrm
            where c.campaign_id = v.campaign_id;
            insert into hotsite.campaign_act (campaign_id, act, by) values (v.campaign_id, 'pause', '');
            return null;
        end;
        v_ids := array(
            select u.id from unnest(v_accepted.ids, v_accepted.verdicts) with ordinality as u (id, verdict, ord)
            where u.verdict <> 'conflict' order by u.ord
        );
    end if;
    update hotsite.campaign_batch as b
    set texts = null, message_ids = v_ids, fed_at = now(), open = v_ids <> '{}', counted_at = now(),
        counts = json_build_object('queued', cardinality(v_ids))
    where b.campaign_id = v.campaign_id and b.upload = v.upload and b.batch = v.batch;
    update hotsite.campaign as c
    set fed_batches = v.batch, fed = c.fed + v.size, fed_at = now()
    where c.campaign_id = v.campaign_id;
    return v.size;
end
$$;
