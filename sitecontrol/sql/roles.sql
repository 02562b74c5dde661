create role hotsite_replication login replication;
create role hotsite_rewind login;
create role hotsite_migrate login;
create role hotsite_dispatch login;
create role hotsite_monitor login in role pg_monitor;
revoke create on schema public from public;
