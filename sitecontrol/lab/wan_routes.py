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


def of_place(value: str) -> str:
    """The name under which a carrier stands among the places."""
    return f"carrier-{value}"
