-- The last dispatcher that looks up without a time has stopped.
drop function hotsite.find(bigint, integer, text, text, text, uuid, integer);
