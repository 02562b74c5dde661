"""Words and shapes of what is told of campaigns. Pure. The shapes are described in `schemas_campaigns`."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dispatcher.campaigns.model import Campaign, Counts, ReportRow
from dispatcher.campaigns.states import CampaignState
from dispatcher.http.schemas import CLASS_NAMES
from dispatcher.http.template_calls import shapes
from dispatcher.model import State

NOT_LEFT: Final = frozenset({State.ACCEPTED, State.HELD, State.SCHEDULED, State.QUEUED})
COLUMNS: Final = (
    "line", "to", "outcome", "id", "segments", "accepted_at", "updated_at", "carrier", "error", "column", "reason",
    "value",
)  # fmt: skip
# A cell that begins with one of these is a formula to the programs that open CSV files.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def campaign(told: Campaign) -> dict[str, Any]:
    return {
        "id": told.id,
        "name": told.name,
        "program": told.program,
        "state": told.state,
        "note": told.note,
        "template": told.template,
        "text": told.text,
        "variables": shapes(told.variables),
        "class": CLASS_NAMES[told.message_class],
        "on_doubt": told.on_doubt,
        "start_at": told.start_at,
        "expires_at": told.expires_at,
        "uploaded": told.uploaded,
        "rows": told.texts + told.bad,
        "texts": told.texts,
        "bad_rows": told.bad,
        "segments": told.segments,
        "created_at": told.created_at,
        "started_at": told.started_at,
        "ended_at": told.ended_at,
        "acts": [{"at": done.at, "act": done.act, "by": done.by} for done in told.acts],
    }


def progress(told: Campaign, counts: Counts) -> dict[str, Any]:
    waiting = told.texts - told.fed
    in_queue = sum(total for state, total in counts.by_state.items() if state in NOT_LEFT)
    running = told.state is CampaignState.RUNNING
    known = running and (counts.rate > 0 or not waiting)
    return {
        "state": told.state,
        "note": told.note,
        "texts": told.texts,
        "waiting": waiting,
        "in_queue": in_queue,
        "left": sum(counts.by_state.values()) - in_queue,
        "by_state": {state.value: total for state, total in sorted(counts.by_state.items())},
        "counted_at": counts.counted_at,
        "rate": round(counts.rate, 1),
        "seconds_left": round(waiting / (counts.rate or 1), 1) if known else None,
    }


def report(told: Campaign, counts: Counts) -> dict[str, Any]:
    return {
        "campaign": campaign(told),
        "progress": progress(told, counts),
        "refused": told.fed - sum(counts.by_state.values()),
    }


def outcomes(told: Campaign, counts: Counts) -> Mapping[str, int]:
    """Every row of the list under what became of it, in the order in which a chart shows them."""
    waiting = told.texts - told.fed
    refused = told.fed - sum(counts.by_state.values())
    by_state = {state.value.replace("_", " "): counts.by_state.get(state, 0) for state in CHARTED}
    not_sent = "canceled before" if told.state is CampaignState.CANCELED else "waiting"
    return {not_sent: waiting, **by_state, "refused": refused, "bad rows": told.bad}


CHARTED: Final = (
    State.ACCEPTED,
    State.HELD,
    State.SCHEDULED,
    State.QUEUED,
    State.SUBMITTING,
    State.SUBMITTED,
    State.DELIVERED,
    State.UNDELIVERED,
    State.REJECTED,
    State.FAILED,
    State.EXPIRED,
    State.UNKNOWN,
    State.IN_DOUBT,
    State.SUPPRESSED,
    State.CANCELED,
)


def csv_lines(rows: Sequence[ReportRow], state: CampaignState) -> bytes:
    file = io.StringIO()
    write = csv.writer(file).writerow
    for row in rows:
        outcome = _outcome(row, state)
        cells = (
            row.line, row.to, outcome, row.message_id, row.segments, row.accepted_at, row.updated_at, row.carrier,
            row.error, row.bad_column, row.reason, row.value,
        )  # fmt: skip
        write([_cell(cell) for cell in cells])
    return file.getvalue().encode()


def csv_header() -> bytes:
    """With a byte order mark, by which spreadsheets know UTF-8."""
    return ("\ufeff" + ",".join(COLUMNS) + "\r\n").encode()


def _outcome(row: ReportRow, state: CampaignState) -> str:
    if row.reason is not None:
        return "bad row"
    if row.state is not None:
        return row.state.value
    return "canceled before" if state is CampaignState.CANCELED else "waiting"


def _cell(value: object) -> object:
    """Numbers begin with +, and stay as they are; what a list's writer put into a cell is no formula."""
    if isinstance(value, str) and value.startswith(_FORMULA) and not value[1:].isdigit():
        return f"'{value}"
    if hasattr(value, "isoformat"):
        return value.isoformat(timespec="seconds")
    return value
