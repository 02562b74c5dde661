"""Creates an account with a program and a key: what a lab and an operator begin with.

A key is `hs_` and 32 random bytes. It is shown once, or written to a file that only its owner can read; the
database has its SHA-256 (a random key needs no slow hash) and a few characters by which people know it.
"""

import hashlib
import os
import secrets as random
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from dispatcher.migrate import KNOWN_WITHIN_S, at_leader
from dispatcher.model import MessageClass, OnDoubt
from dispatcher.sql import queries
from dispatcher.store import DispatcherError
from replication.session import Session
from sitecontrol.settings import Secrets, Settings

SHOWN = 10  # characters of a key by which people know it


class KeyFileError(DispatcherError):
    """The key file cannot be used."""


class RevokedKeyError(DispatcherError):
    """The key was revoked, and opens nothing any more."""


@dataclass(frozen=True, kw_only=True)
class NewAccount:
    """What was created, or found. `key` is the only copy of it."""

    account: str
    account_id: int
    program: str
    program_id: int
    source: str
    key: str
    key_id: int

    def as_json(self) -> dict[str, str | int]:
        return asdict(self)


def new_key() -> str:
    return f"hs_{random.token_urlsafe(32)}"


def key_hash(key: str) -> bytes:
    """By which a key is stored and looked up."""
    return hashlib.sha256(key.encode()).digest()


async def add_account(
    session: Session,
    *,
    name: str,
    program: str,
    source: str,
    on_doubt: OnDoubt = OnDoubt.HOLD,
    message_class: MessageClass = MessageClass.SERVICE,
    key: str | None = None,
    expires_at: datetime | None = None,
) -> NewAccount:
    """Create what is not there yet; a session of `hotsite_migrate` at the leader. Safe to repeat with one key.

    `expires_at`: until when the key opens; None leaves a known key as it is, and a new one without an end.
    """
    key = new_key() if key is None else key
    known = await session.read(queries()["keys_named"], None, key_hash(key), None, timeout=KNOWN_WITHIN_S)
    if any(row["revoked_at"] is not None for row in known):
        raise RevokedKeyError(f"the key {key[:SHOWN]}… was revoked; remove its file, and a new key is made")
    if expires_at is not None:
        await session.commit(
            queries()["add_ending_key"], name, key[:SHOWN], key_hash(key), expires_at, timeout=KNOWN_WITHIN_S
        )
    [row] = await session.commit(
        queries()["add_account"],
        name,
        program,
        source,
        on_doubt,
        message_class,
        key[:SHOWN],
        key_hash(key),
        timeout=KNOWN_WITHIN_S,
    )
    return NewAccount(
        account=name,
        account_id=row["account_id"],
        program=program,
        program_id=row["program_id"],
        source=source,
        key=key,
        key_id=row["api_key_id"],
    )


async def add_account_by_settings(
    settings: Settings,
    secrets: Secrets,
    *,
    name: str,
    program: str,
    source: str,
    on_doubt: OnDoubt = OnDoubt.HOLD,
    message_class: MessageClass = MessageClass.SERVICE,
    key_file: Path | None = None,
    expires_at: datetime | None = None,
) -> NewAccount:
    """The command `account add`: at whichever node leads. The key in `key_file` is used, or put there first."""
    key = key_in(key_file) if key_file is not None else None
    async with at_leader(settings, secrets) as session:
        return await add_account(
            session,
            name=name,
            program=program,
            source=source,
            on_doubt=on_doubt,
            message_class=message_class,
            key=key,
            expires_at=expires_at,
        )


def key_in(path: Path) -> str:
    """The key in the file; a new one is written there (mode 600) when there is no file.

    Before it is stored in the database: a run that is cut off between the two is simply repeated.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            key = new_key()
            file.write(f"{key}\n")
            return key
    except FileExistsError:
        key = path.read_text().strip()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
    if not key.startswith("hs_"):
        raise KeyFileError(f"{path} holds no key; remove it, and a new key is written there")
    return key
