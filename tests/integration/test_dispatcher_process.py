"""`python -m dispatcher` as others start it: what it says, how it ends."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from tests.ports import free_port

CONFIG = """
[site]
name = "columbus"
environment = "lab"
state_dir = "{folder}"
secrets_dir = "{folder}"

[[place]]
name = "columbus"
nodes = [{{ name = "columbus-a", postgres = "127.0.0.1:9", agent = "http://127.0.0.1:9" }}]

[etcd]
endpoints = ["http://127.0.0.1:9"]

[dispatcher]
consent = "assumed"
hold_for = 0.2
instances = [{{ name = "columbus-1", listen = "127.0.0.1:{port}" }}]

[[carrier]]
name = "acme"
address = "127.0.0.1:9"
system_id = "hotsite"
"""


def configure(folder: Path, port: int) -> Path:
    (folder / "postgres-dispatch").write_text("x")
    (folder / "carrier-acme").write_text("secret")
    path = folder / "columbus.toml"
    path.write_text(CONFIG.format(folder=folder, port=port))
    return path


def command(config: Path, name: str = "columbus-1") -> list[str]:
    return [sys.executable, "-m", "dispatcher", "--config", str(config), "--name", name]


@contextmanager
def running(config: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(command(config), stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def status_of(url: str) -> int | None:
    """The HTTP status; None while nobody listens."""
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 # our own address on loopback
            return int(answer.status)
    except HTTPError as error:
        return error.code
    except URLError:
        return None


def wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 20
    while status_of(url) is None:
        assert time.monotonic() < deadline, "it does not listen"
        time.sleep(0.05)  # another process' socket: nothing to wait on


def test_it_answers_while_nobody_leads_and_stops_when_it_is_asked(tmp_path: Path):
    port = free_port()
    with running(configure(tmp_path, port)) as process:
        wait_until_it_answers(f"http://127.0.0.1:{port}/health")
        assert status_of(f"http://127.0.0.1:{port}/health") == 200
        assert status_of(f"http://127.0.0.1:{port}/ready") == 503
        assert status_of(f"http://127.0.0.1:{port}/live") == 503
        assert status_of(f"http://127.0.0.1:{port}/status") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_connections_and_their_refusals_are_counted(tmp_path: Path):
    port = free_port()
    config = configure(tmp_path, port)
    config.write_text(
        config.read_text().replace("hold_for = 0.2", "hold_for = 0.2\nmax_connections_per_source = 2")
    )
    with running(config):
        wait_until_it_answers(f"http://127.0.0.1:{port}/health")
        kept = [HTTPConnection("127.0.0.1", port, timeout=5) for _ in range(3)]
        answers = []
        for connection in kept:
            connection.request("GET", "/health")
            with connection.getresponse() as answer:
                answers.append(answer.status)
                answer.read()
        kept[0].request("GET", "/metrics")
        metrics = kept[0].getresponse().read().decode()
        for connection in kept:
            connection.close()
    assert answers == [200, 200, 503]
    assert "hotsite_dispatcher_connections 2.0" in metrics
    assert 'hotsite_dispatcher_connections_refused_total{bound="source"} 1.0' in metrics
    assert 'hotsite_dispatcher_connections_refused_total{bound="total"} 0.0' in metrics
    assert "hotsite_dispatcher_connections_displaced_total 0.0" in metrics


def test_more_connections_than_open_files_are_refused_at_start(tmp_path: Path):
    config = configure(tmp_path, free_port())
    config.write_text(config.read_text().replace("hold_for = 0.2", "max_connections = 2000000000"))
    code, said = refusal(command(config))
    assert code == 2
    assert "dispatcher.max_connections = 2000000000" in said
    assert "for example: max_connections = " in said


def refusal(arguments: list[str]) -> tuple[int, str]:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stderr


def test_bad_settings_end_it_with_one_line_and_status_2(tmp_path: Path):
    config = configure(tmp_path, free_port())
    config.write_text(config.read_text().replace('name = "columbus"', 'name = "denver"', 1))
    code, said = refusal(command(config))
    assert code == 2
    assert said.startswith("dispatcher: ")
    assert "denver" in said


def test_an_unknown_instance_is_refused_with_those_that_there_are(tmp_path: Path):
    code, said = refusal(command(configure(tmp_path, free_port()), name="columbus-9"))
    assert code == 2
    assert "columbus-1" in said
    assert len(said.splitlines()) == 1


def test_an_address_in_use_ends_it_with_one_line_and_status_2(tmp_path: Path):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        code, said = refusal(command(configure(tmp_path, port)))
    assert code == 2
    (line,) = said.splitlines()
    assert line.startswith(f"dispatcher: dispatcher.instances: columbus-1: listen = '127.0.0.1:{port}': ")
    assert line.endswith("free the port or choose another")


@pytest.mark.parametrize("missing", ["postgres-dispatch", "carrier-acme"])
def test_a_missing_secret_is_named(tmp_path: Path, missing: str):
    config = configure(tmp_path, free_port())
    (tmp_path / missing).unlink()
    code, said = refusal(command(config))
    assert code == 2
    assert missing in said


def test_migrating_without_a_leader_says_what_was_tried(tmp_path: Path):
    config = configure(tmp_path, free_port())
    (tmp_path / "postgres-migrate").write_text("x")
    code, said = refusal([sys.executable, "-m", "dispatcher", "migrate", "--config", str(config)])
    assert code == 1
    assert "columbus-a" in said


SECOND = """
[[carrier]]
name = "second"
address = "127.0.0.1:9"
system_id = "hotsite"
"""


def test_a_hangup_has_the_file_read_again_and_a_wrong_one_changes_nothing(tmp_path: Path):
    port = free_port()
    config = configure(tmp_path, port)
    (tmp_path / "carrier-second").write_text("secret")
    with running(config) as process:
        wait_until_it_answers(f"http://127.0.0.1:{port}/health")

        def after_a_hangup() -> dict[str, Any]:
            before = told(port)["config"]
            process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 20
            while (status := told(port))["config"] == before or status["config"]["changing"]:
                assert time.monotonic() < deadline, "the file was not read again"
                time.sleep(0.05)  # another process
            return status

        config.write_text(config.read_text() + SECOND)
        status = after_a_hangup()
        assert [link["name"] for link in status["links"]] == ["acme-1", "second-1"]
        config.write_text(config.read_text() + SECOND)
        status = after_a_hangup()
        assert "another carrier has this name" in status["config"]["refused"]["reasons"][0]
        assert [link["name"] for link in status["links"]] == ["acme-1", "second-1"]
        assert process.poll() is None


def told(port: int) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
        status: dict[str, Any] = json.load(answer)
    return status
