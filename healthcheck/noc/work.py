"""The panels of what does the work: nodes, carrier links, the queue. Pure; see `panels`."""

from healthcheck.noc.plain import Panel, brief, now, rounded
from healthcheck.noc.scene import Scene
from healthcheck.probes.smpp import is_bound, links_of
from healthcheck.reports import AgentReport, DispatcherReport, QueueReport, StandbyReport
from healthcheck.targets import ANY_CARRIER, What, carriers_of
from healthcheck.traffic import FLOWS


def nodes(scene: Scene) -> Panel:
    return {
        "nodes": [
            _node(scene, place.name, node.name) for place in scene.settings.place for node in place.nodes
        ],
        "members": [
            {**brief(row), "name": row.target.of, "place": row.target.place} for row in scene.of(What.MEMBER)
        ],
    }


def _node(scene: Scene, site: str, node: str) -> Panel:
    agent = scene.agent(node)
    entry = scene.snapshot.members.get(node)
    member = entry.record if entry else None
    sync = scene.snapshot.sync.record if scene.snapshot.sync else None
    canary = scene.row(f"{What.CANARY}/{node}")
    told = _told_by_leader(scene, node)
    role = (agent.role if agent else None) or (member.role.value if member else None)
    return {
        "node": node,
        "site": site,
        "role": role or "unknown",
        "leads": scene.live.serving_site is not None and node == scene.live.node,
        "in_step": sync is not None and (node == sync.leader or node in {s.node for s in sync.standbys}),
        "timeline": (agent.postgres.timeline if agent and agent.postgres else None)
        or (member.timeline if member else None),
        "lag_bytes": told.lag_bytes if told and told.lag_bytes is not None else _own_lag(agent),
        "lag_s": told.lag_s if told else None,
        "replay_lag_bytes": told.replay_lag_bytes if told else None,
        "replay_lag_s": told.replay_lag_s if told else None,
        "canary_age_s": canary.last.evidence.get("age_s") if canary and canary.last else None,
        "ready": agent.ready if agent and agent.ready is not None else member.ready if member else None,
        "reasons": list((agent.reasons if agent else ()) or (member.reasons if member else ())),
        "decision": agent.decision.sentence if agent and agent.decision else None,
        "agent": brief(scene.row(f"{What.AGENT}/{node}")),
        "postgres": brief(scene.row(f"{What.POSTGRES}/{node}")),
        "canary": brief(canary),
    }


def _told_by_leader(scene: Scene, node: str) -> StandbyReport | None:
    """How much of the leader's log is not yet on this node's disk: the leader knows."""
    leader = scene.agent(scene.live.node) if scene.live.node else None
    standbys = leader.postgres.standbys if leader and leader.postgres else ()
    return next((standby for standby in standbys if standby.name == node), None)


def _own_lag(agent: AgentReport | None) -> int | None:
    """A node's own word, when no leader tells of it."""
    return agent.postgres.lag_bytes if agent and agent.postgres else None


def links(scene: Scene) -> Panel:
    return {
        "carriers": [
            {"carrier": c.name, "address": c.address, "port": brief(scene.row(f"{What.CARRIER}/{c.name}"))}
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
    return {
        "dispatcher": name,
        "site": site,
        "state": brief(scene.row(f"{What.DISPATCHER}/{name}")),
        "ready": report.ready if report else None,
        "reasons": list(report.reasons) if report else [],
        "links": [_link(scene, name, report, carrier) for carrier in carriers_of(scene.settings)],
    }


def _link(scene: Scene, dispatcher: str, report: DispatcherReport | None, carrier: str) -> Panel:
    told = links_of(report, carrier) if report else []
    return {
        **brief(scene.row(f"{What.LINK}/{dispatcher}/{carrier or ANY_CARRIER}")),
        "carrier": carrier or ANY_CARRIER,
        "unanswered": sum(link.unanswered or 0 for link in told),
        "bound": sum(is_bound(link) for link in told),
        "binds": len(told),
    }


def queue(scene: Scene) -> Panel:
    """By state, as the freshest dispatcher tells it; they all read the same queue."""
    told: list[tuple[float, str, QueueReport]] = []
    for row in scene.of(What.DISPATCHER):
        report = scene.dispatcher(row.target.of)
        if report and report.queue and row.age is not None:
            told.append((row.age + (report.queue.age_s or 0.0), row.target.of, report.queue))
    age, told_by, counts = min(told, key=lambda t: t[0], default=(None, None, None))
    return {
        "told_by": told_by,
        "age_s": rounded(age),
        "by_state": dict(counts.by_state) if counts else {},
        "oldest_queued_s": dict(counts.oldest_queued_s) if counts else {},
        "flows": [
            {"flow": flow, "now": now(scene, flow), "series": list(scene.series.get(flow, ()))}
            for flow in FLOWS
        ],
    }
