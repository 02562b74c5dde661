"""The keys there are: told, revoked, and until when a new one opens. An operator's side of `accounts`.

A key is named by its number or by the characters that people know it by, as `account list` shows them; the whole
key names itself, too. A dispatcher that reads its keys anew every two seconds refuses a revoked one within that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dispatcher.accounts import SHOWN, key_hash
from dispatcher.migrate import KNOWN_WITHIN_S, at_leader
from dispatcher.sql import queries
from dispatcher.store import DispatcherError
from replication.session import Session
from sitecontrol.settings import Secrets, Settings

_SPAN = re.compile(r"(?P<amount>[1-9][0-9]{0,4})(?P<unit>[dh])")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1)}
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class NoSuchKeyError(DispatcherError):
    """No key goes by that name, or more than one does."""


@dataclass(frozen=True, kw_only=True)
class KnownKey:
    """What is known of a key; of the key itself only `prefix`. Times are UTC."""

    key_id: int
    account: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    usable: bool  # now: neither revoked nor past its time

    def as_json(self) -> dict[str, str | int | bool | None]:
        def told(moment: datetime | None) -> str | None:
            return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")

        return {
            "key_id": self.key_id,
            "account": self.account,
            "prefix": self.prefix,
            "created_at": told(self.created_at),
            "expires_at": told(self.expires_at),
            "revoked_at": told(self.revoked_at),
            "usable": self.usable,
        }


def expiry(text: str, now: datetime) -> datetime:
    """`90d`, `12h`, or a time of ISO 8601 with its offset. Raises ValueError that says what would do."""
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now + int(span["amount"]) * _UNITS[span["unit"]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            f"{text!r} must be days or hours from now, or a time with its offset; "
            "for example: 90d, 12h, 2027-01-31T18:00:00Z"
        )
    if moment <= now:
        raise ValueError(f"{text!r} is past: such a key would never open anything")
    return moment


async def list_keys(session: Session, account: str | None = None) -> list[KnownKey]:
    """All keys, or those of one account, in the order in which they were made; revoked ones, too."""
    rows = await session.read(queries()["known_keys"], account, timeout=KNOWN_WITHIN_S)
    return [KnownKey(**row) for row in rows]


async def revoke_key(session: Session, named: str) -> KnownKey:
    """Revoke the key, known to be so everywhere. One that was revoked before keeps its time. Raises NoSuchKeyError."""
    found = await _named(session, named)
    await session.commit(queries()["revoke_key"], found.key_id, timeout=KNOWN_WITHIN_S)
    return await _named(session, str(found.key_id))


async def _named(session: Session, named: str) -> KnownKey:
    number = int(named) if _NUMBER.fullmatch(named) else None
    whole = key_hash(named) if len(named) > SHOWN else None
    rows = await session.read(queries()["keys_named"], number, whole, named, timeout=KNOWN_WITHIN_S)
    found = [KnownKey(**row) for row in rows]
    shown = named[:SHOWN] + ("…" if len(named) > SHOWN else "")  # a whole key belongs into no log
    if not found:
        raise NoSuchKeyError(f"no key is called {shown}; `account list` shows them all")
    if len(found) > 1:
        numbers = ", ".join(str(key.key_id) for key in found)
        raise NoSuchKeyError(f"more than one key begins with {shown}; name it by its number: {numbers}")
    return found[0]


async def list_keys_by_settings(
    settings: Settings, secrets: Secrets, *, account: str | None
) -> Sequence[KnownKey]:
    """The command `account list`: at whichever node leads."""
    async with at_leader(settings, secrets) as session:
        return await list_keys(session, account)


async def revoke_key_by_settings(settings: Settings, secrets: Secrets, *, named: str) -> KnownKey:
    """The command `account revoke`."""
    async with at_leader(settings, secrets) as session:
        return await revoke_key(session, named)
