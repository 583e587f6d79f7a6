"""Whose turn is it to take a connection? The worker's that has the fewest, by a few bytes of memory all have.

Whoever wakes up first would take all that come at once, and keep them: clients hold their connections for long.
"""

import mmap
import os
import struct
import tempfile

_SLOT = struct.Struct("=I")
_ABSENT = 2**32 - 1  # of a worker that takes none


class Share:
    """One worker's part of it."""

    def __init__(self, shares: "Shares", number: int) -> None:
        self._shares = shares
        self._number = number

    def has(self, connections: int) -> None:
        """What this worker has from now on."""
        self._shares.put(self._number, min(connections, _ABSENT - 1))

    def leaves(self) -> None:
        """It takes no more."""
        self._shares.put(self._number, _ABSENT)

    def is_before_others(self) -> bool:
        """Whether another worker has fewer connections than this one."""
        counts = self._shares.counts()
        return counts[self._number] > min(counts)


class Shares:
    """How many connections each worker has. `descriptor` is that of the memory."""

    def __init__(self, descriptor: int, count: int) -> None:
        self.descriptor = descriptor
        self._count = count
        self._memory = mmap.mmap(descriptor, count * _SLOT.size)

    def of(self, number: int) -> Share:
        return Share(self, number)

    def put(self, number: int, connections: int) -> None:
        _SLOT.pack_into(self._memory, number * _SLOT.size, connections)

    def counts(self) -> list[int]:
        return [count for (count,) in _SLOT.iter_unpack(self._memory[: self._count * _SLOT.size])]

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)


def new_shares(count: int) -> Shares:
    """For workers that are yet to be started; the memory ends with the last process that has it."""
    size = count * _SLOT.size
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("sidecache-shares")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    shares = Shares(descriptor, count)
    for number in range(count):
        shares.of(number).leaves()
    return shares
