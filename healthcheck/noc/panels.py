"""Each panel of the page as plain data, ready for JSON. Pure: a scene in, a dictionary out.

`/api/{panel}` gives these dictionaries as they are, and the templates render them, so the page shows nothing
that a program could not read as well. Times are ISO 8601 in UTC, durations in seconds.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from healthcheck.board import Row
from healthcheck.noc.attention import attention
from healthcheck.noc.scene import Scene
from healthcheck.picture import heirs
from healthcheck.probes.smpp import is_bound
from healthcheck.reports import AgentReport
from healthcheck.targets import What
from healthcheck.traffic import FLOWS
from healthcheck.verdicts import Verdict
from sitecontrol.records import HistoryEntry, Phase, ReachState
from sitecontrol.settings import PlaceKind

Panel = dict[str, Any]

PHASES: list[Phase] = [phase for phase in Phase if phase is not Phase.ROLLED_BACK]
LOOKS_SHOWN = 10
SWAPS_SHOWN = 12


def iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def overview(scene: Scene) -> Panel:
    led = next((e for e in scene.history if e.term == scene.live.term and e.node == scene.live.node), None)
    desired = scene.snapshot.desired.record if scene.snapshot.desired else None
    return {
        "here": scene.settings.site.name,
        "cluster": scene.settings.site.cluster,
        "live": {
            "state": scene.live.state.value,
            "site": scene.live.site,
            "node": scene.live.node,
            "term": scene.live.term,
            "sentence": scene.live.sentence,
            "since": iso(led.at if led else None),
        },
        "durability": {
            "value": scene.durability.value,
            "since": iso(scene.durability.since),
            "exact": scene.durability.exact,
        },
        "if_lost": _if_lost(scene),
        "swap": _swap(scene),
        "paused": {"by": desired.paused_by, "reason": desired.paused_reason}
        if desired and desired.paused
        else None,
        "etcd": {"answers": scene.etcd_answers, "silent_s": _rounded(scene.etcd_silent_s)},
        "rates": {flow: _now(scene, flow) for flow in FLOWS},
    }


def _if_lost(scene: Scene) -> Panel:
    """What would happen if the live site died now: in the agent's words if it has any, else by `sync`."""
    found = heirs(scene.settings, scene.snapshot)
    heir = next((h for h in found if h.could), None)
    leader = scene.agent(scene.live.node) if scene.live.node else None
    if not scene.etcd_answers:
        sentence = "Nobody can take over while etcd does not answer."
    elif heir is not None:
        sentence = (
            f"{heir.node} would take over: it is in step and ready. Nothing acknowledged would be lost."
        )
    elif found:
        sentence = f"{found[0].node} could not take over: {'; '.join(found[0].reasons)}."
    else:
        sentence = "Not known: etcd does not yet say who is in step."
    sync = scene.snapshot.sync.record if scene.snapshot.sync else None
    return {
        "site": scene.settings.site_of(sync.leader) if sync else scene.live.site,
        "sentence": (leader.if_lost if leader else None) or sentence,
        "covered": heir is not None and scene.etcd_answers,
        "heirs": [
            {"node": h.node, "site": h.site, "could": h.could, "reasons": list(h.reasons)} for h in found
        ],
    }


def _swap(scene: Scene) -> Panel | None:
    if scene.snapshot.swap is None:
        return None
    swap = scene.snapshot.swap.record
    times = {t.phase: t.at for t in swap.times}
    order: dict[Phase, int] = {phase: number for number, phase in enumerate(PHASES)}
    now = order.get(swap.phase, -1)
    return {
        "id": swap.id,
        "from": swap.from_node,
        "to": swap.to_node,
        "by": swap.by,
        "reason": swap.reason,
        "phase": swap.phase.value,
        "requested_at": iso(swap.requested_at),
        "phases": [
            {
                "phase": phase.value,
                "state": "done" if order[phase] < now else "now" if order[phase] == now else "ahead",
                "at": iso(times.get(phase)),
            }
            for phase in PHASES
        ],
    }


