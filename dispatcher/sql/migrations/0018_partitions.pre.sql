-- message, delivery and event are partitioned by the time in the message's id. A look-up by id prunes to one partition;
-- what is old leaves by a drop, which costs nothing and leaves no dead rows. The tables of before are the first
-- partitions. Functions name the tables, so they need no change, and calls that are under way go on.
--
-- Not partitioned: work lists (queue, agenda, claim, doubt, unnamed, tally), which have rows only for what still has to
-- happen; submission and parked_receipt, which are asked by the carrier's id and whose rows go after 72 hours;
-- reference, which must stay unique whatever the time. docs/adr/0018-partitions.md has the reasons and measurements.

create sequence hotsite.event_no owned by none;

do $$
declare
    v_table text;
    v_bound text;
    v_triggers text[];
    v_trigger text;
begin
    -- Calls that write take them in either order: who would wait long gives up, and the whole is tried again.
    lock table hotsite.message, hotsite.delivery, hotsite.event in access exclusive mode;
    perform setval('hotsite.event_no', e.last_value, e.is_called) from hotsite.event_event_id_seq as e;
    alter table hotsite.event alter column event_id drop identity;

    foreach v_table in array array['message', 'delivery', 'event'] loop
        select substring(pg_get_constraintdef(c.oid) from '''([0-9a-f-]{36})''') into v_bound
        from pg_constraint as c
        where c.conrelid = ('hotsite.' || v_table)::regclass and c.conname = v_table || '_first';
        select coalesce(array_agg(pg_get_triggerdef(t.oid)), '{}') into v_triggers
        from pg_trigger as t where t.tgrelid = ('hotsite.' || v_table)::regclass and not t.tgisinternal;
        for v_trigger in
            select t.tgname from pg_trigger as t
            where t.tgrelid = ('hotsite.' || v_table)::regclass and not t.tgisinternal
        loop
            execute format('drop trigger %I on hotsite.%I', v_trigger, v_table);
        end loop;
        execute format('alter table hotsite.%I rename to %I', v_table, v_table || '_first');
        execute format(
            'create table hotsite.%I (like hotsite.%I including defaults including constraints)'
            ' partition by range (message_id)',
            v_table, v_table || '_first'
        );
        execute format('alter table hotsite.%I drop constraint %I', v_table, v_table || '_first');
        if v_table = 'message' then
            alter index hotsite.message_pkey rename to message_first_pkey;
            alter index hotsite.message_recipient rename to message_first_recipient;
            alter table hotsite.message add constraint message_pkey primary key (account_id, message_id);
            create index message_recipient on hotsite.message (account_id, recipient, message_id);
        elsif v_table = 'delivery' then
            alter index hotsite.delivery_pkey rename to delivery_first_pkey;
            alter table hotsite.delivery add constraint delivery_pkey primary key (message_id, segment);
        else
            alter index hotsite.event_pkey rename to event_first_pkey;
            alter index hotsite.event_message rename to event_first_message;
            alter index hotsite.event_doubt rename to event_first_doubt;
            alter table hotsite.event alter column event_id set default nextval('hotsite.event_no');
            create index event_message on hotsite.event (message_id);
            create index event_doubt on hotsite.event (term, event_id) where what in ('not_answered', 'given_up');
        end if;
        execute format(
            'alter table hotsite.%I attach partition hotsite.%I for values from (minvalue) to (%L)',
            v_table, v_table || '_first', v_bound
        );
        -- What no other partition takes, because somebody's clock was wrong or because none was made in time.
        execute format(
            'create table hotsite.%I partition of hotsite.%I default', v_table || '_odd', v_table
        );
        foreach v_trigger in array v_triggers loop
            execute v_trigger;
        end loop;
    end loop;
end
$$;
