"""The JSON that others read: every key that docs/interfaces.md promises, and no key that it does not name."""

import json
from dataclasses import replace
from pathlib import Path

from sitecontrol.drills.outcome import Moment, Outcome
from sitecontrol.drills.series import series_of
from sitecontrol.lab.ports import SITES, WITNESS
from sitecontrol.lab.status import document
from tests.drills.test_configs import plan_in
from tests.drills.test_status import process_of

OUTCOME = Outcome(
    drill="site-loss",
    seed=7,
    site="columbus",
    started_at="2026-01-02T03:04:05.000+00:00",
    fault_at="2026-01-02T03:04:08.000+00:00",
    healed_at="2026-01-02T03:04:18.000+00:00",
    quick=False,
    in_swap=False,
    rate=100.0,
    pause_s=2.1,
    pause_limit_s=5.0,
    pause_from_s=0.1,
    first_ack_after_fault_s=2.2,
    first_submit_after_fault_s=None,
    accepted=1000,
    refused=0,
    connections_broken=2,
    connections_broken_unexpectedly=0,
    unanswered=0,
    acknowledged_lost=0,
    not_final=0,
    in_doubt=3,
    duplicates_at_carrier=1,
    duplicates_declared=1,
    not_delivered=0,
    by_state={"delivered": 1_000},
    at_carriers=1_000,
    two_site_again_s=4.0,
    fencing_ms={},
    live_before="columbus",
    live_after="denver",
    term_before=1,
    term_after=2,
    held={"acked-survives": True},
    timeline=[Moment(t=0.0, what="every process killed", where="columbus")],
)
DRILL_KEYS = {
    # as the design has them
    "drill", "seed", "site", "started_at", "fault_at", "pause_s", "first_ack_after_fault_s",
    "first_submit_after_fault_s", "accepted", "refused", "acknowledged_lost", "in_doubt", "duplicates_at_carrier",
    "duplicates_declared", "two_site_again_s", "live_before", "live_after", "term_before", "term_after", "held",
    "timeline",
    # added
    "healed_at", "quick", "in_swap", "rate", "pause_limit_s", "pause_from_s", "connections_broken",
    "connections_broken_unexpectedly", "unanswered", "not_final", "not_delivered", "by_state",
    "at_carriers", "fencing_ms", "acks_per_tenth",
    "notes", "ok",
}  # fmt: skip

SERIES_KEYS = {
    "drill", "runs", "pause_median_s", "pause_min_s", "pause_max_s", "median_limit_s", "pause_limit_s", "held", "ok",
}  # fmt: skip

STATUS_KEYS = {
    "sites", "carriers", "accounts", "term", "durability",  # as the design has them
    "id", "dir", "options", "live_site", "noc_url", "lines", "supervisor", "processes",  # added
}  # fmt: skip
CLUSTER = {"live_site": "denver", "term": 3, "durability": "two-site"}


def test_a_drills_json_has_exactly_the_keys_that_are_documented() -> None:
    told = json.loads(json.dumps(OUTCOME.as_json()))
    assert set(told) == DRILL_KEYS
    assert told["timeline"] == [{"t": 0.0, "what": "every process killed", "where": "columbus"}]
    assert told["held"] == {"acked-survives": True}
    assert told["first_submit_after_fault_s"] is None


def test_what_is_told_of_all_runs_of_a_drill_has_exactly_the_keys_that_are_documented() -> None:
    (series,) = series_of([OUTCOME, OUTCOME])
    assert set(series.as_json()) == SERIES_KEYS


def test_a_drill_is_ok_when_every_invariant_held() -> None:
    assert replace(OUTCOME, held={"a": True, "b": True}).as_json()["ok"] is True
    assert replace(OUTCOME, held={"a": True, "b": False}).as_json()["ok"] is False


def status(folder: Path, **options: object) -> dict[str, object]:
    plan = plan_in(folder, **options)
    state = {"pid": 42, "processes": process_of(plan)}
    told = document(plan, state=state, cluster=CLUSTER, lines=[])
    return dict(json.loads(json.dumps(told)))


def test_a_labs_status_has_exactly_the_keys_that_are_documented(tmp_path: Path) -> None:
    told = status(tmp_path / "lab")
    assert set(told) == STATUS_KEYS
    assert (told["term"], told["durability"], told["live_site"]) == (3, "two-site", "denver")
    assert (told["accounts"], told["lines"], told["supervisor"]) == ([], [], {"pid": 42})


def test_each_site_is_told_with_its_processes_and_the_witness_without_a_message_side(tmp_path: Path) -> None:
    sites = status(tmp_path / "lab")["sites"]
    assert set(sites) == {*SITES, WITNESS}
    for name in SITES:
        site = sites[name]
        assert set(site) == {"live", "dispatchers", "agent", "healthcheck", "postgres", "etcd", "nodes"}
        assert site["live"] is (name == "denver")
        assert [set(d) for d in site["dispatchers"]] == [{"name", "pid", "url"}] * 2
        assert set(site["agent"]) == set(site["healthcheck"]) == {"pid", "url"}
        assert set(site["postgres"]) == {"pid", "port", "data_dir", "socket_dir"}
        assert set(site["etcd"]) == {"pid", "client_url"}
        (node,) = site["nodes"]
        assert node == {
            "name": f"{name}-a",
            "log": f"{name}-postgres",
            "agent": site["agent"],
            "postgres": site["postgres"],
        }
    assert set(sites[WITNESS]) == {"healthcheck", "etcd"}


def test_a_process_is_told_as_its_supervisor_sees_it(tmp_path: Path) -> None:
    for process in status(tmp_path / "lab")["processes"]:
        assert set(process) == {"name", "place", "kind", "pid", "state", "restarts", "last_exit", "url"}


def test_a_simulated_carrier_has_a_pid_and_a_log_and_one_of_ones_own_has_neither(tmp_path: Path) -> None:
    keys = {"name", "host", "port", "pid", "system_id", "log"}
    for carrier in status(tmp_path / "lab")["carriers"]:
        assert set(carrier) == keys
        assert carrier["pid"] == 4711
        assert carrier["log"].endswith(f"carriers/{carrier['name']}.jsonl")
    mine = {"name": "mine", "host": "smsc.example.com", "port": 2775, "system_id": "me"}
    (told,) = status(tmp_path / "other", carriers=[mine])["carriers"]
    assert told == mine | {"pid": None, "log": None}


def test_the_accounts_key_is_told(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "lab")
    account = {"name": "lab", "key": "hs_x", "program": "lab"}
    plan.directory.accounts_file.write_text(json.dumps([account]))
    state = {"pid": 42, "processes": process_of(plan)}
    told = document(plan, state=state, cluster={}, lines=None)
    assert told["accounts"] == [account]
    assert (told["term"], told["durability"], told["live_site"], told["lines"]) == (None, None, None, None)
