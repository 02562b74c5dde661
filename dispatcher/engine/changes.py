"""What another list of carriers means for the links that stand: a change of settings while texts are sent. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from sitecontrol.settings import Settings
from sitecontrol.settings_carriers import Carrier

# What decides which texts a carrier is given: no link is touched.
ROUTED: Final = frozenset(
    {"weight", "priority", "price", "prefixes", "refused_prefixes", "short_codes", "programs"}
)
# How fast a link may go: told to the links as they stand.
PACED: Final = frozenset({"rate", "short_code_rate", "short_code_rates"})
# In `[dispatcher]`: read anew with the carriers.
ROUTED_BY: Final = frozenset({"route_by", "route_wait"})


@dataclass(frozen=True, kw_only=True)
class Change:
    """Names of carriers."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rebound: tuple[str, ...] = ()  # their links are drained, unbound, and bound anew
    changed: tuple[str, ...] = ()  # with links that stand

    @property
    def drained(self) -> frozenset[str]:
        return frozenset(self.removed + self.rebound)

    @property
    def bound(self) -> tuple[str, ...]:
        return self.added + self.rebound

    def as_json(self) -> dict[str, list[str]]:
        return {
            name: list(value)
            for name in ("added", "removed", "rebound", "changed")
            if (value := getattr(self, name))
        }


def compare(before: Sequence[Carrier], after: Sequence[Carrier]) -> Change:
    old = {carrier.name: carrier for carrier in before}
    new = {carrier.name: carrier for carrier in after}
    both = [name for name in old if name in new and old[name] != new[name]]
    rebound = [name for name in both if _differing(old[name], new[name]) - ROUTED - PACED]
    return Change(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        rebound=tuple(rebound),
        changed=tuple(name for name in both if name not in rebound),
    )


def _differing(one: Carrier, other: Carrier) -> set[str]:
    return {name for name in Carrier.model_fields if getattr(one, name) != getattr(other, name)}


def needs_restart(running: Settings, read: Settings) -> list[str]:
    """The settings that differ and are read only at a start, as people write them, without those of carriers."""
    live = {f"dispatcher.{name}" for name in ROUTED_BY}
    return [name for name in _paths(running, read) if name not in live and not name.startswith("carrier")]


def _paths(one: BaseModel, other: BaseModel, above: str = "") -> Iterable[str]:
    for name in type(one).model_fields:
        a: Any = getattr(one, name)
        b: Any = getattr(other, name)
        if a == b:
            continue
        if isinstance(a, BaseModel) and isinstance(b, BaseModel):
            yield from _paths(a, b, f"{above}{name}.")
        else:
            yield f"{above}{name}"
