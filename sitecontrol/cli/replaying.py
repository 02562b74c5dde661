"""Offers set-aside messages to the dispatchers again, as anybody offers a message: by `POST /v1/messages`.

Each keeps its reference, so that this may be repeated as often as one likes: what is there already is answered as a
duplicate. A dispatcher that gives no answer is no reason to stop, for the next one may be asked the very same.
"""

import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from sitecontrol.cli.agents import Answer, NoAnswer, NotAsked, request


class Verdict(StrEnum):
    """What became of a message."""

    THERE = "already there"  # the leader knows its reference
    ACCEPTED = "accepted"
    WOULD_BE_SENT = "would be sent"  # of a dry run
    REFUSED = "refused"
    WITHHELD = "withheld"  # it must not be sent again
    OTHER_ACCOUNT = "another account's"  # its key is another one
    NO_ANSWER = "no answer"  # it may have been accepted: ask again


DEALT_WITH = frozenset({Verdict.THERE, Verdict.ACCEPTED, Verdict.WITHHELD})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    reference: str
    to: str
    verdict: Verdict
    detail: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def messages_of(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that could be sent again, and those that are withheld."""
    return [row for row in rows if "withheld" in row]


def accounts_of(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({row["account"] for row in messages if row["account"] is not None})


@dataclass(frozen=True, kw_only=True)
class Replay:
    """`urls`: the dispatchers, the nearest first. `key` opens the account `account`."""

    urls: Sequence[str]
    key: str
    account: str
    timeout: float
    tls: ssl.SSLContext

    def outcomes(self, messages: Iterable[Mapping[str, Any]], *, dry_run: bool) -> Iterator[Outcome]:
        for row in messages:
            asked = row.get("request", {})
            verdict, detail = self._kept_back(row) or self._offer(asked, dry_run=dry_run)
            named = asked.get("reference") or row["row"].get("message_id", "")
            yield Outcome(reference=named, to=row["row"].get("recipient", ""), verdict=verdict, detail=detail)

    def _kept_back(self, row: Mapping[str, Any]) -> tuple[Verdict, str] | None:
        if row["withheld"] is not None:
            return Verdict.WITHHELD, str(row["withheld"])
        if row["account"] != self.account:
            return Verdict.OTHER_ACCOUNT, str(row["account"])
        return None

    def _offer(self, asked: Mapping[str, Any], *, dry_run: bool) -> tuple[Verdict, str]:
        if dry_run:
            answer = self._ask("?" + urlencode({"reference": asked["reference"], "limit": 1}), None)
        else:
            answer = self._ask("", asked)
        if answer is None:
            return Verdict.NO_ANSWER, "no dispatcher answers"
        return looked_up(answer) if dry_run else sent(answer)

    def _ask(self, query: str, body: Mapping[str, Any] | None) -> Answer | None:
        """The first answer that is not about the dispatcher itself; None when there is none."""
        last: Answer | None = None
        for url in self.urls:
            try:
                last = request(
                    f"{url.rstrip('/')}/v1/messages{query}",
                    body=body,
                    token=self.key,
                    timeout=self.timeout,
                    tls=self.tls,
                )
            except (NotAsked, NoAnswer):
                continue
            if last.status < 500:
                return last
        return last


def looked_up(answer: Answer) -> tuple[Verdict, str]:
    """From the answer to a look for its reference."""
    if answer.status != 200:
        return _not_taken(answer)
    found = answer.body.get("messages", [])
    return (Verdict.THERE, str(found[0]["id"])) if found else (Verdict.WOULD_BE_SENT, "")


def sent(answer: Answer) -> tuple[Verdict, str]:
    if answer.status in (200, 202):
        there = answer.body.get("duplicate", False)
        return (Verdict.THERE if there else Verdict.ACCEPTED), str(answer.body["id"])
    return _not_taken(answer)


def _not_taken(answer: Answer) -> tuple[Verdict, str]:
    errors = [f"{e.get('field')} {e.get('message')}" for e in answer.body.get("errors") or ()]
    said = "; ".join(errors) or str(answer.body.get("detail") or "")
    reason = f"{answer.status} {answer.body.get('title', '')}{f': {said}' if said else ''}"
    return (Verdict.NO_ANSWER if answer.status >= 500 or answer.status == 429 else Verdict.REFUSED), reason
