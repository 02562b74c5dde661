"""How the durations must fit together: a table of inequalities, each with a sentence. Pure.

The safety of a failover rests on one clock argument. The leader counts from the moment its last successful renewal was
*sent*, etcd from when it *received* it, so nobody can be promoted earlier than `lease_ttl` seconds after the leader
began to count. By then, at worst, the leader must have fenced itself, by whichever of its proofs of leadership runs
out last: its lease, etcd's last word, or its canary. When everything is cut at once, the last successful renewal was
sent at most a period and a round trip before; etcd's word and the canary may be from that very moment.

The leader looks ten times a second, needs time to end PostgreSQL, and its clock may run slow by `CLOCK_DRIFT`. A leader
that has served by its canary *after* its lease had run out is no part of this: it only closes, and it acknowledges
nothing once its standby has gone (docs/failover.md, "When etcd is lost").

`proof` puts the numbers in. docs/timings.md is made from this table.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from replication.configuration import Value, wal_sender_timeout
from replication.errors import NodeError
from sitecontrol.leadership.steps import SILENT_AFTER
from sitecontrol.leadership.turns import TURN
from sitecontrol.settings import (
    DispatcherSettings,
    EtcdSettings,
    FailoverSettings,
    HealthSettings,
    Settings,
    SettingsError,
)
from sitecontrol.settings_carriers import Carrier

CLOCK_DRIFT = 0.01  # how much longer than by our own clock a while may last by etcd's
LOOK_EVERY = 0.1  # seconds between two decisions
END_POSTGRES = 0.3  # seconds for an immediate stop; what is left is killed at once
RETRY_AFTER = 0.1  # seconds after a renewal that failed
RECONNECT = 0.3  # seconds until a channel to an etcd that is back stands again
START_POSTGRES = 1.0  # seconds, after a clean shutdown
PROMOTE = 1.0  # seconds: a generous promotion, with the write that narrows `sync` and the barrier
CANARIES = 3  # as many must fit into canary_max_age

Seconds: TypeAlias = Mapping[str, float]  # every duration by the name of its setting
Sum: TypeAlias = tuple[tuple[str, float], ...]  # what is added up (or taken off), by name


class Weight(Enum):
    SAFETY = "safety"  # otherwise two nodes could lead at once, or a text could go out twice: refused
    FUNCTION = "function"  # otherwise what a setting is there for could not work: refused
    PROMISE = "promise"  # otherwise a figure that is promised is not kept: told


@dataclass(frozen=True, kw_only=True)
class Relation:
    """`takes` must be over before `fits` is."""

    name: str
    sentence: str
    weight: Weight
    takes: Callable[[Seconds], Sum]
    fits: Callable[[Seconds], Sum]
    cures: tuple[str, ...]  # the settings that a refusal would have changed, the best first


def seconds_of(
    failover: FailoverSettings,
    dispatcher: DispatcherSettings,
    *,
    call_timeout: float,
    health: HealthSettings | None = None,
    carriers: Iterable[Carrier] = (),
    parameters: Mapping[str, Value] | None = None,
) -> dict[str, float]:
    """Every duration that the table looks at. `parameters`: of PostgreSQL. Raises SettingsError."""
    found = {f"failover.{name}": float(getattr(failover, name)) for name in FAILOVER}
    found |= {
        f"dispatcher.{name}": getattr(dispatcher, name) for name in ("hold_for", "claim_for", "doubt_grace")
    }
    found["etcd.call_timeout"] = call_timeout
    found["carrier.silent_for"] = max((carrier.silent_for for carrier in carriers), default=0.0)
    try:
        found["wal_sender_timeout"] = wal_sender_timeout(parameters or {})
    except NodeError as error:
        raise SettingsError(str(error)) from error
    for name in ("every", "timeout"):
        found[f"healthcheck.{name}"] = (
            getattr(health, name) if health else HealthSettings.model_fields[name].default
        )
    return found


# No duration, or one that nothing else has to fit to.
ALONE = {"profile", "max_swaps_per_hour", "failback", "failback_after", "failback_hours"}
FAILOVER = tuple(name for name in FailoverSettings.model_fields if name not in ALONE)


def seconds_of_place(settings: Settings) -> dict[str, float]:
    return seconds_of(
        settings.failover,
        settings.dispatcher,
        call_timeout=settings.etcd.call_timeout,
        health=settings.healthcheck,
        carriers=settings.carrier,
        parameters=settings.replication.parameters if settings.replication else None,
    )


DEFAULT_CALL_TIMEOUT: float = EtcdSettings.model_fields["call_timeout"].default


# -- the parts that several sums have


def _set(s: Seconds, *names: str) -> Sum:
    return tuple((name.rpartition(".")[2], s[name]) for name in names)


def _fence(s: Seconds) -> Sum:
    """From the end of the last proof until PostgreSQL is ended."""
    drift = CLOCK_DRIFT * s["failover.lease_ttl"]
    return (("drift", drift), ("look", LOOK_EVERY), ("end PostgreSQL", END_POSTGRES))


def _since_renewal(s: Seconds) -> Sum:
    """How long ago the last successful renewal was sent when everything is cut, at most."""
    return _set(s, "failover.renew_every", "failover.round_trip")


def _lease(s: Seconds) -> Sum:
    return _set(s, "failover.lease_ttl")


def _margin_of_lease(s: Seconds) -> Sum:
    return (*_lease(s), ("lease_margin", -s["failover.lease_margin"]))


def _silence(s: Seconds) -> Sum:
    return (("etcd's silence", max(2 * s["failover.renew_every"], 1.0)),)


def _shutdown(s: Seconds) -> Sum:
    """What a swap's clean shutdown has: half of what draining leaves of the deadline (executor)."""
    left = s["failover.swap_deadline"] - s["failover.drain_within"] - LOOK_EVERY
    return (("half of swap_deadline - drain_within - look", left / 2),)


