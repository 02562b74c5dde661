-- Campaigns: one text to a list of up to a million numbers, fed into the queue at the pace at which it empties.
--
-- template        texts with gaps that an account keeps by name.
-- campaign        what is sent to whom under which program, and how far it has come.
-- campaign_batch  its list, some hundred rows of it in each row of ours: a million texts are two thousand rows to write, to
--                 move and to look at. `texts` is what is still to be fed; afterwards `message_ids` are the messages.
-- campaign_act    who did what with it, and when.
--
-- Nothing is written per message beyond what any message costs: that one belongs to a campaign is told by its batch, and
-- by its reference, `campaign/<id>/<line>`, which is the same whoever feeds it and however often.

create table hotsite.template (
    account_id integer not null references hotsite.account,
    name text collate "C" not null,
    text text not null,
    variables json not null,
    created_at timestamptz not null default now(),
    changed_at timestamptz not null default now(),
    changed_by text not null,
    primary key (account_id, name)
);

create table hotsite.campaign (
    campaign_id uuid primary key, -- version 7
    account_id integer not null references hotsite.account,
    program_id integer not null references hotsite.program,
    state text not null default 'draft' check (state in ('draft', 'running', 'paused', 'canceled', 'done')),
    upload integer not null default 0, -- counts the lists that were begun; the last one counts
    uploaded boolean not null default false, -- that one has come whole
    class smallint not null check (class between 0 and 2),
    batches integer not null default 0, -- of the list
    fed_batches integer not null default 0, -- those up to this number
    to_sweep integer not null default 0, -- once canceled: those up to this number may hold texts that have not left
    texts bigint not null default 0, -- good rows
    bad bigint not null default 0, -- rows that were refused
    segments bigint not null default 0,
    fed bigint not null default 0, -- texts
    created_at timestamptz not null default now(),
    start_at timestamptz,
    expires_at timestamptz,
    started_at timestamptz,
    fed_at timestamptz,
    ended_at timestamptz,
    on_doubt text not null check (on_doubt in ('resend', 'hold')),
    name text not null,
    template text, -- the name of the one it was made from
    text text not null,
    variables json not null,
    note text -- why it stands, when nobody paused it
) with (fillfactor = 50);
create index campaign_account on hotsite.campaign (account_id, campaign_id);
create index campaign_running on hotsite.campaign (campaign_id) where state = 'running';
create index campaign_sweeping on hotsite.campaign (campaign_id) where to_sweep > 0;

create table hotsite.campaign_batch (
    campaign_id uuid not null,
    upload integer not null,
    batch integer not null, -- from 1
    size integer not null, -- texts
    segments integer not null,
    bad_size integer not null,
    open boolean not null default false, -- fed, and not all of it is final
    fed_at timestamptz,
    counted_at timestamptz,
    counts json, -- of messages by state, at counted_at
    message_ids uuid[],
    texts json, -- {"line": […], "to": […], "body": […], "encoding": […], "segments": […]} until it is fed
    bad json, -- [[line, column, reason, value], …]
    primary key (campaign_id, upload, batch)
);
create index campaign_batch_open on hotsite.campaign_batch (campaign_id, upload, counted_at) where open;

create table hotsite.campaign_act (
    act_id bigint generated always as identity primary key,
    campaign_id uuid not null,
    at timestamptz not null default now(),
    act text not null,
    by text not null -- the first characters of a key; empty: the system itself
);
create index campaign_act_campaign on hotsite.campaign_act (campaign_id, act_id);

-- What is told of a campaign.
create type hotsite.campaign_told as (
    campaign_id uuid, account_id integer, program_id integer, program text, state text, upload integer, uploaded boolean,
    class smallint, batches integer, fed_batches integer, to_sweep integer, texts bigint, bad bigint, segments bigint,
    fed bigint, created_at timestamptz, start_at timestamptz, expires_at timestamptz, started_at timestamptz,
    ended_at timestamptz, on_doubt text, name text, template text, text text, variables json, note text, acts json
);

