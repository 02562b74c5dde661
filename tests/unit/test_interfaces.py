"""docs/interfaces.md names what the code has: paths, keys of JSON and of etcd, exit codes, commands."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client import CollectorRegistry

from dispatcher.http.routes import CALLS
from dispatcher.http.schemas import (
    AcceptedAnswer,
    FieldProblem,
    LineAnswer,
    LineProblem,
    ProblemAnswer,
)
from healthcheck.noc.panels import PANELS
from sitecontrol import records
from sitecontrol.agent.api import AgentApi
from sitecontrol.agent.state import AgentState
from sitecontrol.cli.root import sitectl
from sitecontrol.cli.session import Exit
from sitecontrol.leadership import audit
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.remembered import remember
from sitecontrol.leadership.table import Lane
from tests.unit.leadership_facts import at_columbus
from tests.unit.test_json_shapes import DRILL_KEYS, SERIES_KEYS, STATUS_KEYS

PAGE = (Path(__file__).parents[2] / "docs" / "interfaces.md").read_text()
NAMED = set(re.findall(r"`([^`]+)`", PAGE))
# The words in braces: `{"to", "reason"}` names both.
WORDS = NAMED | set(re.findall(r'"(\w+)"', PAGE))

STORED = {
    "initialize": records.Initialize, "leader": records.Leader, "term": records.Term, "sync": records.Sync,
    "reached": records.Reached,
    "members/<node>": records.Member, "dispatchers/<name>": records.DispatcherRecord,
    "observations/<place>": records.Observation, "swap": records.Swap, "desired": records.Desired,
    "history/<term>": records.HistoryEntry, "audit/<number>": records.AuditEntry, "audit-head": records.AuditHead,
}  # fmt: skip


def state() -> AgentState:
    return AgentState(prefix="/hotsite/test/", facts=at_columbus(), version="1")


def routes_of_the_agent() -> set[tuple[str, str]]:
    unused: Any = None
    app = AgentApi(state(), unused, "token", CollectorRegistry()).app()
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }


def test_every_path_of_an_agent_is_named() -> None:
    for method, path in routes_of_the_agent():
        assert path in WORDS or f"{method} {path}" in WORDS, path


def test_every_call_of_a_dispatcher_is_named() -> None:
    for call in CALLS:
        assert f"{call.method} {call.path}" in WORDS
    assert set(AcceptedAnswer.model_fields) <= WORDS


def paragraph(beginning: str) -> str:
    found = re.search(rf"^{re.escape(beginning)}(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def names(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_an_accepted_message_has_the_fields_that_are_named() -> None:
    assert names(paragraph("An accepted message:")) == set(AcceptedAnswer.model_fields)


def test_a_result_line_of_bulk_has_the_fields_that_are_named_and_lacks_those_named_as_lacking() -> None:
    has, lacks = paragraph("A result line of bulk:").split("It does not say")
    assert names(has) == set(LineAnswer.model_fields)
    assert names(lacks.split(":")[0]) == set(AcceptedAnswer.model_fields) - set(LineAnswer.model_fields)


def test_a_problem_has_the_fields_that_are_named() -> None:
    told = names(paragraph("A problem is `application/problem+json` (RFC 9457): `type`"))
    told.add("type")
    assert told == set(ProblemAnswer.model_fields) | set(FieldProblem.model_fields)
    assert set(ProblemAnswer.model_fields) - set(LineProblem.model_fields) == {"instance"}


def test_every_panel_is_named() -> None:
    assert set(PANELS) <= WORDS


def test_an_agents_documents_have_exactly_the_keys_that_are_named() -> None:
    documents = {
        "/cluster": state().cluster(),
        "/status": state().status(),
        "/why": state().why(),
        "/audit": audit.document((), "/hotsite/test/"),
    }
    for path, told in documents.items():
        paragraph = re.search(rf"^`GET {path}`: (.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
        assert paragraph is not None
        text = re.sub(r"\([^)]*\)", "", paragraph[1])  # what is within is told in brackets
        assert set(re.findall(r"`(\w+)`", text)) == set(told)


def test_what_is_told_of_a_loss_and_of_a_decision_has_the_keys_that_are_named() -> None:
    told = state()
    facts = told.facts
    told.past[Lane.POSTGRES] = remember((), decide(Lane.POSTGRES, facts), facts, started=False)
    document = told.why()
    loss = document["site_lost"]
    assert set(loss) | set(loss["nodes"][0]) | set(loss["steps"][0]) == names(paragraph("A loss:"))
    (decision,) = document["decisions"]
    assert set(decision) | {"decisions"} == names(paragraph("A decision of"))


@pytest.mark.parametrize(("key", "record"), STORED.items())
def test_every_key_in_etcd_is_named_with_all_its_fields(key: str, record: type[records.Record]) -> None:
    row = re.search(rf"^\| `{re.escape(key)}` \|[^|]*\|(.*)\|$", PAGE, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[1])) == set(record.model_fields)


def test_phases_and_kinds_are_named() -> None:
    assert {phase.value for phase in records.Phase} <= WORDS
    kinds = records.HistoryEntry.model_fields["kind"].annotation.__args__
    assert set(kinds) <= WORDS
    assert {deed.value for deed in records.Deed} <= WORDS


def test_every_exit_code_is_named() -> None:
    for code in Exit:
        assert re.search(rf"^\| {code.value} \| \w", PAGE, re.MULTILINE), code
    assert re.search(rf"^\| {max(Exit) + 1} \|", PAGE, re.MULTILINE) is None


def commands(group: click.Group, before: str) -> set[str]:
    found = set()
    for name, command in group.commands.items():
        words = f"{before} {name}"
        found |= commands(command, words) if isinstance(command, click.Group) else {words}
    return found


def test_the_commands_that_are_named_are_those_there_are() -> None:
    named = {word for word in NAMED if re.fullmatch(r"sitectl [a-z ]+", word)}
    assert named == commands(sitectl, "sitectl")


def test_the_keys_of_a_lab_and_of_a_drill_are_named() -> None:
    assert DRILL_KEYS <= WORDS
    assert SERIES_KEYS <= WORDS
    assert STATUS_KEYS <= WORDS
