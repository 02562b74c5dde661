"""Puts texts into a lab's queue by SQL, far faster than any caller could: what is measured is what comes afterwards."""

from dataclasses import dataclass
from typing import Self

import asyncpg

from bench.lab import Lab

AT_ONCE = 50_000

# One account (the first) has half of them. Ids are made as UUIDv7 are, one a microsecond's worth apart.
FILL = """
with numbered as (
    select
        g, (lpad(to_hex(floor(extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || '70008'
            || lpad(to_hex($3::bigint + g), 15, '0'))::uuid as id,
        case when g % 2 > 0 then 1 else 2 + (g / 2) % (cardinality($1::integer[]) - 1) end as place
    from generate_series(1, $4::integer) as g
), message as (
    insert into hotsite.message (
        account_id, message_id, program_id, class, segments, recipient, encoding, on_doubt, body
    )
    select ($1::integer[])[n.place], n.id, ($2::integer[])[n.place], 1, 1, '+12025550100', 'gsm', 'hold',
        'Your bill of November is ready. It is due on the 15th. Reply HELP for help, STOP to end. ' || n.g
    from numbered as n
), delivery as (
    insert into hotsite.delivery (message_id, account_id, segment, state)
    select n.id, ($1::integer[])[n.place], 1, 'queued' from numbered as n
), tally as (
    insert into hotsite.tally (state, delta) values ('queued', $4::integer)
)
insert into hotsite.queue (message_id, account_id, class, segment)
select n.id, ($1::integer[])[n.place], 1, 1 from numbered as n
"""
ACCOUNT = """
with account as (insert into hotsite.account (name) values ($1) returning account_id)
insert into hotsite.program (account_id, name, source, on_doubt, class)
select a.account_id, 'bills', $2, 'hold', 1 from account as a
returning account_id, program_id
"""


@dataclass(kw_only=True)
class Filling:
    connection: "asyncpg.Connection[asyncpg.Record]"
    accounts: list[int]
    programs: list[int]
    sources: list[str]  # short codes, of the accounts
    made: int = 0

    @classmethod
    async def begin(cls, lab: Lab, accounts: int) -> Self:
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=lab.live_postgres["port"],
            user="hotsite_migrate",
            database="hotsite",
            password=lab.secret("postgres-migrate"),
            timeout=10,
        )
        await connection.execute("set synchronous_commit = local")
        sources = [str(71_000 + number) for number in range(accounts)]
        rows = [await connection.fetchrow(ACCOUNT, f"bench-{source}", source) for source in sources]
        return cls(
            connection=connection,
            accounts=[row["account_id"] for row in rows if row],
            programs=[row["program_id"] for row in rows if row],
            sources=sources,
        )

    async def up_to(self, total: int) -> None:
        """Fill until so many are queued."""
        [[queued]] = await self.connection.fetch("select count(*) from hotsite.queue")
        while queued < total:
            some = min(AT_ONCE, total - queued)
            await self.connection.execute(FILL, self.accounts, self.programs, self.made, some, timeout=120)
            self.made += some
            queued += some

    async def aclose(self) -> None:
        await self.connection.close()
