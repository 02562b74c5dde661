"""Customers' replies and campaigns that are old enough are deleted, some in each call, each call a commit of its own.

They are few beside messages: their tables are not partitioned, and they are not archived.
"""

from datetime import datetime
from typing import Final

import structlog

from dispatcher.retention.store import RetentionStore
from sitecontrol.clock import Clock

log = structlog.get_logger()

REPLIES_AT_ONCE: Final = 1_000
PAUSE_S: Final = 0.1  # between two calls: nobody is in a hurry


async def forget_replies(store: RetentionStore, clock: Clock, before: datetime, *, calls: int) -> int:
    """How many were deleted, in so many calls at most."""
    total = 0
    for _ in range(calls):
        forgotten = await store.forget_replies(before, REPLIES_AT_ONCE)
        total += forgotten
        if forgotten < REPLIES_AT_ONCE:
            break
        await clock.sleep(PAUSE_S)
    if total:
        log.info("replies_deleted", count=total, stored_before=str(before))
    return total


async def forget_campaigns(store: RetentionStore, clock: Clock, before: datetime, *, calls: int) -> int:
    """How many were deleted, each in a call of its own."""
    for total in range(calls):
        campaign = await store.forget_campaign(before)
        if campaign is None:
            return total
        log.info("campaign_deleted", campaign=str(campaign), ended_before=str(before))
        await clock.sleep(PAUSE_S)
    return calls
