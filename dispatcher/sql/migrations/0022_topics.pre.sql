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

-- As of 0021, but what was superseded meanwhile is looked at by `work_agenda` and not claimed.
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

-- As of 0021, and what was superseded while it was claimed is let go of.
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
