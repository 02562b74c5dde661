"""The journal: what the next life reads in it, whatever the one before died of."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher import journal as module
from dispatcher.engine.predecessors import never_written
from dispatcher.journal import Journal, Key, Remains, key_of, remains
from dispatcher.model import Claim, Held, SubmitOutcome, SubmitResult
from tests.unit.fake_queue import claim

IDENTITY = "columbus-1.1a2b"
CARRIER = "acme"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def living(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder, IDENTITY)
    journal.begin()
    yield journal
    die(journal)


def die(journal: Journal) -> None:
    """As the kernel ends a process: what was written stays, the lock goes."""
    for fd in (journal._fd, journal._lock):
        if fd is not None:
            os.close(fd)
    journal._fd = journal._lock = None


def left_by(journal: Journal) -> Remains:
    die(journal)
    [left] = remains(journal._folder, "columbus-1")
    return left


def answer(
    one: Claim, outcome: SubmitOutcome = SubmitOutcome.SUBMITTED, carrier: str = CARRIER
) -> SubmitResult:
    return SubmitResult(
        claim_id=one.claim_id,
        message_id=one.message_id,
        segment=one.segment,
        attempt=one.attempt,
        outcome=outcome,
        carrier=carrier,
        carrier_message_id="0af3 é" if outcome is SubmitOutcome.SUBMITTED else None,
    )


def held(*claims: Claim) -> list[Held]:
    return [
        Held(claim_id=c.claim_id, message_id=c.message_id, segment=c.segment, attempt=c.attempt)
        for c in claims
    ]


def test_what_was_written_and_not_answered_is_in_doubt_and_only_that(living: Journal) -> None:
    asked, answered, stored, refused, untouched = (claim(n) for n in range(1, 6))
    assert living.about_to_write([asked, answered, stored, refused], CARRIER)
    living.not_written([refused])
    living.learned(answer(answered))
    living.learned(answer(stored))
    living.stored([answer(stored)])
    left = left_by(living)
    assert left.identity == IDENTITY
    assert [key_of(r) for r in left.unanswered] == [key_of(asked)]
    assert left.learned == (answer(answered),)
    returned = never_written(left, held(asked, answered, refused, untouched))
    assert [key_of(r) for r in returned] == [key_of(refused), key_of(untouched)]
    assert {(r.outcome, r.carrier, r.command_status) for r in returned} == {(SubmitOutcome.QUEUED, "", 0)}


def test_a_life_that_goes_on_is_left_alone(living: Journal, folder: Path) -> None:
    living.about_to_write([claim(1)], CARRIER)
    assert list(remains(folder, "columbus-1")) == []


def test_another_dispatchers_journal_is_not_ours(living: Journal, folder: Path) -> None:
    die(living)
    assert list(remains(folder, "columbus")) == []
    assert list(remains(folder, "columbus-1.1a2b")) == []


def test_after_a_restart_of_the_machine_nothing_counts_as_never_written(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    living.about_to_write([claim(1)], CARRIER)
    monkeypatch.setattr(module, "boot_id", lambda: "another")
    left = left_by(living)
    assert [key_of(r) for r in left.unanswered] == [key_of(claim(1))]
    assert never_written(left, held(claim(1), claim(2))) == []


def test_an_answer_that_came_while_the_doubt_was_being_stored_is_not_lost(living: Journal) -> None:
    one = claim(1)
    living.about_to_write([one], CARRIER)
    living.learned(answer(one, SubmitOutcome.IN_DOUBT))
    living.learned(answer(one))
    living.stored([answer(one, SubmitOutcome.IN_DOUBT)])
    assert left_by(living).learned == (answer(one),)


def test_an_orderly_end_leaves_no_file_and_one_with_something_open_leaves_it(folder: Path) -> None:
    for settled in (True, False):
        journal = Journal(folder, IDENTITY)
        journal.begin()
        journal.about_to_write([claim(1)], CARRIER)
        journal.learned(answer(claim(1)))
        if settled:
            journal.stored([answer(claim(1))])
        journal.close()
        journal.close()
        assert bool(list(folder.iterdir())) is not settled


def test_what_is_forgotten_is_gone(living: Journal, folder: Path) -> None:
    living.about_to_write([claim(1)], CARRIER)
    left_by(living).forget()
    assert list(folder.iterdir()) == []


def test_files_are_removed_when_nothing_in_them_is_open(
    living: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_AT", 500)
    for number in range(1, 101):
        one = claim(number)
        living.about_to_write([one], CARRIER)
        living.learned(answer(one))
        if number != 50:
            living.stored([answer(one)])
        if number == 49:
            assert (
                2 <= len(list(folder.iterdir())) <= 3
            )  # the lock's, the last, and one that its segments began in
    assert len(list(folder.iterdir())) > 10
    living.stored([answer(claim(50))])
    assert 2 <= len(list(folder.iterdir())) <= 3
    left = left_by(living)
    assert (left.learned, left.unanswered, left.same_boot) == ((), (), True)


def test_a_journal_whose_first_file_is_gone_proves_nothing(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_AT", 50)
    for number in range(1, 5):
        living.about_to_write([claim(number)], CARRIER)
    living._files[1].unlink()
    assert not left_by(living).same_boot


def test_a_spoilt_line_is_passed_over_and_then_nothing_is_proved(living: Journal) -> None:
    living.about_to_write([claim(1)], CARRIER)
    path = living._files[2]
    path.write_bytes(path.read_bytes() + b'\0\0{"half\n["w",1]\n["x"]\n')
    left = left_by(living)
    assert [key_of(r) for r in left.unanswered] == [key_of(claim(1))]
    assert not left.same_boot


def test_a_full_disk_ends_the_journal_and_not_the_sending(
    living: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_write", full)
    assert living.about_to_write([claim(1)], CARRIER)
    assert list(folder.iterdir()) == []
    assert living.broken is not None
    assert "No space left" in living.broken
    assert living.about_to_write([claim(2)], CARRIER)


def test_a_journal_that_can_neither_be_written_nor_removed_ends_the_sending(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_write", full)
    monkeypatch.setattr(Path, "unlink", read_only)
    assert not living.about_to_write([claim(1)], CARRIER)
    assert not living.about_to_write([claim(2)], CARRIER)
    assert "nothing is sent" in str(living.broken)


def test_a_folder_that_cannot_be_made_is_told_and_the_dispatcher_sends(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")
    journal = Journal(tmp_path / "journal", IDENTITY)
    journal.begin()
    assert journal.broken is not None
    assert journal.about_to_write([claim(1)], CARRIER)


def numbered(number: int) -> Claim:
    return replace(claim(number), claim_id=number)


def in_files_of_their_own(journal: Journal, *claims: Claim) -> None:
    """Each is written as the first of a new file; the first goes beside the lock's."""
    for one in claims:
        if one is not claims[0]:
            journal._octets = module.ROTATE_AT + 1
        assert journal.about_to_write([one], CARRIER)


