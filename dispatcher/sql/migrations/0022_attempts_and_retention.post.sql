-- The last dispatcher that claims without saying down to which class (as before 0021) has stopped. It is told here and
-- not in 0021, for that one's `post` is due as soon as this number's `pre` comes.
drop function hotsite.claim_unexpired(bigint, text, integer, double precision);
