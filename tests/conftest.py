"""Fixtures that every test may ask for."""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import structlog

import sitecontrol.etcd  # noqa: F401 # before any fixture imports grpc: it tells grpc to keep out of forked children

pytest_plugins = (
    "tests.postgres",
    "tests.etcd",
    "tests.message_store",
    "tests.agents",
    "tests.smpp_links",
    "tests.several_agents",
    "tests.skips",
    "tests.one_lab_at_a_time",
)

# The machine may be busy: slowness of a single example is no finding.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes runs where CI does; of what takes an hour, one of each kind."""
    told = os.environ.get("CI")
    for item in items:
        if item.get_closest_marker("long") is not None and told is None:
            item.add_marker(pytest.mark.skip(reason="takes minutes more: set CI=true to run it"))
        elif item.get_closest_marker("whole") is not None and told != "whole":
            item.add_marker(pytest.mark.skip(reason="one of each kind is run: set CI=whole to run all"))


@pytest.fixture(autouse=True)
def loggers_of_a_process_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command run inside a test sets logging up for good, as for a process of its own: each logger that it uses would
    write to its closed output ever after, and no later test could read it.
    """
    configure, called = structlog.configure, []

    def configure_for_now(**given: Any) -> None:
        called.append(given)
        configure(**{**given, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", configure_for_now)
    yield
    if called:
        structlog.reset_defaults()
