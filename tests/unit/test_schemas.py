"""Each command that prints JSON has a published schema, and what is printed is as it says."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit, Globals
from sitecontrol.cli.shapes import NO_JSON, SHAPES, schema_of
from sitecontrol.leadership import audit
from tests import schemas
from tests.schemas_pages import FOLDER, name_of, pages
from tests.unit.test_audit import PREFIX, used
from tests.unit.test_interfaces import commands, state
from tests.unit.test_json_shapes import OUTCOME, status


def run(*words: str) -> Any:
    return CliRunner().invoke(sitectl, list(words), obj=Globals())


def test_every_command_has_a_schema_or_is_known_to_print_no_json() -> None:
    known = {command.removeprefix("sitectl ") for command in commands(sitectl, "sitectl")}
    assert set(SHAPES) | set(NO_JSON) == known


def test_the_published_schemas_are_those_of_the_code() -> None:
    found = {file.name: file.read_text() for file in FOLDER.glob("*.json")}
    assert found == pages(), "python -m tests.schemas_pages"


@pytest.mark.parametrize("command", SHAPES)
def test_a_schema_is_a_schema_and_takes_no_key_that_it_does_not_name(command: str) -> None:
    schema = schema_of(command)
    Draft202012Validator.check_schema(schema)
    objects = [d for d in (schema, *schema.get("$defs", {}).values()) if d.get("type") == "object"]
    open_ones = {d["title"] for d in objects if d.get("additionalProperties") is not False}
    assert open_ones <= {"Refusal", "Schema"}  # an agent's problem says more; JSON Schema is not ours


def test_schema_prints_it_lists_the_commands_and_refuses_others() -> None:
    told = run("schema", "node", "list")
    assert json.loads(told.output) == json.loads((FOLDER / name_of("node list")).read_text())
    assert "maintenance begin" in run("schema").output.splitlines()
    assert json.loads(run("schema", "--json").output) == list(SHAPES)
    for words in (("schema", "node"), ("schema", "demo"), ("schema", "swop")):
        refused = run(*words)
        assert refused.exit_code == Exit.USAGE
        assert "sitectl" in refused.output


# -- what is printed, as far as nothing has to run for it; the rest is checked where it runs (`schemas.check`)


def test_what_an_agent_tells_is_as_the_schemas_say() -> None:
    told = state()
    schemas.check(["status"], {**told.cluster(), "seen": None})
    schemas.check(["why"], told.why())
    row = {"node": "columbus-a", "site": "columbus", "reached": True}
    schemas.check(["node", "list"], [row | told.status(), row | {"reached": False}])


def test_the_audit_log_and_the_history_are_as_the_schemas_say() -> None:
    log = used()
    schemas.check(["audit"], json.loads(json.dumps(audit.document(log.kvs, PREFIX))))
    history = [e.record.model_dump(mode="json") for e in log.snapshot.history.values()]
    schemas.check(["history"], [*history, {"key": "history/1", "bad": "does not decode"}])


def test_a_lab_and_a_drill_are_as_the_schemas_say(tmp_path: Path) -> None:
    schemas.check(["lab", "status"], status(tmp_path / "lab"))
    series = {
        "drill": "swap", "runs": 1, "pause_median_s": 0.1, "pause_min_s": 0.1, "pause_max_s": 0.1,
        "median_limit_s": None, "pause_limit_s": 1.0, "held": {}, "ok": True,
    }  # fmt: skip
    run_of_one = json.loads(json.dumps(OUTCOME.as_json() | {"series": series}))
    schemas.check(["drill", "run"], run_of_one)
    schemas.check(["drill", "run"], [run_of_one, run_of_one])
    schemas.check(["drill", "list"], json.loads(run("drill", "list", "--json").output))


@pytest.mark.parametrize("file", ["columbus.toml", "denver.toml", "witness.toml", "lab.toml"])
def test_what_config_check_prints_is_as_the_schema_says(file: str) -> None:
    path = str(Path(__file__).parents[2] / "configs" / file)
    schemas.check(["config", "check"], json.loads(run("config", "check", path, "--json").stdout))


def test_of_wrong_settings_too(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[site]\nname = 7\n")
    told = run("config", "check", str(path), "--json")
    assert told.exit_code == Exit.USAGE
    schemas.check(["config", "check"], json.loads(told.stdout))


# -- every command's own help


def every(group: click.Group, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found.append((*before, name))
        found += every(command, (*before, name)) if isinstance(command, click.Group) else []
    return found


@pytest.mark.parametrize("words", every(sitectl), ids=" ".join)
def test_every_command_and_group_says_what_it_is_for_and_takes_the_global_options(
    words: tuple[str, ...],
) -> None:
    told = run(*words, "--help")
    assert told.exit_code == Exit.DONE
    assert len(told.output.split("Options:")[0].splitlines()) >= 3  # its usage, and at least a sentence
    command: click.Command = sitectl
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    if not isinstance(command, click.Group):
        assert {"--json", "--config", "--dir", "--yes", "--timeout", "--no-color"} <= {
            option for parameter in command.params for option in parameter.opts
        }
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (words, parameter.name)


@pytest.mark.parametrize("words", every(sitectl), ids=" ".join)
def test_a_word_that_is_not_known_is_refused_as_usage_with_what_to_do(words: tuple[str, ...]) -> None:
    told = run(*words, "--no-such-option")
    assert told.exit_code == Exit.USAGE
    assert "--no-such-option" in told.output
    assert "--help" in told.output
