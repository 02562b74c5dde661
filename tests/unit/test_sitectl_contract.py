"""What every command of `sitectl` promises: what changes something has a dry run, which asks for no change, and what
cannot be undone asks for something to be typed. A new command cannot forget it: it is found by a walk over all of them.
"""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.cli.shapes import NO_JSON, SHAPES
from tests import schemas
from tests.unit.test_interfaces import commands
from tests.unit.test_sitectl_acts import answering, call

EVERY = {command.removeprefix("sitectl ") for command in commands(sitectl, "sitectl")}

READING = {
    "status", "history", "why", "audit", "schema", "config check", "maintenance list", "node list",
    "node quarantine list", "node quarantine show", "traffic status", "lab status", "lab logs", "drill list",
}  # fmt: skip
# They reach nothing but a lab, which is there to be broken: nothing of theirs has to be looked at before.
OF_A_LAB = {"lab up", "lab down", "lab fault", "lab heal", "drill run", "demo"}
CHANGING = sorted(EVERY - READING - OF_A_LAB)

WISHED = {"obstacles": [], "consequences": [], "changes": {}, "wanted": {}, "dry_run": True}
ON_NODE = {
    "node": "denver-a", "site": "denver", "leader": "columbus-a", "incarnation": "disk", "obstacles": [],
    "consequences": ["its data directory goes"], "dry_run": True,
}  # fmt: skip
ADOPTED = {
    "leader": "denver-a", "term": 104, "obstacles": [], "consequences": ["it leads"], "dry_run": True,
    "writes": {"initialize": {"system_id": "7"}, "term": {"term": 104}},
    "nodes": [{"node": "denver-a", "site": "denver", "reached": True, "state": "standby", "system_id": "7",
               "timeline": 1, "lsn": "0/3E8", "row_term": 4, "serves": False}],
}  # fmt: skip
# Command -> what is typed after it, and what an agent's dry run says.
ASKED: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "swap": (
        ["--to", "denver"],
        "swap",
        {"to": "denver-a", "to_site": "denver", "obstacles": [], "dry_run": True, "would": "swap"},
    ),
    "failover": (
        ["--force", "--to", "denver-a", "--reason", "fire", "--stopped", "columbus-a"],
        "failover",
        ON_NODE | {"leader": None, "would": "failover", "unproved": ["columbus-a"]},
    ),
    "cluster adopt": (["--reason", "etcd made anew"], "cluster/adopt", ADOPTED | {"would": "adopt"}),
    "pause": (["--reason", "storm"], "pause", WISHED | {"would": "pause"}),
    "resume": ([], "resume", WISHED | {"would": "resume"}),
    "maintenance begin": (
        ["--site", "denver", "--for", "2h", "--reason", "disks"],
        "maintenance/begin",
        WISHED | {"would": "maintenance begin"},
    ),
    "maintenance end": (["--site", "denver"], "maintenance/end", WISHED | {"would": "maintenance end"}),
    "node reclone": (["denver-a"], "node/reclone", ON_NODE | {"would": "reclone"}),
    "node rejoin": (["denver-a"], "node/rejoin", ON_NODE | {"would": "rejoin"}),
    "node trust": (["denver-a"], "node/trust", ON_NODE | {"leader": None, "would": "trust"}),
    "node remove": (["denver-a"], "node/remove", ON_NODE | {"would": "remove"}),
}
ELSEWHERE = {
    "node quarantine replay",
    "node quarantine settle",
    "traffic test",
}  # no agent: each has tests of its own
NOT_UNDONE = ("swap", "failover", "cluster adopt", "node reclone", "node trust", "node remove")


def command(words: str) -> click.Command:
    found: click.Command = sitectl
    for word in words.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


def options(words: str) -> set[str]:
    return {option for parameter in command(words).params for option in parameter.opts}


def test_every_command_is_known_to_look_to_change_something_or_to_belong_to_a_lab():
    assert READING | OF_A_LAB <= EVERY
    assert {*ASKED, *ELSEWHERE} == set(CHANGING), "a new command: does it only look? else it needs a dry run"


@pytest.mark.parametrize("words", CHANGING)
def test_what_changes_something_has_a_dry_run(words: str):
    assert "--dry-run" in options(words)


@pytest.mark.parametrize("words", sorted(EVERY))
def test_every_command_takes_json_and_has_a_shape_unless_it_is_for_people(words: str):
    assert "--json" in options(words)
    assert (words in SHAPES) != (words in NO_JSON)


