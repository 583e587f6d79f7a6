"""The sockets that workers inherit, and what is said when there can be none."""

import errno
import socket

import pytest

from proxy.addresses import Address
from proxy.errors import ConfigError
from proxy.workers.listening import bind, listening


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


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EADDRNOTAVAIL, "error while attempting to bind"), "cannot assign requested address"),
        (PermissionError(errno.EACCES, "error while attempting to bind"), "permission denied"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (OSError("no number"), "no number"),
    ],
)
async def test_an_address_that_cannot_be_used_is_one_line(error, reason):
    async def listen(host: str, port: int) -> None:
        raise error

    with pytest.raises(ConfigError) as caught:
        await bind(listen, Address("portal", 80), "--listen")
    assert str(caught.value) == f"cannot listen on portal:80: {reason}; --listen HOST:PORT chooses another"