def places(scene: Scene) -> Panel:
    """The picture who sees whom: each observer's own word, ours fresh, the others' as they published it."""
    words = {name: entry.record for name, entry in scene.snapshot.observations.items()}
    words[scene.own.place] = scene.own
    names = [p.name for p in scene.settings.place]
    sees = []
    for observer in names:
        word = words.get(observer)
        for seen in names:
            unknown = ReachState.UNKNOWN
            state = word.reach.get(f"place/{seen}", unknown) if word else unknown
            sees.append({"from": observer, "to": seen, "state": state.value})
    return {
        "places": [
            {
                "name": p.name,
                "kind": p.kind.value,
                "here": p.name == scene.settings.site.name,
                "live": p.name == scene.live.serving_site,
                "blind": words[p.name].blind if p.name in words else None,
                "heard": iso(words[p.name].at) if p.name in words else None,
                "latency_s": _place_latency(scene, p.name),
                "votes": [
                    {
                        "by": observer,
                        "fit": word.fit.get(p.name),
                        "blind": word.blind,
                        "reasons": list(word.reasons.get(p.name, ())),
                    }
                    for observer, word in sorted(words.items())
                    if p.kind is PlaceKind.SITE
                ],
            }
            for p in scene.settings.place
        ],
        "sees": sees,
    }


def _place_latency(scene: Scene, place: str) -> float | None:
    row = scene.row(f"{What.DAEMON}/{place}")
    return round(row.last.latency, 4) if row and row.last and row.last.ok else None


def nodes(scene: Scene) -> Panel:
    return {
        "nodes": [
            _node(scene, place.name, node.name) for place in scene.settings.place for node in place.nodes
        ],
        "members": [
            {**_brief(row), "name": row.target.of, "place": row.target.place} for row in scene.of(What.MEMBER)
        ],
    }


def _node(scene: Scene, site: str, node: str) -> Panel:
    agent = scene.agent(node)
    entry = scene.snapshot.members.get(node)
    member = entry.record if entry else None
    sync = scene.snapshot.sync.record if scene.snapshot.sync else None
    canary = scene.row(f"{What.CANARY}/{node}")
    role = (agent.role if agent else None) or (member.role.value if member else None)
    return {
        "node": node,
        "site": site,
        "role": role or "unknown",
        "leads": scene.live.serving_site is not None and node == scene.live.node,
        "in_step": sync is not None and (node == sync.leader or node in {s.node for s in sync.standbys}),
        "timeline": (agent.postgres.timeline if agent and agent.postgres else None)
        or (member.timeline if member else None),
        "lag_bytes": _lag(scene, node, agent),
        "canary_age_s": canary.last.evidence.get("age_s") if canary and canary.last else None,
        "ready": agent.ready if agent and agent.ready is not None else member.ready if member else None,
        "reasons": list((agent.reasons if agent else ()) or (member.reasons if member else ())),
        "decision": agent.decision.sentence if agent and agent.decision else None,
        "agent": _brief(scene.row(f"{What.AGENT}/{node}")),
        "postgres": _brief(scene.row(f"{What.POSTGRES}/{node}")),
        "canary": _brief(canary),
    }


def _lag(scene: Scene, node: str, agent: AgentReport | None) -> int | None:
    """How much of the leader's log is not yet on this node's disk: the leader knows; else its own word."""
    leader = scene.agent(scene.live.node) if scene.live.node else None
    standbys = leader.postgres.standbys if leader and leader.postgres else ()
    told = next((s.lag_bytes for s in standbys if s.name == node), None)
    return told if told is not None else agent.postgres.lag_bytes if agent and agent.postgres else None


def links(scene: Scene) -> Panel:
    return {
        "carriers": [
            {"carrier": c.name, "address": c.address, "port": _brief(scene.row(f"{What.CARRIER}/{c.name}"))}
            for c in scene.settings.carrier
        ],
        "dispatchers": [
            _dispatcher(scene, place.name, instance.name)
            for place in scene.settings.place
            for instance in place.dispatchers
        ],
    }


