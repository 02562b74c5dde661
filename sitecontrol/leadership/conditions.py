"""What rows of the `postgres` lane ask of the facts, where it takes more than a word. Pure."""

from sitecontrol.leadership.facts import Facts, PgState
from sitecontrol.records import Phase

MUTE_PATIENCE = 3.0  # seconds that a PostgreSQL may stay silent while nothing explains it
PROMOTION_PATIENCE = (
    10.0  # seconds that a promotion may take with nothing left to replay, or none of it replayed
)
START_TRIES = 2  # starts as a standby that may fail before the data directory is repaired
LONGEST_REST_ALONE = 5.0  # seconds that one rests for whom nobody else can take over
BOOTSTRAP_PATIENCE = 10.0  # seconds that a site which is not preferred leaves the first start to the other


def running(f: Facts) -> bool:
    return f.pg.state in (PgState.PRIMARY, PgState.STANDBY, PgState.STARTING, PgState.MUTE)


def serving_without_proof(f: Facts) -> bool:
    """Dispatchers are let in, and neither the lease nor the canary shows that nobody else leads. With nobody else
    in step, or on the way into it, nobody else can lead: then a late canary proves nothing against us.
    """
    if f.pg.open_term is None or not running(f) or f.etcd_here or f.lease_safe or f.canary_fresh:
        return False
    alone = f.sync is not None and f.sync.leader == f.node and not f.sync.standbys and not f.pg.names
    return not alone


def canary_late(f: Facts) -> bool:
    if not serving_without_proof(f):
        return False
    hangs = f.pg.state is PgState.MUTE and f.now - f.pg.since > MUTE_PATIENCE
    return f.proved_by_canary_since and not hangs


def led_by_other(f: Facts) -> bool:
    return f.led_by_other


def leader_name(f: Facts) -> str:
    return f.leader.record.node if f.leader else ""


def foreign(f: Facts) -> bool:
    if not foreign_id(f) or f.pg.unfinished:
        return False
    led_here = f.lead and f.leader is not None and f.leader.record.incarnation == f.pg.incarnation
    return not led_here


def foreign_id(f: Facts) -> bool:
    known = f.cluster.initialize
    return (
        known is not None
        and f.pg.system_id is not None
        and known.record.system_id not in ("0", f.pg.system_id)
    )


def reserved_by_us(f: Facts) -> bool:
    reserved = f.cluster.initialize
    return reserved is not None and reserved.lease != 0 and reserved.lease == f.lease.id


def cluster_believed(f: Facts) -> bool:
    """Nothing that tells of the cluster itself is bad; a dispatcher's or an observer's record tells nothing of it."""
    return not any(map(f.bad, ("initialize", "leader", "term", "sync", "swap", "desired")))


def nothing_exists(f: Facts) -> bool:
    """No cluster was made yet, as far as etcd tells and is believed; at most we have begun to make one."""
    begun = f.cluster.initialize is not None and not reserved_by_us(f)
    return not begun and f.cluster.term is None and cluster_believed(f)


def our_turn_to_begin(f: Facts) -> bool:
    absent = f.leader_absent_since
    return f.preferred or (absent is not None and f.now - absent > BOOTSTRAP_PATIENCE)


def initialized(f: Facts) -> bool:
    return f.cluster.initialize is not None and f.cluster.term is not None


def leader_has_written_sync(f: Facts) -> bool:
    """In its own term. Before that our copy may be the only whole one."""
    sync, leader = f.sync, f.leader
    return (
        sync is not None
        and leader is not None
        and (sync.leader, sync.term) == (leader.record.node, leader.record.term)
    )


def settled(f: Facts) -> bool:
    """The leader has written who holds everything, and not that we do: our copy may be rewound or thrown away."""
    return leader_has_written_sync(f) and f.our_place_in_step is None


def in_step_of_older_term(f: Facts) -> bool:
    """Whoever leads has not written `sync` yet. Should it be lost before, we may be the one who leads on, and what we
    had taken of its new timeline meanwhile would be nobody's history.
    """
    sync, leader = f.sync, f.leader
    return (
        sync is not None
        and leader is not None
        and f.our_place_in_step is not None
        and (sync.leader, sync.term) != (leader.record.node, leader.record.term)
    )


