"""The seam between the agent and what moves clients. `memory` has the version for tests."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Move:
    """Where clients are to be sent. Two moves are the same when site and term are."""

    site: str
    term: int
    reason: str = field(default="", compare=False)  # why that site leads, for people


class AdapterFailed(Exception):
    """Clients may not be sent where they should; the message says why, and what to do."""


class Adapter(Protocol):
    """One way to move clients. Every call ends within `deadline` seconds, and may be cancelled at any time."""

    @property
    def name(self) -> str: ...

    @property
    def deadline(self) -> float: ...

    async def point_to(self, move: Move) -> None:
        """Send clients to `move.site`. Safe to repeat. Raises AdapterFailed, also when a later term stands there."""
        ...

    async def check(self, move: Move) -> str | None:
        """What is wrong, or None when clients are sent to `move.site`. Changes nothing. Raises AdapterFailed."""
        ...

    def plan(self, move: Move) -> list[str]:
        """What `point_to` would send, line by line, for people."""
        ...
