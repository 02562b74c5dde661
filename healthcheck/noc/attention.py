"""What a person on watch must know first: one line per cause, the worst first. Pure.

What is explained by something else that is down is counted at that line and not listed again: a probe below
its `parent`, a whole place that is not reached.
"""

from typing import Any

from healthcheck.board import Row
from healthcheck.noc.operations import alarms
from healthcheck.noc.scene import Scene, place_name
from healthcheck.picture import Durability, LiveState
from healthcheck.targets import What
from healthcheck.verdicts import Verdict
from sitecontrol.records import ReachState

Item = dict[str, Any]

BAD, WARN = "bad", "warn"
ORDER = {BAD: 0, WARN: 1}


def attention(scene: Scene) -> dict[str, Any]:
    items = [*_of_the_cluster(scene), *_of_places(scene), *_of_targets(scene)]
    items.sort(key=lambda item: ORDER[item["level"]])
    up = sum(row.standing.verdict is Verdict.UP for row in scene.rows)
    return {"items": items, "up": up, "watched": len(scene.rows)}


def _item(level: str, what: str, detail: str, since: str | None = None, explains: int = 0) -> Item:
    return {"level": level, "what": what, "detail": detail, "since": since, "explains": explains}


def _of_the_cluster(scene: Scene) -> list[Item]:
    found = []
    if scene.live.state in {LiveState.NOBODY, LiveState.UNKNOWN, LiveState.OLD}:
        found.append(_item(BAD, f"live site: {scene.live.state.value}", scene.live.sentence))
    if not scene.etcd_answers:
        silent = ", ".join(r.target.of for r in scene.of(What.MEMBER) if not r.standing.verdict.alive)
        detail = "Service goes on, but nobody can take over."
        found.append(_item(BAD, "etcd does not answer", detail + (f" Silent: {silent}." if silent else "")))
    if scene.durability.value == Durability.ONE_SITE:
        since = scene.durability.since.isoformat(timespec="seconds")
        found.append(_item(WARN, "one-site", "New messages are on disk in the live site only.", since))
    if scene.snapshot.desired and scene.snapshot.desired.record.paused:
        desired = scene.snapshot.desired.record
        detail = f"By {desired.paused_by or 'somebody'}: {desired.paused_reason or 'no reason given'}"
        found.append(_item(WARN, "automatic swaps are paused", detail))
    found += [_item(WARN, what, detail, since) for what, detail, since in alarms(scene)]
    if scene.own.blind:
        found.append(
            _item(WARN, "this place is blind", "It reaches nothing outside itself; its vote does not count.")
        )
    found += [
        _item(WARN, f"a bad record in etcd: {key}", bad.why)
        for key, bad in sorted(scene.snapshot.bad.items())
    ]
    return found


def _of_places(scene: Scene) -> list[Item]:
    return [
        _item(
            BAD,
            f"{place_name(place)} is not reached from here",
            "Nothing in it answers.",
            explains=sum(row.target.place == place for row in scene.rows),
        )
        for place in _lost_places(scene)
    ]


def _lost_places(scene: Scene) -> list[str]:
    dead = {ReachState.DOWN, ReachState.GOING_UP}
    return [p.name for p in scene.settings.place if scene.own.reach.get(f"place/{p.name}") in dead]


def _of_targets(scene: Scene) -> list[Item]:
    lost = set(_lost_places(scene))
    dead = {row.target.name for row in scene.rows if row.standing.verdict.dead}
    found = []
    for row in scene.rows:
        if row.target.place in lost or row.target.parent in dead:
            continue
        if row.target.what in {What.ETCD, What.MEMBER} and not scene.etcd_answers:
            continue  # said among the facts of the cluster
        if row.standing.verdict.dead:
            below = sum(other.target.parent == row.target.name for other in scene.rows)
            found.append(_target(BAD, row, below))
        elif row.standing.verdict is Verdict.GOING_DOWN:
            found.append(_target(WARN, row, 0))
    return found


def _target(level: str, row: Row, below: int) -> Item:
    detail = row.last.detail if row.last else ""
    since = row.wall_since.isoformat(timespec="seconds")
    return _item(level, f"{row.target.name} is {row.standing.verdict.value}", detail, since, below)
