"""`sitectl traffic`: told by the live site's agent, tried from here, and never changing anything."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from tests.ports import free_port
from tests.unit.test_sitectl_acts import CONFIG, answering

COMMAND = """
[traffic.command]
argv = ["/usr/bin/touch", "{folder}/moved"]
check_argv = ["/usr/bin/test", "-e", "{folder}/moved"]
"""
LIVE = {"live": True, "traffic": [{"adapter": "dns", "state": "ok", "reason": ""}]}
CLUSTER = {"live_site": "columbus", "term": 7}


def call(folder: Path, *words: str, columbus: int, denver: int | None = None, traffic: str = "") -> Result:
    config = folder / "columbus.toml"
    text = CONFIG.format(folder=folder, columbus=columbus, denver=denver or free_port())
    config.write_text(text + traffic.format(folder=folder))
    command = ["traffic", *words, "--config", str(config), "--timeout", "2"]
    done = CliRunner().invoke(sitectl, command, env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


# -- status


def test_the_live_sites_adapters_are_shown(tmp_path: Path) -> None:
    idle = {"live": False, "traffic": [{"adapter": "dns", "state": "idle", "reason": ""}]}
    with answering(status=(200, idle)) as columbus, answering(status=(200, LIVE)) as denver:
        told = call(tmp_path, "status", columbus=columbus.server_port, denver=denver.server_port)
    assert told.exit_code == Exit.DONE
    assert "clients belong to denver, as denver-a tells" in told.stdout
    assert [line.split() for line in told.stdout.splitlines()][-1] == ["dns", "ok"]


def test_an_adapter_that_fails_is_told_with_its_reason_and_by_the_exit_code(tmp_path: Path) -> None:
    failing = {"adapter": "command", "state": "failed", "reason": "[/] ended with status 1"}
    with answering(status=(200, {"live": True, "traffic": [failing]})) as agent:
        told = call(tmp_path, "status", columbus=agent.server_port)
        as_json = call(tmp_path, "status", "--json", columbus=agent.server_port)
    assert told.exit_code == as_json.exit_code == Exit.DEGRADED
    assert "[/] ended with status 1" in told.stdout
    columbus, denver = json.loads(as_json.stdout)
    assert columbus == {
        "node": "columbus-a",
        "site": "columbus",
        "reached": True,
        "live": True,
        "traffic": [failing],
    }
    assert denver == {
        "node": "denver-a",
        "site": "denver",
        "reached": False,
        "live": False,
        "traffic": [],
    }


def test_without_an_adapter_it_is_said_where_one_is_named(tmp_path: Path) -> None:
    with answering(status=(200, {"live": True, "traffic": []})) as agent:
        told = call(tmp_path, "status", columbus=agent.server_port)
    assert told.exit_code == Exit.DONE
    assert "[traffic] in the settings" in told.stdout


def test_while_no_site_is_live_nobody_moves_clients(tmp_path: Path) -> None:
    with answering(status=(200, {**LIVE, "live": False})) as agent:
        told = call(tmp_path, "status", columbus=agent.server_port)
    assert (told.exit_code, told.stdout) == (Exit.DEGRADED, "no site is live: nobody moves clients\n")


def test_agents_that_are_not_reached_are_no_answer(tmp_path: Path) -> None:
    assert call(tmp_path, "status", columbus=free_port()).exit_code == Exit.UNREACHABLE


# -- test


def test_a_dry_run_shows_what_would_be_sent_and_does_none_of_it(tmp_path: Path) -> None:
    with answering(cluster=(200, CLUSTER)) as agent:
        told = call(tmp_path, "test", "--dry-run", columbus=agent.server_port, traffic=COMMAND)
        as_json = call(
            tmp_path, "test", "--dry-run", "--json", "--to", "denver",
            columbus=agent.server_port, traffic=COMMAND,
        )  # fmt: skip
    assert told.exit_code == Exit.DONE
    assert told.stdout.splitlines()[:2] == [
        "clients to columbus, term 7",
        "command: HOTSITE_TRAFFIC_SITE=columbus",
    ]
    document: dict[str, Any] = json.loads(as_json.stdout)
    assert (document["site"], document["term"]) == ("denver", 7)
    assert "HOTSITE_TRAFFIC_SITE=denver" in document["adapters"][0]["would"]
    assert not (tmp_path / "moved").exists()


def test_a_dry_run_for_a_named_site_needs_no_agent(tmp_path: Path) -> None:
    told = call(tmp_path, "test", "--dry-run", "--to", "denver", columbus=free_port(), traffic=COMMAND)
    assert told.exit_code == Exit.DONE
    assert told.stdout.startswith("clients to denver, term 0\n")


def test_a_test_looks_whether_clients_are_sent_there_and_changes_nothing(tmp_path: Path) -> None:
    with answering(cluster=(200, CLUSTER)) as agent:
        wrong = call(tmp_path, "test", columbus=agent.server_port, traffic=COMMAND)
        assert wrong.exit_code == Exit.DEGRADED
        assert "command: /usr/bin/test ended with status 1" in wrong.stdout
        assert not (tmp_path / "moved").exists()
        (tmp_path / "moved").touch()
        right = call(tmp_path, "test", "--json", columbus=agent.server_port, traffic=COMMAND)
    assert right.exit_code == Exit.DONE
    assert json.loads(right.stdout)["adapters"] == [{"adapter": "command", "wrong": None}]


def test_a_site_that_is_none_is_refused(tmp_path: Path) -> None:
    told = call(tmp_path, "test", "--to", "boulder", columbus=free_port(), traffic=COMMAND)
    assert told.exit_code == Exit.USAGE
    assert "there are: columbus, denver" in told.stderr


def test_a_secret_that_is_missing_is_told(tmp_path: Path) -> None:
    dns = """
[traffic.dns]
server = "127.0.0.1:53"
zone = "example.net"
record = "texts.example.net"
key_name = "hotsite"
addresses = {{ columbus = ["203.0.113.10"], denver = ["198.51.100.10"] }}
"""
    told = call(tmp_path, "test", "--dry-run", "--to", "denver", columbus=free_port(), traffic=dns)
    assert told.exit_code == Exit.USAGE
    assert "HOTSITE_SECRET_TRAFFIC_DNS_KEY" in told.stderr
