"""Makes docs/decisions.md out of the tables of decisions: `python -m tests.decisions_page > docs/decisions.md`.

The diagrams are not drawn from what somebody thinks the rows do: `decide` is asked about some thousand situations,
and each edge is an answer that it gave. A test fails when the page is not the tables' any more.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sitecontrol.leadership import effects
from sitecontrol.leadership.decide import TABLE, decide
from sitecontrol.leadership.effects import Effect
from sitecontrol.leadership.facts import Facts, LeaseFacts, Peer, PgState
from sitecontrol.leadership.observed import Subject, Watch
from sitecontrol.leadership.swapping import BEFORE_HAND_OVER, DEADLINES
from sitecontrol.leadership.table import Lane, Row
from sitecontrol.records import SWAP_PHASES, Desired, HistoryEntry, Initialize, Phase, Position, Reached, Term
from tests.unit.leadership_facts import (
    COLUMBUS,
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    WALL,
    at_columbus,
    cluster,
    dispatcher,
    entry,
    leader,
    member,
    primary,
    standby,
    swap,
    sync,
)

WHAT = {
    Lane.POSTGRES: "our own PostgreSQL, and our claim to lead",
    Lane.STEP: "which standbys are in step",
    Lane.SWAP: "the planned swap",
    Lane.HEALTH: "whether to ask for a swap because the live site is unfit",
    Lane.RECORDS: "what stands in etcd and is not believed",
    Lane.REACHED: "how far those who hold everything have come",
    Lane.UPKEEP: "upkeep",
}
# How our PostgreSQL stands when the effect is done. What is not named leaves it as it is.
AFTER: Mapping[type[Effect], PgState] = {
    effects.Bootstrap: PgState.PRIMARY,
    effects.StartPrimary: PgState.PRIMARY,
    effects.Promote: PgState.PRIMARY,
    effects.StartStandby: PgState.STANDBY,
    effects.Rewind: PgState.STANDBY,
    effects.Clone: PgState.STANDBY,
    effects.Fence: PgState.STOPPED,
    effects.GiveUp: PgState.STOPPED,
    effects.ShutDownForSwap: PgState.STOPPED,
}
LEADS, OTHER, NOBODY, NOTHING = "we lead", "another node leads", "nobody leads", "nothing exists yet"
HEAD = """\
# The decisions

What every agent does, in every situation: one table in seven lanes, `sitecontrol/leadership/decide.py`. Each lane
is read from the top, and the first row that holds is taken. A row without an effect is a decision too: to hold still.

