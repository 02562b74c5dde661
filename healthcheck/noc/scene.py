"""Everything the page is made from, taken at one moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from healthcheck.board import Row
from healthcheck.picture import Held, Live
from healthcheck.reports import AgentReport, DispatcherReport, tolerant
from healthcheck.targets import What
from sitecontrol.records import HistoryEntry, Observation
from sitecontrol.settings import Settings
from sitecontrol.view import Snapshot


@dataclass(frozen=True, kw_only=True)
class Scene:
    settings: Settings
    at: datetime
    snapshot: Snapshot
    etcd_answers: bool
    etcd_silent_s: float | None  # since the last linearizable read; None: never
    live: Live
    durability: Held
    rows: Sequence[Row]
    own: Observation
    history: Sequence[HistoryEntry]
    series: Mapping[str, Sequence[float]]

    def of(self, what: What) -> list[Row]:
        return [row for row in self.rows if row.target.what is what]

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.target.name == name), None)

    def agent(self, node: str) -> AgentReport | None:
        raw = self._report(f"{What.AGENT}/{node}")
        return tolerant(AgentReport, raw) if raw is not None else None

    def dispatcher(self, name: str) -> DispatcherReport | None:
        raw = self._report(f"{What.DISPATCHER}/{name}")
        return tolerant(DispatcherReport, raw) if raw is not None else None

    @property
    def agents(self) -> list[tuple[str, AgentReport]]:
        """Those that are heard, with their nodes: the leader's first."""
        nodes = [node.name for place in self.settings.place for node in place.nodes]
        nodes.sort(key=lambda node: node != self.live.node)
        return [(node, report) for node in nodes if (report := self.agent(node)) is not None]

    def _report(self, target: str) -> Mapping[str, object] | None:
        row = self.row(target)
        raw = row.last.evidence.get("report") if row and row.last and row.last.ok else None
        return raw if isinstance(raw, dict) else None


def place_name(name: str | None) -> str:
    """A place's name as people write it: `columbus` is Columbus."""
    return name.replace("-", " ").title() if name else "nobody"
