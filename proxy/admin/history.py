"""Who did this? The last lines of the audit log of all sidecars, page by page, and the last purges of this one."""

from collections.abc import Callable, Iterator

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked
from proxy.admin.audit import is_asked_for, time_text
from proxy.admin.chain import Line
from proxy.admin.endpoint import Endpoint, number
from proxy.admin.problems import Refused, answer, shown
from proxy.admin.sight import Sight
from proxy.admin.trail import Trail, is_cursor

_MOST = 1000
_LONGEST = 30 * 86400.0
_SHARED = "what all sidecars of this store have audited lately; the log itself has all of it"
_OWN = "the last lines of this sidecar: the store does not answer"


class History:
    """`GET /api/audit`."""

    def __init__(self, trail: Trail, sight: Sight, unwritten: Callable[[], int], clock: Callable[[], float]) -> None:
        self._trail = trail
        self._sight = sight
        self._unwritten = unwritten
        self._clock = clock

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "GET", "/api/audit", self.audit, "The last audit lines and purges, the newest first.", (Role.INSPECTOR,),
            {
                "since": "how far back, such as 2h",
                "tenant": "only about this tenant",
                "actor": "only what this name did",
                "event": "only this: purge, denied, bypass-on, sensitive-access, rollup, ...",
                "limit": number("how many lines (100)", 1, _MOST),
                "cursor": "where the page before has ended: its next",
            },
        )  # fmt: skip

    async def audit(self, asked: Asked) -> web.Response:
        tenant, limit = asked.tenant(), asked.number("limit", 100, 1, _MOST)
        actor, event, cursor = asked.text("actor"), asked.text("event"), asked.text("cursor")
        if cursor is not None and not is_cursor(cursor):
            raise Refused(f"{shown(cursor)} is not a cursor that was given out here", field="cursor")
        back = asked.duration("since", _LONGEST)
        since = 0.0 if back is None else self._clock() - back
        begin = time_text(since)

        def wanted(line: Line) -> bool:
            return is_asked_for(line, tenant=tenant, actor=actor, event=event, since=begin)

        page = await self._trail.page(wanted, cursor=cursor, limit=limit, since=since)
        seen = await self._sight.all(purges=True)
        purges = [
            {"at": each.at, "by": each.by, "tenant": space or None, "tags": list(tags), "soft": each.soft,
             "accepted": each.accepted}
            for each in seen.purges
            if each.at >= since
            for space, tags in each.tags.items()
            if tenant in (None, space)
        ]  # fmt: skip
        return answer(
            {
                "lines": page.lines, "next": page.next, "of": _SHARED if page.shared else _OWN,
                "purges": purges[:limit] if cursor is None else [], "unwritten": self._unwritten(),
            }
        )  # fmt: skip
