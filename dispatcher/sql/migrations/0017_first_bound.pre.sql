-- The first step to partitions by time: what is in message, delivery and event now becomes the first partition of each,
-- so nothing is rewritten. It ends at a midnight (UTC) that is ahead, by a constraint that counts from now on for new
-- rows and is held against the old ones by the next file, which stops nobody. The third step (0019) then needs no look
-- at any row.
--
-- An id tells its time (UUIDv7, RFC 9562), and ids ahead of our clock may be there: the bound lies beyond the newest of
-- them. One that is a month ahead is a clock's fault that a person has to look at.

-- The first id that a message of this time can have, whatever makes it.
create function hotsite.first_id(p_at timestamptz) returns uuid
language sql immutable strict as $$
    select (lpad(to_hex(floor(extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- The time in an id.
create function hotsite.time_of(p_id uuid) returns timestamptz
language sql immutable strict as $$
    select to_timestamp(('x' || left(replace(p_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
$$;

do $$
declare
    v_newest constant timestamptz := (
        select hotsite.time_of(d.message_id) from hotsite.delivery as d order by d.message_id desc limit 1
    );
    v_bound constant timestamptz := date_trunc('day', greatest(now(), v_newest) at time zone 'UTC') at time zone 'UTC'
        + interval '2 days';
begin
    if v_newest > now() + interval '30 days' then
        raise exception 'a message has an id of %, which is more than a month ahead', v_newest
            using hint = 'Somebody''s clock was wrong. Delete such messages from message, delivery, event and queue,'
                ' or wait until their time has come.';
    end if;
    execute format(
        'alter table hotsite.message add constraint message_first check (message_id < %L) not valid',
        hotsite.first_id(v_bound)
    );
    execute format(
        'alter table hotsite.delivery add constraint delivery_first check (message_id < %L) not valid',
        hotsite.first_id(v_bound)
    );
    execute format(
        'alter table hotsite.event add constraint event_first check (message_id < %L) not valid',
        hotsite.first_id(v_bound)
    );
end
$$;
