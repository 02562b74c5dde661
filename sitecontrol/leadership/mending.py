"""Who writes over what is not believed in etcd, and when: the `records` lane, and a row of `step`. Pure.

Each record has one owner, its leader, who writes what is believed in the place of the bad value; nobody else does, but
for `term`: while nobody leads whoever may lead next has to. What a mend writes never says more than what is known:

* `sync` names only standbys that our commits wait for at this moment. So it can bring back none that has just left
  step, even if we never saw our own word of that. It is written in the lane of those who leave and come in, beside
  neither.
* `leader` under our own lease, which is still safe.
* a bad `swap` that we never read otherwise ends: before its hand-over nothing has moved, and after it nothing needs it.
* nothing in the place of a record that says a later version of this program wrote it, while an agent of such a version
  is heard, and for a while after (`Facts.of_later_version`). Without one anybody may have written it: it is garbage.
* a bad `desired` that we never read otherwise stays, and counts as a pause: a person has to say it again.
"""

from collections.abc import Sequence

from sitecontrol.leadership.effects import Effect, Mend
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.table import Row

STRAY_PATIENCE = 3.0  # seconds in which whoever led may write `leader` over, before another takes the lead


def _ours(f: Facts) -> bool:
    return f.lead and f.etcd_here and f.lease_safe


def mends_sync(f: Facts) -> bool:
    return f.mendable("sync") and _ours(f)


def mend_sync(f: Facts) -> Effect:
    return Mend(name="sync", waited_for=f.pg.names if f.pg.state is PgState.PRIMARY else ())


def _mends_initialize(f: Facts) -> bool:
    """The data is the cluster's: etcd names us as the leader with this very incarnation. An agent that was just started
    has nothing else to judge another cluster's identifier by.
    """
    if not _ours(f):
        return False
    leader, told = f.leader, f.cluster.initialize
    known = leader is not None and leader.record.incarnation == f.pg.incarnation
    foreign = told is not None and told.record.system_id != f.pg.system_id and not f.bad("initialize")
    return (f.mendable("initialize") or foreign) and known and f.pg.system_id is not None


def _mends_term(f: Facts) -> bool:
    if not f.mendable("term") or f.cluster.term is None:
        return False
    return _ours(f) or (f.leader is None and f.may_lead and f.etcd_here and f.lease_safe)


def stray(f: Facts) -> bool:
    """`leader` holds something that is no leader, and whoever led may still write it over; or a later version leads."""
    bad = f.cluster.bad.get("leader")
    waited = 0.0 if f.leader_absent_since is None else f.now - f.leader_absent_since
    return bad is not None and f.leader is None and (waited < STRAY_PATIENCE or f.of_later_version(bad))


def in_step_unknown(f: Facts) -> bool:
    """Nobody leads, and `sync` as it stands is not believed: nobody knows who holds everything."""
    return f.leader is None and f.bad("sync")


ROWS: Sequence[Row] = (
    Row(
        "mend-leader",
        "`leader` was overwritten, but our lease lives and nobody else leads: write it anew.",
        lambda f: f.mendable("leader") and _ours(f),
        lambda _: Mend(name="leader"),
    ),
    Row(
        "mend-term",
        "`term` does not say what the leader's record and the history say: write the last term granted.",
        _mends_term,
        lambda _: Mend(name="term"),
    ),
    Row(
        "mend-initialize",
        "`initialize` does not name our cluster, and we lead it: write its identifier anew.",
        _mends_initialize,
        lambda _: Mend(name="initialize"),
    ),
    Row(
        "mend-swap",
        "`swap` does not decode: write the swap in progress anew, or end it if none was known.",
        lambda f: f.mendable("swap") and _ours(f),
        lambda _: Mend(name="swap"),
    ),
    Row(
        "mend-desired",
        "`desired` does not decode: write anew what people wanted.",
        lambda f: f.mendable("desired") and f.cluster.desired is not None and _ours(f),
        lambda _: Mend(name="desired"),
    ),
    Row(
        "bad-records",
        "Something in etcd is not believed (`bad_records` names it), and it is not ours to write over.",
        lambda f: bool(f.cluster.bad),
    ),
    Row("believed", "Everything in etcd is believed.", lambda _: True),
)