def _dispatcher(scene: Scene, site: str, name: str) -> Panel:
    report = scene.dispatcher(name)
    told = report.links if report else ()
    return {
        "dispatcher": name,
        "site": site,
        "state": _brief(scene.row(f"{What.DISPATCHER}/{name}")),
        "ready": report.ready if report else None,
        "reasons": list(report.reasons) if report else [],
        "links": [
            {
                **_brief(scene.row(f"{What.LINK}/{name}/{carrier.name}")),
                "carrier": carrier.name,
                "unanswered": sum(k.unanswered or 0 for k in told if k.carrier == carrier.name),
                "bound": sum(is_bound(k) for k in told if k.carrier == carrier.name),
                "binds": sum(k.carrier == carrier.name for k in told),
            }
            for carrier in scene.settings.carrier
        ],
    }


def queue(scene: Scene) -> Panel:
    """By state, as the freshest dispatcher tells it; they all read the same queue."""
    best: tuple[float, Row] | None = None
    for row in scene.of(What.DISPATCHER):
        report = scene.dispatcher(row.target.of)
        if report and report.queue and row.age is not None and (best is None or row.age < best[0]):
            best = (row.age, row)
    report = scene.dispatcher(best[1].target.of) if best else None
    counts = report.queue if report else None
    return {
        "told_by": best[1].target.of if best else None,
        "by_state": dict(counts.by_state) if counts else {},
        "oldest_queued_s": dict(counts.oldest_queued_s) if counts else {},
        "flows": [
            {"flow": flow, "now": _now(scene, flow), "series": list(scene.series.get(flow, ()))}
            for flow in FLOWS
        ],
    }


def probes(scene: Scene) -> Panel:
    return {"probes": [_probe(row, scene) for row in scene.rows]}


def _probe(row: Row, scene: Scene) -> Panel:
    newest = row.looks[-1].at if row.looks else 0.0
    return {
        **_brief(row),
        "name": row.target.name,
        "kind": row.target.kind.value,
        "place": row.target.place,
        "parent": row.target.parent,
        "on_the_way": row.sentence,
        "source": row.target.source,
        "latencies": [round(k.result.latency, 4) if k.result.ok else None for k in row.looks],
        "looks": [
            {
                "ago_s": round(newest - k.at + (row.age or 0.0), 1),
                "word": k.word.value,
                "latency_s": round(k.result.latency, 4),
                "detail": k.result.detail,
            }
            for k in reversed(row.looks[-LOOKS_SHOWN:])
        ]
        if not row.standing.verdict.alive
        else [],
        "here": scene.settings.site.name,
    }


def swaps(scene: Scene) -> Panel:
    return {"swaps": [_entry(e) for e in scene.history[:SWAPS_SHOWN]]}


def _entry(entry: HistoryEntry) -> Panel:
    return {
        "term": entry.term,
        "node": entry.node,
        "site": entry.site,
        "at": iso(entry.at),
        "kind": entry.kind,
        "by": entry.by,
        "reason": entry.reason,
        "evidence": dict(entry.evidence),
        "steps": [
            {"phase": s.phase.value, "at": s.at.isoformat(timespec="milliseconds")} for s in entry.steps
        ],
        "durations_ms": dict(entry.durations_ms),
    }


def _brief(row: Row | None) -> Panel:
    if row is None:
        return {
            "verdict": Verdict.UNKNOWN.value,
            "detail": "not looked at from here",
            "since": None,
            "latency_s": None,
        }
    return {
        "verdict": row.standing.verdict.value,
        "detail": row.last.detail if row.last else "not looked at yet",
        "since": iso(row.wall_since),
        "latency_s": round(row.last.latency, 4) if row.last and row.last.ok and row.last.latency else None,
    }


def _now(scene: Scene, flow: str) -> float | None:
    series = scene.series.get(flow, ())
    return series[-1] if series else None


def _rounded(value: float | None) -> float | None:
    return round(value, 1) if value is not None else None


PANELS: Mapping[str, Callable[[Scene], Panel]] = {
    "overview": overview,
    "attention": attention,
    "places": places,
    "queue": queue,
    "nodes": nodes,
    "links": links,
    "swaps": swaps,
    "probes": probes,
}
