"""What `sitectl` makes of agents that refuse connections, say nothing, or do not know: unknown is not no."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from tests.ports import free_port

CONFIG = """
[site]
name = "columbus"
environment = "lab"
state_dir = "{folder}"
secrets_dir = "{folder}"
[etcd]
endpoints = ["http://127.0.0.1:9"]
[[place]]
name = "columbus"
preferred = true
nodes = [{{ name = "columbus-a", postgres = "127.0.0.1:9", agent = "http://127.0.0.1:{columbus}" }}]
[[place]]
name = "denver"
nodes = [{{ name = "denver-a", postgres = "127.0.0.1:9", agent = "http://127.0.0.1:{denver}" }}]
"""
SWAP = {
    "id": "5ca1ab1e", "from_node": "columbus-a", "to_node": "denver-a", "by": "ada", "phase": "held", "times": [],
}  # fmt: skip
UNKNOWN = {"title": "The outcome is unknown", "status": 503, "detail": "etcd gave no answer (deadline)"}
REFUSED = {
    "title": "The swap is refused",
    "status": 409,
    "detail": "swap 5ca1ab1e to denver-a is in progress",
}


class Agent(ThreadingHTTPServer):
    """Answers from `answers` (path -> status, document) and remembers what it was asked to do."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, dict[str, Any]]]) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.answers = answers
        self.acts: list[tuple[str, Any]] = []


