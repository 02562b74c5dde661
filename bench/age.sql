-- What `bench.age` pushes rows with: the functions of the dispatchers, called in the database, timed one by one.
create schema bench;
create table bench.took (at bigint generated always as identity, call text, ms double precision);
create sequence bench.numbers;
create table bench.held (
    claim_id bigint, message_id uuid, segment smallint, attempt smallint, recipient text, answer text
);

-- p_count partitions of p_days each before the ones that are there, in an empty store.
create function bench.partitions(p_count integer, p_days integer) returns void
language plpgsql as $$
declare
    v_table text;
    v_day timestamptz := date_trunc('day', now()) - p_count * p_days * interval '1 day';
    v_bound text;
begin
    set local role hotsite_migrate;
    foreach v_table in array array['message', 'delivery', 'event'] loop
        select substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([0-9a-f-]+)''\)') into v_bound
        from pg_class as c where c.oid = ('hotsite.' || v_table || '_first')::regclass;
        execute format('alter table hotsite.%I detach partition hotsite.%I', v_table, v_table || '_first');
        for n in 0 .. p_count - 1 loop
            perform hotsite.add_partition(
                v_table, v_day + n * p_days * interval '1 day', v_day + (n + 1) * p_days * interval '1 day', 0
            );
        end loop;
        execute format(
            'alter table hotsite.%I attach partition hotsite.%I for values from (%L) to (%L)', v_table,
            v_table || '_first', hotsite.first_id(v_day + p_count * p_days * interval '1 day'), v_bound
        );
    end loop;
end
$$;

-- Milliseconds of processor that this session has taken so far, whatever else the machine does.
create function bench.spent() returns double precision
language sql volatile as $$
    select split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::double precision / 1e6
$$;

create function bench.note(p_call text, p_since double precision) returns double precision
language sql volatile as $$
    insert into bench.took (call, ms) values (p_call, bench.spent() - p_since);
    select bench.spent()
$$;

-- p_rows messages of p_days ago, through their whole life.
create procedure bench.push(p_term bigint, p_rows integer, p_days double precision)
language plpgsql as $$
declare
    v_first constant uuid := (
        left(hotsite.first_id(now() - p_days * interval '1 day')::text, 14) || '7000-8000-'
        || lpad(to_hex(nextval('bench.numbers') * 1000000), 12, '0')
    )::uuid;
    v_ids uuid[];
    v_program record;
    v_claimed integer := 0;
    v_more integer;
    v_since double precision;
begin
    v_ids := hotsite.ids_from(v_first, 0, p_rows);
    select p.program_id, p.account_id into v_program from hotsite.program as p;
    v_since := bench.spent();
    perform hotsite.accept(
        p_term, v_ids, array_fill(v_program.account_id, array[p_rows]), array_fill(v_program.program_id, array[p_rows]),
        (select array_agg('+1' || (2000000000 + n % 1000000)) from generate_series(1, p_rows) as n),
        array_fill('Power is out on Elm St. Back by 6 pm.'::text, array[p_rows]),
        array_fill('gsm'::text, array[p_rows]), array_fill(1::smallint, array[p_rows]),
        array_fill(1::smallint, array[p_rows]), array_fill('hold'::text, array[p_rows]),
        (select array_agg(u.id::text) from unnest(v_ids) as u (id)),
        (select array_agg(sha256(u.id::text::bytea)) from unnest(v_ids) as u (id)),
        array_fill(null::timestamptz, array[p_rows]),
        array_fill(now() + interval '1 minute', array[p_rows])
    );
    commit;
    v_since := bench.note('accept', v_since);
    delete from bench.held;
    commit;
    v_since := bench.spent();
    if to_regproc('hotsite.claim_in_turn') is not null then
        insert into bench.held
        select c.claim_id, c.message_id, c.segment, c.attempt, c.recipient, md5(c.message_id::text)
        from hotsite.claim_in_turn(p_term, 'bench', p_rows, 5.0, 2::smallint) as c;
    else
        insert into bench.held
        select c.claim_id, c.message_id, c.segment, c.attempt, c.recipient, md5(c.message_id::text)
        from hotsite.claim_unexpired(p_term, 'bench', p_rows, 5.0) as c;
    end if;
    get diagnostics v_claimed = row_count;
    commit;
    perform bench.note('claim', v_since);
    if v_claimed <> p_rows then
        raise exception 'claimed % of % rows', v_claimed, p_rows;
    end if;
    v_since := bench.spent();
    perform hotsite.settle_noted(
        array_agg(h.claim_id), array_agg(h.message_id), array_agg(h.segment), array_agg(h.attempt),
        array_agg('submitted'::text), array_agg('carrier-a'::text), array_agg(h.answer), array_agg(h.answer),
        array_agg(null::text), array_agg(null::text), array_agg(0), array_agg(0.0::double precision)
    ) from (select * from bench.held as h order by h.message_id) as h;
    commit;
    v_since := bench.note('settle', v_since);
    perform hotsite.receipts_noted(
        array_agg('carrier-a'::text), array_agg(h.answer), array_agg(h.answer), array_agg(null::text),
        array_agg(null::text), array_agg(ltrim(h.recipient, '+')), array_agg('delivered'::text), array_agg('000'::text),
        array_agg('12345'::text), array_agg(''::text), array_agg(null::timestamptz)
    ) from (select * from bench.held as h order by h.message_id) as h;
    commit;
    perform bench.note('receipts', v_since);
end
$$;

-- As `stop_waiting` does with what is 72 hours old: the oldest p_count submissions go.
create function bench.end_waiting(p_count integer) returns void
language sql set enable_seqscan = off as $$
    delete from hotsite.submission as s where s.ctid = any (array(
        select s.ctid from hotsite.submission as s order by s.submitted_at limit p_count for update skip locked
    ))
$$;
