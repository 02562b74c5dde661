"""`sitectl` where nothing runs: settings checked, drills listed, arguments refused, and no lab there."""

import json
import subprocess
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from sitecontrol.cli import SITECTL
from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.cli.tables import history_lines, status_lines
from sitecontrol.drills.stories import DRILLS
from sitecontrol.lab import render
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.starting import text_by_hand
from tests.drills.test_configs import CONFIGS, plan_in


def call(*words: str, env: dict[str, str] | None = None) -> Result:
    done = CliRunner().invoke(sitectl, list(words), env={"HOTSITE_LAB": "", "COLUMNS": "200", **(env or {})})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


# -- config check

TIMING_KEYS = {"name", "sentence", "rests", "takes", "fits", "slack_s", "holds", "refused"}


def test_good_settings_are_said_to_be_in_order() -> None:
    file = str(CONFIGS / "columbus.toml")
    assert call("config", "check", file).exit_code == Exit.DONE
    told = call("config", "check", file, "--json")
    document = json.loads(told.stdout)
    timings = document.pop("timings")
    assert document == {"file": file, "site": "columbus", "ok": True}
    assert {key for timing in timings for key in timing} == TIMING_KEYS
    assert all(timing["holds"] and timing["slack_s"] >= 0 for timing in timings)


def test_durations_that_do_not_fit_are_refused_with_the_sum_and_the_table(tmp_path: Path) -> None:
    file = tmp_path / "columbus.toml"
    file.write_text(
        (CONFIGS / "columbus.toml").read_text().replace("lease_margin = 0.5", "lease_margin = 0.3")
    )
    told, as_json = call("config", "check", str(file)), call("config", "check", str(file), "--json")
    assert told.exit_code == as_json.exit_code == Exit.USAGE
    assert f"{file}: failover.lease_margin = 0.3: fence-before-promotion does not hold." in told.stderr
    assert "= 2.12 s is more than lease_ttl 2 s; use at least 0.42" in told.stderr
    assert "REFUSED -0.12 s" in told.stdout
    wrong = [timing for timing in json.loads(as_json.stdout)["timings"] if timing["refused"]]
    assert [(timing["name"], timing["slack_s"]) for timing in wrong] == [("fence-before-promotion", -0.12)]


def test_a_promise_that_is_not_kept_is_told_and_the_settings_are_in_order(tmp_path: Path) -> None:
    file = tmp_path / "columbus.toml"
    file.write_text(
        (CONFIGS / "columbus.toml").read_text().replace("restart_within = 1.0", "restart_within = 9.0")
    )
    told = call("config", "check", str(file))
    assert told.exit_code == Exit.DONE
    assert "a promise is not kept: failover.restart_within = 9" in told.stdout


def test_a_witness_decides_nothing_and_has_no_durations_to_prove() -> None:
    assert (
        json.loads(call("config", "check", str(CONFIGS / "witness.toml"), "--json").stdout)["timings"] == []
    )


def test_an_unknown_setting_is_told_with_its_line_and_the_cure(tmp_path: Path) -> None:
    file = tmp_path / "columbus.toml"
    text = (CONFIGS / "columbus.toml").read_text().replace("renew_every =", "renew_evry =")
    file.write_text(text)
    line = text[: text.index("renew_evry")].count("\n") + 1
    mistake = f"{file}:{line}: failover.renew_evry: there is no such setting; did you mean renew_every?"
    told, as_json = call("config", "check", str(file)), call("config", "check", str(file), "--json")
    assert told.exit_code == as_json.exit_code == Exit.USAGE
    assert told.stderr == as_json.stderr == f"sitectl: {mistake}\n"
    assert told.stdout == ""
    assert json.loads(as_json.stdout) == {"ok": False, "errors": [mistake]}


