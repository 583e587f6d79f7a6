"""Who did this? The last lines of the audit log, and the last purges."""

from collections.abc import Callable, Iterator

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint
from proxy.admin.problems import answer
from proxy.cache.purges import Purges

_MOST = 1000
_LONGEST = 30 * 86400.0


class History:
    """`GET /api/audit`: what this process remembers; the log itself has all of it."""

    def __init__(self, audit: Audit, purges: Purges, clock: Callable[[], float]) -> None:
        self._audit = audit
        self._purges = purges
        self._clock = clock

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "GET", "/api/audit", self.audit, "The last audit lines and purges, the newest first.", (Role.INSPECTOR,),
            {
                "since": "how far back, such as 2h",
                "tenant": "only about this tenant",
                "actor": "only what this name did",
                "event": "only this: purge, denied, bypass-on, ...",
                "limit": f"how many lines, at most {_MOST} (100)",
            },
        )  # fmt: skip

    async def audit(self, asked: Asked) -> web.Response:
        tenant, limit = asked.tenant(), asked.number("limit", 100, 1, _MOST)
        back = asked.duration("since", _LONGEST)
        since = 0.0 if back is None else self._clock() - back
        lines = self._audit.recent(tenant=tenant, actor=asked.text("actor"), event=asked.text("event"), since=since)
        purges = [
            {"at": each.at, "by": each.by, "tenant": space or None, "tags": list(tags), "soft": each.soft,
             "accepted": each.accepted}
            for each in self._purges.last()
            if each.at >= since
            for space, tags in each.tags.items()
            if tenant in (None, space)
        ]  # fmt: skip
        return answer({"lines": lines[:limit], "purges": purges[:limit], "unwritten": self._audit.lost})
