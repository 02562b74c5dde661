"""What can be broken in a lab, by name, as in the fault matrix. `heal` mends everything.

Each fault is one short function: what is killed, stopped or cut, at which site. The drills use the same ones.
A fault without a site strikes the site that its name speaks of: the live one, or the hot one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sitecontrol.lab import etcd_room, volumes
from sitecontrol.lab.control import LabControl
from sitecontrol.lab.errors import LabRefusedError, LabUnreachableError
from sitecontrol.lab.plan import Kind, LabNode, Process
from sitecontrol.lab.ports import PLACES, SITES, WITNESS
from sitecontrol.lab.wan_routes import Shape, of_place

BAD_LINES = Shape(delay_ms=250, jitter_ms=100, bits_per_s=1_000_000, reset_share=0.2)
HOUR = 3_600.0  # seconds
# Of the leader's PostgreSQL; segments have 16 MB.
LOW_CAPS = {"max_slot_wal_keep_size": "'16MB'", "wal_keep_size": "0"}
SEGMENTS_PAST_CAP = 4
SEGMENTS_AT_HAND = 8
STILL_FOR = 0.3  # seconds: less than it takes to call a standby silent
CANCEL_WAITING = """
select pg_cancel_backend(pid) from pg_stat_activity
where wait_event = 'SyncRep' and backend_type = 'client backend' and application_name <> 'hotsite-agent'
"""
WRITE_WAL = "select pg_logical_emit_message(false, 'lab', 'more')"
DROP_SLOTS = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active"
RESUME_REPLAY = "select case when pg_is_in_recovery() then pg_wal_replay_resume() end"

Strike = Callable[[LabControl, str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    summary: str
    strikes: str  # "live", "hot" or a place: where, when no site is named
    strike: Strike
    anywhere: bool = False  # also at the witness, which has no more than etcd and a health daemon


def other_site(site: str) -> str:
    return next(s for s in SITES if s != site)


def of_kind(control: LabControl, place: str, kind: Kind) -> list[Process]:
    return [process for process in control.plan.of_place(place) if process.kind is kind]


def _all_postgres(control: LabControl, place: str) -> list[str]:
    return [node.key for node in control.plan.nodes(place)]


async def _leading_agent(control: LabControl, site: str) -> list[Process]:
    name = f"{(await control.leading_in(site)).key}-agent"
    return [process for process in of_kind(control, site, Kind.AGENT) if process.name == name]


async def lose_place(control: LabControl, place: str) -> None:
    """Every process of the place at once, PostgreSQL with its backends included; they stay down."""
    await control.kill(control.plan.of_place(place), postgres=_all_postgres(control, place), hold=True)


async def lose_witness(control: LabControl, _site: str) -> None:
    await lose_place(control, WITNESS)


async def hang_place(control: LabControl, place: str) -> None:
    await control.signal(control.plan.of_place(place), _all_postgres(control, place), "STOP")


async def isolate(control: LabControl, place: str) -> None:
    for other in PLACES:
        if other != place:
            await control.cut(place, other)


async def cut_between_sites(control: LabControl, _site: str) -> None:
    await control.cut(*SITES)


async def cut_from_witness(control: LabControl, site: str) -> None:
    await control.cut(site, WITNESS)


async def cut_one_way(control: LabControl, site: str) -> None:
    """What `site` sends to the other site is lost; what it is sent arrives."""
    await control.cut(site, other_site(site), both=False)


async def lose_member(control: LabControl, place: str) -> None:
    await control.kill(of_kind(control, place, Kind.ETCD), hold=True)


async def lose_quorum(control: LabControl, site: str) -> None:
    """The members of the witness and of the other site: the one that is left has no majority."""
    members = of_kind(control, WITNESS, Kind.ETCD) + of_kind(control, other_site(site), Kind.ETCD)
    await control.kill(members, hold=True)


async def lose_etcd(control: LabControl, _site: str) -> None:
    await control.kill([p for p in control.plan.processes if p.kind is Kind.ETCD], hold=True)


async def crash_postgres(control: LabControl, site: str) -> None:
    """The postmaster alone: its backends find out, or are found, by themselves."""
    node = await control.leading_in(site)
    await control.kill([], postgres=[node.key], postmaster_only=True, hold=False)


async def break_postgres(control: LabControl, site: str) -> None:
    """The leader's WAL is gone, and its postmaster dies: no PostgreSQL starts on that directory again."""
    node = await control.leading_in(site)
    wal = control.plan.lab.installation.data_dir(node.key) / "pg_wal"
    wal.rename(wal.with_name("gone"))
    await control.kill([], postgres=[node.key], postmaster_only=True, hold=False)


async def hang_postgres(control: LabControl, site: str) -> None:
    await control.signal([], [(await control.leading_in(site)).key], "STOP")


async def crash_agent(control: LabControl, site: str) -> None:
    await control.kill(await _leading_agent(control, site), hold=False)


async def hang_agent(control: LabControl, site: str) -> None:
    await control.signal(await _leading_agent(control, site), [], "STOP")


