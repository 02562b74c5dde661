"""`sitectl status` with links, queue and alarms, where a health daemon answers; without one it is told without them."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sitecontrol.agent.state import AgentState
from sitecontrol.cli import watching
from sitecontrol.cli.agents import Agents
from sitecontrol.cli.session import Exit, Globals
from sitecontrol.cli.watching import work_lines
from tests import schemas
from tests.unit.leadership_facts import at_columbus
from tests.unit.test_sitectl_acts import CONFIG, answering, call, silent
from tests.unit.test_sitectl_tables import shown

CLUSTER = AgentState(prefix="/p/", facts=at_columbus(), version="1").cluster()
ITEM = {"level": "bad", "what": "etcd does not answer", "detail": "x", "since": None, "explains": 3}
HEALTH: dict[str, Any] = {
    "place": "columbus",
    "queue": {
        "told_by": "columbus-1", "age_s": 0.4, "by_state": {"queued": 12, "sent": 0}, "oldest_queued_s": {"alert": 7.4},
        "flows": [],
    },
    "attention": {"items": [ITEM], "up": 3, "watched": 4},
}  # fmt: skip


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, health: str | None, *words: str) -> Any:
    """Both sites' agents stand in; columbus's health daemon is at `health`."""
    text = CONFIG
    if health is not None:
        text = CONFIG.replace('name = "columbus"\n', f'name = "columbus"\nhealthcheck = "{health}"\n', 2)
        text = text.replace(f'healthcheck = "{health}"\n', "", 1)  # [site] has none
    monkeypatch.setattr("tests.unit.test_sitectl_acts.CONFIG", text)
    with answering(cluster=(200, CLUSTER)) as agent:
        return call(folder, "status", *words, columbus=1, denver=agent.server_port)


def test_what_a_health_daemon_tells_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with answering(status=(200, HEALTH)) as daemon:
        url = f"http://127.0.0.1:{daemon.server_port}"
        said = told(tmp_path, monkeypatch, url)
        document = told(tmp_path, monkeypatch, url, "--json")
    assert said.exit_code == Exit.DONE, said.stderr
    lines = said.stdout.splitlines()
    assert "links: columbus-1 1 of 1 bound, denver-1 1 of 1 bound" in lines
    assert "queue: 12 queued, the oldest has waited 7 s" in lines
    assert "alarm (bad): etcd does not answer: x" in lines
    seen = json.loads(document.stdout)
    schemas.check(["status"], seen)
    assert seen["seen"]["place"] == "columbus"
    assert seen["seen"]["alarms"][0]["what"] == "etcd does not answer"


@pytest.mark.parametrize(
    "body", [{}, {"place": "x", "queue": None, "attention": {}}, {"place": 1, "queue": []}]
)
def test_what_is_no_health_daemons_word_counts_for_nothing(
    body: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with answering(status=(200, body)) as daemon:
        said = told(tmp_path, monkeypatch, f"http://127.0.0.1:{daemon.server_port}")
    assert said.exit_code == Exit.DONE
    assert "queue, alarms: not known, no health daemon answers" in said.stdout


def test_one_that_is_gone_or_says_nothing_is_waited_for_only_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "STEP_WITHIN", 0.2)
    monkeypatch.setattr(watching, "WITHIN", 0.3)
    with silent() as port:
        for where in (None, "http://127.0.0.1:1", f"http://127.0.0.1:{port}"):
            began = time.monotonic()
            said = told(tmp_path, monkeypatch, where, "--json")
            assert time.monotonic() - began < 3
            assert said.exit_code == Exit.DONE
            assert json.loads(said.stdout)["seen"] is None


@contextmanager
def slow() -> Iterator[int]:
    """The port of one that says another byte of its answer, and another, and never all of it. Past any bound that a
    test has it hangs up, so that whoever waits on for it fails and does not hang.
    """
    over, hangs_up = threading.Event(), time.monotonic() + 10

    def dribble(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                while time.monotonic() < hangs_up and not over.wait(0.05):
                    connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=dribble, args=(server,), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join(5)
        assert not thread.is_alive()


def test_one_that_never_comes_to_an_end_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watching, "WITHIN", 0.3)
    with slow() as port:
        began = time.monotonic()
        said = told(tmp_path, monkeypatch, f"http://127.0.0.1:{port}")
        assert time.monotonic() - began < 3
    assert "no health daemon answers" in said.stdout


def test_what_is_long_is_told_in_80_columns_and_what_is_much_is_counted():
    alarms = [
        {"level": "warn", "what": f"link {n}", "detail": "is down " * 20, "since": None} for n in range(14)
    ]
    queue = HEALTH["queue"] | {"told_by": None}
    seen = {"place": "denver", "queue": queue, "alarms": alarms}
    lines = [line for each in work_lines({"dispatchers": []}, seen) for line in shown(each)]
    assert lines[:2] == ["links: no dispatcher is heard", "queue: not known, no dispatcher tells of it"]
    assert lines[-1] == "and 4 more alarms, on the NOC page of denver"
    assert "".join("".join(lines).split()).count("isdown" * 20) == watching.ALARMS_SHOWN
    none = [line for each in work_lines({"dispatchers": []}, seen | {"alarms": []}) for line in shown(each)]
    assert none[-1] == "alarms: none, as denver sees it"


def test_nobody_is_asked_where_no_place_has_one(tmp_path: Path):
    (tmp_path / "operator-token").write_text("token")
    config = tmp_path / "columbus.toml"
    config.write_text(CONFIG.format(folder=tmp_path, columbus=1, denver=2))
    assert watching.seen_by_health(Agents(Globals(config=config))) is None
