"""Servers that live as long as the test run: started by the first test that asks, empty for each."""

import pytest

from tests import servers


@pytest.fixture(scope="session")
def redis_at():
    if servers.REDIS is None:
        pytest.skip(servers.NO_REDIS)
    with servers.running(servers.redis_server(tls=servers.authority(), acl=True)) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_at():
    with servers.running(servers.valkey_server()) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_at():
    if servers.REDIS is None:
        pytest.skip(servers.NO_REDIS)
    with servers.running_cluster() as cluster:
        yield cluster
