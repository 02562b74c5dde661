"""`python -m tests.poster_process HOST PORT DATABASE NAME`: posts webhooks until it is killed."""

import asyncio
import sys
from ipaddress import ip_network

from dispatcher.postgres_store import PostgresStore
from dispatcher.webhooks.deliverer import Deliverer
from dispatcher.webhooks.poster import Poster
from replication.session import Session, Target
from sitecontrol.clock import SystemClock
from tests.api_server import HandHeldLeadership


def poster(leadership: HandHeldLeadership, name: str, claim_for_s: float, post_s: float) -> Poster:
    return Poster(
        identity=name,
        leadership=leadership,
        deliverer=Deliverer(allowed=[ip_network("127.0.0.0/8")], plain=True),
        clock=SystemClock(),
        claim_for_s=claim_for_s,
        post_s=post_s,
    )


async def post(target: Target, name: str) -> None:
    store = PostgresStore(await Session.connect(target, timeout=5))
    await poster(HandHeldLeadership(store), name, 30.0, 10.0).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    host, port, database, name = sys.argv[1:]
    asyncio.run(post(Target(host=host, port=int(port), user="hotsite_dispatch", database=database), name))
