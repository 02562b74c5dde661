"""A period as files: `<folder>/<period>-<8 hex>/`, a file for each table and `manifest.json`.

Each file is JSON, a row a line, compressed with gzip; the columns are the table's. The manifest tells for each file how
many rows and bytes it has and its SHA-256 (of the compressed bytes, as `sha256sum` tells it). It is written last, in a
folder that gets its name when everything in it is on disk: a folder with that name is whole.

The table is read page by page, in pieces of a few megabytes, so that neither side holds more than one in memory.
"""

import asyncio
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

from dispatcher.retention.model import TABLES, Period, RetentionError
from dispatcher.retention.store import Piece
from replication.directory import sync_folder

FORMAT = 1
MANIFEST = "manifest.json"
BLOCKS_AT_ONCE = 256  # 2 MB of a table
CHUNK = 1 << 20

Read = Callable[[str, int, int], Awaitable[Piece]]  # of a table: from which page on, and how many


@dataclass(frozen=True, kw_only=True)
class Manifest:
    period: str
    since: str | None
    until: str
    made_at: str
    site: str
    files: dict[str, dict[str, Any]]  # by table: file, rows, bytes, sha256

    @property
    def text(self) -> str:
        return json.dumps({"format": FORMAT, **self.__dict__}, indent=1)

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises ValueError when it is none, or of a later version."""
        told = json.loads(text)
        if not isinstance(told, dict) or told.pop("format", None) != FORMAT:
            raise ValueError("it is no manifest of an archive that this version knows")
        try:
            return cls(**told)
        except TypeError as error:
            raise ValueError(f"it is no manifest of an archive: {error}") from None

    def rows(self, table: str) -> int:
        return int(self.files[table]["rows"])


async def write(
    folder: Path, period: Period, *, site: str, now: datetime, read: Read
) -> tuple[Path, Manifest]:
    """The archive's own folder in `folder`, and its manifest. Raises RetentionError when something is not final.

    What an earlier try left half written is removed.
    """
    partial = folder / f".{period.name}.partial"
    await asyncio.to_thread(_begin, partial)
    files = {}
    for table in TABLES:
        files[table] = await _one_table(partial / f"{table}.jsonl.gz", table, period, read)
    manifest = Manifest(
        period=period.name,
        since=_told(period.since),
        until=period.until.astimezone(UTC).isoformat(),
        made_at=now.astimezone(UTC).isoformat(timespec="seconds"),
        site=site,
        files=files,
    )
    whole = folder / f"{period.name}-{token_hex(4)}"
    await asyncio.to_thread(_finish, partial, whole, manifest.text)
    return whole, manifest


def faults(folder: Path) -> list[str]:
    """What is wrong with an archive, in sentences: a file that is missing or changed, a manifest that is none."""
    try:
        manifest = Manifest.read((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"{folder / MANIFEST}: {error}"]
    found = []
    for told in manifest.files.values():
        path = folder / told["file"]
        try:
            digest, _ = _digest(path)
        except OSError as error:
            found.append(f"{path}: {error.strerror}")
            continue
        if digest != told["sha256"]:
            found.append(f"{path} is not what was written: its SHA-256 is {digest}, not {told['sha256']}")
    return found


async def _one_table(path: Path, table: str, period: Period, read: Read) -> dict[str, Any]:
    rows, block = 0, 0
    with os.fdopen(_new(path), "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        while True:
            piece = await read(table, block, BLOCKS_AT_ONCE)
            if piece.open:
                raise RetentionError(
                    f"period {period.name} keeps messages that are not final: "
                    + ", ".join(map(str, piece.open[:3]))
                )
            await asyncio.to_thread(packed.write, piece.lines.encode())
            rows += piece.rows
            block += BLOCKS_AT_ONCE
            if block >= piece.blocks:
                break
    digest, size = await asyncio.to_thread(_digest, path)
    return {"file": path.name, "rows": rows, "bytes": size, "sha256": digest}


def _new(path: Path) -> int:
    """A file of ours alone, that was not there before."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _begin(partial: Path) -> None:
    partial.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)


def _finish(partial: Path, whole: Path, manifest: str) -> None:
    """Everything on disk before the name, and the name before the return."""
    with os.fdopen(_new(partial / MANIFEST), "w", encoding="utf-8") as file:
        file.write(manifest + "\n")
    for path in partial.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_folder(partial)
    partial.rename(whole)
    sync_folder(whole.parent)


def _digest(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file, and its bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _told(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()
