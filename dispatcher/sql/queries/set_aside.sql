-- name: set_aside_files
-- The files of tables, by name, of one that is partitioned those of its partitions (of another one pg_partition_tree tells
-- nothing). One that is not there is left out.
select t.name, c.relname::text as relation, pg_relation_filenode(c.oid)::bigint as file,
       (select oid::bigint from pg_database where datname = current_database()) as database
from unnest($1::text[]) as t (name)
join pg_class as c on c.relkind = 'r' and (
    c.oid = to_regclass('hotsite.' || t.name)
    or c.oid in (select p.relid from pg_partition_tree(to_regclass('hotsite.' || t.name)) as p)
)
order by c.relname

-- name: set_aside_messages
-- What makes requests of messages again: who sent them, by what reference, and how far their segments have come. Each is
-- looked up by its keys, however many partitions and references there are.
select m.message_id::text as message_id, a.name as account, a.account_id, p.program_id, p.name as program, p.source,
       p.on_doubt as program_on_doubt, p.class as program_class, r.reference, r.fingerprint,
       array(select distinct d.state::text from hotsite.delivery as d where d.message_id = m.message_id) as states
from unnest($1::integer[], $2::uuid[]) as k (account_id, message_id)
cross join lateral (
    select m.* from hotsite.message as m where m.account_id = k.account_id and m.message_id = k.message_id offset 0
) as m
join hotsite.account as a on a.account_id = m.account_id
join hotsite.program as p on p.program_id = m.program_id
left join lateral (
    select r.reference, r.fingerprint from hotsite.reference as r
    where r.account_id = m.account_id and r.reference = m.reference and r.message_id = m.message_id offset 0
) as r on true

-- name: set_aside_topics
-- What texts are about, of those that have a topic.
select t.message_id::text as message_id, t.topic, t.topic_at
from hotsite.topical as t where t.message_id = any ($1::uuid[]) and t.topic is not null
