"""The sockets that workers inherit, and what is said when there can be none."""

import socket

import pytest

from proxy.addresses import Address
from proxy.errors import ConfigError
from proxy.workers.listening import listening


async def test_a_free_address_is_listened_on():
    (made,) = await listening(Address("127.0.0.1", 0), "--listen")
    with made, socket.create_connection(made.getsockname(), timeout=5):
        assert not made.get_inheritable()  # only who is given it has it
        assert made.gettimeout() == 0


async def test_an_address_that_is_taken_is_one_line():
    (made,) = await listening(Address("127.0.0.1", 0), "--listen")
    with made:
        taken = Address("127.0.0.1", made.getsockname()[1])
        with pytest.raises(ConfigError) as error:
            await listening(taken, "--admin")
    assert str(error.value) == f"cannot listen on {taken}: address already in use; --admin HOST:PORT chooses another"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_that_is_not_ours_is_one_line(host):
    with pytest.raises(ConfigError, match=f"cannot listen on {host}:0: "):
        await listening(Address(host, 0), "--listen")