def swap_came_to_nothing(f: Facts) -> bool:
    """We handed the lead over by an operator's swap, and who got it is lost before it noted that it had opened."""
    swap = f.swap
    return (
        swap is not None
        and swap.from_node == f.node
        and swap.phase is Phase.HANDED
        and f.term == swap.term + 1
    )


def other_data(f: Facts) -> bool:
    """What lies here is not what took the lead, as when an older copy was put in its place under a living agent."""
    return f.lead and f.leader is not None and f.pg.incarnation not in (None, f.leader.record.incarnation)


def without_data(f: Facts) -> bool:
    """We lead, and nothing that is here may."""
    return f.lead and (f.pg.state in (PgState.ABSENT, PgState.UNUSABLE) or other_data(f))


def ended_at_once(f: Facts) -> bool:
    """Our PostgreSQL ended as soon as we, in this lead, had started it: another start would end alike."""
    failed, since = f.pg.start_failed_at, max(f.swap_ended_at, f.lead_since or 0.0)
    return f.pg.state is PgState.STOPPED and failed is not None and failed > since


def rest_alone_after(failed_starts: int) -> float:
    """Seconds between starts of our own PostgreSQL that nobody else can make up for: 1, 2, 4, 5. What made them fail
    may be mended at any moment, and until the next try nobody serves: so the rest is as short as the log and the disk
    can bear.
    """
    return float(min(2.0 ** min(failed_starts - 1, 10), LONGEST_REST_ALONE))


def rests_alone(f: Facts) -> bool:
    """The last starts in a row have failed, the newest a moment ago. A single one is tried again at once."""
    failed_at, failures = f.pg.start_failed_at, f.pg.failed_starts
    return (
        failed_at is not None and failures >= START_TRIES and f.now - failed_at < rest_alone_after(failures)
    )


def restart_in_place(f: Facts) -> bool:
    in_time = f.down_for < f.settings.restart_within and not ended_at_once(f)
    return in_time or not f.other_in_step


def promotion_stuck(f: Facts) -> bool:
    """We were given the lead and our recovery does not end, though it has nothing to do, or does none of it. Nobody was
    let in since, so another who is complete lacks nothing.
    """
    taken = max(f.lead_since or f.now, f.pg.since)
    replaying = f.pg.unreplayed_since is not None and f.unreplayed_for < PROMOTION_PATIENCE
    return f.pg.state is PgState.STANDBY and f.now - taken > PROMOTION_PATIENCE and not replaying


def nothing_of_ours(f: Facts) -> bool:
    """What lies here was never part of the cluster: no data, half-made data, or a first start that was cut off."""
    return f.pg.state in (PgState.ABSENT, PgState.UNUSABLE) or (f.pg.unfinished and foreign_id(f))


def cannot_start(f: Facts) -> bool:
    return (
        led_by_other(f) and f.pg.state is PgState.STOPPED and f.pg.failed_starts >= START_TRIES and settled(f)
    )


def cannot_follow(f: Facts, patience: float) -> bool:
    return (
        led_by_other(f)
        and f.pg.state is PgState.STANDBY
        and f.follow_failed_since is not None
        and f.now - f.follow_failed_since > patience
        and settled(f)
    )


def apart(f: Facts) -> bool:
    """By our history, which PostgreSQL would not notice, we cannot follow who leads."""
    at_hand = f.pg.state in (PgState.STOPPED, PgState.STANDBY)
    return at_hand and led_by_other(f) and f.pg.apart_from == leader_name(f)


def on_leaders_timeline(f: Facts) -> bool:
    leader = f.member(leader_name(f))
    return leader is not None and f.pg.timeline == leader.record.timeline


def canary_holds_back(f: Facts) -> bool:
    """The leader still writes through to us: it serves without etcd and gets time to take its key up again. While
    replay stands still no canary can be seen; then what arrives has to do.
    """
    absent = 0.0 if f.leader_absent_since is None else f.now - f.leader_absent_since
    arrived = f.pg.received_at is not None and f.now - f.pg.received_at <= f.settings.canary_max_age
    return (
        f.pg.state is PgState.STANDBY
        and (f.canary_fresh or (f.unreplayed_for > f.settings.canary_every and arrived))
        and f.released_by is None
        and absent < f.settings.canary_wait
    )