@pytest.mark.parametrize("gone", [(2,), (3,), (4,), (2, 3, 4)])
def test_of_a_journal_of_which_somebody_removed_files_nothing_counts_as_never_written(
    living: Journal, gone: tuple[int, ...]
) -> None:
    written = [claim(n) for n in (1, 2, 3)]
    in_files_of_their_own(living, *written)
    for number in gone:
        living._files[number].unlink()
    assert never_written(left_by(living), held(*written)) == []


def test_a_journal_whose_removal_was_cut_off_proves_nothing(
    living: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [claim(1), claim(2)]
    in_files_of_their_own(living, *written)
    unlink, removed = Path.unlink, []

    def once(path: Path, *, missing_ok: bool = False) -> None:
        if removed:
            raise OSError(5, "Input/output error")
        removed.append(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_write", full)
        patched.setattr(Path, "unlink", once)
        assert not living.about_to_write([claim(3)], CARRIER)
    assert len(removed) == 1
    assert never_written(left_by(living), held(*written)) == []


def test_what_a_removed_file_named_is_not_never_written_to_a_leader_that_lost_the_answer(
    living: Journal,
) -> None:
    """By a person's word a node leads that has the claim, and not what became of it."""
    lost, asked, answered, untouched = (numbered(n) for n in (1, 2, 3, 4))
    for one in (lost, answered):
        in_files_of_their_own(living, one)
        living.learned(answer(one))
        living._octets = module.ROTATE_AT + 1 if one is lost else 0
        living.stored([answer(one)])
    living.about_to_write([asked], CARRIER)
    left = left_by(living)
    assert [module.number_of(path) for path in left.files] == [1, 3]
    returned = never_written(left, held(lost, asked, answered, untouched))
    assert [key_of(r) for r in returned] == [key_of(untouched)]


def test_a_line_that_a_later_version_wrote_makes_it_prove_nothing(living: Journal) -> None:
    living.about_to_write([claim(1)], CARRIER)
    path = living._files[2]
    path.write_bytes(path.read_bytes() + b'["written_too",1,"00000000-0000-0000-0000-000000000002",1,1]\n')
    assert not left_by(living).same_boot


@pytest.mark.parametrize("line", [b'{"a":1}', b'["w",1,5,1,1]', b"5", b"null"])
def test_no_line_keeps_the_next_life_from_starting(living: Journal, line: bytes) -> None:
    living.about_to_write([claim(1)], CARRIER)
    path = living._files[2]
    path.write_bytes(path.read_bytes() + line + b"\n")
    assert not left_by(living).same_boot


def test_where_no_machine_tells_of_its_start_each_process_is_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also in a container, where each life of a process has the same number."""
    spec = importlib.util.spec_from_file_location("another_life", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "another_life", other)
    spec.loader.exec_module(other)
    for life in (module, other):
        monkeypatch.setattr(life, "BOOT", tmp_path / "none")
    assert module.boot_id() == module.boot_id() != other.boot_id()


def full(_fd: int, _octets: bytes) -> None:
    raise OSError(28, "No space left on device")


def read_only(_path: Path, *, missing_ok: bool = False) -> None:  # as Path.unlink
    raise OSError(30, "Read-only file system")


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "refuse", "answer", "doubt", "store"]), st.integers(1, 4)),
    max_size=25,
)


@settings(max_examples=60)
@given(STEPS, st.integers(0, 400))
def test_wherever_it_is_cut_off_nothing_that_was_written_counts_as_never_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], cut: int
) -> None:
    journal = Journal(tmp_path_factory.mktemp("cut"), IDENTITY)
    journal.begin()
    sent: dict[Key, int] = {}  # written to a carrier, and how long the journal was by then
    for what, number in steps:
        one = claim(number)
        if what == "write":
            journal.about_to_write([one], CARRIER)
            sent.setdefault(key_of(one), journal._files[2].stat().st_size)
        elif what == "refuse" and key_of(one) not in sent:
            journal.not_written([one])
        elif what in {"answer", "doubt"} and key_of(one) in sent:
            journal.learned(
                answer(one, SubmitOutcome.SUBMITTED if what == "answer" else SubmitOutcome.IN_DOUBT)
            )
        elif what == "store":
            journal.stored([answer(one)])
    path = journal._files[2]
    length = max(0, path.stat().st_size - cut)
    os.truncate(path, length)
    left = left_by(journal)
    unwritten = {key_of(r) for r in never_written(left, held(*(claim(n) for n in range(1, 5))))}
    assert unwritten.isdisjoint(key for key, at in sent.items() if at <= length)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "answer", "store", "rotate"]), st.integers(1, 5)), max_size=25
    ),
    st.sets(st.integers(1, 6)),
)
def test_whichever_files_are_gone_and_whatever_the_leader_lost_nothing_that_was_written_counts_as_never_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], gone: set[int]
) -> None:
    journal = Journal(tmp_path_factory.mktemp("gone"), IDENTITY)
    journal.begin()
    sent: set[Key] = set()
    for what, number in steps:
        one = numbered(number)
        if what == "write":
            assert journal.about_to_write([one], CARRIER)
            sent.add(key_of(one))
        elif what == "answer" and key_of(one) in sent:
            journal.learned(answer(one))
        elif what == "store":
            journal.stored([answer(one)])
        elif what == "rotate":
            journal._octets = module.ROTATE_AT + 1
    for number in gone & journal._files.keys():
        journal._files[number].unlink()
    die(journal)
    for left in remains(journal._folder, "columbus-1"):
        unwritten = {key_of(r) for r in never_written(left, held(*(numbered(n) for n in range(1, 6))))}
        assert unwritten.isdisjoint(sent)


def test_ids_are_those_of_the_claim() -> None:
    assert key_of(claim(7)) == (1, UUID(int=7), 1, 1)
