"""The first start of all, on a real PostgreSQL: what it makes, and what it never throws away."""

from collections.abc import AsyncIterator

import pytest

from sitecontrol.agent.bootstrap import Bootstrapper, HasData
from sitecontrol.agent.executor import Overtaken
from sitecontrol.agent.own_postgres import OwnPostgres
from sitecontrol.clock import SystemClock
from sitecontrol.leadership.transactions import Transaction, Writer
from sitecontrol.settings import Secrets, load
from sitecontrol.snapshot import Snapshot
from tests.agents import render
from tests.integration.test_agent_start import make_foreign_data
from tests.postgres import short_folder
from tests.sites import Site
from tests.unit.leadership_facts import at_columbus

MARKED = "a first start that is not finished\n"
OF_A_STANDBY = ("backup_label", "standby.signal")


class Bench:
    """A Bootstrapper over a real data directory; what it writes to etcd is kept in `written`."""

    def __init__(self, site: Site) -> None:
        settings = load(site.config)
        secrets, clock = Secrets.of(settings), SystemClock()
        self.site = site
        self.marker = site.folder / "bootstrapping"
        self.written: list[Transaction] = []
        self.with_data: str | None = None  # another node
        self.refuses = 0  # that many of the writes of the first records
        self.postgres = OwnPostgres(settings, secrets, clock, marker=self.marker)
        self._bootstrapper = Bootstrapper(
            postgres=self.postgres,
            writer=lambda _: Writer(
                prefix="/", cluster=Snapshot(), node=site.node, site=site.name, incarnation="", lease=1
            ),
            write=self._write,
            secrets=secrets,
            marker=self.marker,
            others_with_data=self._others_with_data,
            clock=clock,
        )

    async def _write(self, transaction: Transaction) -> int:
        self.written.append(transaction)
        if self.refuses and any(write.key == "/term" for write in transaction.writes):
            self.refuses -= 1
            raise Overtaken(Overtaken.__doc__)
        return len(self.written)

    async def _others_with_data(self) -> str | None:
        return self.with_data

    async def run(self) -> None:
        await self._bootstrapper.run(at_columbus(node=self.site.node))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with short_folder("hotsite-b-") as folder:
        site, _ = render(folder, "t", ["http://127.0.0.1:1"], lease_ttl=3)
        made = Bench(site)
        await made.postgres.take()
        try:
            yield made
        finally:
            await made.postgres.end_at_once()
            await made.postgres.release()


def control_file(bench: Bench) -> bytes:
    return (bench.site.data / "global" / "pg_control").read_bytes()


async def refused(bench: Bench, why: str) -> None:
    """Nothing is touched, and the error says what to do."""
    before, marked = control_file(bench), bench.marker.exists()
    with pytest.raises(HasData, match=why) as raised:
        await bench.run()
    assert "move it away" in str(raised.value)
    assert "replication.data_dir" in str(raised.value)
    assert control_file(bench) == before
    assert bench.marker.exists() == marked
    assert bench.written == []


async def test_data_in_which_no_first_start_was_begun_is_not_touched(bench: Bench):
    make_foreign_data(bench.site)
    await refused(bench, "no first start of ours was begun in it")


async def test_data_that_was_cut_off_half_way_is_not_touched_without_our_mark(bench: Bench):
    make_foreign_data(bench.site)
    (bench.site.data / "global" / "pg_control").rename(bench.site.data / "pg_control")
    with pytest.raises(HasData):
        await bench.run()
    assert (bench.site.data / "pg_control").exists()


@pytest.mark.parametrize("sign", OF_A_STANDBY)
async def test_a_standbys_data_is_not_touched_though_a_first_start_left_its_mark(bench: Bench, sign: str):
    make_foreign_data(bench.site)
    bench.marker.write_text(MARKED)
    (bench.site.data / sign).touch()
    await refused(bench, "it was a standby")


async def test_another_clusters_data_is_not_touched_though_a_first_start_left_its_mark(bench: Bench):
    make_foreign_data(bench.site)
    bench.marker.write_text("7\n")
    await refused(bench, "the first start that was begun made 7")


async def test_what_a_first_start_left_is_made_anew_and_its_mark_names_what_was_made(bench: Bench):
    make_foreign_data(bench.site)  # as of one that ended before it had written what it made
    bench.marker.write_text(MARKED)
    before = control_file(bench)
    await bench.run()
    assert control_file(bench) != before
    system_id, _ = bench.postgres.identity
    assert bench.marker.read_text() == f"{system_id}\n"
    assert len(bench.written) == 2
    await bench.postgres.end_at_once()
    await bench.run()
    assert bench.postgres.identity[0] != system_id


async def test_what_was_made_is_kept_when_its_reservation_ran_out_before_all_was_made(bench: Bench):
    """On a machine that takes longer for all of it than it keeps a lease, each try would else begin from nothing."""
    bench.refuses = 2
    with pytest.raises(Overtaken):
        await bench.run()
    made, file = bench.postgres.identity, bench.site.data.stat().st_ino
    with pytest.raises(Overtaken):
        await bench.run()
    await bench.run()
    assert (bench.postgres.identity, bench.site.data.stat().st_ino) == (made, file)
    assert len(bench.written) == 6, "each try has reserved anew, and told of what it has made"
    assert bench.marker.read_text() == f"{made[0]}\n", (
        "until it is opened, etcd alone tells whether it counts"
    )


async def test_what_was_made_is_made_anew_when_it_does_not_run_any_more(bench: Bench):
    bench.refuses = 1
    with pytest.raises(Overtaken):
        await bench.run()
    made = bench.postgres.identity
    await bench.postgres.end_at_once()
    await bench.run()
    assert bench.postgres.identity != made


async def test_beside_another_node_that_has_data_nothing_is_made_nor_reserved(bench: Bench):
    """A reservation would live as long as this agent, and bar the adoption of what the other has."""
    bench.with_data = "denver-a"
    with pytest.raises(RuntimeError, match="denver-a has data already"):
        await bench.run()
    assert bench.written == []
    assert not bench.marker.exists()
    assert not bench.site.data.exists()
