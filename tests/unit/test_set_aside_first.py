"""What a node alone holds is set aside before a rewind or a clone replaces it, whatever becomes of these."""

from pathlib import Path
from typing import Any

import pytest

from replication.errors import NeedsClone, NodeError
from replication.session import Target
from sitecontrol.agent.own_postgres import OwnPostgres
from sitecontrol.agent.setting_aside import LeaderSilent

REPLACES = {"rewind_from", "clone_from"}


class Told(OwnPostgres):
    """Its node, and the one who sets aside, only write down what they are told, and raise what they are given."""

    def __init__(self, **raises: Exception) -> None:
        self.calls: list[str] = []
        self._raises = raises
        self._node: Any = self
        self._setting_aside: Any = self
        self.marker = Path("/nowhere")

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object, **__: object) -> None:
            self.calls.append(name)
            if name in self._raises:
                raise self._raises[name]

        return call

    def _target(self, node: str, role: str) -> Target:
        return Target(host=node, port=1, user=role, database="hotsite")

    async def _timeline_of(self, source: Target) -> int:
        return 2

    async def stop_clean(self, *, within: float) -> None:
        self.calls.append("stopped")

    async def end_at_once(self, reached: object = None) -> None:
        self.calls.append("stopped")

    async def start_standby(self, leader: str | None, *, term: int | None = None) -> None:
        self.calls.append("started")


@pytest.mark.parametrize("way", ["rewind", "clone"])
async def test_it_is_set_aside_after_the_stop_and_before_anything_is_replaced(way):
    postgres = Told()
    await getattr(postgres, way)("denver-a")
    calls = [call for call in postgres.calls if call in {*REPLACES, "run", "stopped", "started"}]
    assert calls == ["stopped", "run", f"{way}_from", "started"]


@pytest.mark.parametrize("way", ["rewind", "clone"])
async def test_nothing_is_replaced_while_the_leader_that_it_is_held_against_is_silent(way):
    postgres = Told(run=LeaderSilent("no answer"))
    with pytest.raises(NodeError):
        await getattr(postgres, way)("denver-a")
    assert not REPLACES & set(postgres.calls)


async def test_a_clone_after_a_rewind_that_failed_sets_aside_again():
    """The one who does it knows by itself what it has written down already."""
    postgres = Told(rewind_from=NeedsClone("its WAL is gone"))
    with pytest.raises(NeedsClone):
        await postgres.rewind("denver-a")
    await postgres.clone("denver-a")
    assert postgres.calls.count("run") == 2
