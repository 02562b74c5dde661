"""A first start that failed half way is begun anew, also while its PostgreSQL runs and does not answer."""

from typing import Any

from sitecontrol.agent.monitor import Monitor, Running
from sitecontrol.leadership.facts import PgState
from sitecontrol.settings import FailoverSettings
from tests.unit.held_clock import HeldClock


async def test_of_a_postgresql_that_never_answered_it_is_known_that_its_first_start_is_not_finished() -> None:
    async def no_answer(*_: object) -> Any:
        raise TimeoutError

    async def runs() -> None:
        return None

    monitor = Monitor(
        no_answer,
        runs,
        lambda: Running(system_id="9", incarnation="disk", follows=None, unfinished=True),
        lambda: None,
        HeldClock(),
        FailoverSettings(),
    )
    seen = await monitor.poll()
    assert (seen.state, seen.system_id, seen.unfinished) == (PgState.MUTE, "9", True)
