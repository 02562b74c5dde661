-- Accounts, their programs and keys: read by dispatchers, written by whoever runs the migrations.

create function hotsite.programs(p_term bigint)
returns table (
    program_id integer, account_id integer, name text, source text, on_doubt text, class smallint, enabled boolean
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    return query
    select p.program_id, p.account_id, p.name, p.source, p.on_doubt, p.class, p.enabled
    from hotsite.program as p order by p.program_id;
end
$$;

create function hotsite.api_keys(p_term bigint)
returns table (
    api_key_id integer, account_id integer, prefix text, secret_hash bytea, expires_at timestamptz, revoked boolean
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform control.assert_leader(p_term);
    return query
    select k.api_key_id, k.account_id, k.prefix, k.secret_hash, k.expires_at, k.revoked_at is not null
    from hotsite.api_key as k order by k.api_key_id;
end
$$;

-- An account with one program and one key. What exists by name is kept, and its program set to what is
-- said now; a key that is known for this account is not added twice. So it can be repeated.
create function hotsite.add_account(
    p_account text, p_program text, p_source text, p_on_doubt text, p_class smallint,
    p_key_prefix text, p_key_hash bytea, out account_id integer, out program_id integer, out api_key_id integer
)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
begin
    insert into hotsite.account as a (name) values (p_account)
    on conflict (name) do update set name = excluded.name
    returning a.account_id into account_id;

    insert into hotsite.program as p (account_id, name, source, on_doubt, class)
    values (account_id, p_program, p_source, p_on_doubt, p_class)
    on conflict on constraint program_account_id_name_key do update
        set source = excluded.source, on_doubt = excluded.on_doubt, class = excluded.class
    returning p.program_id into program_id;

    insert into hotsite.api_key as k (account_id, prefix, secret_hash) values (account_id, p_key_prefix, p_key_hash)
    on conflict (secret_hash) do update set prefix = excluded.prefix where k.account_id = excluded.account_id
    returning k.api_key_id into api_key_id;
    if api_key_id is null then
        raise exception 'this key belongs to another account' using errcode = 'unique_violation';
    end if;
end
$$;

grant execute on function hotsite.programs(bigint), hotsite.api_keys(bigint) to hotsite_dispatch;