This page is made from the table (`python -m tests.decisions_page > docs/decisions.md`), and a test compares them. Why
the rows are what they are: [failover.md](failover.md).
"""


# -- situations --------------------------------------------------------------------------------------------------


def situations() -> Iterator[Facts]:
    """Each combination of what matters most, with one thing more or none."""
    for base, state, was_primary, opened in itertools.product(
        relations(), PgState, (False, True), (False, True)
    ):
        make = primary if state is PgState.PRIMARY or was_primary else standby
        pg = make(
            state=state,
            was_primary=was_primary,
            open_term=3 if opened and state is PgState.PRIMARY else None,
            incarnation=f"disk-{COLUMBUS}",
            follows=DENVER,
            compared_in=3,
            system_id=None if state is PgState.ABSENT else "7",
        )
        facts = replace(base, pg=pg)
        yield facts
        for change in CHANGES:
            yield change(facts)


def relation_of(f: Facts) -> str:
    if f.cluster.initialize is None or f.cluster.term is None:
        return NOTHING
    if f.lead:
        return LEADS
    return OTHER if f.leader is not None and f.leader.record.node != f.node else NOBODY


def relations() -> Iterator[Facts]:
    """Who leads and who is in step, seen from columbus-a."""
    ours = entry(sync(COLUMBUS, DENVER))
    in_step = entry(sync(DENVER, COLUMBUS))
    barred = entry(sync(DENVER))
    denver = {"leader": entry(leader(DENVER), THEIR_LEASE)}
    yield at_columbus()
    yield at_columbus(cluster=cluster(sync=entry(sync(COLUMBUS))))
    yield at_columbus(cluster=cluster(sync=in_step))
    yield at_columbus(cluster=cluster(**denver, sync=in_step))
    yield at_columbus(cluster=cluster(**denver, sync=barred))
    yield at_columbus(cluster=cluster(leader=None, sync=ours), leader_absent_since=99.0)
    yield at_columbus(cluster=cluster(leader=None, sync=in_step), leader_absent_since=99.0)
    yield at_columbus(cluster=cluster(leader=None, sync=barred), leader_absent_since=99.0)
    nothing = cluster(initialize=None, leader=None, term=None, sync=None, members={})
    yield at_columbus(cluster=nothing, leader_absent_since=99.0)


def _pg(**change: Any) -> Callable[[Facts], Facts]:
    return lambda f: replace(f, pg=replace(f.pg, **change))


def _cluster(**change: Any) -> Callable[[Facts], Facts]:
    return lambda f: replace(f, cluster=replace(f.cluster, **change))


def _both(*changes: Callable[[Facts], Facts]) -> Callable[[Facts], Facts]:
    def change(f: Facts) -> Facts:
        for one in changes:
            f = one(f)
        return f

    return change


def _swap(phase: Phase, *, back: bool = False, **more: Any) -> Callable[[Facts], Facts]:
    """From columbus to denver, or `back`: then it was asked for in the term before."""
    record = swap(phase, DENVER, COLUMBUS, term=2) if back else swap(phase)
    drained = {"columbus-1": entry(dispatcher("columbus-1", "columbus", held_for="s1"))}
    return lambda f: replace(
        f, cluster=replace(f.cluster, swap=entry(record), dispatchers=drained), swap_phase_since=99.5, **more
    )


# What an operator said in the term before.
WORD = HistoryEntry(term=2, node=COLUMBUS, site="columbus", at=WALL, kind="forced", by="op")
HAD_MORE = Reached(system_id="7", term=3, nodes=(Position(node=COLUMBUS, timeline=1, lsn=2_000),))
CHANGES: tuple[Callable[[Facts], Facts], ...] = (
    _cluster(sync=entry(sync(COLUMBUS, term=2)), history={"0000000002-forced-1": entry(WORD)}),
    lambda f: replace(f, cluster_read=False),
    lambda f: replace(f, etcd_heard_at=90.0, lease=LeaseFacts(), pg=replace(f.pg, canary_at=90.0)),
    lambda f: replace(f, etcd_heard_at=90.0, lease=LeaseFacts()),
    lambda f: replace(f, lead_since=80.0),
    lambda f: replace(f, lease=LeaseFacts(id=OUR_LEASE, ends_at=100.1)),
    lambda f: replace(f, lease=LeaseFacts(id=77, ends_at=101.8), node=COLUMBUS),
    lambda f: replace(f, leader_absent_since=70.0, preferred=False),
    lambda f: replace(f, repairs=1),
    lambda f: replace(f, follow_failed_since=90.0),
    lambda f: replace(f, follow_failed_since=90.0, pg=replace(f.pg, timeline=2)),
    lambda f: replace(f, follow_failed_since=60.0, repairs=1),
    lambda f: replace(f, pg=replace(f.pg, failed_starts=3), repairs=1),
    _pg(failed_starts=3),
    _pg(failed_starts=1, start_failed_at=99.5),
    _pg(system_id="8"),
    _pg(down_since=90.0),
    _pg(unflushed_since=90.0),
    _pg(since=99.9),
    _pg(follows=COLUMBUS),
    _pg(apart_from=DENVER),
    _pg(incarnation="disk-older"),
    _pg(canary_at=90.0),
    _pg(unfinished=True, system_id="8"),
    _pg(clean_shutdown_lsn=2_000),
    _cluster(initialize=entry(Initialize(system_id="0"), THEIR_LEASE)),
    _cluster(desired=entry(Desired(paused=True))),
    _both(_cluster(desired=entry(Desired(paused=True))), _pg(canary_at=90.0)),
    _cluster(term=entry(Term(term=3, released_by=COLUMBUS))),
    _cluster(members={COLUMBUS: entry(member(COLUMBUS), OUR_LEASE)}),
    _cluster(members={COLUMBUS: entry(member(COLUMBUS, incarnation="disk-other"), THEIR_LEASE)}),
    _both(_cluster(members={}), _pg(down_since=90.0)),
    _cluster(reached=entry(HAD_MORE)),
    _cluster(sync=entry(sync(COLUMBUS, term=2).model_copy(update={"opens_above": 1}))),
    _both(_cluster(reached=entry(HAD_MORE)), lambda f: replace(f, lead_since=80.0)),
    _swap(Phase.HELD),
    _both(_swap(Phase.HELD), _pg(clean_shutdown_lsn=2_000)),
    _both(
        _swap(Phase.HELD),
        _pg(clean_shutdown_lsn=2_000),
        lambda f: replace(f, swap_phase_since=91.0, etcd_heard_at=91.5, hand_over_unsent=True),
    ),
    _both(
        _swap(Phase.HANDED),
        _pg(clean_shutdown_lsn=2_000),
        _cluster(leader=entry(leader(DENVER, term=4), THEIR_LEASE), term=entry(Term(term=4))),
    ),
)


# -- the page ------------------------------------------------------------------------------------------------------


def page() -> str:
    parts = [HEAD, diagrams(), phases()]
    parts += [f"## Lane `{lane.value}`: {WHAT[lane]}\n\n{table(lane)}" for lane in TABLE]
    return "\n".join(parts)


def sample_effect(row: Row) -> Effect | None:
    """What the row does, were it taken in a swap's middle: of which kind that is does not depend on the facts."""
    peers = {DENVER: Peer(received_lsn=2_000, asked_at=99.9)}
    unfit = Watch(subject=Subject(node=COLUMBUS, term=3, target="denver"))
    return row.then(_swap(Phase.HELD)(at_columbus(peers=peers, wall=WALL, health=unfit)))