create function hotsite.describe_campaigns(p_account integer, p_ids uuid[]) returns setof hotsite.campaign_told
language sql stable as $$
    select
        c.campaign_id, c.account_id, c.program_id, p.name, c.state, c.upload, c.uploaded,
        c.class, c.batches, c.fed_batches, c.to_sweep, c.texts, c.bad, c.segments,
        c.fed, c.created_at, c.start_at, c.expires_at, c.started_at,
        c.ended_at, c.on_doubt, c.name, c.template, c.text, c.variables, c.note, a.acts
    from hotsite.campaign as c
    join hotsite.program as p on p.program_id = c.program_id
    cross join lateral (
        select coalesce(json_agg(json_build_array(a.at, a.act, a.by) order by a.act_id), '[]') as acts
        from (
            select * from hotsite.campaign_act as a where a.campaign_id = c.campaign_id order by a.act_id desc limit 100
        ) as a
    ) as a
    where c.account_id = p_account and c.campaign_id = any (p_ids)
    order by c.campaign_id desc
$$;

-- Templates --------------------------------------------------------------------------------------------------------

create function hotsite.save_template(
    p_term bigint, p_account integer, p_name text, p_text text, p_variables json, p_by text
) returns setof hotsite.template
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    return query
    insert into hotsite.template as t (account_id, name, text, variables, changed_by)
    values (p_account, p_name, p_text, p_variables, p_by)
    on conflict (account_id, name) do update
        set text = excluded.text, variables = excluded.variables, changed_by = excluded.changed_by, changed_at = now()
    returning t.*;
end
$$;

-- In the order of names, after p_after; p_name: only that one.
create function hotsite.templates(p_term bigint, p_account integer, p_name text, p_after text, p_limit integer)
returns setof hotsite.template
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform control.assert_leader(p_term);
    return query
    select t.* from hotsite.template as t
    where t.account_id = p_account and (p_name is null or t.name = p_name) and (p_after is null or t.name > p_after)
    order by t.name limit p_limit;
    perform hotsite.barrier();
end
$$;

