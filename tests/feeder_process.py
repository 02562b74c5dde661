"""`python -m tests.feeder_process HOST PORT DATABASE`: feeds campaigns without a pause until it is killed.

Says a line when it begins, so that a test knows that it is in the middle of it.
"""

import asyncio
import sys

from dispatcher.postgres_store import PostgresStore
from dispatcher.uuid7 import Ids
from replication.session import Session, Target
from sitecontrol.clock import SystemClock
from tests.message_store import TERM


async def feed(target: Target) -> None:
    store = PostgresStore(await Session.connect(target, timeout=5))
    ids = Ids(SystemClock())
    sys.stdout.write("feeding\n")
    sys.stdout.flush()
    while True:
        await store.feed_campaign(TERM, ids.new(), 1, 4)


if __name__ == "__main__":
    host, port, database = sys.argv[1:]
    asyncio.run(feed(Target(host=host, port=int(port), user="hotsite_dispatch", database=database)))
