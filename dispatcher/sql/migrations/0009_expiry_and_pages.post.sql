-- The last dispatcher that claims without being told when a text expires, and looks up without being told how far was
-- looked, has stopped.
drop function hotsite.claim(bigint, text, integer, double precision);
drop function hotsite.find(bigint, integer, text, text, text, timestamptz, uuid, uuid, integer);
