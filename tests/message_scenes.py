"""Messages, answers and receipts as the tests of the store need them, each with one plain default."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from dispatcher.model import (
    Claim,
    Encoding,
    MessageClass,
    MessageView,
    NewMessage,
    OnDoubt,
    Program,
    Receipt,
    State,
    SubmitOutcome,
    SubmitResult,
)
from dispatcher.store import Store

_numbers = itertools.count(1)
CARRIER = "carrier-a"
CUSTOMER = "+12025550123"
SHORT_CODE = "12345"
BODY = "Power is expected back by 5 pm in your street."


@dataclass
class Stage:
    """A store, two accounts with a program each, and a hand on the clock."""

    store: Store
    term: int
    program: Program
    other: Program  # of another account
    pass_time: Callable[[timedelta], Awaitable[None]]
    now: Callable[[], datetime]
    lead: Callable[[int], Awaitable[None]] | None = None  # have the store's server lead another term
    tried: Callable[[UUID, int], Awaitable[None]] | None = None  # have so many attempts at a message behind
    replies: Callable[[], Awaitable[list[tuple[str, str]]]] | None = None  # stored: from whom, and the text

    async def accept(self, *rows: NewMessage) -> None:
        await self.store.accept(self.term, rows)

    async def claim(self, limit: int = 10, dispatcher: str = "columbus-1") -> list[Claim]:
        return list(await self.store.claim(self.term, dispatcher, limit, 5.0))

    async def sent(self, **changes: Any) -> Claim:
        """One message, accepted and claimed."""
        await self.accept(self.message(**changes))
        [claim] = await self.claim()
        return claim

    async def view(self, message_id: UUID) -> MessageView:
        found = await self.store.read(self.term, self.program.account_id, message_id)
        assert found is not None
        return found

    async def state(self, message_id: UUID) -> State:
        return (await self.view(message_id)).state

    def message(self, program: Program | None = None, **changes: Any) -> NewMessage:
        program = program or self.program
        fields: dict[str, Any] = {
            "id": new_id(),
            "account_id": program.account_id,
            "program_id": program.id,
            "to": CUSTOMER,
            "body": BODY,
            "encoding": Encoding.GSM,
            "segments": 1,
            "message_class": MessageClass.SERVICE,
            "on_doubt": OnDoubt.HOLD,
        } | changes
        content = repr((fields["to"], fields["body"], fields["program_id"])).encode()
        return NewMessage(**{"fingerprint": hashlib.sha256(content).digest(), **fields})


def new_id() -> UUID:
    """In the order of calling, as a UUIDv7 is in the order of time."""
    stamp = int(datetime.now(UTC).timestamp() * 1_000)
    return UUID(int=(stamp << 80) | (7 << 76) | (2 << 62) | next(_numbers))


def result(claim: Claim, outcome: SubmitOutcome = SubmitOutcome.SUBMITTED, **changes: Any) -> SubmitResult:
    fields: dict[str, Any] = {
        "claim_id": claim.claim_id,
        "message_id": claim.message_id,
        "segment": claim.segment,
        "attempt": claim.attempt,
        "outcome": outcome,
        "carrier": CARRIER,
    } | changes
    return SubmitResult(**fields)


def submitted(claim: Claim, carrier_message_id: str = "0af3", **changes: Any) -> SubmitResult:
    return result(claim, carrier_message_id=carrier_message_id, **changes)


def receipt(carrier_message_id: str = "0af3", state: State = State.DELIVERED, **changes: Any) -> Receipt:
    fields: dict[str, Any] = {
        "carrier": CARRIER,
        "carrier_message_id": carrier_message_id,
        "state": state,
        "source": CUSTOMER,
        "destination": SHORT_CODE,
        "text": "",
        "error": "000",
        "done_at": None,
    } | changes
    return Receipt(**fields)