create function hotsite.delete_template(p_term bigint, p_account integer, p_name text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count bigint;
begin
    perform control.assert_leader(p_term);
    delete from hotsite.template as t where t.account_id = p_account and t.name = p_name;
    get diagnostics v_count = row_count;
    perform hotsite.barrier();
    return v_count;
end
$$;

-- Making a campaign and its list -----------------------------------------------------------------------------------

-- Repeated with the same id, it answers with what is there.
create function hotsite.create_campaign(
    p_term bigint, p_account integer, p_id uuid, p_program integer, p_name text, p_template text, p_text text,
    p_variables json, p_class smallint, p_on_doubt text, p_start_at timestamptz, p_expires_at timestamptz, p_by text
) returns setof hotsite.campaign_told
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_made uuid;
begin
    perform control.assert_leader(p_term);
    if not exists (
        select from hotsite.program as p where p.program_id = p_program and p.account_id = p_account
    ) then
        raise exception 'a campaign names a program that is not its account''s' using errcode = 'foreign_key_violation';
    end if;
    insert into hotsite.campaign as c (
        campaign_id, account_id, program_id, name, template, text, variables, class, on_doubt, start_at, expires_at
    )
    values (
        p_id, p_account, p_program, p_name, p_template, p_text, p_variables, p_class, p_on_doubt, p_start_at, p_expires_at
    )
    on conflict do nothing
    returning c.campaign_id into v_made;
    if v_made is not null then
        insert into hotsite.campaign_act (campaign_id, act, by) values (p_id, 'create', p_by);
    end if;
    perform hotsite.barrier();
    return query select * from hotsite.describe_campaigns(p_account, array[p_id]);
end
$$;

-- Newest first, before p_before; p_id: only that one.
create function hotsite.campaigns(p_term bigint, p_account integer, p_id uuid, p_before uuid, p_limit integer)
returns setof hotsite.campaign_told
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform control.assert_leader(p_term);
    return query select * from hotsite.describe_campaigns(p_account, case
        when p_id is not null then array[p_id]
        else array(
            select c.campaign_id from hotsite.campaign as c
            where c.account_id = p_account
            and c.campaign_id < coalesce(p_before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            order by c.campaign_id desc limit p_limit
        )
    end);
    perform hotsite.barrier();
end
$$;

-- A list is begun anew: what there was of one is forgotten. Returns its number; null when the campaign is no draft.
create function hotsite.begin_list(p_term bigint, p_account integer, p_id uuid) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
    v_upload integer;
begin
    perform control.assert_leader(p_term);
    update hotsite.campaign as c
    set upload = c.upload + 1, uploaded = false, batches = 0, texts = 0, bad = 0, segments = 0
    where c.account_id = p_account and c.campaign_id = p_id and c.state = 'draft'
    returning c.upload into v_upload;
    delete from hotsite.campaign_batch as b where b.campaign_id = p_id and b.upload < v_upload;
    perform hotsite.barrier();
    return v_upload;
end
$$;

-- False when another list was begun meanwhile, or the campaign is no draft any more. Safe to repeat.
create function hotsite.add_to_list(
    p_term bigint, p_account integer, p_id uuid, p_upload integer, p_batches integer[], p_sizes integer[],
    p_segments integer[], p_bad_sizes integer[], p_texts json[], p_bad json[]
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform control.assert_leader(p_term);
    -- Held until we commit: whoever begins another list deletes what this one has stored.
    perform from hotsite.campaign as c
    where c.account_id = p_account and c.campaign_id = p_id and c.state = 'draft' and c.upload = p_upload
    for share;
    if not found then
        perform hotsite.barrier();
        return false;
    end if;
    insert into hotsite.campaign_batch (campaign_id, upload, batch, size, segments, bad_size, texts, bad)
    select p_id, p_upload, r.batch, r.size, r.segments, r.bad_size, r.texts, r.bad
    from unnest(p_batches, p_sizes, p_segments, p_bad_sizes, p_texts, p_bad)
        as r (batch, size, segments, bad_size, texts, bad)
    on conflict do nothing;
    perform hotsite.barrier();
    return true;
end
$$;

-- The list has come whole, in p_batches. Tells the campaign; of another list, or of none, it changes nothing.
create function hotsite.end_list(
    p_term bigint, p_account integer, p_id uuid, p_upload integer, p_batches integer, p_by text
) returns setof hotsite.campaign_told
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform control.assert_leader(p_term);
    with summed as (
        select count(*) as batches, coalesce(sum(b.size), 0) as texts, coalesce(sum(b.bad_size), 0) as bad,
            coalesce(sum(b.segments), 0) as segments
        from hotsite.campaign_batch as b where b.campaign_id = p_id and b.upload = p_upload
    ), ended as (
        update hotsite.campaign as c
        set uploaded = true, batches = s.batches, texts = s.texts, bad = s.bad, segments = s.segments
        from summed as s
        where c.account_id = p_account and c.campaign_id = p_id and c.upload = p_upload and c.state = 'draft'
        and not c.uploaded and s.batches = p_batches
        returning c.campaign_id
    )
    insert into hotsite.campaign_act (campaign_id, act, by) select e.campaign_id, 'list', p_by from ended as e;
    perform hotsite.barrier();
    return query select * from hotsite.describe_campaigns(p_account, array[p_id]);
end
$$;

-- Starting and stopping --------------------------------------------------------------------------------------------

-- Moves a campaign from one of p_from to p_to, and tells it as it then is; one that is elsewhere stays there. Only a
-- whole list with a text in it can run.
create function hotsite.change_campaign(
    p_term bigint, p_account integer, p_id uuid, p_from text[], p_to text, p_act text, p_by text
) returns setof hotsite.campaign_told
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
    perform control.assert_leader(p_term);
    with changed as (
        update hotsite.campaign as c
        set
            state = p_to, note = null,
            started_at = case when p_to = 'running' then coalesce(c.started_at, now()) else c.started_at end,
            ended_at = case when p_to = 'canceled' then now() end,
            to_sweep = case when p_to = 'canceled' then c.fed_batches else 0 end
        where c.account_id = p_account and c.campaign_id = p_id and c.state = any (p_from)
        and (p_to <> 'running' or (c.uploaded and c.texts > 0))
        returning c.campaign_id
    )
    insert into hotsite.campaign_act (campaign_id, act, by) select c.campaign_id, p_act, p_by from changed as c;
    perform hotsite.barrier();
    return query select * from hotsite.describe_campaigns(p_account, array[p_id]);
end
$$;

-- Cancels texts of canceled campaigns that are in the queue, newest first, some hundred of them, or looks through
-- p_batches; what is in doubt is not sent again. p_id: of that campaign only. Returns how many batches are still to be
-- looked through. Writes nothing when there is nothing to do.
--
-- What is being claimed at this moment is passed over, as a claim passes over what is being canceled: neither waits for
-- the other. Its batch is looked through again.
create function hotsite.sweep_campaigns(p_term bigint, p_id uuid, p_batches integer) returns bigint
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
                where q.class = v.class and q.message_id = v_message;
                select count(*) into v_locked from (
                    select from hotsite.queue as q where q.class = v.class and q.message_id = v_message
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

-- Feeding ----------------------------------------------------------------------------------------------------------

-- Whether most of a batch still waits to be claimed, by a few of its messages: those that were queued together leave
-- together. What is held for its time waits for nobody, and nobody for it.
create function hotsite.campaign_waits(p_id uuid, p_upload integer, p_batch integer) returns boolean
language sql stable as $$
    select coalesce(2 * count(*) filter (where d.state in ('accepted', 'queued')) > count(*), false)
    from (
        select b.message_ids as ids, cardinality(b.message_ids) as size from hotsite.campaign_batch as b
        where b.campaign_id = p_id and b.upload = p_upload and b.batch = p_batch and b.message_ids <> '{}'
    ) as b
    cross join lateral unnest(array[b.ids[1], b.ids[(b.size + 1) / 2], b.ids[b.size]]) as u (id)
    cross join lateral (
        select d.state from hotsite.delivery as d where d.message_id = u.id and d.segment = 1 offset 0
    ) as d
$$;

-- So many ids of version 7 after the p_skip first that follow from one: its stamp, and its last 48 bits counted up.
create function hotsite.ids_from(p_first uuid, p_skip bigint, p_count integer) returns uuid[]
language sql immutable as $$
    select array_agg((left(p_first::text, 24) || lpad(to_hex(f.low + p_skip + n), 12, '0'))::uuid order by n)
    from (select ('x' || right(p_first::text, 12))::bit(48)::bigint & x'3fffffffffff'::bigint as low) as f
    cross join generate_series(0, p_count - 1) as n
$$;

-- Hands one batch to the queue, with ids after the p_skip first of those from p_first. Returns how many it took; null
-- when the database refused a row, and then the campaign is paused with the reason.
create function hotsite.feed_batch(p_term bigint, p_campaign hotsite.campaign, p_first uuid, p_skip bigint)
returns integer
language plpgsql
as $$
declare
    v hotsite.campaign_batch;
    v_to text[];
    v_bodies text[];
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
        select
            array_agg('campaign/' || v.campaign_id || '/' || r.line order by r.ord),
            array_agg(sha256(convert_to(r.recipient || ' ' || r.body, 'UTF8')) order by r.ord)
        into v_references, v_fingerprints
        from unnest(array(select json_array_elements_text(v.texts->'line')), v_to, v_bodies) with ordinality
            as r (line, recipient, body, ord);
        begin
            select a.ids, a.verdicts into v_accepted from hotsite.accept(
                p_term, v_ids, array_fill(p_campaign.account_id, array[v.size]),
                array_fill(p_campaign.program_id, array[v.size]), v_to, v_bodies,
                array(select json_array_elements_text(v.texts->'encoding')),
                array(select s::smallint from json_array_elements_text(v.texts->'segments') as s),
                array_fill(p_campaign.class, array[v.size]), array_fill(p_campaign.on_doubt, array[v.size]),
                v_references, v_fingerprints, array_fill(null::timestamptz, array[v.size]),
                array_fill(p_campaign.expires_at, array[v.size])
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

-- Feeds the running campaign that was fed longest ago among those whose texts have left the queue but for the newest
-- p_ahead batches: up to p_batches of them. The new messages get ids that follow from p_first, which was made just now.
-- Ends a campaign whose last batch has left. Returns the campaign and how many texts; no row when there is nothing to do.
-- While p_clock_agrees is false, this server's clock is not believed, and nothing begins by it.
create function hotsite.feed_campaign(
    p_term bigint, p_first uuid, p_batches integer, p_ahead integer, p_clock_agrees boolean
)
returns table (campaign_id uuid, fed bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    v hotsite.campaign;
    v_fed integer;
    v_total bigint := 0;
begin
    perform control.assert_leader(p_term);
    for v in
        select c.* from hotsite.campaign as c
        where c.state = 'running'
        and (c.start_at is null or c.fed_batches > 0 or (p_clock_agrees and c.start_at <= now()))
        order by c.fed_at nulls first, c.campaign_id limit 100 for update skip locked
    loop
        if v.fed_batches = v.batches then
            continue when hotsite.campaign_waits(v.campaign_id, v.upload, v.batches);
            update hotsite.campaign as c set state = 'done', ended_at = now() where c.campaign_id = v.campaign_id;
            insert into hotsite.campaign_act (campaign_id, act, by) values (v.campaign_id, 'done', '');
            return query select v.campaign_id, 0::bigint;
            return;
        end if;
        if not (select p.enabled from hotsite.program as p where p.program_id = v.program_id) then
            update hotsite.campaign as c set state = 'paused', note = 'Its program is switched off.'
            where c.campaign_id = v.campaign_id;
            insert into hotsite.campaign_act (campaign_id, act, by) values (v.campaign_id, 'pause', '');
            return query select v.campaign_id, 0::bigint;
            return;
        end if;
        for number in 1 .. p_batches loop
            exit when v.fed_batches = v.batches
                or hotsite.campaign_waits(v.campaign_id, v.upload, v.fed_batches - p_ahead + 1);
            v_fed := hotsite.feed_batch(p_term, v, p_first, v_total);
            exit when v_fed is null;
            v_total := v_total + v_fed;
            v.fed_batches := v.fed_batches + 1;
        end loop;
        if v_total > 0 or v_fed is not null then
            return query select v.campaign_id, v_total;
            return;
        end if;
    end loop;
end
$$;

-- Progress and report ----------------------------------------------------------------------------------------------

-- Counts p_batches of a campaign anew by state, of those that are not final the ones looked at longest ago: with p_since
-- what was not counted since then, else each at most once a second, and the longer ago it was fed the less often. Tells
-- the sums, how old the oldest of them is, how many are still due, and at what rate texts were fed of late.
create function hotsite.count_campaign(
    p_term bigint, p_account integer, p_id uuid, p_batches integer, p_since timestamptz,
    out states text[], out totals bigint[], out counted_at timestamptz, out due bigint, out rate double precision,
    out at timestamptz
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_upload integer;
    v_last integer;
begin
    perform control.assert_leader(p_term);
    at := now();
    select c.upload, c.fed_batches into v_upload, v_last from hotsite.campaign as c
    where c.account_id = p_account and c.campaign_id = p_id;
    with chosen as materialized (
        select b.batch, b.message_ids from hotsite.campaign_batch as b
        where b.campaign_id = p_id and b.upload = v_upload and b.open
        and b.counted_at < coalesce(
            p_since, now() - least('10 minutes', greatest('1 second', (now() - b.fed_at) / 8))
        )
        order by b.counted_at limit p_batches for update skip locked
    ), counted as (
        select s.batch, json_object_agg(s.state, s.total) as counts,
            bool_or(s.state in (
                'in_doubt', 'submitting', 'queued', 'held', 'scheduled', 'accepted', 'submitted'
            )) as open
        from (
            select c.batch, d.state, count(*) as total
            from chosen as c
            cross join lateral unnest(c.message_ids) as u (id)
            cross join lateral (select min(d.state) as state from hotsite.delivery as d where d.message_id = u.id) as d
            where d.state is not null
            group by c.batch, d.state
        ) as s
        group by s.batch
    )
    update hotsite.campaign_batch as b
    set counts = c.counts, open = c.open, counted_at = now()
    from counted as c
    where b.campaign_id = p_id and b.upload = v_upload and b.batch = c.batch;

    select array_agg(s.state), array_agg(s.total) into states, totals
    from (
        select e.key as state, sum(e.value::bigint) as total
        from hotsite.campaign_batch as b
        cross join lateral json_each_text(b.counts) as e
        where b.campaign_id = p_id and b.upload = v_upload and b.batch <= v_last
        group by e.key
    ) as s;
    select min(b.counted_at), count(*) filter (
        where b.counted_at < coalesce(
            p_since, now() - least('10 minutes', greatest('1 second', (now() - b.fed_at) / 8))
        )
    )
    into counted_at, due
    from hotsite.campaign_batch as b where b.campaign_id = p_id and b.upload = v_upload and b.open;
    select sum(b.size) / greatest(1, extract(epoch from now() - min(b.fed_at))) into rate
    from (
        select b.size, b.fed_at from hotsite.campaign_batch as b
        where b.campaign_id = p_id and b.upload = v_upload and b.batch <= v_last
        order by b.batch desc limit 2000
    ) as b
    where b.fed_at > now() - interval '30 seconds';
    perform hotsite.barrier();
end
$$;

-- Every row of the list's batches after p_after, p_batches of them, in the order of lines but for bad ones. What was not
-- fed has no message; what was bad has a reason.
create function hotsite.campaign_rows(
    p_term bigint, p_account integer, p_id uuid, p_after integer, p_batches integer
)
returns table (
    line integer, recipient text, message_id uuid, state text, segments smallint, accepted_at timestamptz,
    updated_at timestamptz, carrier text, error text, bad_column text, reason text, value text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    perform control.assert_leader(p_term);
    return query
    with chosen as materialized (
        select b.* from hotsite.campaign as c
        join hotsite.campaign_batch as b on b.campaign_id = c.campaign_id and b.upload = c.upload
        where c.account_id = p_account and c.campaign_id = p_id
        and b.batch > p_after and b.batch <= p_after + p_batches
    )
    select
        split_part(m.reference, '/', 3)::integer, m.recipient, m.message_id, d.state::text, m.segments,
        m.accepted_at, d.updated_at, d.carrier, d.error, null, null, null
    from chosen as c
    cross join lateral unnest(c.message_ids) as u (id)
    cross join lateral (
        select m.* from hotsite.message as m where m.account_id = p_account and m.message_id = u.id offset 0
    ) as m
    cross join lateral (
        select min(d.state) as state, max(d.updated_at) as updated_at, max(d.carrier) as carrier, max(d.error) as error
        from hotsite.delivery as d where d.message_id = u.id
    ) as d
    union all
    select t.line::integer, t.recipient, null, null, t.segments::smallint, null, null, null, null, null, null, null
    from chosen as c
    cross join lateral unnest(
        array(select json_array_elements_text(c.texts->'line')), array(select json_array_elements_text(c.texts->'to')),
        array(select json_array_elements_text(c.texts->'segments'))
    ) as t (line, recipient, segments)
    union all
    select (b.row->>0)::integer, null, null, null, null, null, null, null, null, b.row->>1, b.row->>2, b.row->>3
    from chosen as c
    cross join lateral json_array_elements(c.bad) as b (row)
    order by 1;
    perform hotsite.barrier();
end
$$;

grant execute on function
    hotsite.save_template(bigint, integer, text, text, json, text),
    hotsite.templates(bigint, integer, text, text, integer),
    hotsite.delete_template(bigint, integer, text),
    hotsite.create_campaign(
        bigint, integer, uuid, integer, text, text, text, json, smallint, text, timestamptz, timestamptz, text
    ),
    hotsite.campaigns(bigint, integer, uuid, uuid, integer),
    hotsite.begin_list(bigint, integer, uuid),
    hotsite.add_to_list(
        bigint, integer, uuid, integer, integer[], integer[], integer[], integer[], json[], json[]
    ),
    hotsite.end_list(bigint, integer, uuid, integer, integer, text),
    hotsite.change_campaign(bigint, integer, uuid, text[], text, text, text),
    hotsite.sweep_campaigns(bigint, uuid, integer),
    hotsite.feed_campaign(bigint, uuid, integer, integer, boolean),
    hotsite.count_campaign(bigint, integer, uuid, integer, timestamptz),
    hotsite.campaign_rows(bigint, integer, uuid, integer, integer)
to hotsite_dispatch;
