-- Looking up by time as well. The version before still calls `find` without it: that one goes with the last of them.

-- Newest first. p_since bounds accepted_at, which has no index of its own: each would be paid for with every
-- message. An id tells the time at which its message came in, so p_oldest, an id of before p_since by more than
-- any message waits to be stored, ends the walk along the index; what lies between the two is looked at and left out.
-- With p_state no more than the 10,000 newest messages (before p_after) are looked at: the state of a message is
-- nowhere stored, so that it need not be written with each change of a segment.
create function hotsite.find(
    p_term bigint, p_account integer, p_reference text, p_state text, p_to text, p_since timestamptz, p_oldest uuid,
    p_after uuid, p_limit integer
)
returns table (
    message_id uuid, account_id integer, program text, recipient text, body text, reference text, encoding text,
    class smallint, on_doubt text, accepted_at timestamptz, send_at timestamptz, expires_at timestamptz,
    state text, segments jsonb, events jsonb
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
    v_before constant uuid := coalesce(p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
    v_oldest constant uuid := coalesce(p_oldest, '00000000-0000-0000-0000-000000000000');
    v_since constant timestamptz := coalesce(p_since, '-infinity');
    v_reach constant integer := case when p_state is null then p_limit else 10000 end;
    v_ids uuid[];
begin
    perform control.assert_leader(p_term);
    if p_reference is not null then
        v_ids := array(
            select m.message_id
            from hotsite.reference as f
            join hotsite.message as m on m.account_id = f.account_id and m.message_id = f.message_id
            where f.account_id = p_account and f.reference = p_reference and m.message_id < v_before
            and (p_to is null or m.recipient = p_to) and m.accepted_at >= v_since
        );
    elsif p_to is not null then
        -- Compared in pairs, which the index of recipients can do and the primary key cannot: a plan that was made
        -- while the table was empty must not walk all of an account's messages for those to one number.
        v_ids := array(
            select m.message_id from hotsite.message as m
            where m.account_id = p_account and m.recipient = p_to
            and (m.recipient, m.message_id) < (p_to, v_before) and (m.recipient, m.message_id) >= (p_to, v_oldest)
            and m.accepted_at >= v_since
            order by m.message_id desc limit v_reach
        );
    else
        v_ids := array(
            select m.message_id from hotsite.message as m
            where m.account_id = p_account
            and m.message_id < v_before and m.message_id >= v_oldest and m.accepted_at >= v_since
            order by m.message_id desc limit v_reach
        );
    end if;
    if p_state is not null then
        v_ids := array(
            select i.id from unnest(v_ids) as i (id)
            where (select min(d.state) from hotsite.delivery as d where d.message_id = i.id) = p_state::hotsite.state
            order by i.id desc limit p_limit
        );
    end if;
    return query select * from hotsite.describe(p_account, v_ids);
    perform hotsite.barrier();
end
$$;

grant execute on function hotsite.find(bigint, integer, text, text, text, timestamptz, uuid, uuid, integer)
to hotsite_dispatch;
