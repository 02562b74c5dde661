"""What the clients were told: the proof against which the system is held afterwards.

In memory, and line by line on disk, so that the promises outlive whatever happens to the drill itself.
Times are seconds on the monotonic clock (`t`) and UTC seconds since 1970 (`wall`), the clock of carrier logs.
"""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson


@dataclass(frozen=True, kw_only=True)
class Text:
    """One message as a client sends it. `reference` is unique; `body` holds it, so that carriers' logs tell."""

    reference: str
    to: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Ack:
    """A 2xx. `asked_at` is when the first request for this text went out, `t` when the answer was read."""

    client: str
    reference: str
    id: str
    asked_at: float
    t: float
    wall: float
    site: str  # whose dispatcher answered
    live_site: str | None
    term: int
    durability: str
    duplicate: bool


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Any other answer than 2xx (a broken connection is none)."""

    client: str
    reference: str
    t: float
    site: str
    status: int
    title: str


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A request that got no answer: the connection was refused or broke, or the answer did not come in time."""

    client: str
    reference: str
    t: float
    site: str
    url: str  # of the dispatcher
    error: str  # the kind


@dataclass
class Ledger:
    file: Path
    acks: list[Ack] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    texts: dict[str, Text] = field(default_factory=dict)  # by reference, whether acknowledged or not
    _disk: IO[bytes] | None = None

    def open(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._disk = self.file.open("wb")

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def asked(self, text: Text) -> None:
        self.texts[text.reference] = text

    def acknowledge(self, ack: Ack) -> None:
        self.acks.append(ack)
        self._write({"ack": asdict(ack)})

    def refuse(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)
        self._write({"refusal": asdict(refusal)})

    def break_off(self, broken: Broken) -> None:
        self.broken.append(broken)
        self._write({"broken": asdict(broken)})

    @property
    def ids(self) -> dict[str, str]:
        """Of every acknowledged message: its reference by its id."""
        return {ack.id: ack.reference for ack in self.acks}

    @property
    def unanswered(self) -> list[str]:
        """References of texts for which nobody had a 2xx."""
        told = {ack.reference for ack in self.acks}
        return [reference for reference in self.texts if reference not in told]

    @property
    def acknowledged(self) -> dict[str, Ack]:
        """By message id; the first acknowledgement of each."""
        first: dict[str, Ack] = {}
        for ack in self.acks:
            first.setdefault(ack.id, ack)
        return first

    def _write(self, line: dict[str, Any]) -> None:
        if self._disk is not None:
            self._disk.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def now() -> float:
    return time.monotonic()
