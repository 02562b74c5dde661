"""Data that lies in both sites while failures are rehearsed: a node that returns has to deal with it, too."""

from collections.abc import Callable

from sitecontrol.lab.control import LabControl

TABLE = (
    "create table if not exists public.ballast (number bigint, filler text)",
    "alter table public.ballast alter column filler set storage plain",
)
# Two thousand octets a row, which are stored as they are: "plain" is never compressed.
FILL = """
insert into public.ballast
select g, repeat(md5(g::text || random()::text), 62) from generate_series(1, {rows}) as g
"""
ROWS_AT_ONCE = 10_000  # 20 MB
SIZE = "select pg_database_size(current_database())"
GIGABYTE = 10**9
WITHIN = 60.0  # seconds, a statement: it waits for the other site


async def lay_in(control: LabControl, gigabytes: float, *, say: Callable[[str], None]) -> float:
    """Fill the live site's database until it has that size; returns the size in GB. Raises LabUnreachableError."""
    node = await control.leading_in(str((await control.cluster()).get("live_site")))
    size = await control.sql(node, SIZE)
    if size < gigabytes * GIGABYTE:
        for statement in TABLE:
            await control.sql(node, statement, within=WITHIN)
        told = 0
        while (size := await control.sql(node, SIZE)) < gigabytes * GIGABYTE:
            await control.sql(node, FILL.format(rows=ROWS_AT_ONCE), within=WITHIN)
            if (tenth := int(10 * size / (gigabytes * GIGABYTE))) > told:
                told = tenth
                say(f"{size / GIGABYTE:.1f} of {gigabytes:g} GB lie in both sites")
        await control.sql(node, "checkpoint", within=WITHIN)
    return float(size) / GIGABYTE
