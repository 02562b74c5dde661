-- name: accept
select ids, verdicts, states, lsn
from hotsite.accept($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: accept_topical
select ids, verdicts, states, lsn
from hotsite.accept_topical($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: durability
select control.durability($1::text::pg_lsn);

-- name: read
select r.*, t.topic, t.topic_at, t.superseded_by
from hotsite.read($1, $2, $3) as r cross join lateral hotsite.topic_of($2, r.message_id) as t;

-- name: find
select r.*, t.topic, t.topic_at, t.superseded_by
from hotsite.find_page($1, $2, $3, $4, $5, $6, $7, $8, $9) as r cross join lateral hotsite.topic_of($2, r.message_id) as t
order by r.message_id desc;

-- name: cancel
select r.*, t.topic, t.topic_at, t.superseded_by
from hotsite.cancel($1, $2, $3) as r cross join lateral hotsite.topic_of($2, r.message_id) as t;

-- name: counts
select states, totals, classes, oldest_s from hotsite.counts($1);
