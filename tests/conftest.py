"""Fixtures that every test may ask for."""

pytest_plugins = ("tests.postgres", "tests.etcd", "tests.message_store", "tests.agents")
