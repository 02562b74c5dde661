"""What this life of a dispatcher wrote to carriers and learned of it, in files that outlive the process.

When a process dies, its claims stay open at the leader. Without a journal all of them would be in doubt; with it, only
what was written and not answered is: what is not in the journal was never written, and goes back to the queue; what
was answered is settled by that answer.

Rules:

* A segment stands in the journal before its first octet goes to a socket. A line that is cut off was written by a
  process that died in it: its segment was not sent.
* The files are not flushed: they survive the process, and not the machine. "Never written" is therefore believed only
  in the boot of the machine in which they were made (`Remains.same_boot`); what they do tell is true in any.
* A life has files of its own and holds a lock on the first of them, which names no segment, for as long as it
  lives: so what can be locked belongs to the dead. A life that cannot write any more removes its files, for a journal
  with holes would lie, and goes on without one; if it cannot do that either, it writes to no carrier. It tries again
  and again (`heal`): once its old files are gone and new ones can be written, it begins anew, beyond every claim that
  it had in hand by then. Of those nothing is proved, whether they were written or not.
* A file that has nothing open any more is removed once all before it are, so that no line outlives a later one about
  the same segment. So a journal stays as small as what is under way. What it named was stored; but a leader by a
  person's word may lack that, and still have the claim. So each file tells the highest claim of those before it, and
  no claim up to that counts as never written once one of them is gone (`Remains.whole_above`).
* All files of a life go with the first of them first, and each tells that another follows it: so what is left when
  that is cut off, or when somebody else removes one, proves nothing.
* A copy of the files that is put back lacks what was written since it was taken. So each file tells which one it is
  (device and inode), and which the lock's is, and when that was last changed, which is when it was made: nobody can put
  that time back. A copy in their place, or written over them, has another. So have files that somebody moved, linked
  or gave away: they prove nothing either, which costs doubt and no text.

What is not noticed: a whole volume that is put back beneath a running kernel (a snapshot of LVM, ZFS or a virtual
machine), and a tool that writes over some of the files and leaves the lock's alone (`rsync --inplace`). Nothing on
that volume could tell; a mark elsewhere would have to be written before each text as well. So a dispatcher's `journal`
folder is never put back in the boot in which it was made: remove it instead (docs/architecture.md).

Why the event loop writes it, and no thread: `Sender._write` checks the gate, the deadline and the expiry, and nothing
may come between that and the write, as a wait for a thread would. A line goes to memory, for nothing is flushed.
Measured on two busy cores: a batch of a hundred takes 0.35 ms, an answer 11 µs (`write(2)` itself 2 µs of them), so a
percent of a loop that gets a thousand answers a second; the way to a thread and back 109 µs. But a disk that is slow
to take even that stops everything else in the process. So it is bounded: more than `SLOW_S` of a second ends the
journal like any other failure, until it heals. Three lines every 0.3 s to a disk that takes 50 ms for each had the loop
stand still for 1.4 of 4 s, and now for 0.3; with 0.5 s for each, for all 4, and now for one line: 0.5.
"""

import errno
import fcntl
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import orjson
import structlog

from dispatcher.model import Claim, SubmitOutcome, SubmitResult

log = structlog.get_logger()

BOOT = Path("/proc/sys/kernel/random/boot_id")  # of this start of this machine
ROTATE_AT = 4_000_000  # octets
SUFFIX = ".journal"
LOCK_FILE = 1  # the number of the file that has only the lock
HEAL_EVERY_S = 10.0  # between two tries to begin anew
SLOW_S = 0.25  # of any second: as long it may keep the event loop waiting
THIS_PROCESS = secrets.token_hex(8)

Key = tuple[int, UUID, int, int]  # claim, message, segment, attempt


@dataclass(frozen=True, kw_only=True)
class Remains:
    """What the journal of a life that has ended tells."""

    identity: str
    same_boot: bool  # whether what it does not name was never written, of claims above `whole_above`
    unanswered: tuple[SubmitResult, ...]  # written, and in doubt
    learned: tuple[SubmitResult, ...]  # answers of which it is not known that they were stored
    named: frozenset[Key]  # all that was written or learned
    files: tuple[Path, ...]
    whole_above: int = 0  # the highest claim that a file which is gone may have named

    def forget(self) -> None:
        """Everything of it is stored. What cannot be removed is told, and read again by the next life."""
        try:
            for path in self.files:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.error("journal_not_removed", identity=self.identity, error=str(error))  # noqa: TRY400 # it says it


