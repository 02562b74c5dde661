"""`sitectl node reclone / rejoin / remove` and `audit NUMBER` against agents that stand in: what is asked, and told."""

from pathlib import Path
from typing import Any

import pytest

from sitecontrol.cli import nodes
from sitecontrol.cli.session import Exit
from tests.unit.test_sitectl_acts import answering, call, silent
from tests.unit.test_sitectl_tables import LOG

CHECKED = {
    "node": "denver-a", "site": "denver", "leader": "columbus-a", "incarnation": "old", "obstacles": [],
    "consequences": ["its data directory goes"], "dry_run": False,
}  # fmt: skip


def status(**change: Any) -> tuple[int, dict[str, Any]]:
    told = {"work": None, "postgres": {"incarnation": "new", "streaming": True, "slots": []}}
    return 200, told | change


def cluster(*in_step: str) -> tuple[int, dict[str, Any]]:
    return 200, {"leader": "columbus-a", "sync": [{"node": node} for node in in_step], "retired": []}


def test_the_nodes_own_agent_is_asked_and_each_phase_is_told_as_it_is_reached(tmp_path: Path) -> None:
    answers = {"node/reclone": (202, CHECKED), "status": status(), "cluster": cluster("denver-a")}
    with answering(**answers) as denver, answering(status=status(), cluster=cluster("denver-a")) as columbus:
        told = call(
            tmp_path,
            *("node", "reclone", "denver-a"),
            columbus=columbus.server_port,
            denver=denver.server_port,
            typed="denver-a\n",
        )
    assert told.exit_code == Exit.DONE, told.stderr
    assert [body["dry_run"] for _, body in denver.acts if "dry_run" in body] == [True]
    assert len(denver.acts) == 2
    assert columbus.acts == []
    phases = [line.split()[0] for line in told.stdout.splitlines() if line.startswith("  ")]
    assert phases == ["cloning", "cloned", "following", "in"]
    assert "- its data directory goes" in told.stdout


def test_what_is_typed_must_be_the_nodes_name(tmp_path: Path) -> None:
    with answering(**{"node/reclone": (202, CHECKED)}) as denver:
        told = call(
            tmp_path,
            *("node", "reclone", "denver-a"),
            columbus=1,
            denver=denver.server_port,
            typed="denver\n",
        )
    assert told.exit_code == Exit.REFUSED
    assert [body["dry_run"] for _, body in denver.acts] == [True]


def test_a_reclone_without_an_answer_is_asked_of_nobody_else_and_says_what_to_do(tmp_path: Path) -> None:
    with silent() as denver, answering(**{"node/rejoin": (202, CHECKED)}) as columbus:
        for verb, code in (("rejoin", Exit.UNREACHABLE), ("reclone", Exit.UNREACHABLE)):
            told = call(
                tmp_path,
                *("node", verb, "denver-a", "--yes"),
                columbus=columbus.server_port,
                denver=denver,
            )
            assert told.exit_code == code
            assert str(denver) in told.stderr
    assert columbus.acts == []


def test_a_copy_that_came_to_nothing_is_a_failure_and_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "IDLE_LOOKS", 0)
    old = status(postgres={"incarnation": "old", "streaming": True, "slots": []})
    with (
        answering(**{"node/reclone": (202, CHECKED), "status": old, "cluster": cluster()}) as denver,
        answering(status=status(), cluster=cluster()) as columbus,
    ):
        told = call(
            tmp_path,
            *("node", "reclone", "denver-a", "--yes"),
            columbus=columbus.server_port,
            denver=denver.server_port,
        )
    assert told.exit_code == Exit.FAILED
    assert "denver-a has its old data: its agent's log says why" in told.stderr


@pytest.mark.parametrize("verb", ["reclone", "rejoin", "remove"])
def test_a_node_that_is_not_there_is_wrong_usage_and_the_others_are_named(tmp_path: Path, verb: str) -> None:
    told = call(tmp_path, "node", verb, "boston-a", "--yes", columbus=1, denver=1)
    assert told.exit_code == Exit.USAGE
    assert "there are: columbus-a, denver-a" in told.stderr


def test_of_one_entry_of_the_audit_log_the_evidence_is_shown(tmp_path: Path) -> None:
    entry = {**LOG["audit"][0], "evidence": {"rule": "give-up-stalled"}}
    with answering(audit=(200, {**LOG, "audit": [entry, LOG["audit"][1]]})) as columbus:
        told = call(tmp_path, "audit", "1", columbus=columbus.server_port, denver=1)
        missing = call(tmp_path, "audit", "7", columbus=columbus.server_port, denver=1)
    assert told.exit_code == Exit.DONE
    assert "rule: give-up-stalled" in told.stdout
    assert "seals history/0000000002" in told.stdout
    assert missing.exit_code == Exit.USAGE
    assert "the newest one is 12" in missing.stderr
