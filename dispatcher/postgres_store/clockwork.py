"""What time brings, and the numbers, programs and keys that are looked at again and again."""

from collections.abc import Sequence

from dispatcher.model import ApiKey, MessageClass, OnDoubt, Program, QueueCounts, State
from dispatcher.postgres_store.statements import Statements


class Clockwork(Statements):
    async def is_open(self, term: int, canary_max_age_s: float | None = None) -> bool:
        rows = await self._read("is_open", term, canary_max_age_s)
        return bool(rows and rows[0][0])

    async def resend_doubtful(self, term: int, grace_s: float, limit: int) -> int:
        return await self._count("resend_doubtful", term, grace_s, limit)

    async def release_due(self, term: int, limit: int, *, clock_agrees: bool = True) -> int:
        return await self._count("release_due", term, limit, clock_agrees)

    async def counts(self, term: int) -> QueueCounts:
        [row] = await self._read("counts", term)
        return QueueCounts(
            by_state={
                State(state): int(total)
                for state, total in zip(row["states"] or (), row["totals"] or (), strict=True)
            },
            oldest_queued_s={
                MessageClass(number).name.lower(): age
                for number, age in zip(row["classes"] or (), row["oldest_s"] or (), strict=True)
            },
        )

    async def programs(self, term: int) -> Sequence[Program]:
        return [
            Program(
                id=row["program_id"],
                account_id=row["account_id"],
                name=row["name"],
                source=row["source"],
                on_doubt=OnDoubt(row["on_doubt"]),
                message_class=MessageClass(row["class"]),
                enabled=row["enabled"],
            )
            for row in await self._read("programs", term)
        ]

    async def api_keys(self, term: int) -> Sequence[ApiKey]:
        return [
            ApiKey(
                id=row["api_key_id"],
                account_id=row["account_id"],
                prefix=row["prefix"],
                secret_hash=row["secret_hash"],
                expires_at=row["expires_at"],
                revoked=row["revoked"],
            )
            for row in await self._read("api_keys", term)
        ]
