"""Targets, reports, traffic, certificates, canary: the small pure parts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthcheck.noc.render import bar, duration, number, size, spark
from healthcheck.probes.postgres import CanaryProbe
from healthcheck.probes.result import MAX_DETAIL, Result, host_port, plain
from healthcheck.probes.smpp import judge_links
from healthcheck.probes.tls import judge_certificate
from healthcheck.reports import AgentReport, DispatcherReport, LinkReport, tolerant
from healthcheck.scheduler import next_beat
from healthcheck.targets import Kind, What, targets_of
from healthcheck.traffic import Meter, Reading, rates
from tests.unit.health_scenes import HeldClock, patient, settings_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab<\x00é", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab<\x00é", max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
named = st.sampled_from(
    ["links", "queue", "reasons", "counters", "ready", "postgres", "decision", "term", "is_open"]
)


def names(here: str) -> set[str]:
    settings = settings_of(here)
    assert settings.healthcheck is not None
    return {t.name for t in targets_of(settings, settings.healthcheck)}


def test_a_place_looks_at_everything_but_its_own_daemon() -> None:
    found = names("columbus")
    assert {"agent/columbus-a", "postgres/denver-a", "canary/denver-a", "link/denver-2/basso"} <= found
    assert {"healthcheck/denver", "healthcheck/witness", "etcd", "etcd-member/etcd-witness"} <= found
    assert "healthcheck/columbus" not in found


def test_a_witness_without_carriers_watches_all_links_of_a_dispatcher_as_one() -> None:
    settings = settings_of("witness", carrier=[])
    assert settings.healthcheck is not None
    found = {t.name: t for t in targets_of(settings, settings.healthcheck)}
    assert found["link/columbus-1/any"].source == "dispatcher/columbus-1"


def test_a_device_of_the_settings_keeps_its_own_rhythm_and_parent() -> None:
    settings = settings_of(
        probe=[
            {"name": "router", "kind": "tcp", "target": "10.9.9.9:22"},
            {"name": "modem", "kind": "http", "target": "http://10.9.9.8/", "parent": "router", "fall": 7},
        ]
    )
    assert settings.healthcheck is not None
    modem = next(t for t in targets_of(settings, settings.healthcheck) if t.name == "probe/modem")
    assert (modem.what, modem.kind, modem.every) == (What.DEVICE, Kind.HTTP, 5.0)
    assert (modem.limits.fall, modem.parent) == (7, "probe/router")


@patient
@given(st.dictionaries(named, json_values))
def test_no_report_however_wrong_breaks_the_reader(data: dict[str, Any]) -> None:
    tolerant(DispatcherReport, data)
    tolerant(AgentReport, data)


def test_a_wrong_field_costs_only_itself() -> None:
    report = tolerant(
        DispatcherReport,
        {
            "ready": {"no": 1},
            "term": 3,
            "links": [{"carrier": "alto", "state": "bound", "unanswered": -4}, {"nothing": 1}, "x"],
            "queue": {"by_state": {"queued": 3, "submitted": "many"}},
        },
    )
    assert (report.ready, report.term, len(report.links)) == (None, 3, 1)
    assert (report.links[0].state, report.links[0].unanswered) == ("bound", None)
    assert report.queue is not None
    assert report.queue.by_state == {"queued": 3}


def test_one_bind_of_several_is_enough_and_the_other_is_named() -> None:
    links = [
        LinkReport(carrier="alto", state="bound", enquire_rtt_s=0.02),
        LinkReport(carrier="alto", state="down", last_error="bind refused: ESME_RINVPASWD"),
    ]
    result = judge_links(links)
    assert (result.ok, result.latency) == (True, 0.02)
    assert result.detail == "1 of 2 bound (down): bind refused: ESME_RINVPASWD"


def test_a_dispatcher_without_links_tells_nothing_of_them() -> None:
    assert judge_links([]).ok is None


def test_a_stalled_link_is_not_bound() -> None:
    assert judge_links([LinkReport(carrier="alto", state="stalled", bound=False)]).ok is False


class Database:
    """What a look at the database brought home."""

    def __init__(self) -> None:
        self.result: Result | None = None

    def says(self, seq: int | None, age: float = 0.1) -> None:
        evidence = {"canary_seq": seq, "canary_age_s": age}
        self.result = Result(ok=True, detail="answers", evidence=evidence)

    def latest(self, _: str) -> Result | None:
        return self.result


async def test_the_canary_is_judged_by_our_own_clock_and_not_by_the_databases() -> None:
    settings, clock, database = settings_of(), HeldClock(), Database()
    assert settings.healthcheck is not None
    target = next(t for t in targets_of(settings, settings.healthcheck) if t.name == "canary/denver-a")
    probe = CanaryProbe(database.latest, clock, 1.0)
    assert (await probe(target, 0.0)).ok is None
    database.says(100, age=0.1)
    assert (await probe(target, 0.0)).ok is True
    clock.seconds += 1.0
    database.says(104, age=3600.0)  # the other machine's clock is an hour off
    assert (await probe(target, 0.0)).ok is True
    clock.seconds += 2.5
    stands = await probe(target, 0.0)
    assert (stands.ok, stands.detail) == (False, "number 104 has not moved for 2.5 s")


async def test_a_canary_that_was_already_old_at_first_sight_is_bad_at_once() -> None:
    settings, database = settings_of(), Database()
    assert settings.healthcheck is not None
    target = next(t for t in targets_of(settings, settings.healthcheck) if t.name == "canary/denver-a")
    database.says(100, age=60.0)
    assert (await CanaryProbe(database.latest, HeldClock(), 1.0)(target, 0.0)).ok is False


def test_rates_are_the_growth_per_second() -> None:
    before = Reading(at=10.0, counters={"accepted": 100, "submitted": 50})
    after = Reading(at=12.0, counters={"accepted": 300, "receipts": 9})
    assert rates(before, after) == {"accepted": 100.0}


def test_a_restarted_dispatcher_draws_no_negative_rate() -> None:
    before = Reading(at=10.0, counters={"accepted": 1_000_000})
    assert rates(before, Reading(at=11.0, counters={"accepted": 30})) == {"accepted": 30.0}


def test_a_rate_holds_between_two_looks_and_ends_when_its_dispatcher_is_silent() -> None:
    meter = Meter()
    meter.sample({"a": Reading(at=1.0, counters={"accepted": 0})}, 1.0)
    told = {"a": Reading(at=2.0, counters={"accepted": 500})}
    meter.sample(told, 2.0)
    meter.sample(told, 3.0)
    meter.sample(told, 6.0)
    assert list(meter.series["accepted"]) == [0.0, 500.0, 500.0, 0.0]


@pytest.mark.parametrize(("days", "ok"), [(30, True), (6, False), (-1, False)])
def test_a_certificate_near_its_end_is_bad(days: int, ok: bool) -> None:  # noqa: FBT001 - a parameter of the case
    now = datetime(2026, 3, 1, tzinfo=UTC)
    ends = (now + timedelta(days=days)).strftime("%b %d %H:%M:%S %Y GMT")
    assert judge_certificate(ends, now, 0.01).ok is ok


@patient
@given(st.floats(0, 1e6), st.floats(0.1, 60), st.floats(0, 1e4))
def test_the_next_beat_is_ahead_and_at_most_one_period_away(due: float, every: float, late: float) -> None:
    now = due + late
    beat = next_beat(due, every, now)
    assert now - 1e-6 < beat <= now + every + 1e-6


@patient
@given(st.text())
def test_a_detail_is_one_short_line(text: str) -> None:
    line = plain(text)
    assert len(line) <= MAX_DETAIL
    assert line == "" or line.isprintable()


@pytest.mark.parametrize(
    ("address", "expected"),
    [("a.b:80", ("a.b", 80)), ("[::1]:443", ("::1", 443)), ("10.0.0.1:1", ("10.0.0.1", 1))],
)
def test_addresses_are_split(address: str, expected: tuple[str, int]) -> None:
    assert host_port(address) == expected


@pytest.mark.parametrize("address", ["nothing", ":80", "a:b", "a:"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        host_port(address)


def test_durations_read_well() -> None:
    told = [duration(s) for s in (None, 0.035, 1.25, 75.0, 3720.0, 180_000.0, 60.0)]
    assert told == ["\u2013", "35 ms", "1.2 s", "1 min 15 s", "1 h 2 min", "2 d 2 h", "1 min"]


def test_sizes_and_numbers_read_well() -> None:
    assert [size(n) for n in (None, 0, 2048, 5 << 30)] == ["\u2013", "0 B", "2.0 KiB", "5.0 GiB"]
    assert number(1234567.0) == "1\u2009234\u2009567"


def test_a_gap_breaks_the_sparkline() -> None:
    assert len(spark([1.0, 2.0, None, 3.0], 30, 10)) == 2
    assert spark([1.0], 30, 10) == []
    assert spark([0.0, 0.0], 30, 10) == ["0.0,9.0 30.0,9.0"]


@patient
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=12))
def test_the_parts_of_a_bar_lie_side_by_side_fill_it_and_are_all_seen(parts: list[int]) -> None:
    shown = bar([float(part) for part in parts], 300)
    if sum(parts) == 0:
        assert shown == []
        return
    assert len(shown) == len(parts)
    assert all(width >= 2 for _, width in shown)
    assert abs(shown[-1][0] + shown[-1][1] - 300) < 1
    ends = [0.0, *(x + width for x, width in shown)]
    assert all(abs(x - end) < 0.3 for (x, _), end in zip(shown, ends, strict=False))
