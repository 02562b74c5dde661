"""One round of upkeep: what `decide` says, done step by step, each of which may be the last before a crash.

A period leaves like this: archived (nothing in it may be open), noted in the database with the archive's manifest,
detached table by table, counted again now that nobody can change it, dropped. What was detached and turns out to be
another number of rows is archived anew; if something in it is open, it is put back.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from dispatcher.retention import archive, decide
from dispatcher.retention.archive import Manifest
from dispatcher.retention.model import TABLES, Period, Picture, RetentionError, Round
from dispatcher.retention.store import CHANGED_BENEATH, LOCK_NOT_AVAILABLE, RetentionStore
from sitecontrol.settings import Settings
from sitecontrol.settings_retention import RetentionSettings

log = structlog.get_logger()

PERIODS_AT_ONCE = 2  # that one round takes out


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where archives go, and who puts them there."""

    site: str
    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> "Place":
        folder = settings.retention.folder or settings.site.state_dir / "archive"
        return cls(site=settings.site.name, folder=folder, environ=environ)


async def one_round(
    store: RetentionStore, settings: RetentionSettings, place: Place, *, most: int = PERIODS_AT_ONCE
) -> Round:
    """Make partitions, take out up to `most` periods. Raises what keeps everything from being done."""
    picture = await store.picture()
    made, wrong = await _make(store, picture, settings)
    due = decide.to_retire(picture, settings)
    dropped, archives = [], []
    for period in due[:most]:
        try:
            folder = await retire(store, settings, place, period, picture)
        except (RetentionError, OSError) as error:
            wrong.append(str(error))
            log.warning("period_kept", period=period.name, reason=str(error))
        except asyncpg.PostgresError as error:
            if error.sqlstate not in CHANGED_BENEATH | {LOCK_NOT_AVAILABLE}:
                raise
            wrong.append(f"period {period.name} could not be taken out now: {error}")
        else:
            dropped.append(period.name)
            archives += [str(folder)] if folder is not None else []
    return Round(
        made=tuple(made),
        dropped=tuple(dropped),
        archives=tuple(archives),
        problems=(*decide.problems(await store.picture(), settings), *wrong),
        waiting=tuple(period.name for period in due if period.name not in dropped),
    )


async def retire(
    store: RetentionStore, settings: RetentionSettings, place: Place, period: Period, picture: Picture
) -> Path | None:
    """Take a period out, from wherever an earlier round got to; returns the folder of its archive if it made one.

    Raises RetentionError when it must stay.
    """
    noted = next((one for one in picture.retired if one.period == period.name), None)
    folder = None
    if len(period.tables) < len(TABLES):  # an earlier round had verified everything, and dropped the first
        await _drop(store, period)
        return None
    if period.attached or noted is None:
        folder, noted_text = await _archived(store, settings, place, period, picture)
    else:
        noted_text = noted.manifest
    for table in TABLES:
        await store.detach(table, period.name)
    await _put_back_if_open(store, period)
    if settings.archive and not await _counts_agree(store, period, noted_text):
        log.warning("archived_anew", period=period.name, reason="rows came after it was archived")
        folder, noted_text = await _archived(store, settings, place, period, picture)
    await _drop(store, period)
    return folder


async def _drop(store: RetentionStore, period: Period) -> None:
    for table in TABLES:
        await store.drop(table, period.name)
    log.info("period_dropped", period=period.name, until=str(period.until))


async def _make(
    store: RetentionStore, picture: Picture, settings: RetentionSettings
) -> tuple[list[str], list[str]]:
    made: list[str] = []
    for wanted in decide.to_make(picture, settings):
        try:
            if await store.make(wanted):
                made.append(f"{wanted.in_table} from {wanted.since:%Y-%m-%d}")
        except asyncpg.PostgresError as error:
            if error.sqlstate not in CHANGED_BENEATH | {LOCK_NOT_AVAILABLE}:
                raise
            return made, [
                f"A partition of {wanted.in_table} from {wanted.since:%Y-%m-%d} was not made: {error}"
            ]
    if made:
        log.info("partitions_made", made=made)
    return made, []


async def _archived(
    store: RetentionStore, settings: RetentionSettings, place: Place, period: Period, picture: Picture
) -> tuple[Path | None, str | None]:
    """Archive and note it; without an archive only look whether all is final."""
    folder, text = None, None
    if settings.archive:
        folder, manifest = await archive.write(
            place.folder,
            period,
            site=place.site,
            now=picture.now,
            read=lambda table, block, blocks: store.piece(table, period.name, block, blocks),
        )
        if settings.command:
            await run_command(settings, folder, period, place.environ)
        text = manifest.text
        log.info("period_archived", period=period.name, folder=str(folder))
    elif found := await store.open_in(period.name):
        raise RetentionError(_open(period, [str(one) for one in found]))
    await store.note(period, site=place.site, folder=None if folder is None else str(folder), manifest=text)
    return folder, text


async def _put_back_if_open(store: RetentionStore, period: Period) -> None:
    found = await store.open_in(period.name)
    if not found:
        return
    for table in reversed(TABLES):
        await store.reattach(table, period.name)
    raise RetentionError(_open(period, [str(one) for one in found]))


async def _counts_agree(store: RetentionStore, period: Period, manifest: str | None) -> bool:
    if manifest is None:
        return False
    told = Manifest.read(manifest)
    for table in TABLES:
        if await store.detached_rows(table, period.name) != told.rows(table):
            return False
    return True


def _open(period: Period, messages: Sequence[str]) -> str:
    return f"period {period.name} keeps messages that are not final: {', '.join(messages[:3])}"


async def run_command(
    settings: RetentionSettings, folder: Path, period: Period, environ: Mapping[str, str]
) -> None:
    """The operator's program, with the archive's folder as its last argument. Raises RetentionError if it fails.

    Of our own variables it gets none but what it is to do: the others hold secrets.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("HOTSITE_")}
    process = await asyncio.create_subprocess_exec(
        *settings.command,
        str(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        env=kept | {"HOTSITE_ARCHIVE_FOLDER": str(folder), "HOTSITE_ARCHIVE_PERIOD": period.name},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(settings.command_deadline):
            status = await process.wait()
    except TimeoutError:
        raise RetentionError(
            f"{settings.command[0]} did not end within {settings.command_deadline:g} s: period {period.name} stays"
        ) from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status != 0:
        raise RetentionError(f"{settings.command[0]} ended with status {status}: period {period.name} stays")
