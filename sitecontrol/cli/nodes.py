"""`node list / reclone / rejoin / trust / remove`: the PostgreSQL nodes, and what is done with one of them."""

import contextlib
import getpass
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.text import Text

from sitecontrol.cli.acting import answered, dry_run_option
from sitecontrol.cli.agents import Agents, OutcomeUnknown, Unreachable
from sitecontrol.cli.quarantine import quarantine
from sitecontrol.cli.session import Exit, Globals, Problem, leave, typed, with_globals
from sitecontrol.cli.tables import node_lines
from sitecontrol.leadership.slots import slot_of
from sitecontrol.settings import Node

RECLONE_WITHIN = 3_600.0  # seconds; a large node takes its time
REJOIN_WITHIN = 600.0
TRUST_WITHIN = 60.0
REMOVE_WITHIN = 60.0
POLL = 0.2
IDLE_LOOKS = 5  # an agent's picture may be a moment older than what it does

why = click.option("--reason", default="", help="Kept in the audit log.")


@click.group()
def node() -> None:
    """The PostgreSQL nodes."""


node.add_command(quarantine)


@node.command("list")
@with_globals
def node_list(options: Globals) -> None:
    """Every configured node as its own agent tells, reached or not."""
    agents = Agents(options)
    rows = []
    for site, known in agents.nodes:
        answer = agents.get_from(known, "/status")
        told = answer.body if answer else {}
        rows.append({"node": known.name, "site": site, "reached": answer is not None, **told})
    if options.as_json:
        options.emit(rows)
    else:
        options.console.print(node_lines(rows))
    leave(Exit.DONE if all(row["reached"] for row in rows) else Exit.DEGRADED)


@node.command()
@click.argument("name", metavar="NODE")
@why
@dry_run_option
@with_globals
def reclone(options: Globals, *, name: str, reason: str, dry_run: bool) -> None:
    """Throw the data directory of a standby away and take a fresh copy of the leader.

    Refused for the leader, and while NODE may have the only complete copy. The old data goes once the copy is whole.
    """
    act = Act(options, "reclone", name, reason)
    told = act.checked()
    if dry_run:
        act.end_dry_run(told)
    act.confirm(told, f"The data directory of {name} is thrown away. Type the node's name to go on")
    told = act.ask()

    idle = 0  # looks at which nothing was done and the old data was still there

    def phases(seen: "Seen") -> Sequence[str]:
        nonlocal idle
        if seen.incarnation in (None, told["incarnation"]):
            idle = idle + 1 if seen.heard and not seen.working else 0
            if idle > IDLE_LOOKS:
                raise Problem(
                    f"the copy came to nothing, and {name} has its old data: its agent's log says why;"
                    " `sitectl why` has its last decisions",
                    Exit.FAILED,
                )
            return ("cloning",)
        return ("cloning", "cloned", *_on_its_way(seen))

    act.follow(phases, RECLONE_WITHIN, told)


@node.command()
@click.argument("name", metavar="NODE")
@why
@dry_run_option
@with_globals
def rejoin(options: Globals, *, name: str, reason: str, dry_run: bool) -> None:
    """Have NODE try to come back now, by rewind or clone, instead of after the pause that grew with each failure.

    The leader, too, tries at once to bring it into step.
    """
    act = Act(options, "rejoin", name, reason)
    told = act.checked()
    if dry_run:
        act.end_dry_run(told)
    told = act.ask()
    act.follow(lambda seen: ("trying", *_on_its_way(seen)), REJOIN_WITHIN, told)


@node.command()
@click.argument("name", metavar="NODE")
@why
@dry_run_option
@with_globals
def trust(options: Globals, *, name: str, reason: str, dry_run: bool) -> None:
    """NODE holds every acknowledged message, by your word: the cure when nobody leads and `sync` is not believed.

    It takes the lead. Acknowledged messages that only another node has are lost: what is known of that is told before.
    Refused while somebody leads, and while `sync` tells who holds everything.
    """
    act = Act(options, "trust", name, reason)
    told = act.checked()
    if dry_run:
        act.end_dry_run(told)
    act.confirm(told, f"{name} counts as the only node that holds everything. Type the node's name to go on")
    told = act.ask()
    act.follow(
        lambda seen: ("trusted", "leads") if seen.leads else ("trusted",), TRUST_WITHIN, told, last="leads"
    )


@node.command()
@click.argument("name", metavar="NODE")
@why
@dry_run_option
@with_globals
def remove(options: Globals, *, name: str, reason: str, dry_run: bool) -> None:
    """NODE is gone for good: nothing waits for it and no WAL is kept for it any more.

    Refused while its agent lives, and while NODE may have the only complete copy. Take it out of the settings, too.
    When its agent is heard again, it counts again.
    """
    act = Act(options, "remove", name, reason, own=False)
    told = act.checked()
    if dry_run:
        act.end_dry_run(told)
    act.confirm(told, f"{name} counts as gone for good. Type the node's name to go on")
    told = act.ask()

    def phases(seen: "Seen") -> Sequence[str]:
        if name not in seen.retired:
            return ()
        if seen.in_step:
            return ("noted",)
        return ("noted", "out of step") if seen.has_slot else ("noted", "out of step", "slot dropped")

    act.follow(phases, REMOVE_WITHIN, told, last="slot dropped")


