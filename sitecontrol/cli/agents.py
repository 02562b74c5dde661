"""Asking the agents: HTTP to every node's agent that the settings name, the preferred site's first.

Whose certificates are trusted outside a lab is said by `security.ca_file` of the same settings.
"""

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """The settings file that was named, else the lab's."""
    path: Path
    if options.config is not None:
        path = options.config
    else:
        path = LabDir.at(options.lab).config(OPERATOR_PLACE)
        if not path.exists():
            raise Problem(
                f"no lab in {options.lab} and no --config: start one with `sitectl lab up`, or name a site's"
                " settings with --config FILE",
                Exit.UNREACHABLE,
            )
    try:
        return load(path)
    except SettingsError as error:
        raise Problem(str(error), Exit.USAGE) from error


def _request(url: str, *, body: Any, token: str | None, timeout: float, tls: ssl.SSLContext) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method="GET" if data is None else "POST")  # noqa: S310 # http(s) by the settings' rule
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=tls) as response:  # noqa: S310 # as above
            return Answer(status=response.status, body=json.load(response))
    except urllib.error.HTTPError as error:
        return Answer(status=error.code, body=json.load(error))


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
        """One agent's answer, or None when it cannot be reached."""
        try:
            return self._ask(node, path)
        except (OSError, ValueError):
            return None

    def _ask(self, node: Node, path: str, *, body: Any = None, token: str | None = None) -> Answer:
        url = node.agent.rstrip("/") + path
        try:
            return _request(url, body=body, token=token, timeout=self._timeout, tls=self._tls)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                self._distrusted = (
                    f"the certificate of {node.agent} is refused: {error.reason.verify_message}"
                )
            raise

    def get(self, path: str) -> dict[str, Any]:
        """The first answer of any agent, one that reaches etcd before one that does not."""
        fallback: dict[str, Any] | None = None
        for _, node in self.nodes:
            answer = self.get_from(node, path)
            if answer is not None and answer.status == 200:
                if answer.body.get("etcd_reached", True):
                    return answer.body
                fallback = fallback or answer.body
        if fallback is not None:
            return fallback
        raise self._unreachable()

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        """Ask the first agent that answers to act. An answer of any status ends the search."""
        secrets = Secrets.of(self.settings)
        try:
            token = secrets.get("operator-token")
        except SettingsError as error:
            raise Problem(str(error), Exit.USAGE) from error
        for _, node in self.nodes:
            try:
                return self._ask(node, path, body=body, token=token)
            except (OSError, ValueError):
                continue
        raise self._unreachable()

    def _unreachable(self) -> Problem:
        if self._distrusted is not None:
            return Problem(
                f"{self._distrusted}; name the authority that signed it with security.ca_file in the settings",
                Exit.UNREACHABLE,
            )
        asked = ", ".join(node.agent for _, node in self.nodes)
        return Problem(
            f"no agent answers (asked {asked}): is the system running? `sitectl lab status` tells for a lab",
            Exit.UNREACHABLE,
        )
