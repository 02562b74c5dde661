"""Whether a leader's history goes on from ours: asked of the leader itself, before we follow it in a new term.

PostgreSQL would not notice: it compares the numbers of timelines, and two nodes that were promoted from the same
position both begin the same one (docs/adr/0013). It is asked again in each term, because a leader that was re-elected
may have begun a timeline with the number of one that we have taken from somebody else.
"""

from replication import histories, timelines
from replication.errors import NodeError
from replication.node import Node
from replication.session import Target

ASK_WITHIN = 1.0  # seconds


async def apart(node: Node, leader: Target) -> int | None:
    """The timeline that we and the leader know by one number, and that is not the same one; None: there is none.

    Raises NodeError when the leader may begin it yet, SessionLost and what `Session.read` raises when it does not tell.
    """
    says = await histories.ask(leader, timeout=ASK_WITHIN)
    ours = node.told()
    newest = max((stretch.timeline for stretch in ours), default=1)
    if says.in_recovery and newest > says.timeline:
        raise NodeError(
            f"{leader.host}:{leader.port} is not promoted yet: whether its next timeline is our {newest} is not known"
        )
    return timelines.contradicted(ours, says.history)
