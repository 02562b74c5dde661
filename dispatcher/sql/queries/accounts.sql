-- name: programs
select * from hotsite.programs($1);

-- name: api_keys
select * from hotsite.api_keys($1);

-- name: add_account
select account_id, program_id, api_key_id from hotsite.add_account($1, $2, $3, $4, $5, $6, $7);

-- name: add_ending_key
-- Before `add_account`, which keeps the time: so a key that is to end is never there without its end. A key of
-- another account is left alone, for `add_account` to refuse.
with account as (
    insert into hotsite.account (name)
    select $1::text
    where not exists (
        select from hotsite.api_key as k
        join hotsite.account as o on o.account_id = k.account_id
        where k.secret_hash = $3::bytea and o.name <> $1::text
    )
    on conflict (name) do update set name = excluded.name
    returning account_id
)
insert into hotsite.api_key as k (account_id, prefix, secret_hash, expires_at)
select account.account_id, $2::text, $3::bytea, $4::timestamptz from account
on conflict (secret_hash) do update set expires_at = excluded.expires_at;

-- name: known_keys
select
    k.api_key_id as key_id, a.name as account, k.prefix, k.created_at, k.expires_at, k.revoked_at,
    k.revoked_at is null and coalesce(k.expires_at > now(), true) as usable
from hotsite.api_key as k
join hotsite.account as a on a.account_id = k.account_id
where $1::text is null or a.name = $1
order by k.api_key_id;

-- name: keys_named
select
    k.api_key_id as key_id, a.name as account, k.prefix, k.created_at, k.expires_at, k.revoked_at,
    k.revoked_at is null and coalesce(k.expires_at > now(), true) as usable
from hotsite.api_key as k
join hotsite.account as a on a.account_id = k.account_id
where k.api_key_id = $1::integer or k.secret_hash = $2::bytea or k.prefix = $3::text
order by k.api_key_id;

-- name: revoke_key
update hotsite.api_key set revoked_at = coalesce(revoked_at, now()) where api_key_id = $1;

-- name: known_doubts
select * from hotsite.known_doubts($1, $2);

-- name: decide_doubts
select message_id, segment from hotsite.decide_doubts($1::uuid[], $2::boolean);
