"""A plugin: in CI as root a test that lacks a program has failed, for all programs are installed there (`.ci/run`).

Elsewhere a skip stays one, and its reason is printed. Some skips stay what they are in CI, too: what they need cannot
be had by installing it (the kernel, or a clone without history, does not have it), or they lack nothing.
"""

import os
from collections.abc import Generator, Mapping

import pytest

STAYS = (
    "no Docker engine: ",  # `.ci/docker` tried, and told why it could not have one
    "Jasmin's SMPP server needs Python 3.12 or older",  # an SMSC of somebody else's
    "PostgreSQL 16 and later take the timeline of the last recovery into account",  # it cannot happen there
    "no network namespaces here: ",  # what the machine does not permit
    "this kernel has no loop devices",
    "volumes need loop devices",
    "the system's programs cannot be hidden: ",
    "nobody cannot reach ",  # an ordinary user, and where Python lies
    "there is no git here",
    "one of each kind is run: ",
    "the version before this one is not in the history that is here: ",
)


def lacks(reason: str, environment: Mapping[str, str], uid: int) -> bool:
    """Whether a test that is skipped for this reason should have run here."""
    return "CI" in environment and uid == 0 and not reason.startswith(STAYS)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if lacks(reason, os.environ, os.geteuid()):
            report.outcome = "failed"
            report.longrepr = f"skipped, where CI=true and root run everything: {reason}"
    return report
