-- name: feed_page
select * from hotsite.feed_page($1, $2, $3, $4, $5);

-- name: create_webhook
select * from hotsite.create_webhook($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: webhooks
select * from hotsite.webhooks($1, $2, $3);

-- name: change_webhook
select * from hotsite.change_webhook($1, $2, $3, $4, $5, $6, $7, $8);

-- name: delete_webhook
select hotsite.delete_webhook($1, $2, $3);

-- name: rotate_webhook_secret
select * from hotsite.rotate_webhook_secret($1, $2, $3, $4, $5);

-- name: test_webhook
select hotsite.test_webhook($1, $2, $3, $4, $5, $6);

-- name: webhook_rounds
select * from hotsite.webhook_rounds($1, $2, $3, $4, $5);

-- name: dead_letters
select * from hotsite.dead_letters($1, $2, $3, $4, $5);

-- name: replay_letters
select hotsite.replay_letters($1, $2, $3, $4, $5);

-- name: webhook_claims
select * from hotsite.webhook_claims($1);

-- name: claim_webhooks
select * from hotsite.claim_webhooks($1, $2, $3, $4, $5, $6, $7);

-- name: webhook_batch
select * from hotsite.webhook_batch($1, $2, $3, $4, $5);

-- name: settle_webhook
select hotsite.settle_webhook(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24
);

-- name: webhook_counts
select * from hotsite.webhook_counts($1);

-- name: tidy_feed
select hotsite.tidy_feed($1, $2, $3, $4);
