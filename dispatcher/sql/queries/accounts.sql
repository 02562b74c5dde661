-- name: programs
select * from hotsite.programs($1);

-- name: api_keys
select * from hotsite.api_keys($1);

-- name: add_account
select account_id, program_id, api_key_id from hotsite.add_account($1, $2, $3, $4, $5, $6, $7);
