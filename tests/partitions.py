"""The partitions of a fresh database as those of a system that has run for a while."""

import asyncpg

TABLES = ("message", "delivery", "event")


async def one_a_day(connection: "asyncpg.Connection[asyncpg.Record]", *, back: int, ahead: int = 2) -> None:
    """Put partitions of a day each, from so many days ago on, in the place of those that a new database has.

    The tables have to be empty. What is older has the first partition, as it has anywhere.
    """
    async with connection.transaction():
        await connection.execute("set local role hotsite_migrate")  # as the owner of them all
        for table in TABLES:
            await connection.execute(
                f"""
                do $$
                declare
                    v_name text;
                    v_day timestamptz;
                begin
                    for v_name in
                        select c.relname from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
                        where i.inhparent = 'hotsite.{table}'::regclass
                        and pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT' and c.relname <> '{table}_first'
                    loop
                        execute format('drop table hotsite.%I', v_name);
                    end loop;
                    v_day := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - interval '{back} days';
                    alter table hotsite.{table} detach partition hotsite.{table}_first;
                    execute format(
                        'alter table hotsite.{table} attach partition hotsite.{table}_first'
                        ' for values from (minvalue) to (%L)', hotsite.first_id(v_day)
                    );
                    for n in 0 .. {back + ahead} loop
                        execute format(
                            'create table hotsite.%I partition of hotsite.{table} for values from (%L) to (%L)',
                            '{table}_' || to_char(v_day at time zone 'UTC', 'YYYYMMDD'),
                            hotsite.first_id(v_day), hotsite.first_id(v_day + interval '1 day')
                        );
                        v_day := v_day + interval '1 day';
                    end loop;
                end
                $$
                """  # noqa: S608 (names from above)
            )