RELATIONS: tuple[Relation, ...] = (
    Relation(
        name="fence-before-promotion",
        sentence="A leader that cannot renew its lease is fenced before another can be promoted.",
        weight=Weight.SAFETY,
        takes=lambda s: (*_margin_of_lease(s), *_fence(s)),
        fits=_lease,
        cures=("failover.lease_margin",),
    ),
    Relation(
        name="etcd-word-before-promotion",
        sentence="When all is cut at once, etcd's last word ends, and the leader is fenced, before another can be"
        " promoted.",
        weight=Weight.SAFETY,
        takes=lambda s: (*_since_renewal(s), *_silence(s), *_fence(s)),
        fits=_lease,
        cures=("failover.lease_ttl", "failover.renew_every"),
    ),
    Relation(
        name="canary-before-promotion",
        sentence="When all is cut at once, the last canary grows old, and the leader is fenced, before another can be"
        " promoted.",
        weight=Weight.SAFETY,
        takes=lambda s: (*_since_renewal(s), *_set(s, "failover.canary_max_age"), *_fence(s)),
        fits=_lease,
        cures=("failover.canary_max_age", "failover.lease_ttl"),
    ),
    Relation(
        name="doubt-outlives-links",
        sentence="A text in doubt is sent again only after its link was cut: until then the first copy may arrive.",
        weight=Weight.SAFETY,
        takes=lambda s: (("twice the longest response_timeout", s["carrier.silent_for"]),),
        fits=lambda s: _set(s, "dispatcher.doubt_grace"),
        cures=("dispatcher.doubt_grace",),
    ),
    Relation(
        name="renewal-comes-twice",
        sentence="One renewal that is refused or lost leaves time for another before the leader must fence itself.",
        weight=Weight.FUNCTION,
        takes=lambda s: (("2 x renew_every", 2 * s["failover.renew_every"]),),
        fits=_margin_of_lease,
        cures=("failover.renew_every", "failover.lease_ttl"),
    ),
    Relation(
        name="renewal-outlasts-silence",
        sentence="A renewal without an answer is given up, and sent again, while the lease still lasts.",
        weight=Weight.FUNCTION,
        takes=lambda s: (
            *_set(s, "failover.renew_every", "etcd.call_timeout"),
            ("retry", RETRY_AFTER),
            *_set(s, "failover.round_trip"),
        ),
        fits=_lease,
        cures=("failover.lease_ttl", "failover.renew_every"),
    ),
    Relation(
        name="call-crosses-line",
        sentence="A call to etcd reaches a member elsewhere, and that member a majority, within its time-out.",
        weight=Weight.FUNCTION,
        takes=lambda s: (("2 x round_trip", 2 * s["failover.round_trip"]),),
        fits=lambda s: _set(s, "etcd.call_timeout"),
        cures=("etcd.call_timeout",),
    ),
    Relation(
        name="canaries-fit",
        sentence=f"{CANARIES} canaries fit into the age at which one is too old: one that is late closes nothing.",
        weight=Weight.FUNCTION,
        takes=lambda s: (
            (f"{CANARIES} x canary_every", CANARIES * s["failover.canary_every"]),
            *_set(s, "failover.round_trip"),
        ),
        fits=lambda s: _set(s, "failover.canary_max_age"),
        cures=("failover.canary_every", "failover.canary_max_age"),
    ),
    Relation(
        name="standby-outlasts-line",
        sentence="A standby is not taken out of step for one packet that had to be sent again.",
        weight=Weight.FUNCTION,
        takes=lambda s: (("2 x round_trip", 2 * s["failover.round_trip"]),),
        fits=lambda _: (("a standby's silence", SILENT_AFTER),),
        cures=("failover.round_trip",),
    ),
    Relation(
        name="turn-outlasts-claim",
        sentence="When nobody leads, the standby whose turn it is has taken the lead before the next one runs.",
        weight=Weight.FUNCTION,
        takes=lambda s: (("2 x round_trip", 2 * s["failover.round_trip"]), ("look", LOOK_EVERY)),
        fits=lambda _: (("a turn", TURN),),
        cures=("failover.round_trip",),
    ),
    Relation(
        name="reclaim-before-standby",
        sentence="When etcd returns, the leader that served without it takes its key up again before a standby that"
        " receives its canaries runs for the lead.",
        weight=Weight.FUNCTION,
        takes=lambda s: (
            *_set(s, "etcd.call_timeout"),
            ("reconnect", RECONNECT),
            ("grant", s["etcd.call_timeout"]),
            ("look", LOOK_EVERY),
            ("write", s["etcd.call_timeout"]),
        ),
        fits=lambda s: _set(s, "failover.canary_wait"),
        cures=("failover.canary_wait",),
    ),
    Relation(
        name="swap-within-hold",
        sentence="A swap that is rolled back at its deadline starts PostgreSQL again while requests are still held.",
        weight=Weight.FUNCTION,
        takes=lambda s: (
            *_set(s, "failover.swap_deadline"),
            ("look", LOOK_EVERY),
            ("start PostgreSQL", START_POSTGRES),
            *_set(s, "failover.round_trip"),
        ),
        fits=lambda s: _set(s, "dispatcher.hold_for"),
        cures=("failover.swap_deadline", "dispatcher.hold_for"),
    ),
    Relation(
        name="shutdown-outlasts-receiver",
        sentence="A swap's clean shutdown outlasts one hung receiver of WAL, for which PostgreSQL waits so long.",
        weight=Weight.FUNCTION,
        takes=lambda s: _set(s, "wal_sender_timeout"),
        fits=_shutdown,
        cures=("failover.swap_deadline", "failover.drain_within"),
    ),
    Relation(
        name="hand-over-in-time",
        sentence="After the longest clean shutdown there is time for the target's word and for the hand-over.",
        weight=Weight.FUNCTION,
        takes=lambda s: (*_set(s, "etcd.call_timeout", "failover.round_trip"), ("look", LOOK_EVERY)),
        fits=_shutdown,
        cures=("failover.swap_deadline", "failover.drain_within"),
    ),
    Relation(
        name="claim-outlasts-line",
        sentence="A claim's commit takes a round trip; its deadline leaves time to send what was claimed (a quarter).",
        weight=Weight.FUNCTION,
        takes=lambda s: _set(s, "failover.round_trip"),
        fits=lambda s: (("claim_for / 4", s["dispatcher.claim_for"] / 4),),
        cures=("dispatcher.claim_for",),
    ),
    Relation(
        name="unfit-is-looked-at-again",
        sentence="Each place has looked again before health moves production by what it saw.",
        weight=Weight.FUNCTION,
        takes=lambda s: _set(s, "healthcheck.every", "healthcheck.timeout"),
        fits=lambda s: _set(s, "failover.unfit_for"),
        cures=("failover.unfit_for",),
    ),
    Relation(
        name="cool-down-outlasts-count",
        sentence="After one of health's swaps the places' agreement is counted anew before the next.",
        weight=Weight.FUNCTION,
        takes=lambda s: _set(s, "failover.unfit_for"),
        fits=lambda s: _set(s, "failover.swap_cool_down"),
        cures=("failover.swap_cool_down",),
    ),
    Relation(
        name="failover-within-hold",
        sentence="A request that came as its site was lost is still held when the other site opens.",
        weight=Weight.PROMISE,
        takes=lambda s: (*_lease(s), *_set(s, "etcd.call_timeout"), ("promotion", PROMOTE)),
        fits=lambda s: _set(s, "dispatcher.hold_for"),
        cures=("dispatcher.hold_for",),
    ),
    Relation(
        name="restart-before-lease",
        sentence="A crash of PostgreSQL pauses no longer than the loss of the whole site.",
        weight=Weight.PROMISE,
        takes=lambda s: _set(s, "failover.restart_within"),
        fits=_lease,
        cures=("failover.restart_within",),
    ),
)
