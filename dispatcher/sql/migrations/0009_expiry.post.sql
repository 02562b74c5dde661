-- The last dispatcher that claims without being told when a text expires has stopped.
drop function hotsite.claim(bigint, text, integer, double precision);
