"""The settings of a carrier: one SMPP account, how it is reached, and what its contract allows."""

from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from sitecontrol.settings_errors import Misfit
from sitecontrol.settings_types import (
    Address,
    Amount,
    Currency,
    Name,
    Prefix,
    ProgramName,
    Rate,
    Seconds,
    Section,
    ShortCode,
)


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


class RouteBy(StrEnum):
    """What decides among carriers of one priority."""

    WEIGHT = "weight"  # each has its share
    COST = "cost"  # the cheapest goes first; equal prices share by weight


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
    # -- what it carries (docs/routing.md)
    weight: Annotated[int, Field(ge=0, le=1_000)] = 1  # its share among equals; 0: it is given nothing new
    priority: Annotated[int, Field(ge=0, le=100)] = 0  # the lowest number goes first, before price and weight
    prefixes: tuple[Prefix, ...] = ()  # of the numbers that it carries; none: all
    refused_prefixes: tuple[Prefix, ...] = ()  # and of those that it does not; the longer prefix wins
    short_codes: tuple[ShortCode, ...] = ()  # that it carries texts of; none: all
    programs: tuple[ProgramName, ...] = ()  # the same for programs, by their names

    @model_validator(mode="after")
    def _parts_can_be_carried(self) -> Self:
        if self.request is Request.DATA_SM and self.long_text is LongText.PAYLOAD:
            raise Misfit(
                ("long_text",),
                'says nothing with request = "data_sm", which has only a payload; use "udh" or "sar"',
            )
        return self

    @model_validator(mode="after")
    def _prefixes_say_one_thing(self) -> Self:
        for index, prefix in enumerate(self.refused_prefixes):
            if prefix in self.prefixes:
                raise Misfit(
                    ("refused_prefixes", index), "stands in prefixes, too; remove it from one of them"
                )
        return self

    @property
    def silent_for(self) -> float:
        """Seconds after which a link that answers nothing is cut; until then the first copy of a text may arrive."""
        return 2 * self.response_timeout

    @property
    def cost(self) -> Decimal:
        """Of a segment; 0 without a price."""
        return Decimal(self.price.per_segment) if self.price is not None else Decimal(0)

    def rate_of(self, short_code: str) -> float | None:
        """Segments per second that may go out under this short code, or None where only the links count."""
        return self.short_code_rates.get(short_code.removeprefix("+"), self.short_code_rate)

    def serves(self, short_code: str) -> bool:
        """Whether it carries texts of this short code at all."""
        return not self.short_codes or short_code.removeprefix("+") in self.short_codes


def check_carriers(carriers: Sequence[Carrier], *, doubt_grace: float, by: RouteBy) -> None:
    """That they can be told apart, compared, and be waited for. Raises Misfit, seen from the whole settings."""
    for index, carrier in enumerate(carriers):
        if carrier.name in [other.name for other in carriers[:index]]:
            raise Misfit(("carrier", index, "name"), "another carrier has this name; choose one that is free")
        if doubt_grace <= carrier.silent_for:
            raise Misfit(
                ("dispatcher", "doubt_grace"),
                f"must be more than twice the response_timeout of carrier {carrier.name!r},"
                f" {carrier.silent_for:g} s: so long its link may still bring the first copy of a text that is sent"
                " again",
            )
    if by is RouteBy.COST:
        _check_prices(carriers)


def _check_prices(carriers: Sequence[Carrier]) -> None:
    first = next((carrier.price.currency for carrier in carriers if carrier.price is not None), "USD")
    for index, carrier in enumerate(carriers):
        if carrier.price is None:
            raise Misfit(
                ("carrier", index, "price"),
                f'is missing at {carrier.name}, and dispatcher.route_by = "cost" compares prices; add: price ='
                f' {{ per_segment = "0.0075", currency = "{first}" }}',
            )
        if carrier.price.currency != first:
            raise Misfit(
                ("carrier", index, "price", "currency"),
                f'dispatcher.route_by = "cost" compares prices, and those before are in {first}; give all in one'
                " currency",
            )
