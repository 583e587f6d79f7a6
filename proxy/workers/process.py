"""How does a worker come to be? A new interpreter that inherits the sockets, and is told the rest on standard input.

Not a fork: the parent's loop, threads and connections are no business of its children.
"""

import asyncio
import pickle
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import proxy
from proxy.settings import Settings
from proxy.workers.seat import Assignment
from proxy.workers.shares import Shares

# As `python -m` would, but with nothing of the working directory on the path.
BOOT = (
    f"import sys; sys.path.append({str(Path(proxy.__file__).parents[1])!r}); from proxy.cli.worker import main; main()"
)


@dataclass(frozen=True, slots=True)
class Ports:
    """What all workers inherit: listening sockets, and whose turn it is at those of the data port."""

    data: Sequence[socket.socket]
    admin: Sequence[socket.socket]
    shares: Shares
    metrics: Sequence[socket.socket] = ()

    def close(self) -> None:
        for each in (*self.data, *self.admin, *self.metrics):
            each.close()


async def start(
    number: int, settings: Settings, rules: bytes, former: tuple[bytes, ...], ports: Ports, boot: str
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """The process, and the parent's end of its channel."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with theirs:
        assignment = Assignment(
            number, settings, rules, theirs.fileno(), tuple(each.fileno() for each in ports.data),
            tuple(each.fileno() for each in ports.admin), ports.shares.descriptor,
            tuple(each.fileno() for each in ports.metrics), former,
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", boot, "sidecache-worker", str(number),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(assignment.channel, *assignment.data, *assignment.admin, *assignment.metrics, assignment.shares),
            start_new_session=True,  # a terminal's Ctrl-C and hang-up are the parent's to deal with
        )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(assignment))  # from a parent to its child: nobody else can write there
    process.stdin.close()
    return process, ours
