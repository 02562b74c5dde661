-- The last dispatcher is gone whose `settle` might still be running as it was before.
drop function hotsite.doubt_may_settle();
