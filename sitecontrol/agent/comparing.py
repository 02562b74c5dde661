"""Whether a leader's history goes on from ours: asked of the leader itself, before we follow it in a new term.

PostgreSQL would not notice: it compares the numbers of timelines, and two nodes that were promoted from the same
position both begin the same one (docs/adr/0013). It is asked again in each term, because a leader that was re-elected
may have begun a timeline with the number of one that we have taken from somebody else.
"""

import asyncio

from replication import histories, timelines
from replication.errors import NeedsClone, NodeError, SessionLost
from replication.node import Node
from replication.session import Target

ASK_WITHIN = 1.0  # seconds, for all of it; a claim to lead waits for no leader that is gone (`agent.lanes`)


async def goes_on(node: Node, leader: Target, system_id: str) -> bool:
    """See that the leader's history goes on from ours, as far as it has one; returns whether it is promoted.

    Until it is, it may still begin a timeline of the number of one that we receive meanwhile: ask again.

    Raises NeedsClone when they contradict each other, or ours cannot be read; NodeError when the leader may begin the
    timeline yet, or is of another cluster than `system_id`; SessionLost and what `Session.read` raises when it does not
    tell.
    """
    where = f"{leader.host}:{leader.port}"
    try:
        async with asyncio.timeout(ASK_WITHIN):
            says = await histories.ask(leader, timeout=ASK_WITHIN)
    except TimeoutError as error:
        raise SessionLost(f"{where} did not tell its history within {ASK_WITHIN} s") from error
    if says.system_id != system_id:
        raise NodeError(f"{where} is of another cluster: its system identifier is {says.system_id}")
    ours = await node.told()
    newest = max((stretch.timeline for stretch in ours), default=1)
    if says.in_recovery and newest > says.timeline:
        raise NodeError(
            f"{where} is not promoted yet: whether its next timeline is our {newest} is not known"
        )
    if (other := timelines.contradicted(ours, says.history)) is not None:
        raise NeedsClone(f"timeline {other} of {where} is another one than ours of that number")
    return not says.in_recovery
