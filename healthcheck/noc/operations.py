"""The panel of what people said and of what waits for them: pause, maintenance, settings, traffic, quarantine. Pure.

Alarms of these stand among what needs attention, too (`alarms`), for one that is not looked at is none.
"""

from collections.abc import Iterator

from healthcheck.noc.plain import Panel, iso
from healthcheck.noc.scene import Scene, place_name
from healthcheck.reports import AgentReport
from sitecontrol.records import Maintenance

FAILED = "failed"  # of an adapter: clients may be sent elsewhere


def operations(scene: Scene) -> Panel:
    told_by, differ = settings_differ(scene)
    desired = scene.snapshot.desired.record if scene.snapshot.desired else None
    retired = (desired.retired if desired else None) or ()
    return {
        "paused": {"by": desired.paused_by, "reason": desired.paused_reason}
        if desired and desired.paused
        else None,
        "maintenance": maintenance(scene),
        "settings": {"told_by": told_by, "differ": differ},
        "nodes": [
            _node(place.name, node.name, scene.agent(node.name))
            | {"removed": node.name in retired and node.name not in scene.snapshot.members}
            for place in scene.settings.place
            for node in place.nodes
        ],
    }


def maintenance(scene: Scene) -> list[Panel]:
    return [
        {"site": w.site, "since": iso(w.since), "until": iso(w.until), "by": w.by, "reason": w.reason}
        for w in _windows(scene)
    ]


def _windows(scene: Scene) -> list[Maintenance]:
    """What is announced and not over."""
    desired = scene.snapshot.desired.record if scene.snapshot.desired else None
    windows = (desired.maintenance if desired else None) or ()
    return [w for w in windows if w.until > scene.at]


def settings_differ(scene: Scene) -> tuple[str | None, list[str]]:
    """By the word of one agent: the others say the same the other way round. None: no agent is heard."""
    agents = scene.agents
    for node, report in agents:
        if report.settings_differ:
            return node, list(report.settings_differ)
    return (agents[0][0], []) if agents else (None, [])


def _node(site: str, node: str, report: AgentReport | None) -> Panel:
    kept = report.quarantine if report else None
    return {
        "node": node,
        "site": site,
        "heard": report is not None,
        "traffic": [
            {"adapter": t.adapter, "state": t.state or "unknown", "reason": t.reason or ""}
            for t in (report.traffic if report else ())
        ],
        "quarantine": {"files": kept.files, "rows": kept.rows, "alarm": kept.alarm} if kept else None,
    }


def alarms(scene: Scene) -> Iterator[tuple[str, str, str | None]]:
    """What, why, and since when."""
    for window in _windows(scene):
        detail = f"By {window.by}, until {window.until:%d %b %H:%M} UTC: {window.reason}"
        yield f"{place_name(window.site)} is in maintenance", detail, iso(window.since)
    told_by, differ = settings_differ(scene)
    if differ:
        yield "settings differ between nodes", f"{told_by} tells: {'; '.join(differ)}", None
    for node, report in scene.agents:
        for adapter in report.traffic:
            if adapter.state == FAILED:
                yield f"{node} cannot move clients by {adapter.adapter}", adapter.reason or "", None
        if report.quarantine and report.quarantine.alarm:
            yield f"rows are set aside at {node}", report.quarantine.alarm, None
