"""What the leader's PostgreSQL does for a swap that leaves it: rows of the `postgres` lane. Pure.

It is shut down clean and waits, shut down, for the hand-over or for the end of the swap. When etcd is lost meanwhile
there is neither, and so it serves on, past the swap's deadline, as a leader does that loses etcd at any other time. Why
that is safe:

* What it acknowledges the standbys of `sync` have confirmed, and whoever may be promoted is one of them: one that was
  promoted confirms nothing more. It opens only after they have confirmed a commit that began after its start.
* Nobody can have come into `sync` unseen: `held` was written over all that was under way, and nobody joins in it.
* A hand-over that was sent may have been applied, or will be: another term may have begun, and it stays down. Past the
  deadline none is sent any more. An agent that has not seen the swap since before one could be sent takes it for sent.
"""

from collections.abc import Sequence

from sitecontrol.leadership import swapping
from sitecontrol.leadership.effects import ServeOn, ShutDownForSwap, StartPrimary
from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.leadership.steps import unawaited
from sitecontrol.leadership.table import Row
from sitecontrol.records import Phase


def left_by_etcd(f: Facts) -> bool:
    """The swap can neither be handed over nor rolled back, and nothing of it can have moved the lead."""
    held = f.swap_leaves_us and f.in_phase(Phase.HELD)
    return held and not f.etcd_here and not swapping.in_time(f) and f.hand_over_unsent


def _commits_wait_for_all_in_step(f: Facts) -> bool:
    ours = f.sync is not None and (f.sync.leader, f.sync.term) == (f.node, f.term)
    return ours and not unawaited(f)


ROWS: Sequence[Row] = (
    Row(
        "shut-down-for-swap",
        "Dispatchers hold their requests and the carriers' windows are drained, or their time is up: shut down clean.",
        lambda f: (
            f.swap_leaves_us
            and f.in_phase(Phase.HELD)
            and f.pg.state is PgState.PRIMARY
            and swapping.in_time(f)
            and f.etcd_here
            and f.lease_safe
            and not swapping.target_lost(f)
            and (f.drained or f.phase_age > f.settings.drain_within)
        ),
        lambda _: ShutDownForSwap(),
    ),
    Row(
        "start-without-etcd",
        "Shut down for a swap that is past its deadline; etcd is silent, no hand-over was sent: start again, closed.",
        lambda f: left_by_etcd(f) and f.pg.state is PgState.STOPPED,
        lambda _: StartPrimary(),
    ),
    Row(
        "serve-on",
        "Etcd was lost in the middle of a swap that cannot have moved the lead: let dispatchers in, in the old term,"
        " once the standbys confirm that they still follow.",
        lambda f: (
            left_by_etcd(f)
            and f.pg.state is PgState.PRIMARY
            and not f.open
            and _commits_wait_for_all_in_step(f)
        ),
        lambda _: ServeOn(),
    ),
    Row(
        "shut-down-awaits-hand-over",
        "PostgreSQL is shut down clean for the swap: leave it so until the lead is handed over or the swap ends.",
        lambda f: (
            f.swap_leaves_us
            and f.in_phase(Phase.HELD)
            and f.pg.state is PgState.STOPPED
            and f.pg.clean_shutdown_lsn is not None
        ),
    ),
)
