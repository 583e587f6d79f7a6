"""What does an open dashboard see? One frame each turn, made once for all who may see the same, and for nobody else."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from proxy.admin.access import Actor, Role
from proxy.admin.asked import Asked
from proxy.admin.cookie import cookie_name
from proxy.admin.endpoint import Endpoint
from proxy.admin.health import Health
from proxy.admin.lately import Lately
from proxy.admin.problems import Refused
from proxy.admin.sessions import Sessions
from proxy.admin.status import Status
from proxy.live_rules import LiveRules
from proxy.telemetry.course import COLUMNS, Course
from proxy.telemetry.recent import Seen
from proxy.telemetry.traffic import Traffic

MOST_VIEWERS = 16
MOST_OF_ONE = 4  # of these one name may have so many: nobody keeps all others from watching
MOST_REQUESTS = 100  # of one frame; how many more there were is said
STALLED = 30.0  # seconds for which a viewer may not read

_SHARE = 0.01  # of the time may go into telling who keeps how much


@dataclass(frozen=True, slots=True)
class Scope:
    """What of it somebody may see."""

    tenant: str | None
    paths: bool  # those that were really asked for; otherwise their routes

    @classmethod
    def of(cls, actor: Actor) -> "Scope":
        return cls(actor.tenant, actor.may(Role.INSPECTOR))


class Live:
    """`GET /api/live`."""

    def __init__(
        self, status: Status, lately: Lately, course: Course, rules: LiveRules, traffic: Traffic, health: Health,
        sessions: Sessions,
    ) -> None:  # fmt: skip
        self._status = status
        self._lately = lately
        self._course = course
        self._rules = rules
        self._traffic = traffic
        self._health = health
        self._sessions = sessions
        self._making = asyncio.Lock()
        self._made_at = 0  # the turn that what follows is of
        self._frames: dict[Scope, bytes] = {}
        self._held: dict[str | None, tuple[float, dict[str, Any]]] = {}  # and until when it will do
        self._new: list[tuple[str, Seen]] = []
        self._after: dict[str, int] | None = None  # up to where each process's requests were told; None: to nobody yet
        self._viewers = Counter[str]()  # by name

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "GET", "/api/live", self.live, "Status, figures and requests as they come, as server-sent events.",
            (Role.VIEWER,),
            answers={
                200: "`past` once, then `now` each turn.", 429: "Too many of this name watch.",
                503: "Draining, or too many watch.",
            },
        )  # fmt: skip

    async def live(self, asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        if asked.request.method == "HEAD":
            return response
        if self._health.draining:
            raise Refused("This sidecar is about to end.", status=503)
        name = asked.actor.name
        if self._viewers[name] >= MOST_OF_ONE:
            raise Refused(f"{MOST_OF_ONE} dashboards of {name} watch already; close one.", status=429)
        if self._viewers.total() >= MOST_VIEWERS:
            raise Refused(f"{MOST_VIEWERS} dashboards watch already; close one.", status=503)
        self._viewers[name] += 1
        try:
            await response.prepare(asked.request)
            await self._follow(asked, response)
        except (ConnectionError, TimeoutError):
            pass  # it was closed, or is not read: the page comes again when somebody looks at it
        finally:
            self._viewers[name] -= 1
            if not self._viewers.total():
                self._after = None
                self._held.clear()
        return response

    async def _follow(self, asked: Asked, response: web.StreamResponse) -> None:
        scope = Scope.of(asked.actor)
        session = asked.request.cookies.get(cookie_name(asked.request.host))
        by_session = session is not None and self._sessions.find(session) is not None
        await _write(response, await self._past(scope))
        while not self._course.closed:
            frame = await self._now(scope)
            await _write(response, frame)
            if self._health.draining:
                break
            await self._course.turned()
            if by_session and self._sessions.find(session or "") is None:
                await _write(response, _event("end", {"why": "session"}))
                return
        await _write(response, _event("end", {"why": "draining"}))

    async def _past(self, scope: Scope) -> bytes:
        """What was before this viewer came."""
        seen = [(process, each) for process, listed in await self._lately.seen({}) for each in listed]
        told: dict[str, Any] = {"requests": self._requests(seen, scope)}
        if scope.tenant is None:
            told |= {"columns": COLUMNS, "rows": self._course.rows()}
        return _event("past", told)

    async def _now(self, scope: Scope) -> bytes:
        """This turn's frame."""
        async with self._making:  # who asks meanwhile gets the one that is being made
            if self._made_at != self._course.number or self._after is None:
                await self._gather()
            frame = self._frames.get(scope)
            if frame is None:
                frame = self._frames[scope] = _event("now", await self._shown(scope))
            return frame

    async def _gather(self) -> None:
        begins = self._after is None
        after = self._after or {}
        self._made_at = self._course.number
        self._frames.clear()
        found = [(process, each) for process, listed in await self._lately.seen(after) for each in listed]
        self._after = after | {process: each.number for process, each in found}
        self._new = [] if begins else found  # the first viewer has just been told of them

    async def _shown(self, scope: Scope) -> dict[str, Any]:
        told: dict[str, Any] = {
            "status": {**await self._status.state(scope.tenant), **await self._kept(scope.tenant)},
            "requests": self._requests(self._new, scope)[-MOST_REQUESTS:],
            "more": max(0, len(self._new) - MOST_REQUESTS) if scope.tenant is None else 0,
        }
        if scope.tenant is None:  # these are counted over all tenants
            told |= {
                "row": self._course.rows(1), "minute": self._course.last_minute(),
                "total": self._course.since_start(),
            }  # fmt: skip
        return told

    async def _kept(self, tenant: str | None) -> dict[str, Any]:
        """Who keeps how much; with many tenants this takes a moment, and is then told more seldom."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        until, told = self._held.get(tenant, (begun, {}))
        if begun >= until:
            told = await self._status.held(tenant)
            self._held[tenant] = (begun + (clock() - begun) / _SHARE, told)
        return told

    def _requests(self, seen: Iterable[tuple[str, Seen]], scope: Scope) -> list[dict[str, Any]]:
        routes = self._rules.current.routes
        sensitive = {route.feature for route in routes if route.sensitive}
        shown = []
        for process, each in sorted(seen, key=lambda pair: pair[1].at):
            if scope.tenant not in (None, each.tenant):
                continue
            plain = scope.paths and each.feature not in sensitive
            request = f"{each.method} {each.path}" if plain else self._traffic.route_of(each.method, each.path)
            shown.append({
                "id": f"{process}.{each.number}", "at": round(each.at, 3), "request": request, "plain": plain,
                "status": each.status, "ms": round(each.seconds * 1e3, 2), "result": each.result,
                "reason": each.reason, "feature": each.feature or None, "tenant": each.tenant, "said": each.said,
            })  # fmt: skip
        return shown


async def _write(response: web.StreamResponse, frame: bytes) -> None:
    async with asyncio.timeout(STALLED):
        await response.write(frame)


def _event(name: str, value: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(value))
