"""What earlier lives of a dispatcher left open is settled by their journals."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from dispatcher.engine.predecessors import Predecessors
from dispatcher.engine.results import Results
from dispatcher.journal import Journal, remains
from dispatcher.model import SubmitOutcome
from tests.unit.fake_nodes import FakeSites, two_sites
from tests.unit.fake_queue import FakeQueue, claim
from tests.unit.test_journal import CARRIER, IDENTITY, answer, die, held, read_only
from tests.waiting import eventually


def dead(folder: Path) -> None:
    """A life that had four texts: one answered, one not, one refused by its link, and one that it never touched."""
    journal = Journal(folder, IDENTITY)
    journal.begin()
    journal.about_to_write([claim(n) for n in (1, 2, 3)], CARRIER)
    journal.not_written([claim(3)])
    journal.learned(answer(claim(1)))
    die(journal)


@asynccontextmanager
async def next_life(folder: Path, queue: FakeQueue) -> AsyncIterator[FakeSites]:
    async with two_sites(inner=queue) as sites:
        results = Results(
            leadership=sites.leadership,
            journal=Journal(folder, "columbus-1.next"),
            clock=sites.clock,
            metrics=sites.metrics,
        )
        predecessors = Predecessors(
            left=lambda: remains(folder, "columbus-1"),
            leadership=sites.leadership,
            results=results,
            clock=sites.clock,
        )
        await results.start()
        await predecessors.start()
        yield sites
        await predecessors.stop()
        await results.stop()
        assert not predecessors.tasks.died.is_set()


async def test_answers_are_handed_in_doubt_is_told_and_the_rest_goes_back(tmp_path: Path) -> None:
    dead(tmp_path)
    queue = FakeQueue()
    queue.held[IDENTITY] = held(*(claim(n) for n in (1, 2, 3, 4)))
    async with next_life(tmp_path, queue) as sites:
        await sites.lead("columbus-a", 1)
        await eventually(lambda: not files(tmp_path))
    assert [queue.outcome(n) for n in (1, 2, 3, 4)] == [
        SubmitOutcome.SUBMITTED,
        SubmitOutcome.IN_DOUBT,
        SubmitOutcome.QUEUED,
        SubmitOutcome.QUEUED,
    ]
    assert len(queue.settled) == 4


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def test_it_is_kept_until_a_leader_has_it(tmp_path: Path) -> None:
    dead(tmp_path)
    before = files(tmp_path)
    async with next_life(tmp_path, FakeQueue()):
        pass  # nobody leads, and this life ends as well
    assert files(tmp_path) == before


async def test_a_schema_of_before_is_waited_for(tmp_path: Path) -> None:
    dead(tmp_path)
    queue = FakeQueue()
    queue.unfit = asyncpg.UndefinedFunctionError("function hotsite.claimed_by does not exist")
    async with next_life(tmp_path, queue) as sites:
        await sites.lead("columbus-a", 1)
        await eventually(lambda: len(queue.settled) == 2)
        queue.unfit = None
        await eventually(lambda: not files(tmp_path))


async def test_what_cannot_be_removed_ends_no_dispatcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was made read-only after an error: else the process would end, and each one after it."""
    dead(tmp_path)
    monkeypatch.setattr(Path, "unlink", read_only)
    with capture_logs() as lines:
        async with next_life(tmp_path, FakeQueue()) as sites:
            await sites.lead("columbus-a", 1)
            await eventually(lambda: any(line["event"] == "predecessor_settled" for line in lines))
    assert "journal_not_removed" in {line["event"] for line in lines}