def table(lane: Lane) -> str:
    lines = ["| rule | decision | effect |", "|---|---|---|"]
    for row in TABLE[lane]:
        found = sample_effect(row)
        does = f"`{type(found).__name__}`" if found is not None else ""
        lines.append(f"| `{row.name}` | {row.sentence} | {does} |")
    return "\n".join(lines) + "\n"


def edges() -> dict[str, dict[tuple[PgState, PgState], set[str]]]:
    """Who leads → (state before, state after) → the rules that lead from one to the other."""
    found: dict[str, dict[tuple[PgState, PgState], set[str]]] = defaultdict(lambda: defaultdict(set))
    for facts in situations():
        decision = decide(Lane.POSTGRES, facts)
        if decision.effect is None:
            continue
        before = facts.pg.state
        after = AFTER.get(type(decision.effect), before)
        found[relation_of(facts)][before, after].add(decision.rule)
    return found


def diagrams() -> str:
    order = [row.name for row in TABLE[Lane.POSTGRES]]
    states = list(PgState)
    parts = ["## How a node's PostgreSQL moves\n"]
    known = edges()
    for relation in (NOTHING, LEADS, OTHER, NOBODY):
        lines = [f"When {relation}:\n", "```mermaid", "stateDiagram-v2"]
        moves = sorted(known[relation].items(), key=lambda e: (states.index(e[0][0]), states.index(e[0][1])))
        for (before, after), rules in moves:
            label = ", ".join(sorted(rules, key=order.index))
            lines.append(f"    {before.value} --> {after.value}: {label}")
        parts.append("\n".join([*lines, "```\n"]))
    return "\n".join(parts)


def phases() -> str:
    """The phases of a planned swap, with the setting that bounds each."""
    lines = [
        "## The phases of a planned swap\n",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {SWAP_PHASES[0].value}",
    ]
    written = [phase for phase in SWAP_PHASES if phase in DEADLINES]
    for before, after in itertools.pairwise(written):
        between = SWAP_PHASES[SWAP_PHASES.index(before) + 1 : SWAP_PHASES.index(after)]
        noted = f": noted on the way, {', '.join(phase.value for phase in between)}" if between else ""
        lines.append(f"    {before.value} --> {after.value}{noted}")
    lines.append(f"    {written[-1].value} --> [*]: in step, or past its deadline")
    lines += [
        f"    {phase.value} --> rolled_back: past {DEADLINES[phase]}, or refused"
        for phase in BEFORE_HAND_OVER
    ]
    lines += ["    rolled_back --> [*]", "```\n", "| phase | its deadline |", "|---|---|"]
    lines += [f"| {phase.value} | `failover.{DEADLINES[phase]}` |" for phase in written]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 # what it is for
