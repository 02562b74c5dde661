"""Fixtures that every test may ask for."""

import sitecontrol.etcd  # noqa: F401 # before any fixture imports grpc: it tells grpc to keep out of forked children

pytest_plugins = ("tests.postgres", "tests.etcd", "tests.message_store", "tests.agents")
