"""Fixtures that every test may ask for."""

import os

import hypothesis
import pytest

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
    """What takes minutes runs where CI does."""
    if "CI" in os.environ:
        return
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.skip(reason="takes minutes more: set CI=true to run it"))
