-- The last call is over that was under way when the order changed.
alter table hotsite.queue drop constraint queue_pkey;
alter table hotsite.queue add constraint queue_pkey primary key using index queue_turns;
