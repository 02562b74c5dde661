-- Webhooks: what happens to an account's texts is kept as a feed of events, and posted to the addresses that it named.
--
-- feed            whose events are kept: nobody else's texts cost a row more.
-- feed_event      what happened: written by the transaction in which it did.
-- feed_tick       cuts the feed into intervals that are closed: what a position counts on.
-- webhook         an address of an account's, how far it was told, and who tells it now.
-- webhook_letter  an event that one address has not taken yet: to be tried again, or dead.
-- webhook_round   what came of the last posts.
--
-- Commit order. A number from a sequence says nothing of when its transaction commits, so who remembers "told up to 7"
-- skips 6 when that commits later. A tick remembers the horizon: every transaction below it had ended when the tick was
-- made, and none begins below it again, at any site. An interval from one horizon to the next never changes once its
-- tick is there. Inside, events stand in the order of their numbers: who changes a segment holds its row, so the second
-- change has the higher number, and cannot stand in an earlier interval than the first (docs/adr/0015-webhooks.md).
--
-- A position is (tick, event_no): all intervals before this tick's were told, and of this one what has no higher number.
--
-- An endpoint that takes all that it is sent costs no row per event: only its position moves.

create table hotsite.feed (
    account_id integer primary key references hotsite.account,
    since timestamptz not null default now()
);

create table hotsite.feed_tick (
    tick bigint primary key,
    horizon xid8 not null unique, -- the interval ends before it
    at timestamptz not null default now()
);
insert into hotsite.feed_tick (tick, horizon) values (0, pg_snapshot_xmin(pg_current_snapshot()));

create table hotsite.feed_event (
    account_id integer not null,
    xid xid8 not null default pg_current_xact_id(),
    event_no bigint generated always as identity,
    event_id uuid not null default gen_random_uuid(),
    at timestamptz not null default now(),
    message_id uuid, -- of a message's segment: this and what follows, as it was then
    segment smallint,
    attempt smallint,
    before hotsite.state,
    state hotsite.state,
    command_status integer,
    carrier text,
    carrier_message_id text,
    error text,
    reply_id bigint, -- or of a customer's text
    primary key (account_id, xid, event_no)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);

