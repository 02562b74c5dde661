"""Fixtures that every test may ask for."""

import hypothesis

import sitecontrol.etcd  # noqa: F401 # before any fixture imports grpc: it tells grpc to keep out of forked children

pytest_plugins = (
    "tests.postgres",
    "tests.etcd",
    "tests.message_store",
    "tests.agents",
    "tests.several_agents",
)

# The machine may be busy: slowness of a single example is no finding.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")