class Seen:
    """What the agents tell at one moment of the node in question."""

    def __init__(self, agents: Agents, known: Node) -> None:
        answer = agents.get_from(known, "/status")
        status = answer.body if answer else {}
        postgres = status.get("postgres", {})
        cluster = agents.get("/cluster")
        leader = next((n for _, n in agents.nodes if n.name == cluster.get("leader")), None)
        at_leader = agents.get_from(leader, "/status") if leader else None
        slots = at_leader.body.get("postgres", {}).get("slots", []) if at_leader else [slot_of(known.name)]
        self.heard = answer is not None
        self.working = status.get("work")
        self.incarnation = postgres.get("incarnation")
        self.streams = bool(postgres.get("streaming"))
        self.leads = cluster.get("leader") == known.name
        self.in_step = any(s["node"] == known.name for s in cluster.get("sync", []))
        self.has_slot = slot_of(known.name) in slots
        self.retired = cluster.get("retired", [])


def _on_its_way(seen: Seen) -> tuple[str, ...]:
    if not seen.streams:
        return ()
    return ("following", "in step") if seen.in_step else ("following",)


class Act:
    """One act on one node: checked, confirmed, asked for, followed."""

    def __init__(
        self,
        options: Globals,
        verb: str,
        name: str,
        reason: str,
        *,
        own: bool = True,
        path: str | None = None,
    ) -> None:
        self._options = options
        self._agents = Agents(options)
        known = next((n for _, n in self._agents.nodes if n.name == name), None)
        if known is None:
            names = ", ".join(n.name for _, n in self._agents.nodes)
            raise Problem(f"{name}: no such node; there are: {names}", Exit.USAGE)
        self._known = known
        self._verb = verb
        self._path = path or f"/node/{verb}"
        self._only = name if own else None
        self._body = {"node": name, "reason": reason, "by": getpass.getuser()}
        self._began = time.monotonic()

    def checked(self) -> dict[str, Any]:
        """The dry run, by the agent's own checks."""
        answer = self._agents.post(
            self._path, {**self._body, "dry_run": True}, changes=False, only=self._only
        )
        return answered(self._options, answer)

    def end_dry_run(self, told: dict[str, Any]) -> None:
        if self._options.as_json:
            self._options.emit(told)
        else:
            self._print(f"Nothing stands in the way of it: {self._verb} {self._known.name}.")
            self._tell_consequences(told)
        leave(Exit.DONE)

    @property
    def cluster(self) -> str:
        """The cluster's name, by our settings."""
        return self._agents.settings.site.cluster

    def confirm(self, told: dict[str, Any], *questions: str, expected: Sequence[str] = ()) -> None:
        """Each question is answered by the text that it asks for, in turn; the node's name if none is given."""
        if self._options.yes:
            return
        if not self._options.as_json:
            self._tell_consequences(told)
        for question, text in zip(questions, expected or (self._known.name,), strict=True):
            if not typed(question, text):
                raise Problem(
                    "not confirmed; nothing was changed (--yes goes on without asking)", Exit.REFUSED
                )

    def ask(self, **more: Any) -> dict[str, Any]:
        body = {**self._body, **more}
        try:
            return answered(self._options, self._agents.post(self._path, body, only=self._only))
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                f"{error.message}; `sitectl audit` tells whether it was asked for; asking again is safe"
            ) from error

    def follow(
        self,
        phases: Callable[[Seen], Sequence[str]],
        within: float,
        told: dict[str, Any],
        *,
        last: str = "in step",
    ) -> None:
        """Show each phase as it is reached, until the last. Silence is no end."""
        shown: dict[str, float] = {}
        deadline = time.monotonic() + (self._options.timeout or within)
        while last not in shown and time.monotonic() < deadline:
            with contextlib.suppress(Unreachable):
                for phase in phases(Seen(self._agents, self._known)):
                    self._note(shown, phase)
            time.sleep(POLL)
        if self._options.as_json:
            reached = [{"phase": phase, "after_s": after} for phase, after in shown.items()]
            self._options.emit({**told, "phases": reached, "done": last in shown})
        if last not in shown:
            raise Problem(
                f"it goes on, and its end was not seen; `sitectl node list` tells how far {self._known.name} is",
                Exit.TIMED_OUT,
            )

    def _note(self, shown: dict[str, float], phase: str) -> None:
        if phase not in shown:
            shown[phase] = round(time.monotonic() - self._began, 1)
            if not self._options.as_json:
                self._print(f"  {phase} ({shown[phase]:g} s)")

    def _tell_consequences(self, told: dict[str, Any]) -> None:
        for sentence in told["consequences"]:
            self._print(f"- {sentence}")

    def _print(self, line: str) -> None:
        self._options.console.print(Text(line))