def test_each_mistake_in_the_settings_is_an_error_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "columbus.toml"
    text = (CONFIGS / "columbus.toml").read_text()
    file.write_text(text.replace("renew_every =", "renew_evry =").replace("lease_ttl =", "lease_tl ="))
    told = json.loads(call("config", "check", str(file), "--json").stdout)
    assert [error.split(": ")[1] for error in told["errors"]] == ["failover.lease_tl", "failover.renew_evry"]


def test_settings_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    told = call("config", "check", str(tmp_path / "none.toml"))
    assert told.exit_code == Exit.USAGE
    assert "No such file" in told.stderr
    assert call("config", "check").exit_code == Exit.USAGE


# -- drills


def test_a_drill_that_cannot_strike_in_the_middle_of_a_swap_is_told_so() -> None:
    told = call("drill", "run", "site-loss", "swap-interrupted", "--in-swap")
    assert told.exit_code == Exit.USAGE
    assert told.stderr.count("swap-interrupted") == 1
    assert "these can: " in told.stderr


def test_every_drill_is_listed() -> None:
    told = json.loads(call("drill", "list", "--json").stdout)
    assert [drill["name"] for drill in told] == list(DRILLS)
    assert all(
        set(drill) == {"name", "summary", "pause_limit_s", "median_limit_s", "in_swap", "takes"}
        for drill in told
    )
    table = call("drill", "list").stdout
    assert all(name in table for name in DRILLS)


@pytest.mark.parametrize("words", [["nothing-such"], [], ["swap", "--rate", "-1"], ["swap", "--site", "nowhere"],
                                   ["swap", "--repeat", "0"]])  # fmt: skip
def test_a_drill_that_cannot_be_is_a_usage_error(words: list[str]) -> None:
    assert call("drill", "run", *words).exit_code == Exit.USAGE


# -- the lab's commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lab that was made and does not run."""
    plan = plan_in(tmp_path / "lab", base_port=1024)
    render.write_all(plan, {})
    plan.directory.log("wan").write_text("one\ntwo\n")
    return plan.directory.root


def test_the_log_of_an_unknown_process_is_refused_with_the_names_there_are(folder: Path) -> None:
    for name in ("nobody", "../secrets/lab-token"):
        told = call("lab", "logs", name, "--dir", str(folder))
        assert told.exit_code == Exit.USAGE
        for known in ("wan", "columbus-agent", "denver-dispatcher-2", "carrier-aurora", "witness-etcd",
                      "columbus-postgres", "supervisor"):  # fmt: skip
            assert known in told.stderr


