"""What is there for readers of events below the reserved prefix? The stream, its long-poll twin, unread, a ticket."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import parse_qsl

import proxy.events
from proxy.errors import StoreError
from proxy.events.audience import MAX_TOPICS, METRICS, Reader, is_known
from proxy.events.cursor import BEGIN
from proxy.events.poll import MOST_WAIT, Polls, is_cursor
from proxy.events.stream import Start, Streams
from proxy.events.ticket import LIFETIME, Tickets, in_cookies
from proxy.identity.sources import IdentityResolver
from proxy.policy.cookies import TICKET
from proxy.policy.identity import Identity, Presented, Standing
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.rules.compile import RuleSet
from proxy.serving.cors import Cors
from proxy.serving.problem import problem
from proxy.serving.reply import Reply
from proxy.serving.reserved import Page
from proxy.serving.upstream import Body

_TOPIC = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*(\.\*)?")
_SCRIPT = (Path(proxy.events.__file__).parent / "events.js").read_bytes()
_OUTCOME = Outcome(Reason.RESERVED)
_NO_STORE = ("Cache-Control", "no-store")
_UNAVAILABLE = frozenset({Reason.KEYS_UNAVAILABLE})
_FORBIDDEN = {
    Reason.NO_TENANT: "The token names no organisation.",
    Reason.TENANT_CONFLICT: "The token and the request name different organisations.",
}
_REVOKED = ("WWW-Authenticate", 'Bearer error="invalid_token"')
_FULL = {
    "process": "Too many streams are open here.",
    "tenant": "Too many streams of this organisation are open here.",
    "user": "Too many streams of this user are open here.",
}


class Realtime:
    """Answers these paths. `clock` gives unix seconds; `standing` says what has become of a credential since."""

    def __init__(
        self,
        streams: Streams,
        polls: Polls,
        tickets: Tickets,
        identity: IdentityResolver,
        rules: Callable[[], RuleSet],
        clock: Callable[[], float],
        *,
        cors: Cors,
        standing: Callable[[Presented], Standing] = lambda presented: Standing.GOOD,
    ) -> None:
        self._streams = streams
        self._polls = polls
        self._tickets = tickets
        self._identity = identity
        self._rules = rules
        self._clock = clock
        self._cors = cors
        self._standing = standing

    def pages(self) -> dict[str, Page]:
        """By their names below the prefix."""
        return {
            "events": self._cors.page(("GET",), self._events),
            "events/unread": self._cors.page(("GET",), self._unread),
            "ticket": self._cors.page(("POST",), self._ticket),
            "events.js": self._script,
        }

    # Each path

    async def _events(self, request: Request, body: Body) -> Reply:
        asked = await self._asked(request)
        if isinstance(asked, Reply):
            return asked
        reader, identity, start, wait = asked
        stream = self._streams.admit(reader, identity, start)
        if isinstance(stream, str):
            return _refused(429, _FULL[stream], ("Retry-After", "10"))
        if wait is None:
            return _streaming(stream.run, stream.lost)
        try:
            polled = await self._polls.poll(reader, start, wait, stream.ended)
        except StoreError:
            return _refused(503, "The store does not answer.", ("Retry-After", "5"))
        finally:
            stream.lost()
        return _json(polled.document())

    async def _unread(self, request: Request, body: Body) -> Reply:
        asked = await self._asked(request)
        if isinstance(asked, Reply):
            return asked
        reader, _, start, _ = asked
        try:
            return _json(await self._polls.unread(reader, start))
        except StoreError:
            return _refused(503, "The store does not answer.", ("Retry-After", "5"))

    async def _ticket(self, request: Request, body: Body) -> Reply:
        identity = await self._who(request, by_ticket=False)
        if isinstance(identity, Reply):
            return identity
        ticket = self._tickets.make(identity, self._clock())
        if ticket is None:
            return _refused(409, "The caller has more roles than a cookie can hold; use a stream with a header.")
        cookie = f"{TICKET}={ticket}; Max-Age={LIFETIME}; Path=/; Secure; HttpOnly; SameSite=Strict"
        return Reply.own(204, Fields((("Set-Cookie", cookie), _NO_STORE)), b"", _OUTCOME)

    async def _script(self, request: Request, body: Body) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return _refused(405, "Only GET.", ("Allow", "GET, HEAD"))
        kind = ("Content-Type", "text/javascript; charset=utf-8")
        fields = Fields((kind, ("Cache-Control", "public, max-age=300"), ("X-Content-Type-Options", "nosniff")))
        return Reply.own(200, fields, _SCRIPT, _OUTCOME)

    # What is asked, and by whom

    async def _asked(self, request: Request) -> tuple[Reader, Identity, Start, float | None] | Reply:
        identity = await self._who(request)
        if isinstance(identity, Reply):
            return identity
        said = dict(parse_qsl(request.query or "", keep_blank_values=True, max_num_fields=64))
        topics = self._topics(said.get("topics"))
        if isinstance(topics, str):
            return _refused(400, f"topics: {topics}")
        after, wait = said.get("after"), said.get("wait")
        if after is not None and after != BEGIN and not is_cursor(after):
            return _refused(400, "after: is not the id of an event, nor 0 for all that are kept.")
        if wait is not None and (re.fullmatch("[0-9]{1,2}", wait, re.ASCII) is None or int(wait) > MOST_WAIT):
            return _refused(400, f"wait: is not a number of seconds from 0 to {MOST_WAIT:.0f}.")
        reader = Reader.of(identity, topics)
        if reader is None:
            return _refused(403, _FORBIDDEN[Reason.NO_TENANT])
        # a browser that comes back says what it has got by now; what the page once asked for is older
        start = Start(request.fields.get("last-event-id") or after)
        return reader, identity, start, None if wait is None else float(wait)

    def _topics(self, text: str | None) -> tuple[str, ...] | str:
        """The topics, or what is wrong with them."""
        if text is None:
            return ()
        topics = text.split(",")
        known = self._rules().events | {METRICS}
        if len(topics) > MAX_TOPICS:
            return f"are more than {MAX_TOPICS}."
        for number, topic in enumerate(topics, 1):
            if len(topic) > 80 or _TOPIC.fullmatch(topic) is None:
                return f"number {number} is not an event such as application.submitted, nor a part such as job.*"
            if not is_known(topic, known):
                near = get_close_matches(topic, sorted(known), n=1)
                return f"no event is called {topic!r} here" + (f" (did you mean {near[0]!r}?)" if near else ".")
        return tuple(topics)

    def _as_of_now(self, identity: Identity) -> Identity | Reply:
        match _standing_of(identity, self._standing):
            case Standing.GOOD:
                return identity
            case Standing.OUTDATED:  # rights have changed: until there is a new token, nobody knows to what
                return replace(identity, roles=frozenset())
            case Standing.UNKNOWN:
                return _refused(503, "Whether this session has ended is not known yet.", ("Retry-After", "2"))
            case Standing.REVOKED:
                return _refused(401, "This session has ended.", _REVOKED)

    async def _who(self, request: Request, *, by_ticket: bool = True) -> Identity | Reply:
        now = self._clock()
        found = await self._identity.resolve(request, {}, self._rules().identity, now)
        if found is Reason.NO_CREDENTIALS and by_ticket:
            ticket = in_cookies(request.fields.get("cookie"))
            holder = self._tickets.read(ticket, now) if ticket is not None else None
            found = holder if holder is not None else found
        if isinstance(found, Identity):
            return self._as_of_now(found)
        if found is Reason.REVOKED:
            return _refused(401, "This session has ended.", _REVOKED)
        if found in _FORBIDDEN:
            return _refused(403, _FORBIDDEN[found])
        if found in _UNAVAILABLE:
            return _refused(503, "The keys that tokens are checked with are not available.", ("Retry-After", "5"))
        error = "" if found is Reason.NO_CREDENTIALS else ' error="invalid_token"'
        return _refused(401, "A valid bearer token is needed.", ("WWW-Authenticate", f"Bearer{error}"))


def _standing_of(identity: Identity, standing: Callable[[Presented], Standing]) -> Standing:
    return Standing.GOOD if identity.presented is None else standing(identity.presented)


def _refused(status: int, detail: str, *more: tuple[str, str]) -> Reply:
    fields, body = problem(status, detail, *more)
    return Reply.own(status, fields, body, _OUTCOME)


def _json(body: bytes) -> Reply:
    fields = Fields((("Content-Type", "application/json"), _NO_STORE, ("X-Content-Type-Options", "nosniff")))
    return Reply.own(200, fields, body + b"\n", _OUTCOME)


def _streaming(run: Callable[..., Awaitable[None]], close: Callable[[], None]) -> Reply:
    fields = Fields(
        (
            ("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"),
            ("Cache-Status", _OUTCOME.cache_status()),
        )
    )  # fmt: skip
    return Reply(200, fields, b"", _OUTCOME, close=close, last=True, lasting=run)
