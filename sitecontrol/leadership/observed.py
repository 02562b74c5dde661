"""What the places say about the sites, whose word counts, and since when they agree. Pure.

Each place's health daemon publishes what it sees (`observations/<place>`). Nobody acts on one of them: a place may
be cut off, forged, stopped, or wrong. So a word counts only when

- it decodes, names the place under whose key it stands, and that place is in our own settings;
- it is bound to a lease, and to one that no other place's word is bound to: a daemon writes for one place only;
- its own time has moved within `OLD_AFTER` seconds **of our clock**: clocks of different places are never compared;
- the place reaches anything outside itself (it is not blind), and can tell.

Two places at least, and more than see the live site fit, must agree. How long they do is counted on our own clock
from look to look: it begins again when they do not, when etcd is not heard, when another leads, and when we ourselves
did not look for a while, because nobody can say what was seen meanwhile.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sitecontrol.frozen import replace
from sitecontrol.records import HistoryEntry, Maintenance, Observation, Phase, Planned
from sitecontrol.view import Entry, Snapshot

ENOUGH = 2  # places that must agree
OLD_AFTER = 20.0  # seconds; a health daemon writes anew at least every ten, and its lease lasts five
LOOK_GAP = 2.0  # seconds between two looks after which a count begins again; we look ten times a second
CLOCKS_ARE_WITHIN = timedelta(
    days=1
)  # no clock is off by more; what looks older to an agent that just started is
NEVER = float("-inf")

# The row by which health asks for a swap. It stands in the evidence of the swap and of its entry in the history: by
# that health's own swaps are counted.
HEALTH_SWAP = "health-swap"
FAILBACK = "failback"  # likewise, of a swap back to the preferred site; it counts for the same limits


class Word(StrEnum):
    """What a place says about the live site, or why its word does not count."""

    UNFIT = "unfit"
    FIT = "fit"
    UNTOLD = "cannot tell"
    BLIND = "blind: it reaches nothing outside itself"
    OLD = "old: it has said nothing new for a while"
    UNBOUND = "not bound to a lease of its own"
    ELSEWHERE = "under another place's name"
    BAD = "a bad record"
    SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class Vote:
    place: str
    word: Word
    reasons: tuple[str, ...] = ()  # why the live site is unfit
    fit: frozenset[str] = frozenset()  # the sites that it sees fit; empty when its word does not count
    mod_revision: int = 0


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All votes, in the order of the settings."""

    live: str
    votes: tuple[Vote, ...]

    @property
    def unfit(self) -> tuple[Vote, ...]:
        return tuple(vote for vote in self.votes if vote.word is Word.UNFIT)

    @property
    def live_is_unfit(self) -> bool:
        return self._enough(len(self.unfit))

    def agreed(self, sites: Sequence[str]) -> str | None:
        """The first other site that enough of those who see the live one unfit see fit."""
        others = (site for site in sites if site != self.live)
        return next((s for s in others if self._enough(sum(s in vote.fit for vote in self.unfit))), None)

    def _enough(self, count: int) -> bool:
        return count >= ENOUGH and count > sum(vote.word is Word.FIT for vote in self.votes)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The time that a place put on its last word, only ever compared with its next one; and when we first saw it."""

    at: datetime
    seen_at: float


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Who leads, and where production would go: what an agreement is about."""

    node: str
    term: int
    target: str


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is remembered from one look to the next. Times are our own clock's."""

    looked_at: float | None = None  # None: etcd was not read yet
    cluster: Snapshot | None = None  # what was looked at last
    heard: Mapping[str, Heard] = field(default_factory=dict)  # by place
    subject: Subject | None = None
    agreed_since: float | None = None
    calm_in: int | None = None  # the term in which nothing speaks against the way back to the preferred site
    calm_since: float | None = None
    swaps: Mapping[str, float] = field(default_factory=dict)  # health's own, by key: from when each counts
    windows: Mapping[Maintenance | Planned, float] = field(
        default_factory=dict
    )  # when we saw each maintenance, or a swap that is planned, announced; NEVER: we did not

    def calm_for(self, now: float) -> float:
        return 0.0 if self.calm_since is None else now - self.calm_since

    def agreed_for(self, now: float) -> float:
        return 0.0 if self.agreed_since is None else now - self.agreed_since


def is_seen_unfit(cluster: Snapshot, live: str) -> bool:
    """Some place's word is against the live site, whether it counts or not. It is rare: the rest is looked at then."""
    return any(entry.record.fit.get(live) is False for entry in cluster.observations.values())


def votes(
    cluster: Snapshot, places: Sequence[str], live: str, heard: Mapping[str, Heard], now: float
) -> Picture:
    leases = Counter(entry.lease for entry in cluster.observations.values())
    return Picture(
        live=live, votes=tuple(_vote(cluster, place, live, leases, heard, now) for place in places)
    )


def _vote(
    cluster: Snapshot,
    place: str,
    live: str,
    leases: Mapping[int, int],
    heard: Mapping[str, Heard],
    now: float,
) -> Vote:
    entry = cluster.observations.get(place)
    if entry is None:
        return Vote(place=place, word=Word.BAD if f"observations/{place}" in cluster.bad else Word.SILENT)
    word = _counts(entry, place, leases, heard.get(place), now) or _says(entry.record, live)
    return Vote(
        place=place,
        word=word,
        reasons=entry.record.reasons.get(live, ()) if word is Word.UNFIT else (),
        fit=frozenset(site for site, fit in entry.record.fit.items() if fit)
        if word in (Word.FIT, Word.UNFIT)
        else frozenset(),
        mod_revision=entry.mod_revision,
    )


