-- name: set_aside_files
-- The files of tables, by name. A table that is not there is left out.
select t.name, pg_relation_filenode(to_regclass('hotsite.' || t.name))::bigint as file,
       (select oid::bigint from pg_database where datname = current_database()) as database
from unnest($1::text[]) as t (name)
where to_regclass('hotsite.' || t.name) is not null

-- name: set_aside_messages
-- What makes requests of messages again: who sent them, by what reference, and how far their segments have come.
select m.message_id::text as message_id, a.name as account, a.account_id, p.program_id, p.name as program, p.source,
       p.on_doubt as program_on_doubt, p.class as program_class, r.reference, r.fingerprint,
       array(select distinct d.state::text from hotsite.delivery as d where d.message_id = m.message_id) as states
from unnest($1::integer[], $2::uuid[]) as k (account_id, message_id)
join hotsite.message as m using (account_id, message_id)
join hotsite.account as a using (account_id)
join hotsite.program as p on p.program_id = m.program_id
left join hotsite.reference as r on r.account_id = m.account_id and r.message_id = m.message_id

-- name: set_aside_topics
-- What texts are about, of those that have a topic.
select t.message_id::text as message_id, t.topic, t.topic_at
from hotsite.topical as t where t.message_id = any ($1::uuid[]) and t.topic is not null