async def crash_dispatcher(control: LabControl, site: str) -> None:
    """One of several; it is started again after a second."""
    await control.kill(of_kind(control, site, Kind.DISPATCHER)[:1], hold=False)


async def lose_carrier(control: LabControl, site: str) -> None:
    """The line from `site` to its first carrier goes dead, with its sockets open."""
    await control.cut(site, of_place(control.plan.carriers[0].name))


async def lose_carriers(control: LabControl, site: str) -> None:
    for carrier in control.plan.carriers:
        await control.cut(site, of_place(carrier.name))


async def slow_lines(control: LabControl, _site: str) -> None:
    await control.shape_lines(BAD_LINES)


async def hang_member(control: LabControl, place: str) -> None:
    """Its sockets stay open: what it is sent meanwhile it may still apply."""
    await control.signal(of_kind(control, place, Kind.ETCD), [], "STOP")


async def pause_replay(control: LabControl, site: str) -> None:
    for node in control.plan.nodes(site):
        await control.sql(node, "select pg_wal_replay_pause()")


async def lose_slots(control: LabControl, site: str) -> None:
    """The slots of the nodes that are away, and the WAL that these would need next, are gone."""
    node = await control.leading_in(site)
    await control.sql(node, DROP_SLOTS)
    lose_older_wal(control, node, await begin_wal_anew(control, node))


async def outrun_slots(control: LabControl, site: str) -> None:
    """More WAL than slots may keep is written while their nodes are away: PostgreSQL itself gives the slots up, and
    throws that WAL away. The cap is low for as long as that takes.
    """
    node = await control.leading_in(site)
    settings = control.plan.lab.installation.data_dir(node.key) / "postgresql.auto.conf"
    settings.write_text("".join(f"{name} = {value}\n" for name, value in LOW_CAPS.items()))
    try:
        await control.sql(node, "select pg_reload_conf()")
        for _ in range(SEGMENTS_PAST_CAP):
            await control.sql(node, WRITE_WAL)
            await control.sql(node, "select pg_switch_wal()")
        await control.sql(node, "checkpoint")
    finally:
        settings.write_text("")
        await control.sql(node, "select pg_reload_conf()")


async def fill_volumes(control: LabControl, site: str) -> None:
    """Not a block is left on the volumes of a site's nodes, and so much WAL is written that they need some."""
    for node in control.plan.nodes(site):
        home = control.plan.lab.installation.postgres_home(node.key)
        if not volumes.is_one(home):
            raise LabRefusedError(
                f"{node.name} has no volume of its own that could be filled: a lab that root starts with"
                " `sitectl lab up --volume-mb 2048 --fresh` has"
            )
        await asyncio.to_thread(volumes.fill, home)
    await write_segments(control)


async def write_segments(control: LabControl) -> None:
    """As many as may lie ready at a node that needs no room for them; fewer when the leader stumbles on the way."""
    live = (await control.cluster()).get("live_site")
    node = await control.leading_in(str(live))
    with contextlib.suppress(LabUnreachableError):
        for _ in range(SEGMENTS_AT_HAND):
            await control.sql(node, WRITE_WAL)
            await control.sql(node, "select pg_switch_wal()")


async def fill_etcd(control: LabControl, _site: str) -> None:
    control.plan.directory.etcd_filled.touch()
    await etcd_room.fill(control.plan.etcd_urls)


async def begin_wal_anew(control: LabControl, node: LabNode) -> str:
    """A checkpoint in a fresh segment of WAL: from then on a node's own recovery needs none before it. Its name."""
    await control.sql(node, "select pg_switch_wal()")
    await control.sql(node, "checkpoint")
    return str(await control.sql(node, "select pg_walfile_name(pg_current_wal_lsn())"))


def lose_older_wal(control: LabControl, node: LabNode, segment: str) -> None:
    """Each segment before that one; its timeline is the same."""
    folder = control.plan.lab.installation.data_dir(node.key) / "pg_wal"
    for found in folder.glob(segment[:8] + "?" * (len(segment) - 8)):
        if found.name < segment:
            found.unlink()


async def cancel_commits(control: LabControl, site: str) -> None:
    """The other site's PostgreSQL stands still for a moment, and what waits for it meanwhile is cancelled."""
    others = _all_postgres(control, other_site(site))
    await control.signal([], others, "STOP")
    try:
        await asyncio.sleep(STILL_FOR)
        await control.sql(await control.leading_in(site), CANCEL_WAITING)
    finally:
        await control.signal([], others, "CONT")


async def put_clocks(control: LabControl, place: str, seconds: float) -> None:
    """The wall clocks of a place's own processes are off by so much; those of PostgreSQL and etcd are the machine's."""
    for file in control.plan.wall_offsets(place):
        fresh = file.with_name(file.name + ".new")
        fresh.write_text(f"{seconds}\n")
        fresh.replace(file)


async def put_clocks_ahead(control: LabControl, place: str) -> None:
    await put_clocks(control, place, HOUR)


async def put_clocks_back(control: LabControl, place: str) -> None:
    await put_clocks(control, place, -HOUR)


