"""The proof, by the settings alone, that a leader has fenced itself before anybody else can be promoted. Pure.

On the lease path: the leader counts from the moment its last successful renewal was *sent*, etcd from when it
*received* it, so etcd's lease never ends before `lease_ttl` seconds after the leader began to count. The leader
begins to act `lease_margin` before its own end, looks ten times a second, and needs time to end PostgreSQL; its
clock may run slow by `CLOCK_DRIFT`.
"""

from dataclasses import dataclass

from sitecontrol.settings import FailoverSettings, SettingsError

CLOCK_DRIFT = 0.01  # of the lease: how much slower our clock may run than etcd's
LOOK_EVERY = 0.1  # seconds between two decisions
END_POSTGRES = 0.3  # seconds for an immediate stop; what is left is killed at once


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Seconds after the last successful renewal was sent."""

    fenced_at: float  # at the latest
    promoted_at: float  # at the earliest

    @property
    def holds(self) -> bool:
        return self.fenced_at <= self.promoted_at


def prove(settings: FailoverSettings) -> Proof:
    acts_at = settings.lease_ttl - settings.lease_margin
    return Proof(
        fenced_at=acts_at + CLOCK_DRIFT * settings.lease_ttl + LOOK_EVERY + END_POSTGRES,
        promoted_at=float(settings.lease_ttl),
    )


def check(settings: FailoverSettings) -> None:
    """Raises SettingsError that shows the sum, and a margin that would do."""
    if prove(settings).holds:
        if settings.renew_every * 2 > settings.lease_ttl - settings.lease_margin:
            raise SettingsError(
                f"failover.renew_every = {settings.renew_every:g}: one lost renewal would already end the lease;"
                f" use at most {(settings.lease_ttl - settings.lease_margin) / 2:g}"
            )
        return
    drift = CLOCK_DRIFT * settings.lease_ttl
    needed = drift + LOOK_EVERY + END_POSTGRES
    raise SettingsError(
        f"failover.lease_margin = {settings.lease_margin:g}: the leader might be fenced after another was promoted:"
        f" lease_ttl {settings.lease_ttl:g} - lease_margin {settings.lease_margin:g} + drift {drift:g}"
        f" + look {LOOK_EVERY:g} + end PostgreSQL {END_POSTGRES:g} = {prove(settings).fenced_at:g} s, but the lease"
        f" can end after {settings.lease_ttl:g} s; use at least {needed:.2f}"
    )
