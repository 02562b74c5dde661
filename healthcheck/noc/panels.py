"""Each panel of the page as plain data, ready for JSON. Pure: a scene in, a dictionary out.

`/api/{panel}` gives these dictionaries as they are, and the templates render them, so the page shows nothing
that a program could not read as well. Times are ISO 8601 in UTC, durations in seconds.
"""

from collections.abc import Callable, Mapping, Sequence

from healthcheck.board import Row
from healthcheck.noc.attention import attention
from healthcheck.noc.operations import maintenance, operations
from healthcheck.noc.past import swaps
from healthcheck.noc.plain import Panel, brief, iso, now, rounded
from healthcheck.noc.scene import Scene
from healthcheck.noc.work import links, nodes, queue
from healthcheck.picture import Heir, heirs
from healthcheck.reports import LossReport
from healthcheck.targets import What
from healthcheck.traffic import FLOWS
from sitecontrol.records import SWAP_PHASES, ReachState
from sitecontrol.settings import PlaceKind

LOOKS_SHOWN = 10


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
        "maintenance": maintenance(scene),
        "etcd": {"answers": scene.etcd_answers, "silent_s": rounded(scene.etcd_silent_s)},
        "rates": {flow: now(scene, flow) for flow in FLOWS},
    }


def _if_lost(scene: Scene) -> Panel:
    """What would happen if the live site died now: as an agent reckons by its table, else by `sync`."""
    found = heirs(scene.settings, scene.snapshot)
    sync = scene.snapshot.sync.record if scene.snapshot.sync else None
    site = scene.settings.site_of(sync.leader) if sync else scene.live.site
    told_by, told = _told_loss(scene, site)
    return {
        "site": site,
        **(_as_told(told) if told else _by_sync(scene, found)),
        "told_by": told_by,
        "heirs": [
            {"node": h.node, "site": h.site, "could": h.could, "reasons": list(h.reasons)} for h in found
        ],
    }


def _told_loss(scene: Scene, site: str | None) -> tuple[str | None, LossReport | None]:
    """Of an agent that hears etcd and speaks of the same site as we do: the leader's first."""
    for node, report in scene.agents if scene.etcd_answers else ():
        told = report.if_lost
        if told is not None and report.etcd_reached and told.what == site:
            return node, told
    return None, None


def _as_told(told: LossReport) -> Panel:
    return {
        "sentence": told.sentence,
        "covered": bool(told.would_lead),
        "typical_s": told.typical_s,
        "worst_s": told.worst_s,
        "lost": told.lost,
        "in_the_way": list(told.in_the_way),
    }


def _by_sync(scene: Scene, found: Sequence[Heir]) -> Panel:
    heir = next((h for h in found if h.could), None)
    in_the_way: list[str] = []
    if not scene.etcd_answers:
        sentence = "Nobody can take over while etcd does not answer."
    elif heir is not None:
        sentence = (
            f"{heir.node} would take over: it is in step and ready. Nothing acknowledged would be lost."
        )
    elif found:
        sentence = f"{found[0].node} could not take over."
        in_the_way = list(found[0].reasons)
    else:
        sentence = "Not known: etcd does not yet say who is in step."
    covered = heir is not None and scene.etcd_answers
    return {
        "sentence": sentence,
        "covered": covered,
        "typical_s": None,
        "worst_s": None,
        "lost": None,
        "in_the_way": in_the_way,
    }


def _swap(scene: Scene) -> Panel | None:
    if scene.snapshot.swap is None:
        return None
    swap = scene.snapshot.swap.record
    times = {t.phase: t.at for t in swap.times}
    reached = SWAP_PHASES.index(swap.phase) if swap.phase in SWAP_PHASES else -1
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
                "state": "done" if number < reached else "now" if number == reached else "ahead",
                "at": iso(times.get(phase)),
            }
            for number, phase in enumerate(SWAP_PHASES)
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


def probes(scene: Scene) -> Panel:
    return {"probes": [_probe(row) for row in scene.rows]}


def _probe(row: Row) -> Panel:
    newest = row.looks[-1].at if row.looks else 0.0
    return {
        **brief(row),
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
    }


PANELS: Mapping[str, Callable[[Scene], Panel]] = {
    "overview": overview,
    "attention": attention,
    "places": places,
    "queue": queue,
    "nodes": nodes,
    "links": links,
    "operations": operations,
    "swaps": swaps,
    "probes": probes,
}
