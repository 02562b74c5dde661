"""Whether the nodes run with the same [failover]: each tells its own in its member record. Pure.

Each node's safety rests on its own settings, which it has proved for itself (`leadership.timing`). What rests on all of
them together are the promises: after a swap the new leader would keep other ones. So a difference is told, and no
planned swap is begun across it; but it keeps nobody from taking the lead, and production from leaving an unfit site.

Only what both tell is compared: of two versions one may know a setting that the other does not.
"""

from functools import lru_cache

from sitecontrol.leadership.facts import Facts
from sitecontrol.records import Member
from sitecontrol.settings import FailoverSettings

Told = dict[str, float | str]


@lru_cache(maxsize=16)
def told(settings: FailoverSettings) -> Told:
    """As a member record has them."""
    found: Told = settings.model_dump(mode="json")
    return found


def differences(here: str, ours: Told | None, there: str, theirs: Told | None) -> tuple[str, ...]:
    """A sentence for each setting that is not the same at the two nodes."""
    return tuple(
        f"failover.{name} is {_shown(value)} at {here} and {_shown(theirs[name])} at {there}"
        for name, value in (ours or {}).items()
        if theirs is not None and name in theirs and theirs[name] != value
    )


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def differences_between(one: Member, other: Member) -> tuple[str, ...]:
    return differences(one.node, one.failover, other.node, other.failover)


def differences_from_us(f: Facts) -> tuple[str, ...]:
    """Between our own settings and what every other node tells."""
    ours = told(f.settings)
    return tuple(
        sentence
        for node, entry in sorted(f.cluster.members.items())
        if node != f.node and entry.record.failover != ours
        for sentence in differences(f.node, ours, node, entry.record.failover)
    )
