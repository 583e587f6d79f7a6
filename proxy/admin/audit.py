"""Who did what? What one process has to say for the audit log, on its way to the chain and to the stream (SPEC 14).

Denials, tenant conflicts, admin actions and accesses to sensitive features are a line each; everything else is counted,
a line a minute (`rollup`). Of what anybody can cause, there is a bound on lines: they must not fill a disk.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from proxy.admin.access import Actor
from proxy.admin.chain import Line, Record
from proxy.policy.message import Request
from proxy.policy.outcome import Accessed

MAX_UNENTERED = 10_000  # records that a writer who is slow may leave waiting
MOST_A_MINUTE = 600  # lines of one kind that anybody could cause; what is more is counted
SETTLED = 1.0  # seconds for which the answer to an admin may wait for its line
_LONGEST = 512  # characters of a text that comes from outside

# What needs no rights to cause: it must not fill a disk.
_UNBIDDEN = frozenset({"denied", "tenant-conflict"})

Enter = Callable[[Sequence[Record]], Awaitable[list[Line]]]


class Audit:
    """`record` never waits: a task of its own brings records to the ledger, wherever that is, in their order.

    `entered` hears of the lines that they have become. `worker`: which of several processes this is.
    """

    def __init__(
        self,
        enter: Enter,
        clock: Callable[[], float],
        *,
        entered: Callable[[Sequence[Line]], None] = lambda lines: None,
        worker: int | None = None,
    ) -> None:
        self._enter = enter
        self._clock = clock
        self._entered = entered
        self._worker = worker
        self._records: list[Record] = []
        self._settled: asyncio.Future[None] | None = None  # of the records that are collected now
        self._last: asyncio.Future[None] | None = None
        self._carrying: asyncio.Task[None] | None = None
        self._minute = 0
        self._counted: Counter[str] = Counter()
        self.lost = 0
        self.denied = {"401": 0, "403": 0}  # of all, also of those that are only counted

    def record(
        self,
        event: str,
        actor: Actor | None = None,
        *,
        result: str = "done",
        tenant: str | None = None,
        target: Mapping[str, object] | None = None,
        reason: str | None = None,
    ) -> bool:
        """Write one line. False: there are too many of its kind, it was only counted."""
        if event == "denied":
            self.denied[result] = self.denied.get(result, 0) + 1
        if not self._has_room(event, unbidden=event in _UNBIDDEN):
            return False
        who = None if actor is None else {"name": actor.name, "role": actor.role, "peer": actor.peer}
        self._append(event, who, result, tenant, target, reason)
        return True

    def accessed(self, request: Request, outcome: Accessed, status: int) -> None:
        """Somebody asked for what is sensitive: who, what, and what became of it; never the token, query or body."""
        if not self._has_room("sensitive-access", unbidden=not outcome.tenant):
            return
        who = {"name": outcome.user, "role": None, "peer": request.peer}
        target = {"request": f"{request.method} {request.path}", "feature": outcome.feature, "key": outcome.key}
        result = f"{'hit' if outcome.hit else outcome.reason.value} {status}"
        self._append("sensitive-access", who, result, outcome.tenant or None, target, None)

    async def settled(self) -> None:
        """Until what was recorded so far is in the ledger, or SETTLED seconds: a purge must not hang on a disk."""
        if self._last is not None and not self._last.done():
            await asyncio.wait((self._last,), timeout=SETTLED)

    async def close(self) -> None:
        """Until what was recorded is in the ledger, or `SETTLED` seconds: then it is lost."""
        self._tell_of_the_uncounted()
        if self._carrying is not None:
            _, left = await asyncio.wait((self._carrying,), timeout=SETTLED)
            if left:
                self._carrying.cancel()
                self.lost += len(self._records)

    def _has_room(self, event: str, *, unbidden: bool) -> bool:
        """Whether it is to be a line; otherwise it is counted. `unbidden`: anybody can cause it."""
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._tell_of_the_uncounted()
            self._minute = minute
        self._counted[event] += unbidden
        return not unbidden or self._counted[event] <= MOST_A_MINUTE

    def _append(
        self, event: str, actor: Mapping[str, object] | None, result: str, tenant: str | None,
        target: Mapping[str, object] | None, reason: str | None,
    ) -> None:  # fmt: skip
        if len(self._records) >= MAX_UNENTERED:
            self.lost += 1
            return
        record: dict[str, Any] = {
            "time": time_text(self._clock()), "event": event, "actor": _plain(actor), "tenant": _plain(tenant),
            "target": _plain(target or {}), "result": result, "reason": _plain(reason),
        }  # fmt: skip
        if self._worker is not None:
            record["worker"] = self._worker
        self._records.append(record)
        if self._settled is None:
            self._settled = self._last = asyncio.get_running_loop().create_future()
        if self._carrying is None:
            self._carrying = asyncio.get_running_loop().create_task(self._carry())

    async def _carry(self) -> None:
        try:
            while self._records:
                batch, self._records = self._records, []
                settled, self._settled = self._settled, None
                lines = await self._enter(batch)
                self._entered(lines)
                if settled is not None and not settled.done():
                    settled.set_result(None)
        finally:
            self._carrying = None

    def _tell_of_the_uncounted(self) -> None:
        for event, count in self._counted.items():
            if count > MOST_A_MINUTE:
                self._append(event, None, "counted", None, {"more": count - MOST_A_MINUTE}, None)
        self._counted.clear()


def _plain(value: Any) -> Any:
    """As JSON can say it: what comes from outside may be no text at all, and may be long."""
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def time_text(seconds: float) -> str:
    """As lines have it: they are compared as texts."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_asked_for(
    line: Line, *, tenant: str | None = None, actor: str | None = None, event: str | None = None, since: str = ""
) -> bool:
    """Whether a line is about this tenant, by this name, of this kind and not older than that."""
    return (
        (tenant is None or line["tenant"] == tenant)
        and (actor is None or (line["actor"] or {}).get("name") == actor)
        and (event is None or line["event"] == event)
        and line["time"] >= since
    )