def test_a_log_of_which_only_the_first_lines_are_read_is_shown_without_a_complaint(folder: Path) -> None:
    log = LabDir.at(folder).log("wan")
    log.write_text("a line of some length\n" * 100_000)  # more than a pipe holds
    command = [*SITECTL, "lab", "logs", "wan", "-n", "100000", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "a line of some length\n"
        process.stdout.close()
        assert process.stderr.read() == ""


def test_the_text_by_hand_takes_its_key_from_the_file_wherever_that_lies(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "a lab", base_port=1024)
    render.write_all(plan, {})
    plan.directory.key_file.write_text("the-key\n")
    script = f"curl() {{ printf '%s\\n' \"$@\"; }}; {text_by_hand(plan, 'lab')}"
    said = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[:3] == ["-s", "-H", "Authorization: Bearer the-key"]
    assert json.loads(said[said.index("-d") + 1])["program"] == "lab"
    assert said[-1] == "http://127.0.0.1:1029/v1/messages"


def test_a_process_that_never_ran_has_no_log_yet(folder: Path) -> None:
    told = call("lab", "logs", "denver-postgres", "--dir", str(folder))
    assert told.exit_code == Exit.FAILED
    assert "never started" in told.stderr


@pytest.mark.parametrize("words", [["logs"], ["logs", "wan", "-n", "-1"], ["fault"], ["fault", "nothing-such"],
                                   ["fault", "wan-cut", "--site", "nowhere"], ["fault", "wan-cut", "--for", "nan"],
                                   ["heal", "now"]])  # fmt: skip
def test_wrong_arguments_of_the_lab_are_usage_errors(folder: Path, words: list[str]) -> None:
    assert call("lab", *words, "--dir", str(folder)).exit_code == Exit.USAGE


def test_a_fault_of_what_the_witness_does_not_have_is_refused(folder: Path) -> None:
    told = call("lab", "fault", "postgres-crash", "--site", "witness", "--dir", str(folder))
    assert told.exit_code == Exit.REFUSED
    assert "--site columbus or --site denver" in told.stderr


LOOKS = (
    ["lab", "status"], ["lab", "status", "--json"], ["lab", "fault", "wan-cut"], ["lab", "heal", "--json"],
    ["drill", "run", "swap"],
)  # fmt: skip


@pytest.mark.parametrize("words", LOOKS)
def test_a_lab_that_does_not_run_cannot_be_reached(folder: Path, words: list[str]) -> None:
    told = call(*words, "--dir", str(folder))
    assert told.exit_code == Exit.UNREACHABLE
    assert told.stderr.startswith("sitectl: ")
    assert told.stdout == ""


@pytest.mark.parametrize("words", [*LOOKS, ["lab", "logs", "wan"], ["lab", "down"], ["status"], ["history"]])
def test_where_there_is_no_lab_the_cure_is_told(tmp_path: Path, words: list[str]) -> None:
    told = call(*words, "--dir", str(tmp_path))
    assert told.exit_code == Exit.UNREACHABLE
    assert "no lab in" in told.stderr
    assert told.stdout == ""


@pytest.mark.parametrize("words", [["status"], ["node", "list"], ["swap", "--to", "denver", "--yes"]])
def test_a_folder_that_has_settings_and_is_no_lab_is_not_taken_for_one(words: list[str]) -> None:
    told = call(*words, "--dir", str(CONFIGS.parent))
    assert told.exit_code == Exit.UNREACHABLE
    assert f"no lab in {CONFIGS.parent}: `sitectl lab up` makes one" in told.stderr


def test_the_folder_of_a_lab_comes_from_the_environment_when_it_is_not_named(tmp_path: Path) -> None:
    told = call("lab", "status", env={"HOTSITE_LAB": str(tmp_path / "mine")})
    assert f"no lab in {tmp_path / 'mine'}" in told.stderr


def test_a_wrong_command_is_a_usage_error_and_help_tells_the_exit_codes() -> None:
    assert call("nothing-such").exit_code == Exit.USAGE
    assert call("status", "--nothing-such").exit_code == Exit.USAGE
    help_text = call("--help")
    assert help_text.exit_code == Exit.DONE
    assert "Exit codes:" in help_text.stdout


def test_the_help_of_pause_tells_that_no_other_node_takes_a_lost_lead_until_resume() -> None:
    text = " ".join(call("pause", "--help").stdout.split())
    assert "no other node takes the lead" in text
    assert "`sitectl resume` lets one that is in step take it" in text


# -- what people said


@pytest.mark.parametrize("reason", ["[/]", "[red]storm", "[bold]x[/bold]", "plain \\"])
def test_a_reason_is_shown_as_it_was_given(reason: str) -> None:
    cluster = {
        "live_site": "columbus", "term": 4, "durability": "one-site", "paused": True, "paused_reason": reason,
        "members": [{"node": "denver-a", "site": "denver", "role": "standby", "reasons": [reason]}],
    }  # fmt: skip
    entry = {
        "term": 4,
        "at": "2026-01-02T03:04:05",
        "kind": "swap",
        "site": "denver",
        "by": reason,
        "reason": reason,
    }
    for shown in (status_lines(cluster), history_lines([entry])):
        console = Console(width=200, file=StringIO())
        console.print(shown)
        assert console.file.getvalue().count(reason) == 2  # type: ignore[attr-defined] # a StringIO
