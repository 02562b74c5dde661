"""Two labs at once: ports a hundred apart are all that they need to keep out of each other's way.

The first is detached, and knows only the PostgreSQL and etcd of the wheels where those of the system can be hidden.
The second belongs to an ordinary user, runs in the foreground, and uses an SMSC that was there before it.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sitecontrol.cli import SITECTL
from sitecontrol.drills.traffic import access_to
from sitecontrol.lab.control import read_lab
from sitecontrol.lab.ports import is_free
from tests import namespaces
from tests.labs import environment, free_base, left_of, sitectl
from tests.ports import free_port
from tests.postgres import short_folder

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900), pytest.mark.long]

ORDINARY = "nobody"
SMALL = ("--dispatchers", "1", "--simulators", "1")
# What runs in the background may have been told to ignore it, and would pass that on.
LISTENING_TO_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
WITHIN = 60.0  # seconds for a text, on a machine that does much else


@dataclass(frozen=True, kw_only=True)
class Labs:
    first: Path
    second: Path
    foreground: "subprocess.Popen[str]"
    smsc: "subprocess.Popen[bytes]"
    smsc_log: Path
    user: str | None  # who runs the second; None: we ourselves


def ordinary_user() -> str | None:
    """Somebody else, when we are root and there is a way for them to our Python and this project."""
    reachable = namespaces.are_permitted() or not namespaces.closed_to_others()
    return ORDINARY if os.geteuid() == 0 and reachable else None


def start_first(folder: Path, base: int) -> None:
    command = [*SITECTL, "lab", "up", "--detach", *SMALL, "--base-port", str(base), "--dir", str(folder)]
    if namespaces.are_permitted():
        command = namespaces.within(namespaces.without_servers(), command)
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def outside_smsc(folder: Path, port: int, password: Path) -> Iterator["subprocess.Popen[bytes]"]:
    words = ("--system-id", "hotsite", "--password-file", str(password), "--log", str(folder / "smsc.jsonl"))
    command = [sys.executable, "-m", "dispatcher.simulator", "--listen", f"127.0.0.1:{port}", *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def second_in_the_foreground(
    home: Path, base: int, smsc: int, password: Path, user: str | None
) -> Iterator["subprocess.Popen[str]"]:
    carrier = ("--carrier", f"mine=hotsite@127.0.0.1:{smsc}", "--carrier-password-file", f"mine={password}")
    command = [*SITECTL, "lab", "up", *SMALL, *carrier, "--base-port", str(base), "--dir", str(home / "lab")]
    if user is not None:
        shutil.chown(home, user)
        command = namespaces.as_user(user, command)
        if namespaces.closed_to_others():
            command = namespaces.within(namespaces.opened(home.with_name("aside")), command)
    with subprocess.Popen(
        [sys.executable, "-c", LISTENING_TO_CTRL_C, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(HOME=str(home)),
        cwd="/",
        start_new_session=True,  # a terminal's Ctrl-C goes to a process group
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_until_up(process: "subprocess.Popen[str]") -> None:
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C ends it" in line:
            return
    pytest.fail("".join(said))


@pytest.fixture(scope="module")
def labs() -> Iterator[Labs]:
    user = ordinary_user()
    with short_folder("hotsite-b-") as folder:
        first, home, password = folder / "first", folder / "home", folder / "password"
        home.mkdir()
        password.write_text("sesame\n")
        base, port = free_base(), free_port()
        with (
            outside_smsc(folder, port, password) as smsc,
            second_in_the_foreground(home, free_base(above=base), port, password, user) as foreground,
        ):
            try:
                start_first(first, base)
                wait_until_up(foreground)
                yield Labs(
                    first=first,
                    second=home / "lab",
                    foreground=foreground,
                    smsc=smsc,
                    smsc_log=folder / "smsc.jsonl",
                    user=user,
                )
            finally:
                ended = sitectl("lab", "down", folder=first)
        assert ended.returncode == 0, ended.stderr
        assert left_of(first) == []
        sitectl("lab", "down", "--purge", folder=first)


def ask(url: str, key: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 # our own addresses on loopback
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 # same
        return dict(json.load(answer))


def deliver(lab: Path, text: str) -> str:
    """Send a text at the site that is not live at first; how far it has come, at the end."""
    access = access_to(read_lab(lab))
    messages = access.doors["denver"][0][0].url + "/v1/messages"
    body = {
        "program": access.program,
        "to": "+12025550123",
        "body": text,
        "reference": text.replace(" ", "-"),
    }
    accepted = ask(messages, access.key, body)
    assert accepted["durability"] == "two-site"
    deadline = time.monotonic() + WITHIN
    while True:
        state = str(ask(f"{messages}/{accepted['id']}", access.key)["state"])
        if state == "delivered" or time.monotonic() > deadline:
            return state
        time.sleep(0.1)  # other processes: there is nothing to wait on


def test_both_labs_deliver_and_the_smsc_that_was_there_gets_the_text_of_the_lab_that_names_it(
    labs: Labs,
) -> None:
    assert deliver(labs.first, "Power is back on Elm St") == "delivered"
    assert deliver(labs.second, "Power is back on Oak St") == "delivered"
    lines = [json.loads(line) for line in labs.smsc_log.read_text().splitlines()]
    assert [line["text"] for line in lines if line["status"] == 0] == ["Power is back on Oak St"]
    status = json.loads(sitectl("lab", "status", "--json", folder=labs.second).stdout)
    assert [(c["name"], c["pid"], c["log"]) for c in status["carriers"]] == [("mine", None, None)]


def test_every_process_of_an_ordinary_users_lab_is_that_users(labs: Labs) -> None:
    if labs.user is None and os.geteuid() == 0:
        pytest.skip(f"{ORDINARY} cannot reach {', '.join(map(str, namespaces.closed_to_others()))}")
    uid = os.geteuid() if labs.user is None else pwd.getpwnam(labs.user).pw_uid
    running = left_of(labs.second)
    assert len(running) > 20
    assert {process.uids().real for process in running} == {uid}


@pytest.mark.root
def test_without_the_systems_postgresql_and_etcd_the_wheels_do(labs: Labs) -> None:
    if not namespaces.are_permitted():
        pytest.skip("the system's programs cannot be hidden: no private mount namespaces here")
    installation = read_lab(labs.first).lab.installation
    assert installation.etcd_from_wheel
    assert "pginstall" in str(installation.postgres_bin)
    assert deliver(labs.first, "Power is back on Ash St") == "delivered"


def test_the_log_of_a_process_is_shown(labs: Labs) -> None:
    done = sitectl("lab", "logs", "witness-etcd", "-n", "3", folder=labs.first)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0] in (labs.first / "logs" / "witness-etcd.log").read_text()


def test_ctrl_c_ends_a_lab_in_the_foreground_and_nothing_else(labs: Labs) -> None:
    plan = read_lab(labs.second)
    os.killpg(labs.foreground.pid, signal.SIGINT)
    said, _ = labs.foreground.communicate(timeout=60)
    assert labs.foreground.returncode == 0, said
    assert "ending the lab" in said
    assert left_of(labs.second) == []
    assert [port for port in plan.listening if not is_free(port)] == []
    assert len(left_of(labs.first)) > 20
    assert labs.smsc.poll() is None
    assert psutil.pid_exists(labs.smsc.pid)
