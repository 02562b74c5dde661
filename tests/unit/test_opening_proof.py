"""What an opening proves before the first canary has committed: as much as a canary that began with it, not more."""

from typing import Any

from sitecontrol.agent.monitor import Monitor, Running
from sitecontrol.frozen import replace
from sitecontrol.leadership.decide import decide
from sitecontrol.leadership.facts import Facts, LeaseFacts, PgFacts, PgState
from sitecontrol.leadership.table import Lane
from sitecontrol.settings import FailoverSettings
from tests.unit.held_clock import HeldClock
from tests.unit.leadership_facts import COLUMBUS, OUR_LEASE, at_columbus, primary

PROOF_ENDED = {"etcd_heard_at": 95.0, "lease": LeaseFacts(id=OUR_LEASE, ends_at=96.0)}


class Postgres:
    """Our own PostgreSQL, as the monitor asks it: `opened_for` seconds open (None: closed), and slow by `takes`."""

    def __init__(self, *, up: bool) -> None:
        self.clock = HeldClock()
        self.up, self.takes, self.opened_at = up, 0.0, -1.0
        self.monitor = Monitor(
            self._connect,
            self._at_rest,
            lambda: Running(system_id="7", incarnation=f"disk-{COLUMBUS}", follows=None),
            lambda: None,
            self.clock,
            FailoverSettings(),
        )

    closed = False

    async def _connect(self, _: str) -> Any:
        return self

    async def _at_rest(self) -> PgFacts | None:
        return None if self.up else PgFacts(state=PgState.STOPPED)

    def terminate(self) -> None:
        """As a session."""

    async def read(self, *_: object, **__: object) -> list[dict[str, Any]]:
        is_open = self.opened_at >= 0.0
        opened_for = self.clock.now() - self.opened_at
        await self.clock.advance(self.takes)
        if self.takes > 5.0:
            raise OSError("mute")
        return [
            {
                "in_recovery": False,
                "row_term": 3,
                "opened_here": is_open,
                "opened_for": opened_for,
                "remote_in_step": (),
                "canary_seq": 1,
                "canary_written_at": None,
                "names": "",
                "lsn": 1,
                "inserted": 1,
                "replayed": 1,
                "timeline": 1,
                "control_timeline": 1,
                "upstream": False,
                "standbys": "[]",
                "slots": "[]",
            }
        ]

    async def look(self, after: float = 0.1) -> PgFacts:
        await self.clock.advance(after)
        return await self.monitor.poll()


def fenced(facts: Facts) -> bool:
    return decide(Lane.POSTGRES, facts).rule == "lost-proof"


def test_a_leader_that_was_long_in_opening_is_not_fenced_the_moment_it_is_open():
    """It started seven seconds ago; etcd fell silent meanwhile, and no canary can have committed yet."""
    facts = at_columbus(pg=primary(canary_at=None, since=93.0, opened_at=99.9), **PROOF_ENDED)
    assert not fenced(facts)
    assert not fenced(replace(facts, pg=replace(facts.pg, canary_at=92.0)))  # seen as a standby


def test_an_opening_proves_no_longer_than_a_canary_does():
    facts = at_columbus(pg=primary(canary_at=None, since=93.0, opened_at=99.0), **PROOF_ENDED)
    assert not fenced(facts)
    assert fenced(replace(facts, now=100.001))
    assert fenced(replace(facts, now=100.001, pg=replace(facts.pg, since=100.0)))


async def test_an_opening_that_is_noticed_late_counts_from_when_it_was():
    postgres = Postgres(up=True)
    assert (await postgres.look()).opened_at is None
    postgres.opened_at, postgres.takes = postgres.clock.now() + 0.05, 0.8
    assert abs((await postgres.look(after=0.3)).opened_at - postgres.opened_at) < 0.001


async def test_a_postgres_that_does_not_answer_for_a_while_is_not_opened_anew():
    postgres = Postgres(up=True)
    await postgres.look()
    postgres.opened_at = postgres.clock.now()
    opened = (await postgres.look()).opened_at
    postgres.takes = 6.0
    mute = await postgres.look()
    postgres.takes = 0.0
    again = await postgres.look()
    assert (mute.state, again.state) == (PgState.MUTE, PgState.PRIMARY)
    assert opened == mute.opened_at == again.opened_at


async def test_an_agent_that_was_just_started_gets_time_to_write_a_canary():
    postgres = Postgres(up=True)
    postgres.opened_at = 0.0
    await postgres.clock.advance(50.0)
    asked_at = postgres.clock.now() + 0.1
    assert (await postgres.look()).opened_at == asked_at


async def test_one_that_is_started_again_and_opened_again_counts_from_the_last():
    postgres = Postgres(up=True)
    postgres.opened_at = 0.0
    await postgres.look()
    postgres.up, postgres.opened_at = False, -1.0
    assert (await postgres.look()).opened_at is None
    postgres.up = True
    assert (await postgres.look()).opened_at is None
    postgres.opened_at = postgres.clock.now()
    assert abs((await postgres.look()).opened_at - postgres.opened_at) < 0.001
