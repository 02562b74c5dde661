"""What an operator wants of the whole cluster, kept in `desired`: a pause, its end, work at a site and its end. Pure: a
dry run and the act itself are worked out by the same functions, from the picture at that moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sitecontrol.leadership import planning
from sitecontrol.leadership.facts import Facts
from sitecontrol.records import Deed, Desired, Maintenance, Planned


@dataclass(frozen=True, kw_only=True)
class Wish:
    deed: Deed
    changes: Mapping[str, Any]  # fields of Desired, with what they become
    comes: tuple[str, ...]  # a sentence each: what it means now
    about: str = ""  # for the audit log
    reason: str = ""
    obstacles: tuple[str, ...] = field(default=())

    def desired(self, f: Facts) -> Desired:
        """All that is wanted from then on."""
        return _known(f).model_copy(update=dict(self.changes))


def pause(f: Facts, *, by: str, reason: str) -> Wish:
    comes = ["health moves nothing, and a lost leader is replaced by nobody, until `sitectl resume`"]
    if f.paused:
        comes = [_paused_already(f)]
    if f.leader is None:
        comes.append("nobody leads at the moment, and nobody takes the lead before `sitectl resume`")
    if f.swap is not None:
        comes.append(
            f"swap {f.swap.id} to {f.swap.to_node} is in progress ({f.swap.phase.value}) and goes on"
        )
    changes = {"paused": True, "paused_by": by, "paused_reason": reason}
    return Wish(deed=Deed.PAUSED, changes=changes, comes=tuple(comes), reason=reason)


def resume(f: Facts, *, by: str, reason: str) -> Wish:
    comes = ["what health moved before counts no more for its cool-down and its hourly limit"]
    if not f.paused:
        comes.insert(0, "automatic swaps are on already")
    elif f.leader is None:
        comes.insert(
            0, "nobody leads at the moment: a node that is in step takes the lead as soon as this is read"
        )
    changes = {
        "paused": False,
        "paused_by": by,
        "paused_reason": reason,
        "acknowledged_revision": f.cluster.revision,
    }
    return Wish(deed=Deed.RESUMED, changes=changes, comes=tuple(comes), reason=reason)


def begin_maintenance(f: Facts, site: str, for_s: int, *, by: str, reason: str) -> Wish:
    """`site` is one of those that are configured."""
    window = Maintenance(
        site=site, since=f.wall, until=f.wall + timedelta(seconds=for_s), by=by, reason=reason
    )
    until = window.until.isoformat(" ", "minutes")
    stays = f"until {until} health moves production neither away from {site} nor to it"
    comes = [f"{stays}, and `sitectl swap --to {site}` is refused"]
    if f.leader is not None and f.leader.record.site == site:
        comes.append(f"production runs in {site}, and stays there unless you move it or the site is lost")
    before = f.maintenance(site)
    if before is not None:
        ended = before.until.isoformat(" ", "minutes")
        comes.append(f"this replaces what was announced: until {ended}, by {before.by}: {before.reason}")
    return Wish(
        deed=Deed.MAINTENANCE_BEGUN,
        changes={"maintenance": (*_windows(f, but=site), window)},
        comes=tuple(comes),
        about=f"{site} until {until}",
        reason=reason,
    )


def end_maintenance(f: Facts, site: str) -> Wish:
    announced = f.maintenance(site) is not None
    return Wish(
        deed=Deed.MAINTENANCE_ENDED,
        changes={"maintenance": _windows(f, but=site) or None},
        comes=(f"health may move production away from {site} and to it again",),
        about=site,
        obstacles=() if announced else (f"no maintenance is announced for {site!r}: there is none to end",),
    )


def plan_swap(f: Facts, planned: Planned) -> Wish:
    """`to` is a site or a node of those that are configured."""
    at, known = planned.at.isoformat(" ", "seconds"), planning.planned(f)
    found = [] if (wrong := planning.wrong_time(f.wall, planned.at)) is None else [wrong]
    if known is not None:
        found.append(
            f"swap {known.id} to {known.to} is planned already: cancel it first (`sitectl swap --cancel`)"
        )
    as_it_is = planning.in_the_way(f, planned)
    comes = [
        f"the leader's agent moves production to {planned.to} at {at}, if nothing stands in its way then"
    ]
    if as_it_is:
        comes.append(f"as it is now it would be refused: {'; '.join(as_it_is)}")
    return Wish(
        deed=Deed.SWAP_PLANNED,
        changes={"planned": planned},
        comes=tuple(comes),
        about=f"to {planned.to} at {at}, swap {planned.id}",
        reason=planned.reason,
        obstacles=tuple(found),
    )


def cancel_swap(f: Facts) -> Wish:
    known = planning.planned(f)
    if known is None:
        why = "no swap is planned: one that has begun ends by itself, in either way"
        return Wish(deed=Deed.SWAP_CANCELLED, changes={}, comes=(), obstacles=(why,))
    return Wish(
        deed=Deed.SWAP_CANCELLED,
        changes={"planned": None},
        comes=(f"production does not move to {known.to} at {known.at.isoformat(' ', 'seconds')}",),
        about=f"to {known.to}, swap {known.id}",
        reason=known.reason,
    )


def _known(f: Facts) -> Desired:
    return f.cluster.desired.record if f.cluster.desired else Desired()


def _paused_already(f: Facts) -> str:
    if f.cluster.desired is None:  # a bad record that nobody has read counts as a pause
        return "what people want cannot be read and counts as a pause: from then on it is one by your word"
    known = f.cluster.desired.record
    return f"automatic swaps are paused already, by {known.paused_by}: {known.paused_reason}; your word replaces that"


def _windows(f: Facts, *, but: str) -> tuple[Maintenance, ...]:
    """The maintenance of the other sites; what is over is dropped with the next write."""
    others = sorted(set(f.site_of.values()) - {but})
    return tuple(window for site in others if (window := f.maintenance(site)) is not None)