def key_of(row: Claim | SubmitResult) -> Key:
    return row.claim_id, row.message_id, row.segment, row.attempt


class Journal:
    """Keeps nothing until `begin`. Not for several tasks at once: each call is done when it returns."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        # What is not known to be stored: the number of the file that begins it, and what was learned last.
        self._open: dict[Key, tuple[int, SubmitOutcome | None]] = {}
        self._open_in: Counter[int] = Counter()
        self._number = 0
        self._files: dict[int, Path] = {}
        self._lock: int | None = None
        self._fd: int | None = None
        self._octets = 0
        self._highest = 0  # of the claims that were in hand when something was to be written
        self._spent = 0.0  # seconds in the present one
        self._second = 0.0  # when that began
        self.broken: str | None = None  # why nothing is written any more, a sentence

    def begin(self) -> None:
        """Only once nobody else can be this dispatcher. Where the folder cannot be written, go on without."""
        try:
            self._begin_files()
        except OSError as error:
            self._give_up(error)

    def heal(self) -> None:
        """One that is broken begins anew, if it can be written again. Of what was in hand until now it proves nothing:
        there is a file that is gone, and the next one tells the highest claim before it.
        """
        if self.broken is None:
            return
        try:
            self._remove_files()  # before a new lock's file is there, with which those that are left would look whole
            self._open.clear()
            self._open_in.clear()
            self._number = max(self._number, LOCK_FILE + 1)
            self._begin_files()
        except OSError as error:
            self._give_up(error)
            return
        self.broken = None
        log.info("journal_healed", proves_nothing_up_to_claim=self._highest)

    def about_to_write(self, claims: Sequence[Claim], carrier: str) -> bool:
        """Before any octet of these goes to a carrier. False: they must not be written now."""
        rows = [["w", c.claim_id, str(c.message_id), c.segment, c.attempt, carrier] for c in claims]
        if self._append(rows):
            for claim in claims:
                self._opened(key_of(claim), None)
        else:
            self._highest = max([self._highest, *(claim.claim_id for claim in claims)])
        return not self.blocks

    @property
    def blocks(self) -> bool:
        """Whether nothing may be sent: it has holes, and the next life would believe it."""
        return self.broken is not None and bool(self._files)

    def not_written(self, claims: Sequence[Claim]) -> None:
        """A link took none of these after all."""
        self._append([["n", c.claim_id, str(c.message_id), c.segment, c.attempt] for c in claims])
        for claim in claims:
            self._closed(key_of(claim))

    def learned(self, result: SubmitResult) -> None:
        """What became of a segment, before it is stored. What never went to a carrier need not be told."""
        if not result.carrier:
            return
        row: list[Any] = ["a", result.claim_id, str(result.message_id), result.segment, result.attempt]
        row += [result.carrier, result.outcome, result.carrier_message_id]
        row += [result.command_status, result.retry_after_s]
        if self._append([row]):
            self._opened(key_of(result), result.outcome)

    def stored(self, results: Iterable[SubmitResult]) -> None:
        """These are known to be stored at the leader. One of which more was learned meanwhile stays open."""
        done = [
            key
            for key, outcome in ((key_of(result), result.outcome) for result in results)
            if key in self._open and self._open[key][1] is outcome
        ]
        if self._append([["s", claim, str(message), *numbers] for claim, message, *numbers in done]):
            for key in done:
                self._closed(key)
            self._remove_finished()

    def close(self) -> None:
        """Remove what nobody needs, and let go of the lock. Safe to repeat."""
        try:
            for path in () if self._open else self._files.values():
                path.unlink(missing_ok=True)
        except OSError as error:
            log.error("journal_not_removed", identity=self._identity, error=str(error))  # noqa: TRY400 # it says it
        for fd in (self._fd, self._lock):
            if fd is not None:
                os.close(fd)
        self._fd = self._lock = None

    def _opened(self, key: Key, learned: SubmitOutcome | None) -> None:
        number, _ = self._open.get(key, (None, None))
        if number is None:
            number = self._number
            self._open_in[number] += 1
        self._open[key] = (number, learned)

    def _closed(self, key: Key) -> None:
        number, _ = self._open.pop(key, (None, None))
        if number is not None:
            self._open_in[number] -= 1

    def _append(self, rows: Sequence[Sequence[Any]]) -> bool:
        """Whether they stand in the journal."""
        if self._fd is None or not rows:
            return False
        octets = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        highest = max(row[1] for row in rows)
        began = monotonic()
        try:
            if self._octets > ROTATE_AT:
                self._begin_file()
            _write(self._fd, octets)
            self._took(began)
        except OSError as error:
            self._give_up(error)
            return False
        self._octets += len(octets)
        self._highest = max(self._highest, highest)
        return True

    def _took(self, began: float) -> None:
        """Raises OSError when that was too much for the second that it was in."""
        now = monotonic()
        if now - self._second > 1.0:
            self._second, self._spent = began, 0.0
        self._spent += now - began
        if self._spent > SLOW_S:
            raise OSError(errno.ETIMEDOUT, f"it takes more than {SLOW_S:g} s of a second")

    def _begin_files(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._begin_lock()
        self._begin_file()

    def _begin_lock(self) -> None:
        """It tells at once that another follows, and is never touched again: when it was last changed is its mark."""
        follows = max(self._number, LOCK_FILE) + 1
        fd = self._made(LOCK_FILE, ["boot", boot_id(), 0], ["next", follows])
        before, self._lock = self._lock, fd
        if before is not None:
            os.close(before)
        self._number = follows - 1

    def _begin_file(self) -> None:
        number = self._number + 1
        if self._lock is None:
            raise OSError(errno.ENOLCK, "it has no lock")
        fd = self._made(number, ["boot", boot_id(), self._highest], mark=_made_mark(os.fstat(self._lock)))
        before, self._fd = self._fd, fd
        if before is not None:
            try:
                _write(before, orjson.dumps(["next", number]) + b"\n")
            finally:
                os.close(before)
        self._number, self._octets = number, 0

    def _made(self, number: int, header: list[Any], *more: list[Any], mark: list[int] | None = None) -> int:
        """A file with these lines, open. Nobody sees it before it is locked: without, it would belong to the dead."""
        path = self._folder / f"{self._identity}.{number:06}{SUFFIX}"
        draft = path.with_suffix(".draft")
        fd = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if mark is not None:
                header = [*header, _file_mark(os.fstat(fd)), mark]
            _write(fd, b"".join(orjson.dumps(row) + b"\n" for row in (header, *more)))
            draft.rename(path)
        except OSError:
            os.close(fd)
            raise
        self._files[number] = path
        return fd

    def _remove_finished(self) -> None:
        began = monotonic()
        try:
            for number in [n for n in self._files if LOCK_FILE < n < self._number]:
                if self._open_in[number]:
                    break
                self._files[number].unlink(missing_ok=True)
                del self._files[number]
            self._took(began)
        except OSError as error:
            self._give_up(error)

    def _remove_files(self) -> None:
        for number in sorted(self._files):
            self._files[number].unlink(missing_ok=True)
            del self._files[number]

    def _give_up(self, error: OSError) -> None:
        known, self.broken = (
            self.broken,
            f"The journal in {self._folder} cannot be written: {error.strerror or error}.",
        )
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
        try:
            self._remove_files()
        except OSError as still:
            self.broken += f" Nor can it be removed ({still.strerror or still}), so nothing is sent."
        if self.broken != known:
            log.error("journal_broken", reason=self.broken)


def _file_mark(told: os.stat_result) -> list[int]:
    return [told.st_dev, told.st_ino]


def _made_mark(told: os.stat_result) -> list[int]:
    return [*_file_mark(told), told.st_ctime_ns]


def _write(fd: int, octets: bytes) -> None:
    if os.write(fd, octets) < len(octets):
        raise OSError("only a part of it could be written")


# -- what the next life reads


def remains(folder: Path, name: str) -> Iterator[Remains]:
    """What lives of dispatcher `name` left that have ended; those that cannot be read at all are told and left."""
    lives: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"{name}.*{SUFFIX}")) if folder.is_dir() else []:
        identity, _, _ = path.name.removesuffix(SUFFIX).rpartition(".")
        if identity.rpartition(".")[0] == name and number_of(path):
            lives.setdefault(identity, []).append(path)
    for identity, paths in lives.items():
        try:
            if _has_ended(paths[0]):
                yield _read(identity, paths)
        except OSError as error:
            log.error("journal_unreadable", file=str(paths[0]), error=str(error))  # noqa: TRY400 # it says it


def number_of(path: Path) -> int:
    """Among the files of its life; 0: it is none of them."""
    number = path.name.removesuffix(SUFFIX).rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _has_ended(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _read(identity: str, paths: Sequence[Path]) -> Remains:
    unanswered: dict[Key, SubmitResult] = {}
    learned: dict[Key, SubmitResult] = {}
    named: set[Key] = set()
    boots: set[str] = set()
    numbers = [number_of(path) for path in paths]
    # After the lock's, they are removed from the first on.
    whole = numbers[0] == LOCK_FILE and numbers[1:] == [
        numbers[-1] - n for n in range(len(numbers) - 2, -1, -1)
    ]
    before: list[int] = []  # of each file: the highest claim of those before it
    goes_on, announced = False, True  # whether the file tells of a next one, and the one before told of this
    lock = paths[0].stat()
    for file, row in ((path, row) for path in paths for row in _rows(path)):
        try:
            if row[0] == "boot":
                boots.add(row[1])
                before.append(int(row[2]))
                if number_of(file) != LOCK_FILE:
                    whole = whole and row[3:5] == [_file_mark(file.stat()), _made_mark(lock)]
                    announced = goes_on
                goes_on = False
                continue
            whole = whole and announced  # its first line but that came after the one before it told of it
            if row[0] == "next":
                goes_on = True
                continue
            key: Key = (row[1], UUID(row[2]), row[3], row[4])
            if row[0] == "w":
                unanswered[key] = _result(key, row[5], SubmitOutcome.IN_DOUBT)
                named.add(key)
            elif row[0] == "n":
                unanswered.pop(key, None)
                named.discard(key)
            elif row[0] == "a":
                unanswered.pop(key, None)
                named.add(key)
                learned[key] = _result(key, row[5], SubmitOutcome(row[6]), *row[7:10])
            elif row[0] == "s":
                learned.pop(key, None)
            else:
                whole = False  # of a later version
        except (ValueError, TypeError, LookupError, AttributeError):
            whole = False
    whole = whole and not goes_on and len(before) == len(paths)
    gone = whole and len(numbers) > 1 and numbers[1] > LOCK_FILE + 1
    return Remains(
        identity=identity,
        same_boot=whole and boots == {boot_id()},
        unanswered=tuple(unanswered.values()),
        learned=tuple(learned.values()),
        named=frozenset(named),
        files=tuple(paths),
        whole_above=before[1] if gone else 0,
    )


def _rows(path: Path) -> Iterator[list[Any]]:
    """The whole lines of a file. The last one may be cut off: whoever wrote it died before it acted on it."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                yield orjson.loads(line)
            except ValueError:
                yield []  # spoilt, as after a loss of power


def _result(
    key: Key,
    carrier: str,
    outcome: SubmitOutcome,
    carrier_message_id: str | None = None,
    command_status: int = 0,
    retry_after_s: float = 0.0,
) -> SubmitResult:
    claim_id, message_id, segment, attempt = key
    return SubmitResult(
        claim_id=claim_id,
        message_id=message_id,
        segment=segment,
        attempt=attempt,
        outcome=outcome,
        carrier=carrier,
        carrier_message_id=carrier_message_id,
        command_status=command_status,
        retry_after_s=retry_after_s,
    )


def boot_id() -> str:
    """Of this start of this machine; of each process another where the machine does not tell. Not by the process's
    number: in a container that is the same each time.
    """
    return BOOT.read_text().strip() if BOOT.exists() else f"unknown {THIS_PROCESS}"
