-- name: accept
select ids, verdicts, states, lsn
from hotsite.accept($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: accept_topical
select ids, verdicts, states, lsn
from hotsite.accept_topical($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: durability
select control.durability($1::text::pg_lsn);

-- name: read
select * from hotsite.read($1, $2, $3);

-- name: find
select * from hotsite.find_page($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: cancel
select * from hotsite.cancel($1, $2, $3);

-- name: counts
select states, totals, classes, oldest_s from hotsite.counts($1);
