-- The tables of the message path, built for few and small writes: each of them is flushed in both sites.
--
-- message    what was accepted. Never changed.
-- delivery   the truth about each segment. One index on columns that never change, and free space in its
--            pages: each change of state is a heap-only update that touches no index.
-- The rest are work lists, with rows only for what still has to happen. The delivery row always decides:
-- queue      a hint that a segment may be claimed. Only `claim` removes one, so a stale hint costs a look.
-- agenda     a time at which a segment must be looked at: its send_at, its next try, its expiry.
-- claim      the segments that were handed to a dispatcher together.
-- submission an attempt that a carrier took, by the carrier's id. Kept for as long as receipts may come.
-- doubt      an attempt of which nobody knows whether it left.
-- tally      changes of the number of segments in a state; their sum is the number.
--
-- No foreign keys among the busy tables and no triggers: each would be paid per row, and a shared lock on the
-- program's row would be held through the wait for the other site. The functions, which alone may write,
-- check instead. Text in an index compares by bytes (collate "C"), so that two sites with different
-- versions of the system's collations agree on the order.

-- Functions are the only way in, each granted by name: nothing is anybody's by default.
alter default privileges revoke execute on functions from public;
grant usage on schema hotsite to hotsite_dispatch;

create type hotsite.state as enum (
    -- In the order of rolling up: a message is in the first of these that any of its segments is in.
    'in_doubt', 'submitting', 'queued', 'held', 'scheduled', 'accepted', 'submitted',
    'failed', 'rejected', 'undelivered', 'expired', 'canceled', 'suppressed', 'unknown', 'delivered'
);

create table hotsite.account (
    account_id integer generated always as identity primary key,
    name text collate "C" not null unique,
    created_at timestamptz not null default now()
);

create table hotsite.program (
    program_id integer generated always as identity primary key,
    account_id integer not null references hotsite.account,
    name text collate "C" not null,
    source text not null, -- the short code it sends from
    on_doubt text not null check (on_doubt in ('resend', 'hold')),
    class smallint not null check (class between 0 and 2),
    enabled boolean not null default true,
    unique (account_id, name)
);

create table hotsite.api_key (
    api_key_id integer generated always as identity primary key,
    account_id integer not null references hotsite.account,
    prefix text not null, -- shown to people
    secret_hash bytea not null unique, -- SHA-256 of the whole key; the key itself is nowhere
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create table hotsite.message (
    account_id integer not null,
    message_id uuid not null, -- version 7: in the order of time
    program_id integer not null,
    class smallint not null,
    segments smallint not null check (segments > 0),
    accepted_at timestamptz not null default now(),
    send_at timestamptz,
    expires_at timestamptz,
    recipient text collate "C" not null, -- E.164 with +
    reference text collate "C",
    encoding text not null check (encoding in ('gsm', 'ucs2')),
    on_doubt text not null check (on_doubt in ('resend', 'hold')),
    body text not null,
    primary key (account_id, message_id)
);
create index message_recipient on hotsite.message (account_id, recipient, message_id);

-- A reference is kept as long as its message. Its own table, because it must stay unique over all of time
-- when messages are one day partitioned by it.
create table hotsite.reference (
    account_id integer not null,
    reference text collate "C" not null,
    message_id uuid not null,
    fingerprint bytea not null,
    primary key (account_id, reference)
);

create table hotsite.delivery (
    message_id uuid not null,
    account_id integer not null,
    segment smallint not null, -- from 1
    attempt smallint not null default 0, -- counted up by each claim
    state hotsite.state not null,
    resent boolean not null default false, -- once only
    command_status integer,
    claim_id bigint,
    submitted_at timestamptz,
    updated_at timestamptz not null default now(),
    carrier text,
    carrier_message_id text, -- as the carrier wrote it
    error text,
    primary key (message_id, segment)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

create table hotsite.queue (
    message_id uuid not null,
    account_id integer not null,
    class smallint not null,
    segment smallint not null,
    primary key (class, message_id, segment) -- the order of claiming
) with (
    -- What was claimed leaves dead entries in front of the next: cleared often, and never by giving pages
    -- back to the system, which would need a lock that stops everything, on the standby too.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

create table hotsite.agenda (
    at timestamptz not null,
    message_id uuid not null,
    account_id integer not null,
    segment smallint not null,
    primary key (at, message_id, segment)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);

create sequence hotsite.claim_id;
create table hotsite.claim (
    claim_id bigint primary key,
    term bigint not null,
    dispatcher text not null,
    claim_for_s double precision not null,
    claimed_at timestamptz not null default now(),
    message_ids uuid[] not null,
    segments smallint[] not null -- beside message_ids
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);

create table hotsite.submission (
    submitted_at timestamptz not null default now(),
    message_id uuid not null,
    account_id integer not null,
    segment smallint not null,
    attempt smallint not null,
    carrier text collate "C" not null,
    canonical text collate "C" not null, -- the carrier's id as `dispatcher.carrier_ids` compares it
    written text not null -- as the carrier wrote it
) with (vacuum_truncate = off);
-- The id first, here and below: by its carrier alone nobody looks for one, and a plan made while the table was
-- empty must not think that a good idea.
create index submission_id on hotsite.submission (canonical, carrier);
create index submission_age on hotsite.submission (submitted_at);

create table hotsite.doubt (
    message_id uuid not null,
    account_id integer not null,
    segment smallint not null,
    attempt smallint not null,
    resend boolean not null, -- still to be sent once more
    tail text collate "C" not null, -- of the customer's number, as `hotsite.tail` cuts it
    claimed_at timestamptz not null, -- it cannot have left before
    since timestamptz not null default now(),
    primary key (message_id, segment, attempt)
);
create index doubt_age on hotsite.doubt (since);
create index doubt_resend on hotsite.doubt (since) where resend;
create index doubt_tail on hotsite.doubt (tail);

-- Receipts whose id no answer has named (yet).
create table hotsite.parked_receipt (
    parked_id bigint generated always as identity primary key,
    parked_at timestamptz not null default now(),
    carrier text collate "C" not null,
    written text collate "C" not null,
    canonical text collate "C" not null,
    as_hex text,
    as_decimal text,
    state hotsite.state not null,
    customer text not null, -- digits only; empty when the receipt has none
    tail text collate "C" not null,
    destination text not null,
    text text not null,
    error text not null,
    done_at timestamptz,
    unique (written, carrier, state)
);
create index parked_receipt_id on hotsite.parked_receipt (canonical, carrier);
create index parked_receipt_tail on hotsite.parked_receipt (tail);
create index parked_receipt_age on hotsite.parked_receipt (parked_at);

create table hotsite.reply (
    reply_id bigint generated always as identity primary key,
    stored_at timestamptz not null default now(),
    received_at timestamptz not null,
    carrier text not null,
    source text not null,
    destination text not null,
    text text not null,
    fingerprint bytea not null
);
create index reply_fingerprint on hotsite.reply (fingerprint, stored_at);

-- The rare lines of a message's story; the plain ones are read off the message and its deliveries.
create table hotsite.event (
    event_id bigint generated always as identity primary key,
    message_id uuid not null,
    segment smallint,
    at timestamptz not null default now(),
    state hotsite.state not null,
    detail text not null -- a sentence
);
create index event_message on hotsite.event (message_id);

create table hotsite.tally (
    state hotsite.state not null,
    delta bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);

-- By what two ways of writing one number (national, international) are first brought together.
create function hotsite.tail(p_number text) returns text
language sql immutable as $$
    select right(p_number, 7)
$$;
