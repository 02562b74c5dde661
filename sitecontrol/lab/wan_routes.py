"""What the WAN emulator is told at its start: the doors, and where each leads."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Route(BaseModel):
    """One door: whoever connects to `door` reaches `target` in another place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    door: int
    target_host: str = "127.0.0.1"
    target_port: int
    source: str | None  # the place that uses this door; None: find out who connects (etcd's peers)
    destination: str
    service: str
    delayed: bool = True  # carriers are not behind the line between the sites


class WanConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    control: int
    token_file: Path
    wan_ms: float  # round trip
    routes: tuple[Route, ...]
    etcd_pidfiles: dict[str, Path]  # by place
    reset_after: float = 30.0  # a connection that stalled longer than this is reset when the line is healed


class Shape(BaseModel):
    """How bad the lines between the places are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delay_ms: float  # one way, instead of half of `wan_ms`
    jitter_ms: float = 0.0  # up to so much more, anew for each chunk; order is kept
    bits_per_s: float | None = None  # each line in each direction, shared by its connections; None: no limit
    reset_share: float = 0.0  # of the connections: reset at once, new ones within `RESET_WITHIN` seconds


def of_place(value: str) -> str:
    """The name under which a carrier stands among the places."""
    return f"carrier-{value}"
