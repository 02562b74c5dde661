"""What the table decides of given facts, and states of the cluster that many of its tests begin with."""

from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.effects import Effect
from sitecontrol.leadership.facts import Facts, LeaseFacts
from sitecontrol.leadership.table import Lane
from sitecontrol.records import Phase, Term
from tests.unit.leadership_facts import (
    DENVER,
    OUR_LEASE,
    THEIR_LEASE,
    cluster,
    entry,
    leader,
    swap,
    sync,
)


def rule(facts: Facts, lane: Lane = Lane.POSTGRES) -> str:
    return decide(lane, facts).rule


def effect(facts: Facts, lane: Lane = Lane.POSTGRES) -> Effect | None:
    return decide(lane, facts).effect


NO_ETCD = {"etcd_heard_at": 90.0, "lease": LeaseFacts(id=OUR_LEASE, ends_at=92.0)}
NOBODY_LEADS = cluster(leader=None)


DENVER_LEADS = cluster(
    leader=entry(leader(DENVER, 4), THEIR_LEASE), term=entry(Term(term=4)), sync=entry(sync(DENVER, term=4))
)


def swapping(phase: Phase, **change):
    return cluster(swap=entry(swap(phase)), **change)
