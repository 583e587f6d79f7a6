"""What was audited lately, anywhere? A capped stream in the shared store, for the admin port: the log itself has all.

A store that cannot be reached holds up nobody: lines wait for it, a bounded number of them.
"""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import orjson

from proxy.admin.chain import Line
from proxy.cache.background import Background
from proxy.errors import StoreError
from proxy.stores.base import Item, Store
from proxy.stores.streams import first_after, is_id, position

STREAM = "shared:audit"
MAX_ITEMS = 5000
KEPT_FOR = 30 * 86400.0  # seconds after the last line
MAX_WAITING = 1000  # lines that a store which cannot be reached may leave waiting
_PATIENCE = 1.0  # seconds
_SKEW = 60.0  # seconds by which the store's clock may differ from ours
_PER_ITEM = 10  # lines that came together
_READ = 250  # items at once
_MOST_READ = 2000  # items that one question looks at: it then tells where to go on
_CURSOR = re.compile(r"([0-9]+-[0-9]+)\.([0-9]{1,3})", re.ASCII)

Recent = Callable[[], Awaitable[list[Line]]]
Wanted = Callable[[Line], bool]


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines, the newest first. `next` None: there is nothing older. `shared`: they are those of all sidecars."""

    lines: list[Line]
    next: str | None
    shared: bool


class Trail:
    """`recent`: the last lines of this sidecar, for when the store does not answer."""

    def __init__(self, store: Store, background: Background, recent: Recent) -> None:
        self._store = store
        self._background = background
        self._recent = recent
        self._waiting: deque[Line] = deque()
        self._appending: asyncio.Task[None] | None = None
        self.lost = 0

    def add(self, lines: Sequence[Line]) -> None:
        self._waiting.extend(lines)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._go_on()

    async def page(self, wanted: Wanted, *, cursor: str | None, limit: int, since: float) -> Page:
        """The last lines that are wanted, before the place a cursor stands for.

        `since`, unix seconds: of what was appended before, no line is wanted.
        """
        self._go_on()
        if self._appending is not None:  # whoever did something a moment ago looks for it
            await asyncio.wait((self._appending,), timeout=_PATIENCE)
        try:
            return await self._page(wanted, cursor, limit, since)
        except StoreError:
            lines = [line for line in await self._recent() if wanted(line)]
            return Page(lines[:limit], None, shared=False)

    async def close(self) -> None:
        """Until what waits is in the store, or a second: it is in the log."""
        self._go_on()
        if self._appending is not None:
            await asyncio.wait((self._appending,), timeout=_PATIENCE)

    def _go_on(self) -> None:
        if self._waiting and self._appending is None:
            self._appending = self._background.start(self._append())

    async def _append(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_PER_ITEM, len(self._waiting)))]
                try:
                    await self._store.append(STREAM, {"lines": orjson.dumps(batch)}, MAX_ITEMS, KEPT_FOR)
                except StoreError:
                    self._waiting.extendleft(reversed(batch))  # until there is another line, or somebody looks
                    return
        finally:
            self._appending = None

    async def _page(self, wanted: Wanted, cursor: str | None, limit: int, since: float) -> Page:
        before, skipped = _place(cursor)
        found: list[Line] = []
        for _ in range(_MOST_READ // _READ):
            items = await self._store.latest(STREAM, before, _READ)
            for item in items:
                if position(item.id)[0] < (since - _SKEW) * 1000:
                    return Page(found, None, shared=True)
                for index, line in enumerate(_lines(item)):
                    if index < skipped:
                        continue
                    if not wanted(line):
                        continue
                    if len(found) == limit:
                        return Page(found, f"{item.id}.{index}", shared=True)
                    found.append(line)
                skipped = 0
            if len(items) < _READ:
                return Page(found, None, shared=True)
            before = items[-1].id
        return Page(found, f"{before}.{_PER_ITEM}", shared=True)


def is_cursor(text: str) -> bool:
    found = _CURSOR.fullmatch(text)
    return found is not None and is_id(found[1])


def _place(cursor: str | None) -> tuple[str, int]:
    """Before which item to read, and how many lines of the first one were shown."""
    if cursor is None:
        return "", 0
    id, _, skipped = cursor.partition(".")
    return first_after(id), int(skipped)


def _lines(item: Item) -> Iterator[Line]:
    """The newest first. What somebody else wrote there is no line."""
    try:
        lines = orjson.loads(item.fields.get("lines", b"[]"))
    except ValueError:
        return
    for line in reversed(lines) if isinstance(lines, list) else ():
        if isinstance(line, dict) and line.keys() >= _SHAPE and isinstance(line["time"], str):
            yield line


_SHAPE = frozenset({"time", "event", "actor", "tenant", "target", "result", "reason"})
