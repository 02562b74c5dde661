"""Asking the agents: HTTP to every node's agent that the settings name, the preferred site's first.

Whose certificates are trusted outside a lab is said by `security.ca_file` of the same settings.

Looking may be repeated anywhere. An act may not: an agent that heard it and gave no answer may yet carry it out, so
another one is asked only when no connection came about, and nothing can have been heard.
"""

import json
import ssl
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from sitecontrol.cli.session import Exit, Globals, Problem
from sitecontrol.lab.layout import LabDir
from sitecontrol.settings import Node, Secrets, Settings, SettingsError, load
from sitecontrol.tls import client_context

DEFAULT_TIMEOUT = 5.0
OPERATOR_PLACE = "columbus"  # in a lab, the operator looks from there


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: dict[str, Any]


def settings_of(options: Globals) -> Settings:
    """The settings file that was named, else those of the lab: a folder with a lab's own mark."""
    path = options.config
    if path is None:
        lab = LabDir.at(options.lab)
        path = lab.config(OPERATOR_PLACE)
        # Settings alone make no lab: the repository has some that are a production site's.
        if not lab.exists or not path.exists():
            raise Problem(
                f"no lab in {options.lab}: `sitectl lab up` makes one; outside of labs, name a site's settings with"
                " --config FILE",
                Exit.UNREACHABLE,
            )
    try:
        return load(path)
    except SettingsError as error:
        raise Problem(str(error), Exit.USAGE) from error


class NotAsked(Exception):
    """No connection came about: the agent heard nothing."""


class NoAnswer(Exception):
    """The agent was asked, or may have been, and gave no answer that can be read."""


class Unreachable(Problem):
    """No agent answers, and none was asked for a change."""


class OutcomeUnknown(Problem):
    """An agent may be carrying out what it was asked for."""

    def __init__(self, told: str) -> None:
        super().__init__(told, Exit.TIMED_OUT)


def request(url: str, *, body: Any, token: str | None, timeout: float, tls: ssl.SSLContext) -> Answer:
    """Ask once, by GET, or by POST when there is a body. Raises NotAsked or NoAnswer.

    `timeout` is for each step: the connection, then every wait for bytes.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection = (
        HTTPSConnection(host, parts.port, timeout=timeout, context=tls)
        if parts.scheme == "https"
        else HTTPConnection(host, parts.port, timeout=timeout)
    )
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with closing(connection):
        try:
            connection.connect()
        except (OSError, ValueError) as error:  # the latter: a name that none can have
            raise NotAsked(str(error)) from error
        try:
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                headers["Content-Type"] = "application/json"
                connection.request("POST", path, json.dumps(body), headers)
            with connection.getresponse() as answer:
                return Answer(status=answer.status, body=dict(json.load(answer)))
        except (OSError, HTTPException, ValueError, TypeError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error


class Agents:
    def __init__(self, options: Globals) -> None:
        self.settings = settings_of(options)
        self._timeout = options.timeout or DEFAULT_TIMEOUT
        self._distrusted: str | None = None  # an agent whose certificate was not accepted
        try:
            self._tls = client_context(self.settings.security)
        except SettingsError as error:
            raise Problem(str(error), Exit.USAGE) from error

    @property
    def nodes(self) -> list[tuple[str, Node]]:
        """(site, node), the preferred site's first."""
        places = sorted(self.settings.place, key=lambda place: not place.preferred)
        return [(place.name, node) for place in places for node in place.nodes]

    def get_from(self, node: Node, path: str) -> Answer | None:
        """One agent's answer, or None when there is none."""
        try:
            return self._ask(node, path)
        except (NotAsked, NoAnswer):
            return None

    def _ask(self, node: Node, path: str, *, body: Any = None, token: str | None = None) -> Answer:
        url = node.agent.rstrip("/") + path
        try:
            return request(url, body=body, token=token, timeout=self._timeout, tls=self._tls)
        except NotAsked as error:
            refused = error.__cause__
            if isinstance(refused, ssl.SSLCertVerificationError):
                self._distrusted = f"the certificate of {node.agent} is refused: {refused.verify_message}"
            raise

    def get(self, path: str, *, first: str | None = None) -> dict[str, Any]:
        """The first answer of any agent, one that reaches etcd before one that does not; those of the site `first` are
        asked before the others. Raises Unreachable.
        """
        fallback: dict[str, Any] | None = None
        for _, node in sorted(self.nodes, key=lambda known: known[0] != first):
            answer = self.get_from(node, path)
            if answer is not None and answer.status == 200:
                if answer.body.get("etcd_reached", True):
                    return answer.body
                fallback = fallback or answer.body
        if fallback is not None:
            return fallback
        raise self._unreachable()

    def post(
        self, path: str, body: dict[str, Any], *, changes: bool = True, only: str | None = None
    ) -> Answer:
        """Ask the first agent that can be reached to act; `only`: that of this node. What `changes` nothing is asked
        of the next one, too, when no answer comes. Raises Unreachable, or OutcomeUnknown when it may be carried out.
        """
        secrets = Secrets.of(self.settings)
        try:
            token = secrets.get("operator-token")
        except SettingsError as error:
            raise Problem(str(error), Exit.USAGE) from error
        asked = [node for _, node in self.nodes if only in (None, node.name)]
        unsure = ""
        for node in asked:
            try:
                answer = self._ask(node, path, body=body, token=token)
            except NotAsked:
                continue
            except NoAnswer as error:
                if changes:
                    told = f"the agent of {node.name} was asked and gave no answer ({error})"
                    raise OutcomeUnknown(told) from error
                continue
            if answer.status < 500:
                return answer
            if changes:
                told = f"the agent of {node.name} does not know the outcome ({answer.body.get('detail')})"
                raise OutcomeUnknown(told)
            unsure = f"the agent of {node.name} cannot check it: {answer.body.get('detail')}"
        if unsure:
            raise Unreachable(unsure, Exit.UNREACHABLE)
        raise self._unreachable(asked)

    def _unreachable(self, nodes: Sequence[Node] | None = None) -> Unreachable:
        if self._distrusted is not None:
            return Unreachable(
                f"{self._distrusted}; name the authority that signed it with security.ca_file in the settings",
                Exit.UNREACHABLE,
            )
        asked = ", ".join(node.agent for node in nodes or [node for _, node in self.nodes])
        return Unreachable(
            f"no agent answers (asked {asked}): is the system running? `sitectl lab status` tells for a lab",
            Exit.UNREACHABLE,
        )
