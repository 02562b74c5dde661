"""Claims, and what became of them."""

from collections.abc import Sequence

from dispatcher.carrier_ids import carrier_id
from dispatcher.model import Claim, Encoding, Held, MessageClass, OpenClaim, SubmitResult
from dispatcher.postgres_store.receipts import Receipts


class Sending(Receipts):
    async def claim(
        self,
        term: int,
        dispatcher: str,
        limit: int,
        claim_for_s: float,
        *,
        down_to: MessageClass = MessageClass.MARKETING,
    ) -> Sequence[Claim]:
        rows = await self._commit("claim", term, dispatcher, limit, claim_for_s, down_to)
        return [
            Claim(
                claim_id=row["claim_id"],
                message_id=row["message_id"],
                segment=row["segment"],
                segments=row["segments"],
                attempt=row["attempt"],
                account_id=row["account_id"],
                program_id=row["program_id"],
                source=row["source"],
                to=row["recipient"],
                body=row["body"],
                encoding=Encoding(row["encoding"]),
                message_class=MessageClass(row["class"]),
                expires_in_s=row["expires_in_s"],
            )
            for row in rows
        ]

    async def settle(self, results: Sequence[SubmitResult]) -> None:
        if not results:
            return
        results = sorted(results, key=lambda r: (r.message_id, r.segment))
        ids = [carrier_id(r.carrier_message_id or "") for r in results]
        [[may_settle, tails]] = await self._commit(
            "settle",
            [r.claim_id for r in results],
            [r.message_id for r in results],
            [r.segment for r in results],
            [r.attempt for r in results],
            [r.outcome for r in results],
            [r.carrier for r in results],
            [i.written for i in ids],
            [i.canonical for i in ids],
            [i.as_hex for i in ids],
            [i.as_decimal for i in ids],
            [r.command_status for r in results],
            [r.retry_after_s for r in results],
        )
        await self._settle_by_fit(tails, may_settle=may_settle)

    async def open_claims(self, term: int) -> Sequence[OpenClaim]:
        return [OpenClaim(**dict(row)) for row in await self._read("open_claims", term)]

    async def claimed_by(self, term: int, dispatcher: str) -> Sequence[Held]:
        return [Held(**dict(row)) for row in await self._read("claimed_by", term, dispatcher)]

    async def give_up_claims(self, term: int, claim_ids: Sequence[int]) -> int:
        [row] = await self._commit("give_up_claims", term, list(claim_ids))
        if row["may_settle"]:
            await self._settle_doubts()
        return int(row["given_up"])

    async def return_claims(self, term: int, dispatcher: str, claim_ids: Sequence[int]) -> int:
        return await self._count("return_claims", term, dispatcher, list(claim_ids))
