"""The store in memory: the same promises without a database, for tests and for trying things out.

It says what the SQL functions mean, in the plainest way: every look-up walks all segments. The conformance suite
runs on both. Each method does its work without an await in between, which makes it one transaction.

A class for each part of the protocol, over one set of rows: `tables` has the rows, `messages` what the API asks for,
`sending` the claims, `receipts` what carriers tell, `clockwork` what time brings, `campaigns` what is sent to lists,
`webhooks` what accounts are told (with `feed` and `posting` below it).
"""

from dispatcher.memory_store.campaigns import Campaigns
from dispatcher.memory_store.clockwork import Clockwork
from dispatcher.memory_store.sending import Sending
from dispatcher.memory_store.webhooks import Webhooks

__all__ = ["MemoryStore"]


class MemoryStore(Campaigns, Webhooks, Sending, Clockwork):
    """A whole `dispatcher.store.Store`."""

    async def aclose(self) -> None:
        """There is nothing to close."""
