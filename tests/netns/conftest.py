"""`network` and `agents` of tests whose places are network namespaces. Everything else is as in `tests.agents`."""

from collections.abc import Iterator

import pytest

from tests.agents import LEASE_TTL, Pair, run_pair
from tests.netns.network import Network, network, unavailable


@pytest.fixture(scope="module", name="network")
def _network() -> Iterator[Network]:
    if reason := unavailable():
        pytest.skip(reason)
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def agents(network: Network) -> Iterator[Pair]:
    """As of `tests.agents`, each site and each member of etcd in a namespace of its own."""
    with run_pair(network.hosts(), lease_ttl=LEASE_TTL) as made:
        yield made
