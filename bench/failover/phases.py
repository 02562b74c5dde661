"""From an agent's log to the phases of a failover: what it noted, and how long each step took.

A failover is the way from the fault to the moment when dispatchers are let in again:

- *detection*: until the agent that takes over sees that nobody leads,
- *election*: until its claim is written,
- *promotion*: until its PostgreSQL takes writes,
- *reopening*: until it has written the row that lets dispatchers in,
- *first answer*: until the client that waited longest has an acknowledgement.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

DETECTED, ELECTED, PROMOTED, OPENED = "nobody_leads", "lead_taken", "promoted", "opened"
STEPS: Mapping[str, str] = {
    DETECTED: "detection",
    ELECTED: "election",
    PROMOTED: "promotion",
    OPENED: "reopening",
}
FIRST_ANSWER = "first answer"
PHASES = (*STEPS.values(), FIRST_ANSWER)


@dataclass(frozen=True, kw_only=True)
class Noted:
    """A line of an agent's log."""

    at: datetime
    event: str
    agent: str


def noted(lines: Iterable[str], agent: str) -> list[Noted]:
    """Those that a failover is made of; what is no such line is passed over."""
    found = []
    for line in lines:
        try:
            told = json.loads(line)
            if told["event"] in STEPS:
                found.append(
                    Noted(at=datetime.fromisoformat(told["timestamp"]), event=told["event"], agent=agent)
                )
        except (ValueError, KeyError, TypeError):
            continue
    return found


def read_noted(logs: Mapping[str, Path]) -> list[Noted]:
    """Of every agent's log, by the site's name, in order of time."""
    found = [
        one
        for site, file in logs.items()
        if file.exists()
        for one in noted(file.read_text(errors="replace").splitlines(), site)
    ]
    return sorted(found, key=lambda one: one.at)


def phases(
    events: Sequence[Noted], *, fault_at: datetime, until: datetime | None, answered_s: float
) -> dict[str, float]:
    """Seconds of each phase of the first failover after the fault; empty when nobody took the lead over. `answered_s`:
    when the longest pause ended, from the fault on.
    """
    after = [one for one in events if one.at >= fault_at and (until is None or one.at <= until)]
    opened = next((one for one in after if one.event == OPENED), None)
    if opened is None:
        return {}
    way = [one for one in after if one.agent == opened.agent and one.at <= opened.at]
    first = {event: next((one.at for one in way if one.event == event), None) for event in STEPS}
    if first[ELECTED] is None:
        return {}
    found: dict[str, float] = {}
    before = fault_at
    for event, phase in STEPS.items():
        at = first[event]
        if at is not None:
            found[phase] = round((at - before).total_seconds(), 3)
            before = at
    found[FIRST_ANSWER] = round(answered_s - (opened.at - fault_at).total_seconds(), 3)
    return found
