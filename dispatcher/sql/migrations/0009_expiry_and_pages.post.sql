-- The last dispatcher that claims without being told when a text expires, looks up without being told how far was
-- looked, and releases without saying whether the clock agrees, has stopped.
drop function hotsite.claim(bigint, text, integer, double precision);
drop function hotsite.find(bigint, integer, text, text, text, timestamptz, uuid, uuid, integer);
drop function hotsite.release_due(bigint, integer);
