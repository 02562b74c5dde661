"""What an agent can do, as data. The executor carries each out; every one can be repeated after a crash.

Effects belong to lanes. One effect of a lane runs at a time, lanes run beside each other; a `Fence` is the
exception: it ends whatever the PostgreSQL lane is doing.
"""

from dataclasses import dataclass

from sitecontrol.records import Phase, Position


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Root of all effects."""


# -- lane "postgres": our own PostgreSQL ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Bootstrap(Effect):
    """Make the first data directory, and with one transaction the cluster's first records."""


@dataclass(frozen=True, kw_only=True)
class Claim(Effect):
    """Take the lead in the next term, if nothing that we reasoned from has changed."""

    kind: str
    evidence: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Reclaim(Effect):
    """Create `leader` again in the *same* term, after etcd lost our lease while we went on serving."""


@dataclass(frozen=True, kw_only=True)
class StartPrimary(Effect):
    """Start our PostgreSQL as the primary that it was; it stays closed until `Open`."""


@dataclass(frozen=True, kw_only=True)
class Promote(Effect):
    """End recovery. Only ever decided while `leader` is ours."""


@dataclass(frozen=True, kw_only=True)
class Narrow(Effect):
    """Write `sync` = {us}: from now on nobody else may lead."""


@dataclass(frozen=True, kw_only=True)
class Open(Effect):
    """Commit a barrier, then write the row that lets dispatchers in."""


@dataclass(frozen=True, kw_only=True)
class StartStandby(Effect):
    """Start (or re-point) our PostgreSQL as a standby of the leader."""

    leader: str


@dataclass(frozen=True, kw_only=True)
class Rewind(Effect):
    """Bring a diverged data directory back to the leader's history."""

    leader: str


@dataclass(frozen=True, kw_only=True)
class Clone(Effect):
    """Take a fresh copy of the leader; the old data directory is set aside until it is complete."""

    leader: str
    unless_followed: bool = (
        False  # not if the leader is reached and our standby takes from it again by itself
    )


@dataclass(frozen=True, kw_only=True)
class Fence(Effect):
    """Stop acting as leader at once: close, end sessions, stop PostgreSQL with its whole process group."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class GiveUp(Effect):
    """End PostgreSQL's whole process group, then delete `leader` so that another may lead at once."""

    reason: str
    disown: bool = (
        False  # and this data directory counts as another one from now on, which holds nothing for sure
    )


@dataclass(frozen=True, kw_only=True)
class ServeOn(Effect):
    """Open in the old term without etcd, after the standbys in step have confirmed that they still follow."""


# -- lane "step": who is in step ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Leave(Effect):
    """Take these standbys out of `sync` in etcd, and only then out of synchronous_standby_names."""

    nodes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Join(Effect):
    """Bring a standby into step by the order of failover rule 3."""

    node: str


@dataclass(frozen=True, kw_only=True)
class ShowRemote(Effect):
    """Make the row tell truly which standbys of other sites every commit waits for."""

    nodes: tuple[str, ...]


# -- lane "swap": the planned swap ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BeginPlanned(Effect):
    """Ask for the swap that an operator has planned, and plan it no more: one transaction."""

    to_node: str


@dataclass(frozen=True, kw_only=True)
class DropPlanned(Effect):
    """Nothing moves: write the history of a planned swap that cannot begin, and plan it no more."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Advance(Effect):
    """Write the swap's next phase (and for CHECKED take a checkpoint first, so that the shutdown is short)."""

    phase: Phase


@dataclass(frozen=True, kw_only=True)
class ShutDownForSwap(Effect):
    """Shut the old leader's PostgreSQL down clean, within the phase's deadline."""


@dataclass(frozen=True, kw_only=True)
class HandOver(Effect):
    """One transaction moves `leader` and `term` to the target and names us as in step."""

    shutdown_lsn: int


@dataclass(frozen=True, kw_only=True)
class RollBack(Effect):
    """End the swap by a *write* to `swap`, so that a late hand-over cannot apply any more."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Finish(Effect):
    """Write the history of a completed swap and delete its record."""


# -- lane "health": a swap because the live site is unfit -----------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AskForSwap(Effect):
    """Ask for a planned swap by create-if-absent, if no word that speaks for it has changed meanwhile."""

    to_node: str
    reason: str
    places: tuple[str, ...]  # whose observations speak for it
    evidence: dict[str, str]
    by: str = "health"


# -- lane "records" ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mend(Effect):
    """Write a record over that is not believed, if it is still the very one that was seen."""

    name: str
    waited_for: tuple[str, ...] = ()  # the standbys of which alone `sync` may speak


# -- lane "upkeep" -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Effect):
    """Have the control file tell the timeline that we are on; on a standby it is a restartpoint."""


@dataclass(frozen=True, kw_only=True)
class RecordReached(Effect):
    """Write to etcd how far those who hold everything have come."""

    nodes: tuple[Position, ...]


@dataclass(frozen=True, kw_only=True)
class KeepWal(Effect):
    """Keep WAL for the nodes that may return, and no longer than they need it: by slots, in this order."""

    drop: tuple[str, ...]
    make: tuple[str, ...]
    move: tuple[tuple[str, int], ...]  # to where its node has everything


@dataclass(frozen=True, kw_only=True)
class MoveEtcdLeader(Effect):
    """etcd's own leader should not run in the live site: its loss would prolong every lease."""

    member_id: int