ANYWHERE = frozenset(
    {
        lose_place,
        hang_place,
        isolate,
        lose_member,
        hang_member,
        lose_etcd,
        fill_etcd,
        put_clocks_ahead,
        put_clocks_back,
    }
)


def _fault(name: str, summary: str, strikes: str, strike: Strike) -> Fault:
    return Fault(name=name, summary=summary, strikes=strikes, strike=strike, anywhere=strike in ANYWHERE)


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        _fault("site-loss", "every process of the live site killed at once", "live", lose_place),
        _fault("standby-loss", "every process of the hot site killed at once", "hot", lose_place),
        _fault("site-hang", "every process of the live site stopped (SIGSTOP)", "live", hang_place),
        _fault("witness-loss", "every process of the witness killed", WITNESS, lose_witness),
        _fault("postgres-crash", "the leader's postmaster killed", "live", crash_postgres),
        _fault("postgres-broken", "the leader's PostgreSQL killed and its WAL gone", "live", break_postgres),
        _fault("postgres-hang", "the leader's PostgreSQL stopped, its sockets open", "live", hang_postgres),
        _fault("agent-crash", "the leader's agent killed", "live", crash_agent),
        _fault("agent-hang", "the leader's agent stopped (SIGSTOP)", "live", hang_agent),
        _fault("dispatcher-crash", "one dispatcher of the live site killed", "live", crash_dispatcher),
        _fault("carrier-loss", "the live site's line to its first carrier dead", "live", lose_carrier),
        _fault("carriers-loss", "the live site's lines to all carriers dead", "live", lose_carriers),
        _fault(
            "wan-cut", "the line between the sites dead; the witness sees both", "live", cut_between_sites
        ),
        _fault("live-isolated", "the live site cut from the hot site and the witness", "live", isolate),
        _fault("standby-isolated", "the hot site cut from the live site and the witness", "hot", isolate),
        _fault("witness-cut", "the live site cut from the witness only", "live", cut_from_witness),
        _fault("one-way", "what the live site sends to the hot site is lost", "live", cut_one_way),
        _fault("wan-slow", "all lines between the places slow, unsteady and breaking", "live", slow_lines),
        _fault(
            "replay-paused", "the hot site's PostgreSQL receives, but does not replay", "hot", pause_replay
        ),
        _fault("cancelled-commit", "commits that wait for the hot site cancelled", "live", cancel_commits),
        _fault(
            "etcd-member-hang", "the live site's etcd member stopped, its sockets open", "live", hang_member
        ),
        _fault("slots-lost", "the slots of nodes that are away gone, with their WAL", "live", lose_slots),
        _fault(
            "slots-outrun",
            "more WAL written than slots of nodes that are away may keep",
            "live",
            outrun_slots,
        ),
        _fault("etcd-member-loss", "the live site's etcd member killed", "live", lose_member),
        _fault(
            "etcd-quorum-loss", "the etcd members of the witness and the hot site killed", "live", lose_quorum
        ),
        _fault("etcd-loss", "all etcd members killed", "live", lose_etcd),
        _fault("disk-full", "no room left on the volume of the site's PostgreSQL", "live", fill_volumes),
        _fault("etcd-full", "etcd's store full, up to its quota", "live", fill_etcd),
        _fault("clock-ahead", "the place's wall clock an hour ahead", "live", put_clocks_ahead),
        _fault("clock-behind", "the place's wall clock an hour behind", "live", put_clocks_back),
    )
}


async def site_for(control: LabControl, fault: Fault, site: str | None) -> str:
    """Where a fault strikes. Raises LabRefusedError when that cannot be told, or when it cannot strike there."""
    if site is not None:
        if site not in PLACES:
            raise LabRefusedError(f"{site!r} is no place of a lab: use one of {', '.join(PLACES)}")
        if site not in SITES and not fault.anywhere:
            raise LabRefusedError(f"{fault.name} strikes sites only: use --site {' or --site '.join(SITES)}")
        return site
    if fault.strikes in PLACES:
        return fault.strikes
    live = (await control.cluster()).get("live_site")
    if live not in SITES:
        await control.state()  # a lab that does not run has no leader either, and says so itself
        raise LabRefusedError("nobody leads at the moment: name the site with --site")
    return str(live) if fault.strikes == "live" else other_site(str(live))


async def heal(control: LabControl) -> None:
    """Put the clocks right, mend every line, continue what was stopped, start what was held down, replay on, make
    room.
    """
    for node in control.plan.all_nodes:
        volumes.make_room(control.plan.lab.installation.postgres_home(node.key))
    for place in PLACES:
        for file in control.plan.wall_offsets(place):
            file.unlink(missing_ok=True)
    try:
        await control.heal_lines()
    finally:  # also when the emulator itself is down
        await control.release()
    for node in control.plan.all_nodes:
        with contextlib.suppress(LabUnreachableError):  # one that is only being started replays anyway
            await control.sql(node, RESUME_REPLAY)
    if control.plan.directory.etcd_filled.exists():
        await etcd_room.make_room(control.plan.etcd_urls)
        control.plan.directory.etcd_filled.unlink()
