"""The shape of what acts on nodes, and on the cluster's records, print with `--json` (see `shapes`)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    model_config = ConfigDict(
        extra="forbid", defer_build=True
    )  # built when `sitectl schema` asks, not at each start


class ActOnNode(Shape):
    node: str
    site: str
    leader: str | None
    incarnation: str | None
    obstacles: list[str]
    consequences: list[str]
    dry_run: bool


class NodeActChecked(ActOnNode):
    """What an agent answers to an act on a node."""

    would: Literal["reclone", "rejoin", "trust", "remove"]


class Reached(Shape):
    phase: str
    after_s: float


class NodeActDone(ActOnNode):
    phases: list[Reached]
    done: bool


class ForceChecked(ActOnNode):
    """`unproved`: nodes that may have led last, and that nothing shows to be stopped."""

    unproved: list[str]
    would: Literal["failover"]


class ForceDone(NodeActDone):
    unproved: list[str]


class NodeKnown(Shape):
    """What a node's agent told; only the first three of one that was not reached."""

    node: str
    site: str
    reached: bool
    state: str | None
    system_id: str | None
    timeline: int
    lsn: str
    row_term: int | None
    serves: bool


class Adopted(Shape):
    """`writes`: the records by their keys."""

    leader: str
    term: int
    nodes: list[NodeKnown]
    writes: dict[str, dict[str, Any]]
    obstacles: list[str]
    consequences: list[str]
    dry_run: bool


class AdoptChecked(Adopted):
    would: Literal["adopt"]


class AdoptDone(Adopted):
    done: bool
