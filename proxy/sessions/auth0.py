"""What has changed at Auth0 itself: roles, members, users? Its Events API, followed by one replica for all.

elected     by a lease in the store; whoever has it holds the one connection
resumed     behind the last message whose effects were taken, offset-only ones included; behind a time, where the
            service does not know that message any more
unordered   and at least once is all that the service promises: each event says when it happened, and a revocation
            is an instant
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp
import orjson

from proxy.errors import SidecacheError, StoreError
from proxy.policy.agreement import MAX_USER
from proxy.sessions.frames import Frame, Frames, TooLargeError
from proxy.sessions.notbefore import of_member, of_organisation, of_user
from proxy.stores.base import Store

LEASE, PLACE = "shared:auth0-events:leader", "shared:auth0-events:place"
LEASED = 15.0  # seconds without a renewal after which another replica follows
RENEWED = 5.0
KEPT = 30 * 86400.0
SAVED = 1.0  # seconds between two writes of the place
SILENCE = 90.0  # seconds without a byte after which a connection is dead
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_MARGIN = 120.0  # seconds that are read again where a place is not known any more
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

TYPES = (
    "organization.member.role.assigned", "organization.member.role.deleted", "organization.member.deleted",
    "organization.group.role.assigned", "organization.group.role.deleted", "organization.updated",
    "organization.deleted", "group.member.added", "group.member.deleted", "user.updated", "user.deleted",
)  # fmt: skip

Report = Callable[[str, Mapping[str, object]], None]


class EventsError(SidecacheError):
    """The service does not give events. `gone`: it does not know where we were; `refused`: our token is no good."""

    def __init__(self, why: str, *, gone: bool = False, refused: bool = False) -> None:
        super().__init__(why)
        self.gone = gone
        self.refused = refused


class Effects(Protocol):
    """What follows from an event: `Observer`."""

    async def ended(self, subjects: list[str], instant: float, *, why: str, tenant: str | None = None) -> bool: ...

    async def changed(self, subject: str, instant: float, tenant: str | None, *, why: str, rejects: bool) -> bool: ...


@dataclass(frozen=True, slots=True)
class Account:
    """Whose events, and as whom."""

    url: str  # https://tenant.eu.auth0.com
    client_id: str
    client_secret: str


@dataclass(frozen=True, slots=True)
class Place:
    """How far the events were taken: the service's own word for it, and when that was."""

    offset: str
    at: float

    def packed(self) -> bytes:
        return orjson.dumps([self.offset, self.at])


