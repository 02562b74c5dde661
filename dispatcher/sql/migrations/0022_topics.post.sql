-- The last dispatcher that claims without saying down to which class has stopped.
drop function hotsite.claim_unexpired(bigint, text, integer, double precision);
