"""Bringing a lab up: refuse what cannot work, write the settings, start the supervisor, wait until it is whole.

Waiting is polling: each step is a fact that is asked for again and again until it holds, a process has given
up, or the time is over.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from sitecontrol.lab import ownership, render, volumes
from sitecontrol.lab.child import BAD_SETTINGS, PROJECT
from sitecontrol.lab.control import LabControl, read_lab
from sitecontrol.lab.errors import LabError, LabRefusedError, LabTimeoutError, LabUnreachableError
from sitecontrol.lab.installation import Installation, install, look
from sitecontrol.lab.layout import LabDir
from sitecontrol.lab.plan import Kind, Lab, LabOptions, Plan
from sitecontrol.lab.ports import SITES, is_free
from sitecontrol.lab.remains import Remains

POLL = 0.1  # seconds
ACCOUNT, PROGRAM, SHORT_CODE = "lab", "lab", "72255"

Tell = Callable[[str, float], None]  # what is done, and after how many seconds


def prepare(
    directory: Path,
    wanted: Mapping[str, object],
    carrier_passwords: Mapping[str, str],
    *,
    fresh: bool = False,
) -> Plan:
    """Check everything that can be checked, then write the lab's files. Starts nothing.

    `wanted` are the options that were given; the others are those the lab was made with, or the defaults. `fresh`
    forgets the lab that was there. What is refused has changed nothing: neither is a new folder left behind, nor are
    an earlier lab's data and logs gone.
    """
    lab_dir = LabDir.at(directory)
    refuse_if_running(lab_dir)
    before = read_lab(directory).lab if lab_dir.exists and not fresh else None
    kept = before.options.model_dump() if before is not None else {}
    options = LabOptions.model_validate({**kept, **wanted})
    if before is not None and options.base_port != before.options.base_port:
        raise LabRefusedError(
            f"the lab in {lab_dir.root} was made with --base-port {before.options.base_port}: use that, another "
            "--dir, or --fresh to make it anew"
        )
    if before is not None and options.volume_mb != before.options.volume_mb:
        raise LabRefusedError(
            f"the lab in {lab_dir.root} was made {_with_volumes(before.options)}, and its data lie there: use the same,"
            " or --fresh to make it anew"
        )
    if options.volume_mb is not None:
        volumes.refuse_unless_possible()
    lab_dir.refuse_foreign()
    made_as = before.id if before is not None else uuid.uuid4().hex[:12]
    lab = Lab(id=made_as, options=options, installation=look(lab_dir.root))
    refuse_unknown_hosts(Plan(lab, lab_dir))
    refuse_if_taken(Plan(lab, lab_dir))
    if fresh:
        remove(directory)
    plan = Plan(lab.model_copy(update={"installation": _installed(lab_dir)}), lab_dir)
    render.write_all(plan, carrier_passwords)
    _mount(plan)
    return plan


def _with_volumes(options: LabOptions) -> str:
    return "without --volume-mb" if options.volume_mb is None else f"with --volume-mb {options.volume_mb}"


def _mount(plan: Plan) -> None:
    """A volume for each node, if there are to be any."""
    megabytes, installation = plan.lab.options.volume_mb, plan.lab.installation
    if megabytes is None:
        return
    for node in plan.all_nodes:
        home, image = installation.postgres_home(node.key), plan.directory.volume(node.key)
        volumes.mount(home, image, megabytes=megabytes, user=installation.run_as)


def _installed(lab_dir: LabDir) -> Installation:
    """Make the lab's folders; a new one goes again when its data have no place."""
    is_new = not lab_dir.root.exists()
    lab_dir.create()
    try:
        return install(lab_dir.root)
    except LabRefusedError:
        if is_new:
            shutil.rmtree(lab_dir.root)
        raise


def refuse_if_running(lab_dir: LabDir) -> None:
    if lab_dir.is_running:
        raise LabRefusedError(f"the lab in {lab_dir.root} is running: `sitectl lab down` ends it")
    if not lab_dir.is_ours:
        return
    left = Remains.of(lab_dir).processes()
    if left:
        raise LabRefusedError(
            f"{len(left)} processes of the lab in {lab_dir.root} still run, after a crash: "
            f"`sitectl lab down --dir {lab_dir.root}` ends them"
        )