class Call(BaseHTTPRequestHandler):
    server: Agent

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.acts.append((self.path, body))
        self._answer()

    def _answer(self) -> None:
        status, document = self.server.answers[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(**answers: tuple[int, dict[str, Any]]) -> Iterator[Agent]:
    with Agent({f"/{path}": answer for path, answer in answers.items()}) as agent:
        thread = threading.Thread(target=agent.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield agent
        finally:
            agent.shutdown()
            thread.join()


@contextmanager
def silent() -> Iterator[int]:
    """The port of one that accepts every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def call(folder: Path, *words: str, columbus: int, denver: int, typed: str = "") -> Result:
    (folder / "operator-token").write_text("token")
    config = folder / "columbus.toml"
    config.write_text(CONFIG.format(folder=folder, columbus=columbus, denver=denver))
    command = [*words, "--config", str(config), "--timeout", "0.3"]
    done = CliRunner().invoke(sitectl, command, input=typed, env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


TO_DENVER = ("swap", "--to", "denver", "--yes")


def test_a_swap_without_an_answer_is_asked_of_nobody_else_and_what_is_seen_of_it_is_told(
    tmp_path: Path,
) -> None:
    with silent() as columbus, answering(swap=(409, REFUSED), cluster=(200, {"swap": SWAP})) as denver:
        told = call(tmp_path, *TO_DENVER, columbus=columbus, denver=denver.server_port)
    assert told.exit_code == Exit.TIMED_OUT
    assert denver.acts == []
    assert "the agent of columbus-a was asked and gave no answer" in told.stderr
    assert "swap 5ca1ab1e to denver-a is in progress (held), asked for by ada" in told.stderr
    assert told.stderr.count("\n") == 1
    assert told.stdout == ""


def test_a_swap_without_an_answer_that_is_not_seen_is_not_said_to_be_refused(tmp_path: Path) -> None:
    with silent() as columbus, answering(cluster=(200, {"swap": None})) as denver:
        told = call(tmp_path, *TO_DENVER, columbus=columbus, denver=denver.server_port)
    assert told.exit_code == Exit.TIMED_OUT
    assert "it may still begin" in told.stderr


def test_when_nobody_tells_whether_the_swap_runs_that_is_said(tmp_path: Path) -> None:
    with silent() as columbus:
        told = call(tmp_path, *TO_DENVER, columbus=columbus, denver=free_port())
    assert told.exit_code == Exit.TIMED_OUT
    assert "no agent tells at the moment whether a swap runs" in told.stderr


def test_an_agent_that_does_not_know_the_outcome_can_be_reached(tmp_path: Path) -> None:
    with answering(swap=(503, UNKNOWN), pause=(503, UNKNOWN), cluster=(200, {"swap": SWAP})) as columbus:
        told = call(tmp_path, *TO_DENVER, columbus=columbus.server_port, denver=free_port())
        paused = call(tmp_path, "pause", "--reason", "x", columbus=columbus.server_port, denver=free_port())
    assert told.exit_code == paused.exit_code == Exit.TIMED_OUT
    assert "does not know the outcome (etcd gave no answer (deadline))" in told.stderr
    assert "swap 5ca1ab1e to denver-a is in progress" in told.stderr
    assert "`sitectl status` tells what holds" in paused.stderr


def test_an_agent_that_refuses_the_connection_heard_nothing_and_the_next_one_is_asked(tmp_path: Path) -> None:
    with answering(swap=(409, REFUSED)) as denver:
        told = call(tmp_path, *TO_DENVER, columbus=free_port(), denver=denver.server_port)
    assert told.exit_code == Exit.REFUSED
    [(path, body)] = denver.acts
    assert (path, body["to"], body["dry_run"]) == ("/swap", "denver", False)


def test_a_dry_run_changes_nothing_and_is_asked_of_the_next_agent(tmp_path: Path) -> None:
    with silent() as columbus, answering(swap=(200, {"to": "denver-a", "would": "swap"})) as denver:
        told = call(tmp_path, *TO_DENVER, "--dry-run", columbus=columbus, denver=denver.server_port)
    assert told.exit_code == Exit.DONE, told.stderr
    assert "denver-a could take over now" in told.stdout


def test_while_a_swap_is_followed_silence_of_the_agents_is_no_end(tmp_path: Path) -> None:
    accepted = (202, {"id": "5ca1ab1e", "to": "denver-a"})
    with answering(swap=accepted, cluster=(503, {}), history=(503, {})) as columbus:
        told = call(tmp_path, *TO_DENVER, columbus=columbus.server_port, denver=free_port())
    assert told.exit_code == Exit.TIMED_OUT
    assert "the end of swap 5ca1ab1e was not seen" in told.stderr


@pytest.mark.parametrize("body", [b"HTTP/1.1 200 OK\r\n\r\nnot JSON", b"no HTTP\r\n\r\n", b""])
def test_an_answer_that_cannot_be_read_is_none(tmp_path: Path, body: bytes) -> None:
    def babble(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(body)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=babble, args=(server,))
        thread.start()
        told = call(tmp_path, "pause", "--reason", "x", columbus=server.getsockname()[1], denver=free_port())
        thread.join()
    assert told.exit_code == Exit.TIMED_OUT, told.stderr
    assert "was asked and gave no answer" in told.stderr


@pytest.mark.parametrize("reason", ["", " "])
def test_a_pause_needs_a_reason_that_says_something(tmp_path: Path, reason: str) -> None:
    with answering(pause=(200, {})) as columbus:
        told = call(tmp_path, "pause", "--reason", reason, columbus=columbus.server_port, denver=free_port())
    assert told.exit_code == Exit.USAGE
    assert "--reason" in told.stderr
    assert columbus.acts == []


def test_a_pause_is_told_with_who_wants_it_and_why(tmp_path: Path) -> None:
    wanted = {"paused": True, "paused_by": "ada", "paused_reason": "[/] storm {watch}"}
    with answering(pause=(200, wanted)) as columbus:
        told = call(tmp_path, "pause", "--reason", "x", columbus=columbus.server_port, denver=free_port())
    assert told.exit_code == Exit.DONE, told.stderr
    assert told.stdout == "Automatic swaps are paused by ada: [/] storm {watch}\n"


@pytest.mark.parametrize("typed", ["", "yes\n"])
def test_what_follows_the_prompt_begins_on_a_line_of_its_own(tmp_path: Path, typed: str) -> None:
    told = call(tmp_path, "swap", "--to", "denver", columbus=free_port(), denver=free_port(), typed=typed)
    assert told.exit_code == Exit.REFUSED
    assert "\nsitectl: not confirmed; nothing was changed" in told.stderr