class Auth0Events:
    """Follows the events of one account while this replica is the elected one. `clock` gives unix seconds."""

    def __init__(
        self,
        account: Account,
        store: Store,
        effects: Effects,
        clock: Callable[[], float],
        me: str,
        *,
        updated: Callable[[str], None],
        report: Report,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`updated` hears of organisations whose data has changed."""
        self._account = account
        self._store = store
        self._effects = effects
        self._clock = clock
        self._me = me.encode()
        self._updated = updated
        self._report = report
        self._sleep = sleep
        self._place: Place | None = None
        self._saved_at = float("-inf")
        self._token: tuple[str, float] | None = None
        self._following: asyncio.Task[None] | None = None
        self._lost: str | None = None
        self.leads = False
        self.heard_at: float | None = None  # the last message, offset-only ones included
        self.counts: dict[str, int] = {"taken": 0, "passed-over": 0, "malformed": 0, "reconnected": 0, "failed": 0}

    async def run(self) -> None:
        """Until cancelled: follow while the lease is ours."""
        try:
            while True:
                self.leads = await self._elected()
                if self.leads and (self._following is None or self._following.done()):
                    if self._following is not None:
                        self._following.result()  # a defect: it is for whoever keeps this task
                    self._following = asyncio.get_running_loop().create_task(self._follow())
                elif not self.leads:
                    await self._stop()
                await self._sleep(RENEWED)
        finally:
            led, self.leads = self.leads, False
            await self._stop()
            if led:
                with suppress(StoreError):
                    await self._store.delete([LEASE])

    async def _elected(self) -> bool:
        try:
            if await self._store.claim(LEASE, self._me, LEASED):
                return True
            (holder,) = await self._store.get([LEASE])
            return holder == self._me and await self._store.replace(LEASE, self._me, LEASED)
        except StoreError:
            return False  # nobody can tell who leads; what another one hears cannot be told either

    async def _stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait((self._following,))
            self._following = None

    # One connection after the other

    async def _follow(self) -> None:
        pause = _FIRST_PAUSE
        timeout = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=SILENCE)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            self._place = await self._stored_place()
            while True:
                heard, frames = self.heard_at, Frames()
                try:
                    await self._connected(session, frames)
                    self.counts["reconnected"] += 1  # the service ends connections every few minutes
                except (EventsError, aiohttp.ClientError, OSError, TimeoutError, TooLargeError) as error:
                    self._failed(error)
                await self._save(now=True)
                pause = _FIRST_PAUSE if self.heard_at != heard else min(2 * pause, _LONGEST_PAUSE)
                await self._sleep(min(frames.retry, _LONGEST_PAUSE) if frames.retry is not None else pause)

    def _failed(self, error: Exception) -> None:
        self.counts["failed"] += 1
        if isinstance(error, EventsError):
            if error.refused:
                self._token = None
            if error.gone and self._place is not None:
                self._place = Place("", self._place.at)
        why = str(error) or type(error).__name__
        if self._lost != why:
            self._lost = why
            self._report("auth0-events-lost", {"error": why})

    async def _connected(self, session: aiohttp.ClientSession, frames: Frames) -> None:
        token = await self._access_token(session)
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        query = [("event_type", each) for each in TYPES]
        if self._place is not None and self._place.offset:
            headers["Last-Event-ID"] = self._place.offset
        else:
            since = self._place.at if self._place is not None else self._clock()
            query.append(("from_timestamp", _iso(since - _MARGIN)))
        url = f"{self._account.url}/api/v2/events"
        async with session.get(url, params=query, headers=headers, allow_redirects=False) as answer:
            if answer.status != 200 or answer.content_type != "text/event-stream":
                # what else a resumed connection is refused for, it cannot be resumed
                gone = answer.status in (400, 404, 410, 416) and "Last-Event-ID" in headers
                raise EventsError(
                    f"GET /api/v2/events: status {answer.status}", gone=gone, refused=answer.status in (401, 403)
                )
            async for chunk in answer.content.iter_any():
                for frame in frames.feed(chunk):
                    await self._take(frame)
                if self._lost is not None:
                    self._lost = None
                    self._report("auth0-events-heard", {})

    async def _access_token(self, session: aiohttp.ClientSession) -> str:
        now = self._clock()
        if self._token is not None and now < self._token[1]:
            return self._token[0]
        account = self._account
        asked = {
            "grant_type": "client_credentials", "client_id": account.client_id,
            "client_secret": account.client_secret, "audience": f"{account.url}/api/v2/",
        }  # fmt: skip
        async with session.post(f"{account.url}/oauth/token", json=asked, allow_redirects=False) as answer:
            if answer.status != 200:
                raise EventsError(f"POST /oauth/token: status {answer.status}: look at AUTH0_M2M_CLIENT_ID and _SECRET")
            said = _document((await answer.content.read(64 << 10)).decode("utf-8", "replace"))
        token, lifetime = said.get("access_token"), said.get("expires_in")
        if not isinstance(token, str) or not isinstance(lifetime, int):
            raise EventsError("POST /oauth/token: no token in the answer")
        self._token = token, now + max(30.0, lifetime - 60.0)
        return token

    # What they say

    async def _take(self, frame: Frame) -> None:
        self.heard_at = self._clock()
        if frame.event == "error":
            said = _document(frame.data)
            gone = "offset" in frame.data.lower() or "cursor" in frame.data.lower()
            raise EventsError(f"the service says: {str(said.get('error') or said or 'error')[:200]}", gone=gone)
        if frame.event != "offset-only":
            await self._apply(_document(frame.data).get("event"))
        # behind its effects: what comes twice does no harm, what is passed over would
        if frame.id:
            self._place = Place(frame.id, self._clock())
            await self._save()

    async def _apply(self, event: object) -> None:
        if not isinstance(event, dict):
            self.counts["malformed"] += 1
            return
        kind, data = event.get("type"), event.get("data")
        object_ = data.get("object") if isinstance(data, dict) else None
        if not isinstance(kind, str) or not isinstance(object_, dict):
            self.counts["malformed"] += 1
            return
        when = _instant(event.get("time"))
        known = await self._happened(kind, object_, when if when is not None else self._clock())
        self.counts["taken" if known else "passed-over"] += 1

    async def _happened(self, kind: str, object_: Mapping[str, Any], when: float) -> bool:
        """Whether it was something that has an effect here."""
        why = "auth0-event"
        org = _org(object_.get("organization")) or (_org(object_) if kind.startswith("organization.") else None)
        user = _user(object_.get("user")) or _user(object_.get("member")) or _user(object_)
        if kind.startswith("organization.member.") and org is not None and user is not None:
            if kind == "organization.member.deleted":
                await self._effects.ended([of_member(org, user)], when, why=why, tenant=org)
            else:
                await self._effects.changed(of_member(org, user), when, org, why=why, rejects=False)
        elif kind.startswith("organization.group.role.") and org is not None:
            await self._effects.changed(of_organisation(org), when, org, why=why, rejects=False)
        elif kind.startswith("group.member.") and user is not None:
            await self._effects.changed(of_user(user), when, None, why=why, rejects=False)
        elif kind == "organization.deleted" and org is not None:
            await self._effects.ended([of_organisation(org)], when, why=why, tenant=org)
        elif kind == "organization.updated" and org is not None:
            self._updated(org)
        elif user is not None and (
            kind == "user.deleted" or (kind == "user.updated" and object_.get("blocked") is True)
        ):
            await self._effects.ended([of_user(user)], when, why=why)
        else:
            return False
        return True

    # Where we are

    async def _stored_place(self) -> Place | None:
        """How far the one before has come. Nobody before: from now on."""
        with suppress(StoreError):
            (value,) = await self._store.get([PLACE])
            match _parsed(value) if value is not None else None:
                case [str(offset), int() | float() as at]:
                    return Place(offset, at)
                case _:
                    pass
        return self._place

    async def _save(self, *, now: bool = False) -> None:
        if self._place is None or (not now and self._clock() - self._saved_at < SAVED):
            return
        self._saved_at = self._clock()
        with suppress(StoreError):
            await self._store.set(PLACE, self._place.packed(), KEPT)


def _document(text: str) -> Mapping[str, Any]:
    said = _parsed(text.encode("utf-8", "replace"))
    return said if isinstance(said, dict) else {}


def _parsed(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except ValueError:
        return None


def _org(said: object) -> str | None:
    found = said.get("id") if isinstance(said, dict) else None
    return found if isinstance(found, str) and _TENANT.fullmatch(found) is not None else None


def _user(said: object) -> str | None:
    found = said.get("user_id") if isinstance(said, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= MAX_USER else None


def _instant(said: object) -> float | None:
    try:
        return datetime.fromisoformat(said).astimezone(UTC).timestamp() if isinstance(said, str) else None
    except (ValueError, OverflowError):
        return None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
