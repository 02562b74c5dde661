-- Attempts without end, and an end for replies and campaigns.
--
-- A segment may be claimed more often than a smallint counts: one that a carrier refuses every half second, in four and a
-- half hours. The claim failed then, and with it each claim that took this segment along: nothing was sent any more.
--
-- The number is not made wider: that rewrites `delivery`, every partition of it, while nobody may touch it. It stops
-- instead, and what it is needed for is as good as before:
-- * Which claim an answer belongs to is told by the claim's own number; the attempt's alone no longer will do
--   (settle_late: that one attempt was never written frees no other that may have left).
-- * An attempt in doubt is never mistaken for the one that is sent after it: those from the first resend on have a number
--   of their own, one more than those before. All others of the same number came back unsent.

-- As of 0011, but what a refusal, or a late word that nothing was written, is about is told by its claim, too.
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
        elsif r.outcome in ('failed', 'queued') and d.state = 'in_doubt' and d.attempt = r.attempt
        and d.claim_id = r.claim then
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

-- Customers' replies and campaigns end, too. Both are few beside messages, so they are deleted, some at a time, and not kept
-- in partitions.

-- Deletes replies that were stored before p_before: looks at the p_limit oldest ones in the order of the primary key, which is
-- that of storing as near as matters, so that no index has to be kept for it. Returns how many it deleted.
create function hotsite.forget_replies(p_term bigint, p_before timestamptz, p_limit integer) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
declare
    v_count bigint;
begin
    perform control.assert_leader(p_term);
    delete from hotsite.reply as r
    where r.reply_id = any (array(
        select o.reply_id
        from (select r.reply_id, r.stored_at from hotsite.reply as r order by r.reply_id limit p_limit) as o
        where o.stored_at < p_before
    ));
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

-- Deletes one campaign that ended before p_before, or was made before then and never started, whole: its list, what became of
-- it, who did what. Returns which, or null when there is none. One that runs, is paused, or still has texts to be canceled
-- stays however old it is. Nobody else takes its row: who counts or feeds it waits, and then finds nothing.
create function hotsite.forget_campaign(p_term bigint, p_before timestamptz) returns uuid
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
declare
    v_campaign uuid;
begin
    perform control.assert_leader(p_term);
    select c.campaign_id into v_campaign from hotsite.campaign as c
    where c.campaign_id < hotsite.first_id(p_before) -- made before then: its id tells
    and c.state in ('draft', 'done', 'canceled') and c.to_sweep = 0 and coalesce(c.ended_at, c.created_at) < p_before
    order by c.campaign_id limit 1 for update skip locked;
    if v_campaign is not null then
        delete from hotsite.campaign_batch as b where b.campaign_id = v_campaign;
        delete from hotsite.campaign_act as a where a.campaign_id = v_campaign;
        delete from hotsite.campaign as c where c.campaign_id = v_campaign;
    end if;
    return v_campaign;
end
$$;

grant execute on function
    hotsite.forget_replies(bigint, timestamptz, integer), hotsite.forget_campaign(bigint, timestamptz)
to hotsite_dispatch;
