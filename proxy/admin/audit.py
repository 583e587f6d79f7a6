"""Who did what, and can nobody rewrite it unseen? JSON Lines, each with the hash of the one before (SPEC 14).

A line's `hash` is the SHA-256 of the line without it; `previous` is the hash of the line before. Whoever changes, drops
or moves a line breaks the chain from there on. Lines cut off at the end leave a shorter, whole chain, and so does
whoever makes all hashes anew: `verify` tells the last hash, to compare with one that was kept elsewhere.
"""

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import orjson

from proxy.admin.access import Actor
from proxy.errors import ConfigError

START = "0" * 64  # before the first line
KEPT = 2000  # lines that the admin API can show
MAX_WAITING = 10_000  # lines that a slow disk may leave waiting
MOST_A_MINUTE = 600  # lines of one kind that anybody could cause; what is more is counted
_TAIL = 64 << 10  # enough of a file's end to hold its last line

# What needs no rights to cause: it must not fill a disk.
_UNBIDDEN = frozenset({"denied", "tenant-conflict"})

Failed = Callable[[str], None]


class AuditFile:
    """Where lines go, whole and in order."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def last_hash(self) -> str:
        """Of the last line there is, so that a restart goes on with the chain; START when there is none."""
        with self._path.open("a+b") as file:  # made here, so that a place that cannot be written is known at the start
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            lines = file.read().splitlines()
        record = _parsed(lines[-1]) if lines else None
        return str(record["hash"]) if record is not None and isinstance(record.get("hash"), str) else START

    def write(self, lines: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            whole = file.seek(0, 2)
            try:
                written = file.write(lines)
            except OSError:
                written = -1
            if written != len(lines):
                file.truncate(whole)  # half a line would break the chain for good
                raise OSError("there is no room for the audit log")


class AuditStream:
    """The same for standard output: its chain begins with the process."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def last_hash(self) -> str:
        return START

    def write(self, lines: bytes) -> None:
        stream = self._stream if self._stream is not None else sys.stdout
        stream.write(lines.decode())
        stream.flush()


class Audit:
    """The log of one process. `record` never waits: a task of its own writes. `sink` None: it is only kept here."""

    def __init__(self, sink: AuditFile | AuditStream | None, clock: Callable[[], float], failed: Failed) -> None:
        self._sink = sink
        self._clock = clock
        self._failed = failed
        self._previous = sink.last_hash() if sink is not None else START
        self._number = 0
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._waiting: deque[bytes] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._minute = 0
        self._counted: Counter[str] = Counter()
        self.lost = 0

    def record(
        self,
        event: str,
        actor: Actor | None = None,
        *,
        result: str = "done",
        tenant: str | None = None,
        target: Mapping[str, object] | None = None,
        reason: str | None = None,
    ) -> int | None:
        """Write one line; its number. None: there are too many of its kind, it was only counted."""
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._tell_of_the_uncounted()
            self._minute = minute
        if event in _UNBIDDEN:
            self._counted[event] += 1
            if self._counted[event] > MOST_A_MINUTE:
                return None
        self._append(event, actor, result, tenant, target, reason)
        return self._number

    def recent(
        self, *, tenant: str | None = None, actor: str | None = None, event: str | None = None, since: float = 0.0
    ) -> list[dict[str, Any]]:
        """The last lines, the newest first; with `tenant` only those about it."""
        begin = _time(since)
        return [
            line
            for line in reversed(self._kept)
            if (tenant is None or line["tenant"] == tenant)
            and (actor is None or (line["actor"] or {}).get("name") == actor)
            and (event is None or line["event"] == event)
            and line["time"] >= begin
        ]

    async def close(self) -> None:
        """Until what was recorded is written, or cannot be."""
        self._tell_of_the_uncounted()
        if self._writing is not None:
            await self._writing
        if self._waiting:
            await self._write()

    def _append(
        self, event: str, actor: Actor | None, result: str, tenant: str | None, target: Mapping[str, object] | None,
        reason: str | None,
    ) -> None:  # fmt: skip
        self._number += 1
        who = None if actor is None else {"name": actor.name, "role": actor.role, "peer": actor.peer}
        line: dict[str, Any] = {
            "log": "audit", "time": _time(self._clock()), "number": self._number, "event": event, "actor": who,
            "tenant": tenant, "target": dict(target or {}), "result": result, "reason": reason,
            "previous": self._previous,
        }  # fmt: skip
        self._previous = line["hash"] = _hash(line)
        self._kept.append(line)
        if self._sink is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    def _tell_of_the_uncounted(self) -> None:
        for event, count in self._counted.items():
            if count > MOST_A_MINUTE:
                self._append(event, None, "counted", None, {"more": count - MOST_A_MINUTE}, None)
        self._counted.clear()

    async def _write(self) -> None:
        """What waits, in a thread: a disk may take its time. What cannot be written waits for the next line."""
        sink = self._sink
        assert sink is not None, "lines wait for a sink only"
        try:
            while self._waiting:
                batch = list(self._waiting)
                self._waiting.clear()
                try:
                    await asyncio.to_thread(sink.write, b"".join(batch))
                except (OSError, ValueError) as error:
                    self._waiting.extendleft(reversed(batch))
                    self._failed(f"{type(error).__name__}: {error}")
                    return
        finally:
            self._writing = None


def opened(where: str, clock: Callable[[], float], failed: Failed, *, worker: int | None = None) -> Audit:
    """The log that SIDECACHE_AUDIT_LOG names: off, stdout or a file. ConfigError when that cannot be written.

    A chain has one writer: of several workers each has a file of its own, `audit.jsonl` becomes `audit.0.jsonl`.
    """
    if worker is not None and where not in ("off", "stdout"):
        where = str(Path(where).with_suffix(f".{worker}{Path(where).suffix}"))
    try:
        sink = None if where == "off" else AuditStream() if where == "stdout" else AuditFile(Path(where))
        return Audit(sink, clock, failed)
    except OSError as error:
        raise ConfigError(f"SIDECACHE_AUDIT_LOG: cannot use {where!r}: {(error.strerror or '').lower()}") from None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a chain. `broken_at` None: every line is as it was written."""

    lines: int
    last_hash: str
    broken_at: int | None = None  # a line's place in the file, from 1
    problem: str = ""


def verify(lines: Iterable[bytes]) -> Verdict:
    """Follow the chain. Only a process's first line may begin a new one (in what was kept of a standard output)."""
    previous: str | None = None
    count = 0
    for count, line in enumerate(lines, 1):
        record = _parsed(line)
        if record is None:
            return Verdict(count, previous or START, count, "is no line of an audit log")
        said = record.pop("hash", None)
        if said != _hash(record):
            return Verdict(count, previous or START, count, "was changed")
        begins = record.get("previous") == START and record.get("number") == 1
        if previous is not None and record.get("previous") != previous and not begins:
            return Verdict(count, previous, count, "does not follow the line before: lines were dropped or moved")
        previous = said
    return Verdict(count, previous or START)


def _hash(line: Mapping[str, object]) -> str:
    return sha256(orjson.dumps(line, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
