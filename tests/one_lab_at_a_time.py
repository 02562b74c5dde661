"""A plugin: whole labs run one after the other, on one worker, while the others run the rest of the suite.

Two labs side by side are thirty processes that vote, probe and write all the while: on two cores each takes from the
other what its drill measures, and a machine that is slow besides fails both.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

LABS = "tests/drills/"


class OneLabAtATime(LoadFileScheduling):
    """A file's tests stay together; those of all labs, too."""

    def _split_scope(self, nodeid: str) -> str:
        return LABS if nodeid.startswith(LABS) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)  # without xdist nothing runs beside a lab
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneLabAtATime | None:
    return OneLabAtATime(config, log) if config.getoption("dist") == "loadfile" else None
