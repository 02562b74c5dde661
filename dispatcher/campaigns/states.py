"""What may be done with a campaign, and when. Pure: the store moves it, from one of the states named here only.

```
draft --start--> running --(its last text has left the queue)--> done
                 running --pause--> paused --resume--> running
draft, running, paused --cancel--> canceled
```

Each act may be repeated: where it has been done already, it is answered as done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class CampaignState(StrEnum):
    DRAFT = "draft"  # its list may still be sent, and nothing of it is in the queue
    RUNNING = "running"  # its texts go into the queue as those before them leave it
    PAUSED = "paused"  # none goes in; the few that were in the queue go on
    CANCELED = "canceled"  # none goes in, and what had not left was canceled
    DONE = "done"  # all have left the queue; receipts may still come


class Act(StrEnum):
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True)
class Step:
    """An act leads from these states to that one; in `already` it has been done before."""

    source: frozenset[CampaignState]
    target: CampaignState
    already: frozenset[CampaignState]


_S = CampaignState
STEPS: Final[Mapping[Act, Step]] = {
    Act.START: Step(
        source=frozenset({_S.DRAFT}), target=_S.RUNNING, already=frozenset({_S.RUNNING, _S.DONE})
    ),
    Act.PAUSE: Step(source=frozenset({_S.RUNNING}), target=_S.PAUSED, already=frozenset({_S.PAUSED})),
    Act.RESUME: Step(
        source=frozenset({_S.PAUSED}), target=_S.RUNNING, already=frozenset({_S.RUNNING, _S.DONE})
    ),
    Act.CANCEL: Step(
        source=frozenset({_S.DRAFT, _S.RUNNING, _S.PAUSED}),
        target=_S.CANCELED,
        already=frozenset({_S.CANCELED}),
    ),
}
_WHY_NOT: Final[Mapping[tuple[Act, CampaignState], str]] = {
    (Act.START, _S.PAUSED): "the campaign is paused: resume it",
    (Act.START, _S.CANCELED): "the campaign was canceled: make a new one",
    (Act.PAUSE, _S.DRAFT): "the campaign has not been started",
    (Act.PAUSE, _S.CANCELED): "the campaign was canceled",
    (Act.PAUSE, _S.DONE): "all texts of the campaign have left",
    (Act.RESUME, _S.DRAFT): "the campaign has not been started",
    (Act.RESUME, _S.CANCELED): "the campaign was canceled: make a new one",
    (Act.CANCEL, _S.DONE): "all texts of the campaign have left",
}


def why_not(act: Act, state: CampaignState) -> str | None:
    """Why this cannot be done with a campaign in this state; None when it can, or has been."""
    return _WHY_NOT.get((act, state))
