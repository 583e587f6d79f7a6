"""Who writes the audit log? One process of a sidecar: the lines of all its workers are one chain."""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from proxy.admin.chain import START, Form, Line, Record, hash_of, linked
from proxy.admin.scribe import Scribe
from proxy.errors import ConfigError

KEPT = 2000  # lines that the admin API can show where the store does not
MAX_WAITING = 10_000  # lines that a slow disk may leave waiting
LAST = 1.0  # seconds that the end may wait for a disk, or for a reader that has stopped
_TAIL = 256 << 10  # enough of a file's end to hold its last line

Failed = Callable[[str], None]


def _private(path: str, flags: int) -> int:
    """Names of people are in it: a new file is for its owner."""
    return os.open(path, flags, 0o600)


class AuditFile:
    """Where lines go, whole and in order."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last_hash(self) -> str:
        """Of the last whole line there is, so that a restart goes on with the chain; START when there is none."""
        # made here, so that a place that cannot be written is known at the start
        with open(self._path, "a+b", opener=_private) as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read()
            if tail and not tail.endswith(b"\n"):
                # half a line, as a machine that went down leaves it: the next one is a line by itself
                file.write(b"\n")
        return next(filter(None, map(hash_of, reversed(tail.splitlines()))), START)

    def write(self, lines: bytes) -> None:
        with open(self._path, "ab", buffering=0, opener=_private) as file:
            whole = file.seek(0, 2)
            try:
                written = file.write(lines)
            except OSError:
                written = -1
            if written != len(lines):
                file.truncate(whole)  # half a line would break the chain for good
                raise OSError("there is no room for the audit log")


class AuditStream:
    """The same for standard output: its chain begins with the process. No buffer keeps what is then sent again."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._begun = b""  # of lines that did not fit as a whole and will come again

    def last_hash(self) -> str:
        return START

    def write(self, lines: bytes) -> None:
        begun, self._begun = self._begun, b""
        rest = lines[len(begun) :] if lines.startswith(begun) else b"\n" + lines
        while rest:
            try:
                written = os.write(self._descriptor, rest)
            except OSError:
                self._begun = lines[: max(0, len(lines) - len(rest))]
                raise
            rest = rest[written:]


class Ledger:
    """The one chain. `sink` None: it is only kept here. `failed` hears why something cannot be written."""

    def __init__(self, sink: AuditFile | AuditStream | None, failed: Failed, *, form: Form = "native") -> None:
        self._scribe = Scribe(sink.write) if sink is not None else None
        self._under_way = 0
        self._failed = failed
        self._form = form
        self._previous = sink.last_hash() if sink is not None else START
        self._number = 0
        self._kept: deque[Line] = deque(maxlen=KEPT)
        self._waiting: deque[bytes] = deque()
        self._writing = asyncio.Lock()
        self.lost = 0

    async def enter(self, records: Sequence[Record]) -> list[Line]:
        """The lines of these records; they are written when this returns, or wait for a disk that has no room."""
        lines = []
        for record in records:
            self._number += 1
            line, written = linked(record, self._number, self._previous, self._form)
            self._previous = line["hash"]
            self._kept.append(line)
            lines.append(line)
            if self._scribe is not None:
                self._await_writing(written)
        async with self._writing:  # what entered first is written first
            await self._write()
        return lines

    def recent(self) -> list[Line]:
        """The last lines, the newest first."""
        return list(reversed(self._kept))

    async def close(self) -> None:
        """Until what was entered is written, or cannot be: nobody is waited for longer than `LAST` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST), self._writing:
                await self._write()
                return
        lines = self._under_way + len(self._waiting)
        self.lost += lines
        self._failed(f"nobody took the last {lines} lines")

    def _await_writing(self, written: bytes) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(written)

    async def _write(self) -> None:
        """What waits, in a thread: a disk may take its time. What cannot be written waits for the next line."""
        if self._scribe is None or not self._waiting:
            return
        batch = list(self._waiting)
        self._waiting.clear()
        self._under_way = len(batch)
        try:
            await self._scribe.written(b"".join(batch))
            self._under_way = 0
        except (OSError, ValueError) as error:
            self._under_way = 0
            self._waiting.extendleft(reversed(batch))
            self._failed(f"{type(error).__name__}: {error}")


def opened(where: str, failed: Failed, *, form: Form = "native") -> Ledger:
    """The log that SIDECACHE_AUDIT_LOG names: off, stdout or a file. ConfigError when that cannot be written."""
    try:
        sink = None if where == "off" else AuditStream() if where == "stdout" else AuditFile(Path(where))
        return Ledger(sink, failed, form=form)
    except OSError as error:
        raise ConfigError(f"SIDECACHE_AUDIT_LOG: cannot use {where!r}: {(error.strerror or '').lower()}") from None
