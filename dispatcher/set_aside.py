"""Which messages, and what of their story, a node alone holds: the one place that knows it of the message tables.

`python -m dispatcher.set_aside` is what the agent of a returning node runs while that node's PostgreSQL is open for
nobody else. The agent says on stdin where that is, where the leader is, and which blocks were written since their
histories parted (`replication.changes`); it knows nothing of messages. Every row in these blocks that was written since
is held against the leader, and what the leader lacks is written to a file, a line each (`sitecontrol.quarantine`).

Work lists (queue, agenda, claim, tally) are left out: they follow from the rest. A row that the leader has in another
state is one that it lacks. How far a campaign was fed is no such state: what was fed here alone the leader has in its
list. Left out, too: accounts, keys, programs and webhooks, which hold secrets.

None of these messages was acknowledged by two sites, or it would be on the leader; one that an operator's force left
behind may have been by one. Each comes with the request by which it can be accepted again, in the words of its sender:
what was left out is found by the fingerprint of its reference. One that was made of a template brings that fingerprint
along, for neither the template's name nor its values are stored. So neither the replay nor a late repeat by the sender
is a conflict.
"""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import IO, Any, TypeVar

import asyncpg

from dispatcher.http.schemas import CLASS_NAMES, MessageRequest
from dispatcher.http.submission import OF_CAMPAIGNS, fingerprint
from dispatcher.model import MessageClass, OnDoubt, Program, State
from dispatcher.sql import queries
from replication.errors import ReplicationError
from replication.session import Session, Target

T = TypeVar("T")

BLOCKS_AT_ONCE = 64  # of a table whose rows are short
ROWS_AT_ONCE = 500
PER_BLOCK = 291  # rows that a block of 8 kB can have
STATEMENT_S = 30.0
CONNECT_S = 3.0
CONNECT_OWN_S = 30.0  # without it there is nothing to set aside
NOT_LEFT = frozenset({State.ACCEPTED, State.HELD, State.SCHEDULED, State.QUEUED})


@dataclass(frozen=True, kw_only=True)
class Table:
    name: str
    identity: tuple[str, ...]  # columns, never null; the leader has a row when it has one with the same
    blocks_at_once: int = BLOCKS_AT_ONCE
    relation: str = ""  # the partition of ours that was written to, or the table itself


