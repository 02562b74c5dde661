"""The settings of a carrier: one SMPP account, how it is reached, and what its contract allows."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from sitecontrol.settings_errors import Misfit
from sitecontrol.settings_types import Address, Amount, Currency, Name, Rate, Seconds, Section, ShortCode


class Binding(StrEnum):
    """As what a link is bound (SMPP v3.4, 2.2)."""

    TRANSCEIVER = "transceiver"  # one connection for both ways
    PAIR = "pair"  # a transmitter and a receiver: two connections for each of `binds`


class LongText(StrEnum):
    """How the parts of a longer text are told to be parts."""

    UDH = "udh"  # a header before the text
    PAYLOAD = "payload"  # the same, carried in the parameter message_payload
    SAR = "sar"  # the parameters sar_msg_ref_num, sar_total_segments, sar_segment_seqnum


class Request(StrEnum):
    """What carries a text to the carrier."""

    SUBMIT_SM = "submit_sm"
    DATA_SM = "data_sm"


class Price(Section):
    """What a carrier takes for a segment. Shown to every account that previews a text."""

    per_segment: Amount
    currency: Currency


class Carrier(Section):
    """One SMPP account at a carrier. The password is the secret `carrier-<name>`."""

    name: Name
    address: Address
    system_id: Annotated[str, StringConstraints(min_length=1, max_length=15)]
    system_type: Annotated[str, StringConstraints(max_length=12)] = ""
    tls: bool = False
    bind_as: Binding = Binding.TRANSCEIVER
    binds: Annotated[int, Field(ge=1, le=32)] = 1  # links per dispatcher; pairs count once
    window: Annotated[int, Field(ge=1, le=1_000)] = 50
    rate: Rate = 10_000.0  # segments per second and link
    short_code_rate: Rate | None = (
        None  # of each short code, over all links of a dispatcher; none: only the links'
    )
    short_code_rates: dict[ShortCode, Rate] = {}  # where one short code's contract differs
    enquire_every: Seconds = 10.0
    response_timeout: Seconds = 10.0
    reconnect_min: Seconds = 0.5
    reconnect_max: Seconds = 30.0
    request: Request = Request.SUBMIT_SM
    long_text: LongText = LongText.UDH
    query_after: Seconds | None = (
        None  # without a receipt so long, the carrier is asked (query_sm); none: never
    )
    price: Price | None = None

    @model_validator(mode="after")
    def _parts_can_be_carried(self) -> Self:
        if self.request is Request.DATA_SM and self.long_text is LongText.PAYLOAD:
            raise Misfit(
                ("long_text",),
                'says nothing with request = "data_sm", which has only a payload; use "udh" or "sar"',
            )
        return self

    @property
    def silent_for(self) -> float:
        """Seconds after which a link that answers nothing is cut; until then the first copy of a text may arrive."""
        return 2 * self.response_timeout

    def rate_of(self, short_code: str) -> float | None:
        """Segments per second that may go out under this short code, or None where only the links count."""
        return self.short_code_rates.get(short_code.removeprefix("+"), self.short_code_rate)