def _counts(
    entry: Entry[Observation], place: str, leases: Mapping[int, int], heard: Heard | None, now: float
) -> Word | None:
    """Why this word does not count; None: it does."""
    if entry.record.place != place:
        return Word.ELSEWHERE
    if entry.lease == 0 or leases[entry.lease] > 1:
        return Word.UNBOUND
    if heard is None or now - heard.seen_at > OLD_AFTER:
        return Word.OLD
    return Word.BLIND if entry.record.blind else None


def _says(observation: Observation, live: str) -> Word:
    fit = observation.fit.get(live)
    return Word.UNTOLD if fit is None else Word.FIT if fit else Word.UNFIT


def look(
    before: Watch,
    *,
    now: float,
    wall: datetime,
    cluster: Snapshot,
    places: Sequence[str],
    site_of: Mapping[str, str],
    etcd_here: bool,
    home: str | None = None,
) -> Watch:
    """The watch after one more look. `home`: the preferred site."""
    if cluster.read_at is None:
        return before
    first, seen = before.looked_at is None, before.cluster
    # Most of the time nothing of it has changed since the last look, which is a moment ago.
    heard = seen is not None and seen.observations is cluster.observations
    swaps = seen is not None and seen.history is cluster.history
    windows = seen is not None and seen.desired is cluster.desired
    after = replace(
        before,
        looked_at=now,
        cluster=cluster,
        heard=before.heard if heard else _hear(before.heard, cluster, now),
        swaps=before.swaps if swaps else _swaps(before.swaps, cluster, now, wall if first else None),
        windows=before.windows if windows else _windows(before.windows, cluster, NEVER if first else now),
    )
    subject = _subject(after, cluster, places, site_of, now) if etcd_here else None
    stalled = before.looked_at is not None and now - before.looked_at > LOOK_GAP
    calm = _calm(after, cluster, places, site_of, now, home) if etcd_here else None
    if calm is None or stalled or calm != before.calm_in:
        after = replace(after, calm_in=calm, calm_since=None if calm is None else now)
    if subject is None or stalled or subject != before.subject:
        return replace(after, subject=subject, agreed_since=None if subject is None else now)
    return after


def _hear(before: Mapping[str, Heard], cluster: Snapshot, now: float) -> dict[str, Heard]:
    after = {}
    for place, entry in cluster.observations.items():
        known = before.get(place)
        fresh = known is None or known.at != entry.record.at
        after[place] = Heard(at=entry.record.at, seen_at=now) if fresh or known is None else known
    return after


def _swaps(
    before: Mapping[str, float], cluster: Snapshot, now: float, first: datetime | None
) -> dict[str, float]:
    """Health's swaps of which the history tells. One that was there before this agent counts from now on, as if it had
    just been made: how long ago it was only wall clocks tell, and those are believed about days only.
    """
    return {
        key: before.get(
            key, NEVER if first is not None and first - entry.record.at > CLOCKS_ARE_WITHIN else now
        )
        for key, entry in cluster.history.items()
        if by_health(entry.record)
    }


def _windows(
    before: Mapping[Maintenance | Planned, float], cluster: Snapshot, began: float
) -> dict[Maintenance | Planned, float]:
    desired = cluster.desired.record if cluster.desired else None
    wanted: list[Maintenance | Planned] = list((desired.maintenance if desired else None) or ())
    if desired is not None and desired.planned is not None:
        wanted.append(desired.planned)
    return {window: before.get(window, began) for window in wanted}


def _subject(
    watch: Watch, cluster: Snapshot, places: Sequence[str], site_of: Mapping[str, str], now: float
) -> Subject | None:
    """What enough places agree on now; None: nothing."""
    leader = cluster.leader.record if cluster.leader else None
    live = site_of.get(leader.node) if leader else None
    if leader is None or live is None or not is_seen_unfit(cluster, live):
        return None
    target = votes(cluster, places, live, watch.heard, now).agreed(sorted(set(site_of.values())))
    return None if target is None else Subject(node=leader.node, term=leader.term, target=target)


def _calm(
    watch: Watch,
    cluster: Snapshot,
    places: Sequence[str],
    site_of: Mapping[str, str],
    now: float,
    home: str | None,
) -> int | None:
    """The term in which production runs elsewhere than at home, home is in step, ready, and seen fit by enough places,
    and nobody sees either site unfit; None: it is not so.
    """
    leader, sync = cluster.leader, cluster.sync
    live = site_of.get(leader.record.node) if leader else None
    if (
        leader is None
        or sync is None
        or live is None
        or home is None
        or live == home
        or cluster.swap is not None
    ):
        return None
    there = {s.node for s in sync.record.standbys if site_of.get(s.node) == home}
    ready = any(node in cluster.members and cluster.members[node].record.ready for node in there)
    if not ready or is_seen_unfit(cluster, live) or is_seen_unfit(cluster, home):
        return None
    seen = votes(cluster, places, live, watch.heard, now).votes
    return leader.record.term if sum(home in vote.fit for vote in seen) >= ENOUGH else None


def by_health(entry: HistoryEntry) -> bool:
    """One of its swaps, or a try. The end of one that was handed over and then overtaken tells of no other: the term
    that it began has an entry, too.
    """
    overtaken = entry.kind == "swap rolled back" and any(t.phase is Phase.HANDED for t in entry.steps)
    return entry.evidence.get("rule") in (HEALTH_SWAP, FAILBACK) and not overtaken
