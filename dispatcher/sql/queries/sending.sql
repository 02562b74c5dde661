-- name: is_open
-- A canary from the future tells nothing: the clock was set back since, and only the next one has an age.
select coalesce(
    s.is_open and not s.in_recovery and s.term = $1 and ($2::double precision is null or abs(s.canary_age_s) <= $2),
    false
) from control.state() as s;

-- name: claim
select * from hotsite.claim_in_turn($1, $2, $3, $4, $5);

-- name: settle
select may_settle, tails from hotsite.settle_noted($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: open_claims
select * from hotsite.open_claims($1);

-- name: doubts
select * from hotsite.doubts($1, $2, $3, $4, $5);

-- name: claimed_by
select * from hotsite.claimed_by($1, $2);

-- name: give_up_claims
select given_up, may_settle from hotsite.give_up_claims($1, $2);

-- name: return_claims
select hotsite.return_claims($1, $2, $3);

-- name: receipts
select may_settle, tails from hotsite.receipts_noted($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: doubt_candidates
select * from hotsite.doubt_candidates();

-- name: settle_doubts
select hotsite.settle_doubts($1, $2, $3);

-- name: unnamed_candidates
select * from hotsite.unnamed_candidates($1);

-- name: settle_unnamed
select hotsite.settle_unnamed($1, $2, $3);

-- name: replies
select hotsite.replies($1, $2, $3, $4, $5, $6);

-- name: reply_parts
select hotsite.reply_parts($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: whole_replies
select * from hotsite.whole_replies($1, $2, $3, $4, $5);

-- name: parts_to_join
select * from hotsite.parts_to_join($1, $2, $3);

-- name: join_replies
select hotsite.join_replies($1, $2, $3, $4, $5, $6, $7, $8);

-- name: received_is_tidy
select hotsite.received_is_tidy();

-- name: tidy_received
select hotsite.tidy_received($1);

-- name: resend_doubtful
select hotsite.resend_doubtful($1, $2, $3);

-- name: release_due
select hotsite.release_due($1, $2, $3);