def asked(
    folder: Path, words: str, *more: str, answer: tuple[int, dict[str, Any]], typed: str = ""
) -> tuple[Result, Any]:
    """What a command said, and what an agent that answers so was asked to do."""
    given, path, _ = ASKED[words]
    told = {
        path: answer,
        "cluster": (200, {"live_site": "columbus", "swap": None}),
        "history": (200, {"history": []}),
    }
    with answering(**told) as agent:
        port = agent.server_port
        said = call(folder, *words.split(), *given, *more, columbus=port, denver=port, typed=typed)
        return said, agent.acts


@pytest.mark.parametrize("words", ASKED)
def test_a_dry_run_asks_for_a_dry_run_and_for_nothing_else(words: str, tmp_path: Path):
    for more in ((), ("--json",), ("--yes",)):
        said, acts = asked(tmp_path, words, "--dry-run", *more, answer=(200, ASKED[words][2]))
        assert said.exit_code == Exit.DONE, said.stderr
        assert [body["dry_run"] for _, body in acts] == [True]
        if "--json" in more:
            schemas.check(words.split(), ASKED[words][2])
            assert said.stdout.startswith("{")
        else:
            assert "Nothing stands in the way" in said.stdout


REFUSED = {
    "type": "about:blank",
    "title": "It is refused",
    "status": 409,
    "detail": "not now",
    "obstacles": ["not now"],
}


@pytest.mark.parametrize("words", ASKED)
def test_what_a_check_refuses_has_its_exit_code_and_with_json_the_problem(words: str, tmp_path: Path):
    said, _ = asked(tmp_path, words, "--json", "--yes", answer=(409, REFUSED))
    assert said.exit_code == Exit.REFUSED
    assert said.stderr == "sitectl: It is refused: not now\n"
    assert '"detail": "not now"' in said.stdout


@pytest.mark.parametrize("words", ASKED)
def test_what_is_not_understood_is_a_mistake_in_the_arguments(words: str, tmp_path: Path):
    wrong = REFUSED | {"status": 422, "title": "No such site"}
    said, _ = asked(tmp_path, words, "--yes", answer=(422, wrong))
    assert said.exit_code == Exit.USAGE
    assert "No such site: not now" in said.stderr


@pytest.mark.parametrize("words", ASKED)
def test_what_cannot_be_undone_is_done_only_when_something_was_typed(words: str, tmp_path: Path):
    said, acts = asked(
        tmp_path, words, answer=(409, REFUSED) if words not in NOT_UNDONE else (200, ASKED[words][2])
    )
    done = [body for _, body in acts if not body["dry_run"]]
    assert said.exit_code == Exit.REFUSED
    assert bool(done) is (words not in NOT_UNDONE and not words.startswith("node")), said.stderr
    assert ("not confirmed; nothing was changed" in said.stderr) is (words in NOT_UNDONE)


def test_a_dry_run_that_no_agent_can_make_says_why(tmp_path: Path):
    said, acts = asked(tmp_path, "pause", "--dry-run", answer=(503, REFUSED | {"detail": "etcd is silent"}))
    assert said.exit_code == Exit.UNREACHABLE
    assert len(acts) == 2
    assert said.stderr == "sitectl: the agent of denver-a cannot check it: etcd is silent\n"


def test_a_wish_for_people_tells_each_change(tmp_path: Path):
    window = {"site": "denver", "until": "2026-01-01T02:00:00Z"}
    told = WISHED | {
        "would": "maintenance begin",
        "changes": {"maintenance": [None, [window]], "paused": [True, False], "paused_by": ["[/]joe", ""]},
        "consequences": ["swaps there are refused"],
    }
    said, _ = asked(tmp_path, "maintenance begin", "--dry-run", answer=(200, told))
    assert said.stdout.splitlines() == [
        "Nothing stands in the way of it: maintenance begin. It would be written:",
        "  maintenance: - -> denver until 2026-01-01 02:00",
        "  paused: yes -> no",
        "  paused_by: [/]joe -> -",
        "- swaps there are refused",
    ]


@pytest.mark.parametrize("words", ["maintenance begin", "maintenance end"])
def test_a_site_that_there_is_not_is_refused_before_anybody_is_asked(words: str, tmp_path: Path):
    said, acts = asked(tmp_path, words, "--site", "boston", answer=(200, {}))
    assert said.exit_code == Exit.USAGE
    assert "--site boston: no such site; there are: columbus, denver" in said.stderr
    assert acts == []