def refuse_unknown_hosts(plan: Plan) -> None:
    """A carrier that has no address would only be waited for."""
    for carrier in plan.carriers:
        try:
            socket.getaddrinfo(carrier.host, carrier.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise LabRefusedError(
                f"the carrier {carrier.name}: {carrier.host} has no address here ({error.strerror}): "
                "correct the name, or give its IP address"
            ) from error


def refuse_if_taken(plan: Plan) -> None:
    """Every port of the plan must be free."""
    for port, user in plan.listening.items():
        if not is_free(port):
            raise LabRefusedError(
                f"port {port} ({user}) is in use: end what uses it, or choose another --base-port "
                f"(a lab takes {plan.ports.base} to {plan.ports.base + 99})"
            )


def remove(directory: Path) -> None:
    """Forget a lab that does not run: its folder, and its data elsewhere; also one whose record is damaged."""
    lab_dir = LabDir.at(directory)
    if not lab_dir.is_ours:
        return
    refuse_if_running(lab_dir)
    remains = Remains.of(lab_dir)
    volumes.unmount(remains.homes)
    for root in remains.postgres_roots:
        if root.exists() and root.stat().st_uid == os.geteuid():
            shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(lab_dir.root)


def start_supervisor(plan: Plan, *, foreground: bool) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches only the command, which then ends the lab in order."""
    command = [sys.executable, "-m", "sitecontrol.lab.supervisor", "--dir", str(plan.directory.root)]
    with plan.directory.log("supervisor").open("ab") as output:
        return subprocess.Popen(
            [*command, "--foreground"] if foreground else command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=PROJECT,
            env={**os.environ, ownership.MARK: plan.lab.id},
            start_new_session=True,
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    done: str  # what is the case then
    holds: Callable[[], Awaitable[bool]]


class BringUp:
    """The way from started processes to a lab that takes messages on two sites."""

    def __init__(self, control: LabControl, *, within: float, tell: Tell) -> None:
        self._control = control
        self._plan = control.plan
        self._started = time.monotonic()
        self._deadline = self._started + within
        self._tell = tell

    async def run(self) -> None:
        """Raises LabTimeoutError, or LabError when a process gave up."""
        await self._until("the lines and etcd are up", self._etcd_is_up)
        await self._until("PostgreSQL takes writes", self._a_site_is_open)
        await self._migrate_and_add_account()
        for what, holds in (
            ("every dispatcher is ready", self._dispatchers_are_ready),
            ("both sites are in step", self._control.is_two_site),
            ("the health daemons watch", self._health_daemons_answer),
        ):
            await self._until(what, holds)

    async def _until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        while True:
            with contextlib.suppress(LabUnreachableError):  # the supervisor itself is still starting
                await self._refuse_broken()
                if await holds():
                    self._tell(what, time.monotonic() - self._started)
                    return
            if time.monotonic() > self._deadline:
                raise LabTimeoutError(
                    f"not within {self._deadline - self._started:.0f} s: {what}. "
                    "`sitectl lab status` and `sitectl lab logs PROCESS` tell more"
                )
            await asyncio.sleep(POLL)

    async def _refuse_broken(self) -> None:
        for name, process in (await self._control.processes()).items():
            if process["last_exit"] == BAD_SETTINGS:
                last = last_line(self._plan.directory.log(name))
                raise LabError(f"{name} refuses to start: {last} (see `sitectl lab logs {name}`)")

    async def _etcd_is_up(self) -> bool:
        urls = [p.url for p in self._plan.processes if p.kind is Kind.ETCD and p.url is not None]
        answers = await asyncio.gather(*(self._control.get(url + "/health") for url in urls))
        return all(answer is not None and answer.get("health") == "true" for answer in answers)

    async def _a_site_is_open(self) -> bool:
        return any(agent.get("is_open") for agent in (await self._control.agents()).values())

    async def _dispatchers_are_ready(self) -> bool:
        urls = [p.url for p in self._plan.processes if p.kind is Kind.DISPATCHER and p.url is not None]
        return all(await asyncio.gather(*(self._control.is_ready(url) for url in urls)))

    async def _health_daemons_answer(self) -> bool:
        urls = [p.url for p in self._plan.processes if p.kind is Kind.HEALTHCHECK and p.url is not None]
        return all(await asyncio.gather(*(self._control.is_ready(url, "/health") for url in urls)))

    async def _migrate_and_add_account(self) -> None:
        directory = self._plan.directory
        config = str(directory.config(SITES[0]))
        await self._command("migrate", "--config", config)
        self._tell("the schema is in place", time.monotonic() - self._started)
        key_file = directory.key_file
        await self._command(
            *("account", "add", "--config", config, "--account", ACCOUNT, "--program", PROGRAM),
            *("--source", SHORT_CODE, "--on-doubt", "resend", "--key-file", str(key_file)),
        )
        account = {"name": ACCOUNT, "key": key_file.read_text().strip(), "program": PROGRAM}
        render.write_private(directory.accounts_file, orjson.dumps([account]).decode())
        self._tell(f"the account {ACCOUNT!r} has its key", time.monotonic() - self._started)

    async def _command(self, *words: str) -> None:
        """A subcommand of the dispatcher; repeated until the time is over, since production may be moving."""
        while True:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "dispatcher", *words),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                cwd=PROJECT,
                env={k: v for k, v in os.environ.items() if not k.startswith("HOTSITE_")},
            )
            _, said = await child.communicate()
            if child.returncode == 0:
                return
            if child.returncode == BAD_SETTINGS or time.monotonic() > self._deadline:
                words_said = said.decode(errors="replace").strip().splitlines()[-1:] or ["(nothing)"]
                raise LabError(f"`python -m dispatcher {words[0]}` failed: {words_said[0]}")
            await asyncio.sleep(POLL)


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "(its log is empty)"
