"""How the simulated carrier behaves, changed while it runs (`POST /faults`, see `control`)."""

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dispatcher.smpp.status import CommandStatus

Milliseconds = Annotated[float, Field(ge=0, le=3_600_000)]
Share = Annotated[float, Field(ge=0, le=1)]


class Stat(StrEnum):
    """The outcome that a receipt tells: `stat` of SMPP v3.4, appendix B."""

    DELIVRD = "DELIVRD"
    EXPIRED = "EXPIRED"
    DELETED = "DELETED"
    UNDELIV = "UNDELIV"
    ACCEPTD = "ACCEPTD"
    UNKNOWN = "UNKNOWN"
    REJECTD = "REJECTD"


class Form(StrEnum):
    """How a receipt tells what it tells."""

    BOTH = "both"
    TEXT = "text"  # of appendix B
    TLV = "tlv"  # receipted_message_id and message_state


class Brought(StrEnum):
    """By which request receipts and replies are brought."""

    DELIVER_SM = "deliver_sm"
    DATA_SM = "data_sm"


class PartsAs(StrEnum):
    """How the parts of a reply are told to be parts."""

    UDH = "udh"
    SAR = "sar"


class Faults(BaseModel):
    """All of it; the defaults are a healthy carrier. Patterns are regular expressions for the whole number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    throttle: bool | Share = False  # this share of submits is answered ESME_RTHROTTLED; true: all
    queue_full: bool | Share = False  # the same with ESME_RMSGQFUL
    rate: Annotated[float, Field(gt=0)] | None = (
        None  # submits a second, of all binds; beyond: ESME_RTHROTTLED
    )
    silent: bool = False  # submits are taken (and get receipts), but not answered
    ignore_enquiries: bool = False  # enquire_link is not answered
    refuse_binds: bool = False  # every bind is answered ESME_RBINDFAIL
    answer_delay_ms: Milliseconds = 0
    answer_jitter_ms: Milliseconds = 0  # up to so much more, each answer by itself: out of order
    disconnect_after: Annotated[int, Field(ge=1)] | None = None  # cut the link on the n-th submit from now
    refuse: dict[str, str] = {}  # pattern of the destination → command_status, by name
    receipts: bool = True
    receipts_twice: bool = False  # each receipt is brought a second time
    receipt_form: Form = Form.BOTH
    bring_as: Brought = Brought.DELIVER_SM
    no_ids: bool = False  # texts are taken without telling an id; receipts name one all the same
    receipt_delay_ms: Milliseconds = 50
    outcome: dict[Stat, Annotated[float, Field(ge=0)]] = {Stat.DELIVRD: 1.0}  # weights
    outcome_for: dict[str, Stat] = {}  # pattern of the destination → outcome
    retry_ms: Milliseconds = 500  # before a receipt or reply that was put off is brought again

    @field_validator("refuse")
    @classmethod
    def _known_status(cls, refuse: dict[str, str]) -> dict[str, str]:
        for name in refuse.values():
            if name not in CommandStatus.__members__:
                raise ValueError(f"{name!r} is no command_status; for example ESME_RINVDSTADR")
        return refuse

    @field_validator("refuse", "outcome_for")
    @classmethod
    def _patterns(cls, by_pattern: dict[str, Any]) -> dict[str, Any]:
        for pattern in by_pattern:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return by_pattern

    @field_validator("outcome")
    @classmethod
    def _some_weight(cls, outcome: dict[Stat, float]) -> dict[Stat, float]:
        if sum(outcome.values()) <= 0:
            raise ValueError("give at least one outcome a weight above 0")
        return outcome

    def changed(self, given: dict[str, Any]) -> Self:
        """These with the given ones in their place. Raises ValueError that names each mistake."""
        return self.model_validate({**self.model_dump(), **given})


def parse_outcome(text: str) -> dict[Stat, float]:
    """The command line's `DELIVRD` or `DELIVRD=0.9,UNDELIV=0.1`. Raises ValueError."""
    weights = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        weights[Stat(name.strip().upper())] = float(weight or 1)
    return weights
