"""What stands in the way of what an operator asks of one node: to clone it afresh, to try again now, to count it as
gone for good; and what would come of it. Pure: a dry run and the act itself ask the same. (To trust one: `trusting`.)
"""

from sitecontrol.leadership.facts import Facts
from sitecontrol.leadership.slots import slot_of


def in_the_way_of_reclone(f: Facts) -> tuple[str, ...]:
    """Of throwing our own data directory away: it must not be the only one that is sure to hold everything."""
    found = [*_nobody_to_follow(f)]
    leader, sync = f.leader, f.sync
    if leader is None or found:
        return tuple(found)
    there = leader.record.node
    if f.member(there) is None:
        found.append(f"the agent of {there}, which leads, is not heard: ours may be the only complete copy")
    if sync is None or (sync.leader, sync.term) != (there, leader.record.term):
        found.append(
            f"{there} has not written yet that it holds everything: ours may be the only complete copy"
        )
    return tuple(found)


def in_the_way_of_rejoin(f: Facts) -> tuple[str, ...]:
    found = [*_nobody_to_follow(f)]
    if not found and f.pg.upstream and f.our_place_in_step is not None:
        found.append(f"{f.node} follows and is in step: there is nothing to try again")
    return tuple(found)


def comes_of_rejoin(f: Facts) -> tuple[str, ...]:
    leader = f.leader.record.node if f.leader else None
    if leader is None or not f.pg.upstream:
        return ()
    return (
        f"should {leader} have {f.node} wait after tries in vain to bring it into step, it tries again at once",
    )


def _nobody_to_follow(f: Facts) -> list[str]:
    found = []
    if not f.etcd_here:
        found.append(f"{f.node} does not reach etcd: who leads is not known for sure")
    if f.leader is None:
        found.append("nobody leads: there is nothing to take a copy of")
    elif f.leader.record.node == f.node:
        found.append(f"{f.node} leads: move production away first (`sitectl swap --to SITE`)")
    if f.swap is not None:
        found.append(f"swap {f.swap.id} is in progress ({f.swap.phase.value}): wait for its end")
    return found


def in_the_way_of_removal(f: Facts, node: str) -> tuple[str, ...]:
    """Asked of any agent: whether the node may be counted as gone for good."""
    found = []
    sync = f.sync
    if not f.etcd_here:
        found.append(f"{f.node} does not reach etcd: who lives is not known for sure")
    if f.leader is None:
        found.append("nobody leads: what it holds may be needed")
    elif f.leader.record.node == node:
        found.append(f"{node} leads: move production away first (`sitectl swap --to SITE`)")
    if f.member(node) is not None:
        found.append(f"its agent lives: end the agent of {node} for good first")
    if sync is None or sync.leader == node:
        found.append(
            f"{node} is recorded as the one that holds everything: its data may be the only complete copy"
        )
    if f.swap is not None and node in (f.swap.from_node, f.swap.to_node):
        found.append(f"swap {f.swap.id} is in progress with it ({f.swap.phase.value}): wait for its end")
    return tuple(found)


def comes_of_reclone(f: Facts) -> tuple[str, ...]:
    told = ["its data directory goes once the fresh copy is whole; what it alone holds is set aside first"]
    others = [s.node for s in f.sync.standbys if s.node != f.node] if f.sync else []
    if f.our_place_in_step is not None and not others:
        told.append("until it is in step again nobody could take over, and new messages are at one site only")
    return tuple(told)


def comes_of_removal(f: Facts, node: str) -> tuple[str, ...]:
    told = [
        f"the slot {slot_of(node)} goes: no WAL is kept for {node}, and should it return it may be cloned"
    ]
    if f.sync is not None and node in {s.node for s in f.sync.standbys}:
        told.insert(0, f"{node} is taken out of step: new commits wait for it no longer")
    told.append(f"{node} is to be taken out of [[place]] nodes in the settings of all sites, too")
    return tuple(told)
