"""The defaults of [failover] for the lines between the places: a profile each. Pure data, told in docs/timings.md.

A profile only says what a duration is when the file does not. Whatever comes of it is proved by `leadership.timing`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Profile(StrEnum):
    LAB = "lab"  # about 35 ms there and back, as the lab's WAN emulator has it
    METRO = "metro"  # at most 10 ms
    CROSS_COUNTRY = "cross-country"  # 60 to 80 ms, with jitter and loss


@dataclass(frozen=True, kw_only=True)
class Duration:
    """One setting of [failover], in seconds, and what it is in each profile."""

    setting: str
    purpose: str
    lab: float
    metro: float
    cross_country: float

    def of(self, profile: Profile) -> float:
        return {
            Profile.LAB: self.lab,
            Profile.METRO: self.metro,
            Profile.CROSS_COUNTRY: self.cross_country,
        }[profile]


DURATIONS: tuple[Duration, ...] = (
    Duration(
        setting="round_trip",
        purpose="the longest way there and back between two places that is still normal, a packet that is sent again"
        " included; nothing waits for it, the proof reckons with it",
        lab=0.05,
        metro=0.02,
        cross_country=0.3,
    ),
    Duration(
        setting="lease_ttl",
        purpose="how long the leader's lease lasts: a lost site is noticed when it has run out. Etcd grants none"
        " below 2 s",
        lab=2,
        metro=2,
        cross_country=4,
    ),
    Duration(
        setting="renew_every",
        purpose="how often the lease is renewed; two periods of silence, at least a second, are etcd's silence",
        lab=0.5,
        metro=0.25,
        cross_country=0.8,
    ),
    Duration(
        setting="lease_margin",
        purpose="how long before its lease can have run out the leader begins to fence itself",
        lab=0.5,
        metro=0.5,
        cross_country=0.6,
    ),
    Duration(
        setting="canary_every",
        purpose="how often the leader commits a canary, which waits for the standbys as a message does",
        lab=0.25,
        metro=0.1,
        cross_country=0.4,
    ),
    Duration(
        setting="canary_max_age",
        purpose="how old the last canary may be for a leader that serves without etcd",
        lab=1.0,
        metro=0.8,
        cross_country=2.0,
    ),
    Duration(
        setting="canary_wait",
        purpose="how long a standby that still receives canaries leaves a leader that serves without etcd to take its"
        " key up again",
        lab=10.0,
        metro=10.0,
        cross_country=15.0,
    ),
    Duration(
        setting="restart_within",
        purpose="how long a crashed PostgreSQL of the leader may take to come back in place; then the lead is given up",
        lab=1.0,
        metro=1.0,
        cross_country=1.5,
    ),
    Duration(
        setting="swap_prepare_within",
        purpose="for a swap's checks and its checkpoint; no request is held meanwhile",
        lab=60.0,
        metro=60.0,
        cross_country=60.0,
    ),
    Duration(
        setting="swap_deadline",
        purpose="while requests are held: handed over by then, or rolled back",
        lab=5.0,
        metro=5.0,
        cross_country=6.0,
    ),
    Duration(
        setting="swap_follow_within",
        purpose="for the old leader to follow the new one; then the swap ends without it",
        lab=60.0,
        metro=60.0,
        cross_country=120.0,
    ),
    Duration(
        setting="drain_within",
        purpose="how long a swap waits for the answers of the carriers' windows; what is not answered is in doubt",
        lab=0.1,
        metro=0.1,
        cross_country=0.3,
    ),
    Duration(
        setting="unfit_for",
        purpose="how long the places must agree, without a break, that the live site is unfit before health moves it",
        lab=10.0,
        metro=10.0,
        cross_country=15.0,
    ),
    Duration(
        setting="swap_cool_down",
        purpose="after one of health's swaps, or a try, before it asks again",
        lab=300.0,
        metro=300.0,
        cross_country=300.0,
    ),
)

DEFAULTS: Mapping[str, Duration] = {duration.setting: duration for duration in DURATIONS}
