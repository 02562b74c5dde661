-- name: save_template
select * from hotsite.save_template($1, $2, $3, $4, $5, $6);

-- name: templates
select * from hotsite.templates($1, $2, $3, $4, $5);

-- name: delete_template
select hotsite.delete_template($1, $2, $3);

-- name: create_campaign
select * from hotsite.create_campaign($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: campaigns
select * from hotsite.campaigns($1, $2, $3, $4, $5);

-- name: begin_list
select hotsite.begin_list($1, $2, $3);

-- name: add_to_list
select hotsite.add_to_list($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: end_list
select * from hotsite.end_list($1, $2, $3, $4, $5, $6);

-- name: change_campaign
select * from hotsite.change_campaign($1, $2, $3, $4, $5, $6, $7);

-- name: sweep_campaigns
select hotsite.sweep_campaigns($1, $2, $3);

-- name: feed_campaign
select * from hotsite.feed_campaign($1, $2, $3, $4, $5);

-- name: count_campaign
select * from hotsite.count_campaign($1, $2, $3, $4, $5);

-- name: campaign_rows
select * from hotsite.campaign_rows($1, $2, $3, $4, $5);
