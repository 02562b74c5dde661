"""The one signature of all probes, and what a look brings home."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from healthcheck.targets import Target

MAX_DETAIL = 300  # characters; what a stranger's server says is cut to this


@dataclass(frozen=True, kw_only=True)
class Result:
    """`ok` is None when this place cannot tell. `latency` in seconds. `detail` is a sentence for people.

    `detail` and `evidence` may repeat what a foreign server said: whoever shows them escapes them.
    """

    ok: bool | None
    latency: float = 0.0
    detail: str
    evidence: Mapping[str, object] = field(default_factory=dict)


class Probe(Protocol):
    """`deadline` is in the event loop's time; the scheduler also cuts the probe off there.

    A probe returns bad news as a Result. What it raises (OSError, a time-out) is taken as bad news too, so
    it need not catch what it has nothing to say about. It must not keep anything open when it is cancelled.
    """

    async def __call__(self, target: Target, deadline: float) -> Result: ...


def plain(text: object) -> str:
    """One line of printable characters, of bearable length."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: 2 * MAX_DETAIL])
    line = " ".join(line.split())
    return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 1] + "…"


def host_port(address: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`. Raises ValueError that shows the form."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or not host:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
