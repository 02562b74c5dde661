"""Where a Docker engine answers and the image `hotsite:local` is there (docs/docker.md): the containers' story.

It brings up all three places on one host, sends texts, swaps, and kills one site's containers.
"""

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sitecontrol.lab.ports import PLACES, SITES
from tests.compose_files import (
    ROOT,
    make_secrets,
    until,
)

# -- with an engine

TEXT = {"program": "outages", "to": "+16145550123", "body": "Power is out on Elm St. Back by 6 pm."}


def call(
    *words: str, env: dict[str, str] | None = None, timeout: float = 360
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def docker(*words: str, timeout: float = 360) -> subprocess.CompletedProcess[str]:
    return call("docker", *words, timeout=timeout)


Project = Callable[[str], tuple[str, ...]]
"""Place -> the words before what is done to its compose file."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A Docker engine that answers, and compose: version 2, or 1.29, which Debian 12 has."""
    if reason := os.environ.get("NO_DOCKER_HERE"):  # .ci/docker tried
        pytest.skip(f"no Docker engine: {reason}")
    if shutil.which("docker") is None:
        pytest.skip("no `docker` here")
    try:
        told = docker("info", "--format", "{{.ServerVersion}}", timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("the Docker engine does not answer")
    if told.returncode != 0 or not told.stdout.strip():
        pytest.skip(f"no Docker engine answers: {(told.stderr or told.stdout).strip().splitlines()[-1:]}")
    if docker("compose", "version", timeout=60).returncode == 0:
        return lambda place: ("docker", "compose", "--file", f"docker-compose.{place}.yml")
    if shutil.which("docker-compose") is None:
        pytest.skip("neither `docker compose` nor `docker-compose` here")
    folder = tmp_path_factory.mktemp("compose")
    for place in PLACES:  # 1.29 knows all that is in our files but the project's name
        text = (ROOT / f"docker-compose.{place}.yml").read_text()
        (folder / f"{place}.yml").write_text(re.sub(r"^name: .*\n", "", text, flags=re.MULTILINE))
    base = ("docker-compose", "--project-directory", str(ROOT))
    return lambda place: (*base, "--file", str(folder / f"{place}.yml"))


class Hotsite:
    """All three places on one host, each a project of its own; what is done to them is done by compose."""

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        hosts = docker("run", "--rm", "--add-host", "here:host-gateway", "hotsite:local", "cat", "/etc/hosts")
        [self.address] = re.findall(r"^(\S+)\s+here$", hosts.stdout, flags=re.MULTILINE)
        secrets = make_secrets(folder / "secrets")
        places = {f"{place.upper()}_ADDRESS": self.address for place in PLACES}
        self._env = {
            **os.environ,
            **places,
            "HOTSITE_SECRETS": str(secrets),
            "HOTSITE_IMAGE": "hotsite:local",
        }

    def compose(self, place: str, *words: str, check: bool = True) -> str:
        project = (*self._project(place), "--project-name", f"hotsite-test-{place}", "--profile", "try")
        done = call(*project, *words, env=self._env)
        assert not check or done.returncode == 0, f"{place} {words}: {done.stderr}"
        return done.stdout

    def sitectl(self, site: str, *words: str, check: bool = True) -> str:
        return self.compose(site, "run", "--rm", "-T", f"{site}-sitectl", *words, check=check)

    def cluster(self, site: str) -> dict[str, Any]:
        try:
            found = json.loads(self.sitectl(site, "status", "--json", check=False))
        except json.JSONDecodeError:  # nobody answers yet
            return {}
        assert isinstance(found, dict)
        return found

    def submitted(self) -> list[str]:
        """The references in what the carrier was sent: each text ends with its own."""
        log = self.compose("witness", "exec", "-T", "carrier-try", "cat", "/var/lib/hotsite/submits.jsonl")
        return [json.loads(line)["text"].rpartition(" ")[2] for line in log.splitlines()]

    def call(
        self, port: int, path: str, key: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"http://{self.address}:{port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 # our own address
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, {}
        except OSError:
            return 0, {}


@pytest.fixture(scope="module")
def hotsite(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hotsite]:
    if docker("image", "inspect", "hotsite:local").returncode != 0:
        pytest.skip("no image hotsite:local: `docker build --tag hotsite:local .` makes it")
    system = Hotsite(project, tmp_path_factory.mktemp("docker"))
    try:
        for place in PLACES:
            system.compose(place, "up", "--detach")
        yield system
    finally:
        for site in SITES:  # shown when something failed
            print(system.compose(site, "logs", "--no-color", "--tail", "80", f"{site}-agent", check=False))  # noqa: T201
        for place in PLACES:
            system.compose(place, "down", "--volumes", "--timeout", "5", check=False)


@pytest.mark.docker
@pytest.mark.parametrize("place", PLACES)
def test_compose_takes_each_file(project: Project, place: str) -> None:
    env = {**os.environ, **{f"{p.upper()}_ADDRESS": "127.0.0.1" for p in PLACES}}
    done = call(*project(place), "config", "--quiet", env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.docker
@pytest.mark.timeout(900)
def test_a_text_is_delivered_production_swaps_and_outlives_a_killed_site(hotsite: Hotsite) -> None:
    columbus, denver = 7105, 7115  # the first dispatcher of each
    edges = {"columbus": 7108, "denver": 7118}
    until(lambda: hotsite.cluster("columbus").get("durability") == "two-site", 240, "both sites in step")
    words = ("add", "--account", "utility", "--program", "outages", "--source", "12345")
    account = ("run", "--rm", "-T", "columbus-account", *words)
    key = ""

    def has_account() -> bool:  # until the schema is there
        nonlocal key
        told = hotsite.compose("columbus", *account, check=False)
        key = json.loads(told)["key"] if told.strip() else ""
        return bool(key)

    until(has_account, 120, "an account")

    def send(port: int, reference: str) -> tuple[int, dict[str, Any]]:
        text = {**TEXT, "body": f"Power is out. {reference}", "reference": reference}
        return hotsite.call(port, "/v1/messages", key, text)

    def delivered(port: int, message: str) -> bool:
        return hotsite.call(port, f"/v1/messages/{message}", key)[1].get("state") == "delivered"

    def answers(edge: int) -> str | None:
        """The site whose dispatcher answers there."""
        site = hotsite.call(edge, "/status", key)[1].get("site")
        return None if site is None else str(site)

    until(lambda: send(columbus, "first")[0] in {200, 202}, 60, "a text is accepted")
    # A standby may be out of step for a moment while everything starts on a busy machine.
    until(lambda: send(columbus, "first")[1].get("durability") == "two-site", 60, "a text is on both sites")
    status, first = send(columbus, "first")
    assert (status, first["duplicate"]) == (200, True)
    until(lambda: delivered(denver, first["id"]), 60, "its receipt")

    def reaches_live(edge: int) -> bool:
        return answers(edge) == hotsite.cluster("columbus").get("live_site")

    for edge in edges.values():
        until(lambda port=edge: reaches_live(port), 60, "both edges reach the live site")

    # Which site is live is asked, never taken for granted: on a busy machine one that is starved fails over by itself.
    def swapped() -> bool:
        """Production moved because we asked. A refusal while a site is on its way back is no fault: asked again."""
        nonlocal old, new
        old = hotsite.cluster("columbus").get("live_site") or ""
        if old not in SITES:  # nobody leads, or the agent does not answer
            return False
        [new] = [site for site in SITES if site != old]
        hotsite.sitectl("columbus", "swap", "--to", new, "--yes", check=False)
        history = json.loads(hotsite.sitectl(new, "history", "--json", check=False) or "[]")
        return ("swap", new) in [(entry["kind"], entry["site"]) for entry in history]

    old = new = ""
    until(swapped, 240, "a swap")
    until(lambda: answers(edges[old]) == new, 60, "the old site's edge reaches the new live site")
    status, second = send(edges[old], "second")
    assert (status, second["site"]) == (202, new)
    until(lambda: hotsite.cluster(new).get("durability") == "two-site", 120, "in step after the swap")

    live = hotsite.cluster(new)["live_site"]
    [other] = [site for site in SITES if site != live]
    ports = {"columbus": columbus, "denver": denver}
    hotsite.compose(live, "kill")
    took = until(lambda: send(edges[other], "third")[0] in {200, 202}, 60, "the other site takes over")
    print(f"accepted again {took:.1f} s after the live site's containers were killed")  # noqa: T201 # shown by -rP
    third = send(ports[other], "third")[1]
    assert (third["live_site"], third["durability"]) == (other, "one-site")

    hotsite.compose(live, "up", "--detach")
    took = until(lambda: hotsite.cluster(other).get("durability") == "two-site", 240, "both in step again")
    print(f"both sites in step {took:.1f} s after the killed one was up again")  # noqa: T201 # same
    until(
        lambda: send(ports[live], "fourth")[1].get("durability") == "two-site",
        60,
        "a text is on both sites again",
    )
    fourth = send(ports[live], "fourth")[1]
    for message in (second, third, fourth):
        until(lambda one=message: delivered(ports[other], one["id"]), 60, "its receipt")
    assert sorted(hotsite.submitted()) == ["first", "fourth", "second", "third"]
