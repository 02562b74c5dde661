"""The store on PostgreSQL: one warm session, and one function call of schema `hotsite` for each operation.

Rules:

* Everything that changes or acknowledges something goes through `Session.commit`, which answers only when the
  commit is known. What is only looked at on the way (open claims, counts, keys) goes through `Session.read`.
* A group's durability is asked for in a second statement, after the commit (failover rule 7): two round trips.
* Arrays are sorted by (message, segment) where rows get locked, so that two sessions never wait for each other.
* Receipts without a known id are judged here (`dispatcher.doubt`) and settled in a second commit: when that is
  not reached, they are parked, and the next one to look finds them there.

A class for each part of the protocol: `messages` is what the API asks for, `sending` the claims, `receipts` what
carriers tell, `clockwork` what time brings, `campaigns` what is sent to whole lists, `webhooks` what accounts are told;
all of them call by `statements`.
"""

from dispatcher.postgres_store.campaigns import Campaigns
from dispatcher.postgres_store.clockwork import Clockwork
from dispatcher.postgres_store.messages import Messages
from dispatcher.postgres_store.sending import Sending
from dispatcher.postgres_store.statements import QUERIES
from dispatcher.postgres_store.webhooks import Webhooks

__all__ = ["QUERIES", "PostgresStore"]


class PostgresStore(Messages, Sending, Clockwork, Campaigns, Webhooks):
    """A whole `dispatcher.store.Store`."""