create table hotsite.webhook (
    webhook_id uuid primary key,
    account_id integer not null references hotsite.account,
    url text not null,
    description text not null,
    kinds text[] not null, -- empty: all
    secret bytea not null,
    old_secret bytea, -- signs as well until then
    old_secret_until timestamptz,
    created_at timestamptz not null default now(),
    created_by text not null,
    changed_at timestamptz not null default now(),
    enabled boolean not null default true,
    disabled_why text, -- when nobody but the system did it
    tick bigint not null,
    event_no bigint not null default 0,
    -- Who posts to it: one at a time. A claim is free again when it was given back, or when it was waited out.
    claim_id bigint,
    dispatcher text,
    term bigint,
    claim_for_s double precision,
    round integer not null default 0, -- of this claim; each lasts as long as a claim, from before it was asked for
    settled integer not null default 0, -- the last round of this claim that was
    served_at timestamptz, -- when it was last claimed
    -- How it goes.
    failures integer not null default 0, -- rounds one after the other in which nothing was taken
    failing_since timestamptz,
    next_try_at timestamptz, -- not before
    last_failure text,
    last_failure_at timestamptz,
    last_taken_at timestamptz,
    taken bigint not null default 0,
    failed bigint not null default 0
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
create index webhook_account on hotsite.webhook (account_id, webhook_id);
create sequence hotsite.webhook_claim_id;

create table hotsite.webhook_letter (
    webhook_id uuid not null,
    event_no bigint not null,
    event_id uuid not null,
    subject uuid, -- the message: its events are told one after the other
    kind text not null,
    at timestamptz not null, -- of the event; of the replay, once it was replayed
    body text not null, -- as it was posted first
    attempts integer not null,
    next_try_at timestamptz not null, -- infinity: waits for the one before it
    tried_at timestamptz,
    failure text,
    status integer, -- of the last answer
    dead_at timestamptz,
    primary key (webhook_id, event_no)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
create index webhook_letter_due on hotsite.webhook_letter (webhook_id, next_try_at) where dead_at is null;
create index webhook_letter_subject on hotsite.webhook_letter (webhook_id, subject, event_no)
    where dead_at is null and subject is not null;
create index webhook_letter_dead on hotsite.webhook_letter (webhook_id, event_no) where dead_at is not null;

create table hotsite.webhook_round (
    round_id bigint generated always as identity primary key,
    webhook_id uuid not null,
    at timestamptz not null default now(),
    attempts json not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
create index webhook_round_webhook on hotsite.webhook_round (webhook_id, round_id);

-- What is kept -----------------------------------------------------------------------------------------------------

-- A trigger, and not a line in each function that moves a segment: there are a dozen, and one that forgot would be a text
-- of which its account is never told. What happens to every text (claimed, submitted) does not fire it.
create function hotsite.note_delivery() returns trigger
language plpgsql as $$
begin
    insert into hotsite.feed_event (
        account_id, message_id, segment, attempt, before, state, command_status, carrier, carrier_message_id, error
    )
    select
        new.account_id, new.message_id, new.segment, new.attempt, old.state, new.state, new.command_status, new.carrier,
        new.carrier_message_id, new.error
    from hotsite.feed as f where f.account_id = new.account_id;
    return null;
end
$$;
create trigger delivery_noted after update on hotsite.delivery for each row
when (
    new.state is distinct from old.state and (
        old.state = 'in_doubt' or new.state in (
            'in_doubt', 'delivered', 'undelivered', 'rejected', 'expired', 'failed', 'canceled', 'suppressed', 'unknown'
        )
    )
)
execute function hotsite.note_delivery();

-- A customer's text is told to the account that has its short code. Of several it is the one that texted this customer
-- last from there; if none did nobody is told, rather than somebody whose customer this is not.
create function hotsite.note_reply() returns trigger
language plpgsql
set enable_seqscan = off
as $$
declare
    v_accounts integer[];
    v_account integer;
begin
    v_accounts := array(
        select distinct p.account_id from hotsite.program as p
        where ltrim(p.source, '+') = ltrim(new.destination, '+')
    );
    if cardinality(v_accounts) = 1 then
        v_account := v_accounts[1];
    else
        select a.account_id into v_account
        from unnest(v_accounts) as a (account_id)
        cross join lateral (
            select m.message_id from hotsite.message as m
            where m.account_id = a.account_id and m.recipient = '+' || ltrim(new.source, '+')
            and m.program_id in (
                select p.program_id from hotsite.program as p
                where p.account_id = a.account_id and ltrim(p.source, '+') = ltrim(new.destination, '+')
            )
            order by m.message_id desc limit 1
        ) as m
        order by m.message_id desc limit 1;
    end if;
    insert into hotsite.feed_event (account_id, reply_id)
    select v_account, new.reply_id from hotsite.feed as f where f.account_id = v_account;
    return null;
end
$$;
create trigger reply_noted after insert on hotsite.reply for each row execute function hotsite.note_reply();

-- Closes an interval, if anything happened in it. Two at once would make it twice: the second leaves it to the first.
create function hotsite.tick() returns void
language plpgsql as $$
declare
    v_last hotsite.feed_tick;
    v_horizon xid8;
begin
    if not pg_try_advisory_xact_lock(hashtext('hotsite.tick')) then
        return;
    end if;
    v_horizon := pg_snapshot_xmin(pg_current_snapshot());
    select * into v_last from hotsite.feed_tick as t order by t.tick desc limit 1;
    if v_horizon > v_last.horizon and exists (
        select from hotsite.feed as f
        cross join lateral (
            select from hotsite.feed_event as e
            where e.account_id = f.account_id and e.xid >= v_last.horizon and e.xid < v_horizon limit 1
        ) as e
    ) then
        insert into hotsite.feed_tick (tick, horizon) values (v_last.tick + 1, v_horizon);
    end if;
end
$$;

-- The events of an account after a position, at most p_limit, of closed intervals only.
create function hotsite.read_feed(p_account integer, p_tick bigint, p_no bigint, p_limit integer)
returns table (tick bigint, event hotsite.feed_event)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_variable
declare
    v_tick bigint;
    v_no bigint := p_no;
    v_left integer := p_limit;
    v_from xid8;
    v_to xid8;
    v_end xid8;
    v_next xid8;
    v_count integer;
begin
    select greatest(p_tick, t.tick) into v_tick from hotsite.feed_tick as t order by t.tick limit 1;
    if v_tick > p_tick then
        v_no := 0; -- what lay between is not kept any more
    end if;
    select t.horizon into v_end from hotsite.feed_tick as t order by t.tick desc limit 1;
    loop
        select t.horizon into v_to from hotsite.feed_tick as t where t.tick = v_tick;
        exit when not found;
        select t.horizon into v_from from hotsite.feed_tick as t where t.tick = v_tick - 1;
        return query
        select v_tick, e
        from hotsite.feed_event as e
        where e.account_id = p_account and e.xid >= coalesce(v_from, '0') and e.xid < v_to and e.event_no > v_no
        order by e.event_no limit v_left;
        get diagnostics v_count = row_count;
        v_left := v_left - v_count;
        exit when v_left = 0;
        select e.xid into v_next from hotsite.feed_event as e
        where e.account_id = p_account and e.xid >= v_to and e.xid < v_end
        order by e.xid limit 1;
        exit when not found;
        select t.tick into v_tick from hotsite.feed_tick as t where t.horizon > v_next order by t.horizon limit 1;
        v_no := 0;
    end loop;
end
$$;

create function hotsite.event_as_json(p_tick bigint, e hotsite.feed_event) returns json
language sql stable as $$
    select json_build_object(
        'tick', p_tick, 'number', e.event_no, 'id', e.event_id, 'at', e.at, 'age_s', extract(epoch from now() - e.at),
        'message', case when e.message_id is not null then json_build_object(
            'message_id', e.message_id, 'segment', e.segment, 'attempt', e.attempt, 'before', e.before, 'state', e.state,
            'command_status', e.command_status, 'carrier', e.carrier, 'carrier_message_id', e.carrier_message_id,
            'error', e.error, 'reference', m.reference, 'program', p.name, 'to', m.recipient, 'segments', m.segments,
            'message_state', (select min(d.state) from hotsite.delivery as d where d.message_id = e.message_id)
        ) end,
        'reply', (
            select json_build_object(
                'reply_id', r.reply_id, 'source', r.source, 'destination', r.destination, 'text', r.text,
                'received_at', r.received_at, 'carrier', r.carrier
            ) from hotsite.reply as r where r.reply_id = e.reply_id
        )
    )
    from (select 1) as one
    left join hotsite.message as m on m.account_id = e.account_id and m.message_id = e.message_id
    left join hotsite.program as p on p.program_id = m.program_id
$$;

-- A page of an account's feed, and the position after it. Without a position it begins now; the first look begins to keep
-- events. `lost`: what lay at this position is not kept any more.
create function hotsite.feed_page(
    p_term bigint, p_account integer, p_tick bigint, p_no bigint, p_limit integer,
    out events json, out tick bigint, out event_no bigint, out more boolean, out lost boolean
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_count bigint;
    v_oldest bigint;
    v_newest bigint;
begin
    perform control.assert_leader(p_term);
    insert into hotsite.feed (account_id) values (p_account) on conflict do nothing;
    perform hotsite.tick();
    select min(t.tick), max(t.tick) into v_oldest, v_newest from hotsite.feed_tick as t;
    lost := p_tick <= v_oldest; -- what that one closed is forgotten: it stays as the beginning of the next
    select json_agg(hotsite.event_as_json(f.tick, f.event)), count(*) into events, v_count
    from hotsite.read_feed(p_account, coalesce(p_tick, v_newest + 1), coalesce(p_no, 0), p_limit) as f;
    more := v_count = p_limit;
    tick := (events->-1->>'tick')::bigint;
    event_no := (events->-1->>'number')::bigint;
    if not more and coalesce(tick, 0) <= v_newest then -- all that was closed when we came has been told
        tick := greatest(coalesce(p_tick, 0), v_newest + 1);
        event_no := case when tick = p_tick then p_no else 0 end;
    end if;
    perform hotsite.barrier();
end
$$;

-- What accounts ask for -------------------------------------------------------------------------------------------

create type hotsite.webhook_told as (
    webhook_id uuid, account_id integer, url text, description text, kinds text[], created_at timestamptz, created_by text,
    changed_at timestamptz, enabled boolean, disabled_why text, old_secret_until timestamptz, failures integer,
    failing_since timestamptz, next_try_at timestamptz, last_failure text, last_failure_at timestamptz,
    last_taken_at timestamptz, taken bigint, failed bigint, waiting bigint, dead bigint
);

-- Waiting and dead letters are counted up to ten thousand.
create function hotsite.describe_webhooks(p_account integer, p_ids uuid[]) returns setof hotsite.webhook_told
language sql stable as $$
    select
        w.webhook_id, w.account_id, w.url, w.description, w.kinds, w.created_at, w.created_by,
        w.changed_at, w.enabled, w.disabled_why, case when w.old_secret_until > now() then w.old_secret_until end,
        w.failures, w.failing_since, w.next_try_at, w.last_failure, w.last_failure_at,
        w.last_taken_at, w.taken, w.failed,
        (select count(*) from (
            select from hotsite.webhook_letter as l where l.webhook_id = w.webhook_id and l.dead_at is null limit 10000
        ) as l),
        (select count(*) from (
            select from hotsite.webhook_letter as l where l.webhook_id = w.webhook_id and l.dead_at is not null limit 10000
        ) as l)
    from hotsite.webhook as w
    where w.account_id = p_account and w.webhook_id = any (p_ids)
    order by w.created_at, w.webhook_id
$$;

-- Repeated with the same id, it answers with what is there. No row when the account has p_most already.
create function hotsite.create_webhook(
    p_term bigint, p_account integer, p_id uuid, p_url text, p_description text, p_kinds text[], p_secret bytea, p_by text,
    p_most integer
) returns setof hotsite.webhook_told
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    perform from hotsite.account as a where a.account_id = p_account for no key update;
    insert into hotsite.feed (account_id) values (p_account) on conflict do nothing;
    perform hotsite.tick();
    insert into hotsite.webhook (webhook_id, account_id, url, description, kinds, secret, created_by, tick)
    select p_id, p_account, p_url, p_description, p_kinds, p_secret, p_by, max(t.tick) + 1 from hotsite.feed_tick as t
    having (select count(*) from hotsite.webhook as w where w.account_id = p_account) < p_most
    on conflict do nothing;
    perform hotsite.barrier();
    return query select * from hotsite.describe_webhooks(p_account, array[p_id]);
end
$$;

-- Of an account, oldest first; p_id: only that one.
create function hotsite.webhooks(p_term bigint, p_account integer, p_id uuid) returns setof hotsite.webhook_told
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    perform hotsite.barrier();
    return query select * from hotsite.describe_webhooks(p_account, array(
        select w.webhook_id from hotsite.webhook as w
        where w.account_id = p_account and (p_id is null or w.webhook_id = p_id)
    ));
end
$$;

-- Changes what is not null. Switched on, or at another address, it begins anew at once; with p_skip behind all that has
-- happened, and what waited for it is gone.
create function hotsite.change_webhook(
    p_term bigint, p_account integer, p_id uuid, p_url text, p_description text, p_kinds text[], p_enabled boolean,
    p_skip boolean
) returns setof hotsite.webhook_told
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_anew boolean;
begin
    perform control.assert_leader(p_term);
    update hotsite.webhook as w
    set url = coalesce(p_url, w.url), description = coalesce(p_description, w.description),
        kinds = coalesce(p_kinds, w.kinds), enabled = coalesce(p_enabled, w.enabled), changed_at = now(),
        disabled_why = case when p_enabled is null then w.disabled_why end
    where w.account_id = p_account and w.webhook_id = p_id
    returning p_url is not null or p_enabled into v_anew;
    if found and v_anew then
        update hotsite.webhook as w set failures = 0, failing_since = null, next_try_at = null where w.webhook_id = p_id;
        -- What waits behind another goes on doing so.
        update hotsite.webhook_letter as l set next_try_at = now()
        where l.webhook_id = p_id and l.dead_at is null and l.next_try_at > now() and l.next_try_at < 'infinity';
    end if;
    if p_skip then
        perform hotsite.tick();
        update hotsite.webhook as w set event_no = 0, tick = (select max(t.tick) + 1 from hotsite.feed_tick as t)
        where w.account_id = p_account and w.webhook_id = p_id;
        if found then
            delete from hotsite.webhook_letter as l where l.webhook_id = p_id and l.dead_at is null;
            -- A round that is under way must not set the position back: it counts as settled.
            update hotsite.webhook as w set settled = w.round where w.webhook_id = p_id;
        end if;
    end if;
    perform hotsite.barrier();
    return query select * from hotsite.describe_webhooks(p_account, array[p_id]);
end
$$;

create function hotsite.delete_webhook(p_term bigint, p_account integer, p_id uuid) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count bigint;
begin
    perform control.assert_leader(p_term);
    delete from hotsite.webhook as w where w.account_id = p_account and w.webhook_id = p_id;
    get diagnostics v_count = row_count;
    if v_count > 0 then
        delete from hotsite.webhook_letter as l where l.webhook_id = p_id;
        delete from hotsite.webhook_round as r where r.webhook_id = p_id;
    end if;
    perform hotsite.barrier();
    return v_count;
end
$$;

-- The secret of before signs as well for a while. Repeated with the same secret it changes nothing.
create function hotsite.rotate_webhook_secret(
    p_term bigint, p_account integer, p_id uuid, p_secret bytea, p_overlap_s double precision
) returns setof hotsite.webhook_told
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    update hotsite.webhook as w
    set old_secret = case when p_overlap_s > 0 then w.secret end,
        old_secret_until = case when p_overlap_s > 0 then now() + make_interval(secs => p_overlap_s) end,
        secret = p_secret, changed_at = now()
    where w.account_id = p_account and w.webhook_id = p_id and w.secret <> p_secret;
    perform hotsite.barrier();
    return query select * from hotsite.describe_webhooks(p_account, array[p_id]);
end
$$;

-- A letter that tells nothing, to be posted at once. Returns how many: none when it is not there, or switched off.
create function hotsite.test_webhook(
    p_term bigint, p_account integer, p_id uuid, p_event uuid, p_kind text, p_body text
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count bigint;
begin
    perform control.assert_leader(p_term);
    update hotsite.webhook as w set next_try_at = null
    where w.account_id = p_account and w.webhook_id = p_id and w.enabled;
    get diagnostics v_count = row_count;
    if v_count > 0 then
        insert into hotsite.webhook_letter (webhook_id, event_no, event_id, kind, at, body, attempts, next_try_at)
        select p_id, nextval('hotsite.feed_event_event_no_seq'), p_event, p_kind, now(), p_body, 0, now()
        where not exists (
            select from hotsite.webhook_letter as l where l.webhook_id = p_id and l.event_id = p_event
        );
    end if;
    perform hotsite.barrier();
    return v_count;
end
$$;

-- The last rounds of posts, newest first, before p_before.
create function hotsite.webhook_rounds(p_term bigint, p_account integer, p_id uuid, p_before bigint, p_limit integer)
returns table (round_id bigint, at timestamptz, attempts json)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    perform hotsite.barrier();
    return query
    select r.round_id, r.at, r.attempts from hotsite.webhook as w
    join hotsite.webhook_round as r on r.webhook_id = w.webhook_id
    where w.account_id = p_account and w.webhook_id = p_id and (p_before is null or r.round_id < p_before)
    order by r.round_id desc limit p_limit;
end
$$;

-- Letters that nobody took, in the order of what happened, after p_after.
create function hotsite.dead_letters(p_term bigint, p_account integer, p_id uuid, p_after bigint, p_limit integer)
returns table (
    event_no bigint, event_id uuid, subject uuid, kind text, at timestamptz, body text, attempts integer,
    tried_at timestamptz, failure text, status integer, dead_at timestamptz
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    perform hotsite.barrier();
    return query
    select
        l.event_no, l.event_id, l.subject, l.kind, l.at, l.body, l.attempts, l.tried_at, l.failure, l.status, l.dead_at
    from hotsite.webhook as w
    join hotsite.webhook_letter as l on l.webhook_id = w.webhook_id
    where w.account_id = p_account and w.webhook_id = p_id and l.dead_at is not null and l.event_no > p_after
    order by l.event_no limit p_limit;
end
$$;

-- Dead letters live again, one or all, at most p_limit: each as if it had happened now. Returns how many.
create function hotsite.replay_letters(p_term bigint, p_account integer, p_id uuid, p_event uuid, p_limit integer)
returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_count bigint := 0;
    v_subjects uuid[];
begin
    perform control.assert_leader(p_term);
    perform from hotsite.webhook as w where w.account_id = p_account and w.webhook_id = p_id for update;
    if found then
        with chosen as (
            select l.event_no from hotsite.webhook_letter as l
            where l.webhook_id = p_id and l.dead_at is not null and (p_event is null or l.event_id = p_event)
            order by l.event_no limit p_limit
        ), revived as (
            update hotsite.webhook_letter as l
            set dead_at = null, at = now(), attempts = 0,
                next_try_at = case when l.subject is null then now() else 'infinity' end
            from chosen as c where l.webhook_id = p_id and l.event_no = c.event_no
            returning l.subject
        )
        select count(*), array_agg(distinct r.subject) into v_count, v_subjects from revived as r;
        perform hotsite.wake_letters(p_id, v_subjects);
    end if;
    perform hotsite.barrier();
    return v_count;
end
$$;

-- The first letter of each of these messages is due, if it waited for one before it.
create function hotsite.wake_letters(p_webhook uuid, p_subjects uuid[]) returns void
language sql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    update hotsite.webhook_letter as l set next_try_at = now()
    where l.webhook_id = p_webhook and l.dead_at is null and l.next_try_at = 'infinity'
    and l.subject = any (p_subjects)
    and not exists (
        select from hotsite.webhook_letter as b
        where b.webhook_id = p_webhook and b.dead_at is null and b.subject = l.subject and b.event_no < l.event_no
    )
$$;

-- Posting -----------------------------------------------------------------------------------------------------------

-- Who posts where now: whoever sees a claim unchanged, in its round, for as long as it may last, has waited it out.
create function hotsite.webhook_claims(p_term bigint)
returns table (claim_id bigint, round integer, dispatcher text, claim_for_s double precision)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    return query
    select w.claim_id, w.round, w.dispatcher, w.claim_for_s
    from hotsite.webhook as w where w.claim_id is not null;
end
$$;

-- Whether there is anything for an endpoint to post now.
create function hotsite.webhook_is_due(w hotsite.webhook) returns boolean
language sql stable as $$
    select w.enabled and (w.next_try_at is null or w.next_try_at <= now()) and (
        exists (
            select from hotsite.webhook_letter as l
            where l.webhook_id = w.webhook_id and l.dead_at is null and l.next_try_at <= now()
        )
        or exists ( -- in the interval of its position
            select from hotsite.feed_event as e
            where e.account_id = w.account_id and e.event_no > w.event_no
            and e.xid >= coalesce((select t.horizon from hotsite.feed_tick as t where t.tick = w.tick - 1), '0')
            and e.xid < (select t.horizon from hotsite.feed_tick as t where t.tick = w.tick)
        )
        or exists ( -- in those that follow; or its own is not kept any more
            select from hotsite.feed_event as e
            where e.account_id = w.account_id
            and e.xid >= coalesce(
                (select t.horizon from hotsite.feed_tick as t where t.tick = w.tick),
                case when w.tick <= (select max(t.tick) from hotsite.feed_tick as t) then xid8 '0' end
            )
            and e.xid < (select t.horizon from hotsite.feed_tick as t order by t.tick desc limit 1)
        )
    )
$$;

-- Claims up to p_limit endpoints that have something due and are nobody's: free, waited out, or claimed by exactly this
-- dispatcher without its knowing (the answer was lost: then nothing was posted). Those that were served longest ago first.
create function hotsite.claim_webhooks(
    p_term bigint, p_dispatcher text, p_claim_for_s double precision, p_limit integer, p_holding bigint[],
    p_waited_out bigint[], p_rounds integer[]
)
returns table (claim_id bigint, webhook_id uuid, account_id integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    perform control.assert_leader(p_term);
    perform hotsite.tick();
    return query
    update hotsite.webhook as w
    set claim_id = nextval('hotsite.webhook_claim_id'), dispatcher = p_dispatcher, term = p_term,
        claim_for_s = p_claim_for_s, round = 0, settled = 0, served_at = now()
    where w.webhook_id = any (array(
        select c.webhook_id from hotsite.webhook as c
        where c.enabled and (
            c.claim_id is null
            or (c.dispatcher = p_dispatcher and c.claim_id <> all (p_holding))
            or exists (
                select from unnest(p_waited_out, p_rounds) as o (claim_id, round)
                where o.claim_id = c.claim_id and o.round = c.round
            )
        ) and hotsite.webhook_is_due(c)
        order by c.served_at nulls first, c.webhook_id limit p_limit for update skip locked
    ))
    returning w.claim_id, w.webhook_id, w.account_id;
end
$$;

-- What is to be posted next under a claim: letters whose time has come, the first of each message, up to half of
-- p_limit (p_trial_limit, if the endpoint fails), and what follows in the feed. Begins round p_round, and may be asked again for it. `held` is false when
-- the claim is not held any more: then nothing may be posted. `end_tick`: where to go on once all of it is settled.
create function hotsite.webhook_batch(
    p_term bigint, p_claim bigint, p_round integer, p_limit integer, p_trial_limit integer,
    out held boolean, out url text, out kinds text[], out secret bytea, out old_secret bytea, out failures integer,
    out failing_s double precision, out letters json, out events json, out full_batch boolean, out end_tick bigint
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v hotsite.webhook;
    v_limit integer;
    v_letters integer;
    v_events integer;
    v_newest bigint;
begin
    perform control.assert_leader(p_term);
    update hotsite.webhook as w set round = p_round
    where w.claim_id = p_claim and w.term = p_term and w.enabled and w.settled < p_round
    returning w.* into v;
    held := found;
    if not held then
        perform hotsite.barrier();
        return;
    end if;
    url := v.url;
    kinds := v.kinds;
    secret := v.secret;
    old_secret := case when v.old_secret_until > now() then v.old_secret end;
    failures := v.failures;
    v_limit := case when v.failures > 0 then p_trial_limit else p_limit end;
    failing_s := coalesce(extract(epoch from now() - v.failing_since), 0);
    select json_agg(json_build_object(
        'number', l.event_no, 'id', l.event_id, 'subject', l.subject, 'kind', l.kind, 'at', l.at,
        'age_s', extract(epoch from now() - l.at), 'attempts', l.attempts, 'body', l.body
    )), count(*)
    into letters, v_letters
    from (
        select l.* from hotsite.webhook_letter as l
        where l.webhook_id = v.webhook_id and l.dead_at is null and l.next_try_at <= now()
        and (l.subject is null or not exists (
            select from hotsite.webhook_letter as b
            where b.webhook_id = v.webhook_id and b.dead_at is null and b.subject = l.subject and b.event_no < l.event_no
        ))
        order by l.next_try_at, l.event_no limit (v_limit + 1) / 2
    ) as l;
    select max(t.tick) into v_newest from hotsite.feed_tick as t;
    select json_agg(json_build_object(
        'event', hotsite.event_as_json(f.tick, f.event),
        'behind', (f.event).message_id is not null and exists (
            select from hotsite.webhook_letter as b
            where b.webhook_id = v.webhook_id and b.dead_at is null and b.subject = (f.event).message_id
        )
    )), count(*)
    into events, v_events
    from hotsite.read_feed(v.account_id, v.tick, v.event_no, v_limit - v_letters) as f;
    full_batch := v_letters + v_events = v_limit or v_letters = (v_limit + 1) / 2;
    -- Nothing follows in what was closed when we looked: then this is where to go on.
    if v_letters + v_events < v_limit and coalesce((events->-1->'event'->>'tick')::bigint, 0) <= v_newest then
        end_tick := greatest(v.tick, v_newest + 1);
    end if;
end
$$;

-- What came of a round: the position after it, letters that were taken, and letters as they now are (new ones, too).
-- Needs no term: it is the claim that counts. False when that is not held any more: then nothing is written.
create function hotsite.settle_webhook(
    p_claim bigint, p_round integer, p_tick bigint, p_no bigint, p_taken integer, p_failed integer, p_gone bigint[],
    p_numbers bigint[], p_events uuid[], p_subjects uuid[], p_kinds text[], p_at timestamptz[], p_bodies text[],
    p_attempts integer[], p_retry_after double precision[], p_failures_told text[], p_statuses integer[], p_dead boolean[],
    p_failures integer, p_retry_s double precision, p_failure text, p_disable text, p_log json, p_release boolean
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v hotsite.webhook;
    v_subjects uuid[];
begin
    perform hotsite.assert_open();
    select w.* into v from hotsite.webhook as w where w.claim_id = p_claim and w.round = p_round for update;
    if not found then
        perform hotsite.barrier();
        return false;
    end if;
    if v.settled < p_round then
        with gone as (
            delete from hotsite.webhook_letter as l where l.webhook_id = v.webhook_id and l.event_no = any (p_gone)
            returning l.subject
        )
        select array_agg(g.subject) into v_subjects from gone as g;
        insert into hotsite.webhook_letter as l (
            webhook_id, event_no, event_id, subject, kind, at, body, attempts, next_try_at, tried_at, failure, status, dead_at
        )
        select
            v.webhook_id, u.number, u.event, u.subject, u.kind, u.at, u.body, u.attempts,
            case when u.retry_after is null then 'infinity' else now() + make_interval(secs => u.retry_after) end,
            case when u.attempts > 0 then now() end, u.failure, u.status, case when u.dead then now() end
        from unnest(
            p_numbers, p_events, p_subjects, p_kinds, p_at, p_bodies, p_attempts, p_retry_after, p_failures_told,
            p_statuses, p_dead
        ) as u (number, event, subject, kind, at, body, attempts, retry_after, failure, status, dead)
        on conflict (webhook_id, event_no) do update
        set attempts = excluded.attempts, next_try_at = excluded.next_try_at, tried_at = excluded.tried_at,
            failure = excluded.failure, status = excluded.status, dead_at = excluded.dead_at;
        perform hotsite.wake_letters(v.webhook_id, v_subjects || array(
            select u.subject from unnest(p_subjects, p_dead) as u (subject, dead) where u.dead
        ));
        update hotsite.webhook as w
        set settled = p_round, tick = coalesce(p_tick, w.tick), event_no = coalesce(p_no, w.event_no),
            taken = w.taken + p_taken, failed = w.failed + p_failed, failures = p_failures,
            failing_since = case when p_failures > 0 then coalesce(w.failing_since, now()) end,
            next_try_at = case when p_retry_s is not null then now() + make_interval(secs => p_retry_s) end,
            last_failure = coalesce(p_failure, w.last_failure),
            last_failure_at = case when p_failure is null then w.last_failure_at else now() end,
            last_taken_at = case when p_taken > 0 then now() else w.last_taken_at end,
            enabled = w.enabled and p_disable is null, disabled_why = coalesce(p_disable, w.disabled_why)
        where w.webhook_id = v.webhook_id;
        if p_log is not null then
            insert into hotsite.webhook_round (webhook_id, attempts) values (v.webhook_id, p_log);
            delete from hotsite.webhook_round as r where r.webhook_id = v.webhook_id and r.round_id < (
                select o.round_id from hotsite.webhook_round as o where o.webhook_id = v.webhook_id
                order by o.round_id desc offset 19 limit 1
            );
        end if;
    end if;
    if p_release then
        update hotsite.webhook as w set claim_id = null, dispatcher = null, term = null where w.webhook_id = v.webhook_id;
    end if;
    perform hotsite.barrier();
    return true;
end
$$;

-- How endpoints fare, over all accounts. `lag_s`: how old the oldest is that was not posted to one that does not fail.
create function hotsite.webhook_counts(
    p_term bigint, out enabled bigint, out failing bigint, out disabled bigint, out waiting bigint, out dead bigint,
    out lag_s double precision, out worst json
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    select
        count(*) filter (where w.enabled), count(*) filter (where w.enabled and w.failures > 0),
        count(*) filter (where not w.enabled),
        coalesce(max(
            case when w.enabled and w.failures = 0 then (
                select extract(epoch from now() - (f.event).at)
                from hotsite.read_feed(w.account_id, w.tick, w.event_no, 1) as f
            ) end
        ), 0)
    into enabled, failing, disabled, lag_s
    from hotsite.webhook as w;
    select count(*) filter (where l.dead_at is null), count(*) filter (where l.dead_at is not null) into waiting, dead
    from (select l.dead_at from hotsite.webhook_letter as l limit 100000) as l;
    select json_agg(json_build_object(
        'webhook_id', f.webhook_id, 'account_id', f.account_id, 'failing_s', extract(epoch from now() - f.failing_since),
        'failure', f.last_failure
    )) into worst
    from (
        select * from hotsite.webhook as w where w.enabled and w.failures > 0 order by w.failing_since limit 20
    ) as f;
end
$$;

-- Forgets what is old: events and ticks after p_kept_s, letters after p_letters_s. Returns how many events.
create function hotsite.tidy_feed(
    p_term bigint, p_limit integer, p_kept_s double precision, p_letters_s double precision
) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_tick hotsite.feed_tick;
    v_count bigint := 0;
begin
    perform control.assert_leader(p_term);
    if not pg_try_advisory_xact_lock(hashtext('hotsite.tidy_feed')) then
        return 0;
    end if;
    -- The newest of the old ones stays: it is where the oldest interval that is kept begins.
    select t.* into v_tick from hotsite.feed_tick as t
    where t.at < now() - make_interval(secs => p_kept_s) order by t.tick desc limit 1;
    if found then
        delete from hotsite.feed_event as e
        using (
            select o.account_id, o.xid, o.event_no
            from hotsite.feed as f
            cross join lateral (
                select o.account_id, o.xid, o.event_no from hotsite.feed_event as o
                where o.account_id = f.account_id and o.xid < v_tick.horizon
                order by o.xid, o.event_no limit p_limit
            ) as o
            limit p_limit
        ) as o
        where e.account_id = o.account_id and e.xid = o.xid and e.event_no = o.event_no;
        get diagnostics v_count = row_count;
        if v_count < p_limit then
            delete from hotsite.feed_tick as t where t.tick in (
                select t.tick from hotsite.feed_tick as t where t.tick < v_tick.tick order by t.tick limit p_limit
            );
        end if;
    end if;
    delete from hotsite.webhook_letter as l
    using (
        select l.webhook_id, l.event_no from hotsite.webhook as w
        cross join lateral (
            select l.webhook_id, l.event_no from hotsite.webhook_letter as l
            where l.webhook_id = w.webhook_id and (
                l.dead_at < now() - make_interval(secs => p_letters_s)
                or (not w.enabled and l.at < now() - make_interval(secs => p_letters_s))
            )
            limit p_limit
        ) as l
        limit p_limit
    ) as o
    where l.webhook_id = o.webhook_id and l.event_no = o.event_no;
    return v_count;
end
$$;

grant execute on function
    hotsite.feed_page(bigint, integer, bigint, bigint, integer),
    hotsite.create_webhook(bigint, integer, uuid, text, text, text[], bytea, text, integer),
    hotsite.webhooks(bigint, integer, uuid),
    hotsite.change_webhook(bigint, integer, uuid, text, text, text[], boolean, boolean),
    hotsite.delete_webhook(bigint, integer, uuid),
    hotsite.rotate_webhook_secret(bigint, integer, uuid, bytea, double precision),
    hotsite.test_webhook(bigint, integer, uuid, uuid, text, text),
    hotsite.webhook_rounds(bigint, integer, uuid, bigint, integer),
    hotsite.dead_letters(bigint, integer, uuid, bigint, integer),
    hotsite.replay_letters(bigint, integer, uuid, uuid, integer),
    hotsite.webhook_claims(bigint),
    hotsite.claim_webhooks(bigint, text, double precision, integer, bigint[], bigint[], integer[]),
    hotsite.webhook_batch(bigint, bigint, integer, integer, integer),
    hotsite.settle_webhook(
        bigint, integer, bigint, bigint, integer, integer, bigint[], bigint[], uuid[], uuid[], text[], timestamptz[],
        text[], integer[], double precision[], text[], integer[], boolean[], integer, double precision, text, text, json,
        boolean
    ),
    hotsite.webhook_counts(bigint),
    hotsite.tidy_feed(bigint, integer, double precision, double precision)
to hotsite_dispatch;
