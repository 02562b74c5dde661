-- name: retention_term
select term from control.state();

-- name: partitions
select now() as now, p.* from hotsite.partitions($1) as p;

-- name: retired_periods
select * from hotsite.retired_periods($1);

-- name: begin_upkeep
select hotsite.begin_upkeep($1);

-- name: make_partition
select hotsite.make_partition($1, $2, $3, $4, $5);

-- name: archive_piece
select lines, row_count, open, blocks from hotsite.archive_piece($1, $2, $3, $4, $5);

-- name: open_in
select hotsite.open_in($1, $2);

-- name: note_retired
select hotsite.note_retired($1, $2, $3, $4, $5, $6, $7);

-- name: detach_partition
select hotsite.detach_partition($1, $2, $3);

-- name: reattach_partition
select hotsite.reattach_partition($1, $2, $3);

-- name: detached_rows
select hotsite.detached_rows($1, $2, $3);

-- name: drop_partition
select hotsite.drop_partition($1, $2, $3);

-- name: forget_replies
select hotsite.forget_replies($1, $2, $3);

-- name: forget_campaign
select hotsite.forget_campaign($1, $2);

-- name: forget_references
select account_id, reference, forgotten from hotsite.forget_references($1, $2, $3, $4, $5);
