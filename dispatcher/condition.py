"""Whether a dispatcher can do its part, and why not: for load balancers, for etcd, for people. Pure."""

from dataclasses import dataclass

from dispatcher.leadership import LeadershipState
from sitecontrol.records import DispatcherRecord
from sitecontrol.settings_types import Name


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The facts, and what follows from them."""

    name: Name
    site: Name
    state: LeadershipState
    links_bound: int
    links: int
    in_step: bool  # a standby of our site holds every acknowledged commit, as etcd says
    schema_awaited: str | None = None  # why the schema cannot be used yet
    journal_blocks: str | None = None  # why the journal lets nothing be sent

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it cannot do its part; empty when it can."""
        reasons = []
        if not self.state.open:
            reasons.append(self.state.sentence)
        if self.links and not self.links_bound:
            reasons.append(f"None of the {self.links} carrier links is bound.")
        if self.schema_awaited is not None:
            reasons.append(self.schema_awaited)
        if self.journal_blocks is not None:
            reasons.append(self.journal_blocks)
        return tuple(reasons)

    @property
    def live(self) -> bool:
        """Whether this is the live site, for load balancers."""
        return self.state.open and self.state.leader_site == self.site

    @property
    def standby_reasons(self) -> tuple[str, ...]:
        """Why this site could not take over; empty when it could."""
        reasons = list(self.reasons)
        if self.state.leader_site == self.site:
            reasons.append(f"{self.site} is the live site.")
        elif not self.in_step:
            reasons.append(f"No node of {self.site} is in step.")
        return tuple(reasons)

    def record(self, *, held_for: str | None, unanswered: int) -> DispatcherRecord:
        """The record in etcd."""
        return DispatcherRecord(
            name=self.name,
            site=self.site,
            ready=not self.reasons,
            reasons=self.reasons,
            links_up=self.links_bound,
            links=self.links,
            held_for=held_for,
            unanswered=unanswered,
        )