TABLES = (  # in the order of what is worth most, should there be no room for all
    Table(name="message", identity=("account_id", "message_id")),
    Table(name="delivery", identity=("message_id", "segment", "attempt", "state")),
    Table(name="submission", identity=("canonical", "carrier", "message_id", "segment", "attempt")),
    Table(name="doubt", identity=("message_id", "segment", "attempt")),
    Table(name="event", identity=("message_id", "at", "state", "detail")),
    Table(name="parked_receipt", identity=("written", "carrier", "state")),
    Table(name="reply", identity=("fingerprint",)),
    Table(name="reply_part", identity=("fingerprint",)),
    Table(name="template", identity=("account_id", "name", "changed_at")),
    Table(name="campaign", identity=("campaign_id", "state", "upload", "uploaded")),
    Table(name="campaign_act", identity=("campaign_id", "at", "act")),
    # Of a list: some hundred texts in a row, and some ten rows in a block.
    Table(name="campaign_batch", identity=("campaign_id", "upload", "batch"), blocks_at_once=1),
)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the agent asks for."""

    own: Target
    leader: Target
    transactions: frozenset[int]
    blocks: Mapping[tuple[int, int], Sequence[int]]  # by database (its oid) and file
    into: Path
    largest: int  # bytes

    @classmethod
    def read(cls, text: str) -> "Order":
        told = json.loads(text)
        return cls(
            own=Target(**told["own"]),
            leader=Target(**told["leader"]),
            transactions=frozenset(told["transactions"]),
            blocks={(database, file): blocks for database, file, blocks in told["blocks"]},
            into=Path(told["into"]),
            largest=told["largest"],
        )


@dataclass
class Found:
    """What was written, for the agent to tell."""

    term: int | None = None  # the leader's
    counts: dict[str, int] = field(default_factory=dict)
    compared: bool = True
    complete: bool = True


async def set_aside(order: Order) -> Found:
    """Write what the leader lacks to `order.into`. A leader that does not answer is taken to lack everything."""
    found = Found()
    own = await Session.connect(order.own, timeout=CONNECT_OWN_S)
    try:
        leader = await _leader(order.leader)
        found.compared = leader is not None
        found.term = None if leader is None else await _term(leader)
        try:
            with order.into.open("x", encoding="utf-8") as file:
                for table, blocks in await _written_to(own, order):
                    await _one_table(table, blocks, order, (own, leader), file, found)
        finally:
            if leader is not None:
                await leader.aclose()
    finally:
        await own.aclose()
    return found


async def _leader(target: Target) -> Session | None:
    try:
        return await Session.connect(target, timeout=CONNECT_S)
    except (ReplicationError, asyncpg.PostgresError):
        return None


async def _term(leader: Session) -> int | None:
    [row] = await leader.read("select term from control.state()", timeout=STATEMENT_S)
    return None if row["term"] is None else int(row["term"])


async def _written_to(own: Session, order: Order) -> list[tuple[Table, Sequence[int]]]:
    """The tables that were written to since, partition by partition, with the blocks."""
    names = [table.name for table in TABLES]
    rows = await own.read(queries()["set_aside_files"], names, timeout=STATEMENT_S)
    return [
        (replace(table, relation=row["relation"]), blocks)
        for table in TABLES
        for row in rows
        if row["name"] == table.name and (blocks := order.blocks.get((row["database"], row["file"])))
    ]


async def _one_table(
    table: Table,
    blocks: Sequence[int],
    order: Order,
    sessions: tuple[Session, Session | None],
    file: IO[str],
    found: Found,
) -> None:
    own, leader = sessions
    for some in _slices(blocks, table.blocks_at_once):
        told = await own.read(_rows_of(table), list(some), timeout=STATEMENT_S)
        ours = [json.loads(row["doc"]) for row in told if row["tx"] in order.transactions]
        for rows in _slices(ours, ROWS_AT_ONCE):
            lacking = await _lacking(leader, table, rows, found)
            for line in await _lines(own, table, lacking):
                text = json.dumps(line, ensure_ascii=False) + "\n"
                if file.tell() + len(text.encode()) > order.largest:
                    found.complete = False
                    return
                file.write(text)
                found.counts[table.name] = found.counts.get(table.name, 0) + 1


async def _lacking(
    leader: Session | None, table: Table, rows: Sequence[dict[str, Any]], found: Found
) -> Sequence[dict[str, Any]]:
    """Those of `rows` that the leader has not; all of them when it cannot tell."""
    if leader is None:
        return rows
    try:
        keys = [{column: row[column] for column in table.identity} for row in rows]
        known = await leader.read(_known_of(table), json.dumps(keys), timeout=STATEMENT_S)
    except (ReplicationError, asyncpg.PostgresError, OSError):
        found.compared = False
        return rows
    there = {row["ord"] for row in known}
    return [row for ord_, row in enumerate(rows, start=1) if ord_ not in there]


async def _lines(own: Session, table: Table, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if table.name != "message" or not rows:
        return [{"table": table.name, "row": row} for row in rows]
    known = await own.read(
        queries()["set_aside_messages"],
        [row["account_id"] for row in rows],
        [row["message_id"] for row in rows],
        timeout=STATEMENT_S,
    )
    about = {row["message_id"]: dict(row) for row in known}
    for row in await _topics(own, list(about)):
        about[row["message_id"]] |= dict(row)
    return [message_line(row, about.get(row["message_id"])) for row in rows]


async def _topics(own: Session, message_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    try:
        rows = await own.read(queries()["set_aside_topics"], message_ids, timeout=STATEMENT_S)
    except asyncpg.UndefinedTableError:  # of before there were any
        return ()
    return [dict(row) for row in rows]


def message_line(row: dict[str, Any], about: Mapping[str, Any] | None) -> dict[str, Any]:
    """A message with what is needed to send it again. `about`: as `set_aside_messages` tells it."""
    line = {"table": "message", "row": row}
    if about is None:
        return line | {"account": None, "withheld": "its account or its program is not known any more"}
    left = sorted(set(about["states"]) - NOT_LEFT)
    reason = None
    if left:
        reason = f"segments of it are {', '.join(left)}: a carrier may have it, or nobody wants it any more"
    elif (about["reference"] or "").startswith(OF_CAMPAIGNS):
        # It moved from its list into the queue here alone: on the leader it is in its list.
        reason = "it is a row of a campaign, which the leader has in the campaign's list and feeds from there"
    return line | {
        "account": about["account"],
        "request": request_of(row, about).model_dump(mode="json", by_alias=True, exclude_none=True),
        "withheld": reason,
    }


def request_of(row: Mapping[str, Any], about: Mapping[str, Any]) -> MessageRequest:
    """In its sender's words, if the stored row has them all; else with everything that was stored, and with the
    fingerprint of those words, which are a template's name and values then.
    """
    program = Program(
        id=about["program_id"],
        account_id=about["account_id"],
        name=about["program"],
        source=about["source"],
        on_doubt=OnDoubt(about["program_on_doubt"]),
        message_class=MessageClass(about["program_class"]),
        enabled=True,
    )
    said = {
        "program": program.name,
        "to": row["recipient"],
        "body": row["body"],
        "reference": about["reference"] or f"set-aside-{row['message_id']}",
        "send_at": row["send_at"],
        "expires_at": row["expires_at"],
        "topic": about.get("topic"),
        "topic_at": about.get("topic_at"),
    }
    class_, on_doubt = CLASS_NAMES[MessageClass(row["class"])], row["on_doubt"]
    ways = [
        MessageRequest.model_validate(said | {"class": c, "on_doubt": d})
        for c, d in product((class_, None), (on_doubt, None))
    ]
    told = about["fingerprint"]  # none without a reference
    for way in ways:
        if told is None or fingerprint(way, program) == told:
            return way
    return ways[0].model_copy(update={"fingerprint": told.hex()})


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _rows_of(table: Table) -> str:
    """The rows of some blocks, with the transaction that wrote each. Not as jsonb: lists are long."""
    return f"""
        select t.xmin::text::bigint as tx, row_to_json(t)::text as doc from hotsite.{table.relation} as t
        where t.ctid = any (array(
            select format('(%s,%s)', block, item)::tid
            from unnest($1::bigint[]) as block, generate_series(1, {PER_BLOCK}) as item
        ))
    """  # noqa: S608 (names of this file)


def _known_of(table: Table) -> str:
    """Which of the rows whose identities are in a JSON array are there; counted from 1."""
    ours, theirs = (
        f"({', '.join(f'{name}.{column}' for column in table.identity)})" for name in ("ours", "theirs")
    )
    return f"""
        select w.ord from jsonb_array_elements($1::jsonb) with ordinality as w (doc, ord)
        cross join lateral jsonb_populate_record(null::hotsite.{table.name}, w.doc) as ours
        where exists (select from hotsite.{table.name} as theirs where {theirs} = {ours} offset 0)
    """  # noqa: S608 (names of this file)


def main() -> None:
    """Carry out the order on stdin, and tell as JSON what was found; or why not, on stderr."""
    try:
        found = asyncio.run(set_aside(Order.read(sys.stdin.read())))
    except (ReplicationError, asyncpg.PostgresError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main()
