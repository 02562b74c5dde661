"""What keeps the agent running in its container, with stand-ins for the agent and for pg_ctl."""

import os
import subprocess
from pathlib import Path

from tests.compose_files import (
    ROOT,
    SETTINGS,
    until,
)

# -- what keeps the agent running, with stand-ins for the agent and for pg_ctl

AGENT = """#!/bin/sh
trap 'echo ended >>{folder}/noted; exit 0' TERM
echo started >>{folder}/noted
{then}
"""
PG_CTL = """#!/bin/sh
echo "$1 $5" >>{folder}/noted
"""
FOR_EVER = "while :; do sleep 0.05; done"


def run_agent(folder: Path, then: str) -> "subprocess.Popen[bytes]":
    """`run-agent` with an agent that does `then` once it has started."""
    data = folder / "data"
    data.mkdir()
    (data / "postmaster.pid").write_text("1\n")
    stand_ins = {"python": AGENT.format(folder=folder, then=then), "pg_ctl": PG_CTL.format(folder=folder)}
    for name, text in stand_ins.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    script = ROOT / "configs" / "docker" / "run_agent.sh"
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.Popen([script, SETTINGS, data], env=environment)


def noted(folder: Path) -> list[str]:
    file = folder / "noted"
    return file.read_text().splitlines() if file.exists() else []


def test_told_to_stop_it_ends_the_agent_and_then_postgresql(tmp_path: Path) -> None:
    running = run_agent(tmp_path, FOR_EVER)
    until(lambda: noted(tmp_path) == ["started"], 10, "the agent starts")
    running.terminate()
    assert running.wait(timeout=10) == 0
    assert noted(tmp_path) == ["started", "ended", "stop fast"]


def test_an_agent_that_crashed_is_started_again_and_postgresql_left_alone(tmp_path: Path) -> None:
    crash_once = f"[ -e {tmp_path}/crashed ] || {{ touch {tmp_path}/crashed; exit 1; }}\n{FOR_EVER}"
    running = run_agent(tmp_path, crash_once)
    until(lambda: len(noted(tmp_path)) == 2, 10, "the agent starts again")
    running.terminate()
    assert running.wait(timeout=10) == 0
    assert noted(tmp_path) == ["started", "started", "ended", "stop fast"]


def test_an_agent_whose_settings_cannot_work_is_not_started_again(tmp_path: Path) -> None:
    assert run_agent(tmp_path, "exit 2").wait(timeout=10) == 2
    assert noted(tmp_path) == ["started", "stop fast"]
