"""Campaigns as tests of the store need them: two texts a row, small batches, and a feeder's hand."""

from typing import Any
from uuid import UUID

from dispatcher.campaigns.model import BadRow, Batch, Campaign, Fed, NewCampaign, Text
from dispatcher.campaigns.states import Act
from dispatcher.model import Encoding, MessageClass, OnDoubt
from dispatcher.uuid7 import Ids
from sitecontrol.clock import SystemClock
from tests.message_scenes import Stage, new_id

KEY_SHOWN = "hs_columbus"
IDS = Ids(SystemClock())


def new_campaign(stage: Stage, **changes: Any) -> NewCampaign:
    fields: dict[str, Any] = {
        "id": new_id(),
        "account_id": stage.program.account_id,
        "program_id": stage.program.id,
        "name": "Storm of Nov 27",
        "template": None,
        "text": "Back by {eta}.",
        "variables": [{"name": "eta", "type": "time"}],
        "message_class": MessageClass.SERVICE,
        "on_doubt": OnDoubt.HOLD,
        "created_by": KEY_SHOWN,
    } | changes
    return NewCampaign(**fields)


def batch(number: int, texts: int = 2, bad: int = 0, topic: str | None = None) -> Batch:
    """Lines go on from one batch to the next: 2, 3, …"""
    first = 2 + (number - 1) * (texts + bad)
    return Batch(
        number=number,
        texts=[
            Text(line, f"+1614555{line:04}", f"Back by 5 pm, row {line}.", Encoding.GSM, 1, topic)
            for line in range(first, first + texts)
        ],
        bad=[
            BadRow(line, "eta", "is not a time of day such as 17:30 or 5:30 pm", "so\0on")
            for line in range(first + texts, first + texts + bad)
        ],
    )


async def uploaded(
    stage: Stage, batches: int = 4, *, bad: int = 0, topic: str | None = None, **changes: Any
) -> Campaign:
    """A draft with its list."""
    made = await stage.store.create_campaign(stage.term, new_campaign(stage, **changes))
    upload = await stage.store.begin_list(stage.term, made.account_id, made.id)
    assert upload is not None
    numbers = range(1, batches + 1)
    added = await stage.store.add_to_list(
        stage.term,
        made.account_id,
        made.id,
        upload,
        [batch(number, bad=bad, topic=topic) for number in numbers],
    )
    assert added
    ended = await stage.store.end_list(stage.term, made.account_id, made.id, upload, batches, KEY_SHOWN)
    assert ended is not None
    return ended


async def started(stage: Stage, batches: int = 4, **changes: Any) -> Campaign:
    return await act(stage, await uploaded(stage, batches, **changes), Act.START)


async def act(stage: Stage, campaign: Campaign, what: Act) -> Campaign:
    changed = await stage.store.change_campaign(stage.term, campaign.account_id, campaign.id, what, KEY_SHOWN)
    assert changed is not None
    return changed


async def look(stage: Stage, campaign_id: UUID) -> Campaign:
    [found] = await stage.store.campaigns(stage.term, stage.program.account_id, campaign_id=campaign_id)
    return found


async def feed(stage: Stage, batches: int = 1, ahead: int = 2) -> Fed | None:
    return await stage.store.feed_campaign(stage.term, IDS.new(), batches, ahead)
