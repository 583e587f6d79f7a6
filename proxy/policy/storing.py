"""May this response be stored, and for how long? Decided at its head (RFC 9111 3; SPEC 4 and 6)."""

import re
from collections.abc import Hashable
from typing import Any, NamedTuple

import orjson

from proxy.policy import cache_control, groups
from proxy.policy.cache_control import CacheControl
from proxy.policy.entry import Entry, pack_head
from proxy.policy.fields import for_this_side, format_http_date, list_members, parse_http_date
from proxy.policy.freshness import HEURISTICALLY_CACHEABLE, corrected_initial_age, lifetime
from proxy.policy.identity import Identity
from proxy.policy.key import LIST, Key
from proxy.policy.message import Fields, Request, Response
from proxy.policy.outcome import Reason
from proxy.policy.route import Assertion, Match, Route, Scope
from proxy.policy.variant import makes_variant, normalised

MAX_VARY = 8
JITTER = 0.05  # a route's own TTL is shortened by up to this part, so that keys do not expire together

STORED_BY_RULE = frozenset({200, 203})

# "The cache understands the response status code" (RFC 9111 3): those of RFC 9110 that may be stored.
_UNDERSTOOD = frozenset(
    {*range(200, 206), 300, 301, 302, 303, 305, 307, 308, *range(400, 418), 421, 422, 426, *range(500, 506)}
)

_CREDENTIALS = frozenset({"authorization", "cookie"})

# What a response gives to its one client, as Set-Cookie does.
_HANDED_OUT = frozenset(
    """
    access-token authentication-info authorization set-cookie set-cookie2 x-access-token x-auth-token x-csrf-token
    x-xsrf-token
    """.split()
)

# Not in a stored head: Age and Content-Length are made anew for each reply.
_NOT_STORED = frozenset({"age", "content-length"})

_LENGTH = re.compile(r"[0-9]{1,18}")
_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


class Verdict(NamedTuple):
    """What the rules say of a head, whatever its date and validators, and however long its body: `decide_alike`."""

    route: Route
    control: CacheControl
    vary: tuple[str, ...]
    groups: tuple[str, ...]
    dropped: frozenset[str]  # names of fields that are not stored


class Storable(NamedTuple):
    """A response that may be stored once its body is complete: everything of the entry that the head decides."""

    route: Route
    status: int
    head: bytes
    stored_at: float
    age: float
    fresh_until: float
    grace_until: float
    error_until: float
    etag: str | None
    last_modified: float | None
    content_type: str | None
    vary: tuple[str, ...]  # the names of the request's fields that selected this response
    must_revalidate: bool
    no_cache: bool
    negative: bool
    groups: tuple[str, ...]  # tags that only the response tells (RFC 9875)
    verdict: Verdict

    @property
    def max_body(self) -> int:
        return self.route.max_body

    def tags(self, key: Key) -> tuple[str, ...]:
        """The entry's tags; the epochs that `entry` takes are those of these, read before the upstream was asked."""
        if not self.negative and not self.groups:
            return key.tags
        # what is not there yet appears by a write to the feature's list
        lists = (f"{self.route.feature}:{LIST}",) if self.negative else ()
        return tuple(dict.fromkeys((*key.tags, *lists, *self.groups)))

    def selected_within(self, key: Key) -> bool:
        """Whether every field that selected this response is part of the key."""
        return set(self.vary) <= set(key.split_by)

    def entry(self, key: Key, request: Request, body: bytes, hard: bytes, soft: bytes, fetch_seconds: float) -> Entry:
        # a key split by Accept answers for what that Accept got, whatever the media type says (reuse.second_key_names)
        selecting = dict.fromkeys((*self.vary, "accept") if "accept" in key.split_by else self.vary)
        return Entry(
            key=key.full,
            tenant=key.space,
            request=key.request,
            policy=self.route.digest,
            status=self.status,
            head=self.head,
            body=body,
            stored_at=self.stored_at,
            age=self.age,
            fresh_until=self.fresh_until,
            grace_until=self.grace_until,
            error_until=self.error_until,
            etag=self.etag,
            last_modified=self.last_modified,
            content_type=self.content_type,
            vary=tuple((name, normalised(name, request.fields)) for name in selecting),
            must_revalidate=self.must_revalidate,
            no_cache=self.no_cache,
            tags=self.tags(key),
            epochs_hard=hard,
            epochs_soft=soft,
            fetch_seconds=fetch_seconds,
            compress=self.route.compress,
            sensitive=self.route.sensitive,
            gzip=self.route.gzip,
            encrypt=self.route.encrypt,
        )


def decide(
    request: Request,
    response: Response,
    match: Match,
    *,
    now: float,
    requested_at: float,
    jitter: float,
    framed: bool,
) -> Storable | Reason:
    """`now` is when the head arrived. `framed`: the end of the body can be told from a cut connection."""
    route = match.route
    control = cache_control.of_response(response.fields) if route.honour else cache_control.NOTHING
    refused = (
        _refused_status(request, response, route, control)
        or _refused_sharing(request, response.fields, route, control)
        or _refused_body(response, route, framed)
    )
    if refused is not None:
        return refused
    vary = _selecting(response.fields, route)
    if isinstance(vary, Reason):
        return vary
    grouped = groups.tags_of(response.fields)
    if isinstance(grouped, Reason):
        return grouped
    gone = _NOT_STORED | control.private_fields | control.no_cache_fields | for_this_side(response.fields)
    verdict = Verdict(route, control, vary, grouped, gone)
    return _storable(verdict, response, now=now, requested_at=requested_at, jitter=jitter)


def decide_alike(
    verdict: Verdict, response: Response, *, now: float, requested_at: float, jitter: float, framed: bool
) -> Storable | Reason:
    """The same for a response to the same kind of request, whose head is another in nothing but its Content-Length,
    Date, ETag and Last-Modified.
    """
    refused = _refused_framing(response.fields, verdict.route, framed)
    if refused is not None:
        return refused
    return _storable(verdict, response, now=now, requested_at=requested_at, jitter=jitter)


def kind_of(request: Request, route: Route) -> Hashable:
    """What `decide` reads of a request with the method GET."""
    fields = request.fields
    return "authorization" in fields, fields.get("cache-control") if route.client_control else None


def _storable(
    verdict: Verdict, response: Response, *, now: float, requested_at: float, jitter: float
) -> Storable | Reason:
    route, control, vary, grouped, gone = verdict
    fields = _stored_fields(response.fields, gone, now)
    age = corrected_initial_age(response, requested_at, now)
    fresh_until = _fresh_until(response, route, control, age, now, jitter)
    if fresh_until is None:
        return Reason.NOT_FRESH
    must_revalidate, grace, if_error = _stale_windows(route, control, fresh=fresh_until > now)
    storable = Storable(
        route=route,
        status=response.status,
        head=pack_head(fields),
        stored_at=now,
        age=age,
        fresh_until=fresh_until,
        grace_until=fresh_until + grace,
        error_until=fresh_until + if_error,
        etag=_entity_tag(fields),
        last_modified=parse_http_date(fields.get("last-modified") or ""),
        content_type=fields.get("content-type"),
        vary=vary,
        must_revalidate=must_revalidate,
        no_cache=route.ttl is None and control.no_cache,
        negative=_is_negative(response.status, route),
        groups=grouped,
        verdict=verdict,
    )
    return storable if _is_useful(storable, now) else Reason.NOT_FRESH


def _refused_status(request: Request, response: Response, route: Route, control: CacheControl) -> Reason | None:
    status = response.status
    if status == 206 or request.method == "HEAD":
        return Reason.PARTIAL  # not the whole of what a GET would get
    if route.ttl is not None:
        return None if status in STORED_BY_RULE or status in route.negative else Reason.STATUS
    if status < 200 or status == 304 or (control.must_understand and status not in _UNDERSTOOD):
        return Reason.STATUS
    return None


def _refused_sharing(request: Request, fields: Fields, route: Route, control: CacheControl) -> Reason | None:
    # "SHOULD ignore the no-store directive" when must-understand is there and the status understood (5.2.2.3)
    if control.no_store and not (control.must_understand and route.ttl is None):
        return Reason.NO_STORE
    if route.client_control and cache_control.of_request(request.fields).no_store:
        return Reason.REQUEST_CONTROL
    if control.private and route.scope is not Scope.USER:
        return Reason.PRIVATE
    if "set-cookie" in fields:
        return Reason.SET_COOKIE  # it is one client's, and taking it out would store what the origin did not send
    if route.scope is not Scope.USER and not _HANDED_OUT.isdisjoint(fields.names()):
        return Reason.PRIVATE
    unnamed = route.ttl is None and route.scope is Scope.PUBLIC
    if unnamed and "authorization" in request.fields and not control.permits_authorized:
        return Reason.AUTHORIZATION  # any other scope is named by a rule and keyed by the caller
    return None


def _refused_body(response: Response, route: Route, framed: bool) -> Reason | None:
    fields = response.fields
    encoded = (fields.get("content-encoding") or "identity").strip().lower() != "identity"
    if encoded and route.ttl is not None:
        # One canonical representation is stored, never an encoded one. With `ttl: origin` it is kept as it came:
        # identity was asked for, so that is what the origin gives to everybody.
        return Reason.ENCODED
    if (fields.get("content-type") or "").partition(";")[0].strip().lower() == "text/event-stream":
        return Reason.EVENT_STREAM
    return _refused_framing(fields, route, framed)


def _refused_framing(fields: Fields, route: Route, framed: bool) -> Reason | None:
    length = _length(fields)
    if not framed or (length is None and "content-length" in fields):
        return Reason.UNFRAMED
    if length is not None and length > route.max_body:
        return Reason.TOO_LARGE
    return None


def _length(fields: Fields) -> int | None:
    value = fields.get("content-length")
    # no more digits than a body can have bytes: int() refuses thousands of them
    return int(value) if value is not None and _LENGTH.fullmatch(value) else None


def _selecting(fields: Fields, route: Route) -> tuple[str, ...] | Reason:
    """The names in Vary that the first key leaves out. Accept-Encoding never selects: every encoding is made here."""
    names = sorted({name.lower() for name in list_members(fields.get("vary") or "")} - {"accept-encoding"})
    if "*" in names:
        return Reason.VARY_STAR
    if not _CREDENTIALS.isdisjoint(names) and route.scope is not Scope.USER:
        return Reason.VARY_CREDENTIALS
    if len(names) > MAX_VARY:
        return Reason.VARY_TOO_LONG
    # with scope user the scope speaks for the credentials: neither is kept, not even as a selecting value
    return tuple(name for name in names if name not in _CREDENTIALS and _is_left_out(name, route))


def _is_left_out(name: str, route: Route) -> bool:
    return name not in route.vary and not makes_variant(name, route)


def _stored_fields(fields: Fields, gone: frozenset[str], now: float) -> Fields:
    kept = fields.without(gone)
    if parse_http_date(kept.get("date") or "") is None:
        # "MUST record the time it was received and append a corresponding Date" (RFC 9110 6.6.1)
        kept = kept.with_field("Date", format_http_date(now))
    return kept


def _fresh_until(
    response: Response, route: Route, control: CacheControl, age: float, now: float, jitter: float
) -> float | None:
    if route.ttl is not None:
        # the rule's own lifetime, counted from here: the origin's max-age and Age neither lengthen nor shorten it
        return now + route.negative.get(response.status, route.ttl) * (1 - JITTER * jitter)
    found = lifetime(response, control, now)
    if found is not None:
        return now + found.seconds - age
    # never fresh, but worth asking about: "MUST NOT be used to satisfy any other request without forwarding it for
    # validation" (5.2.2.4)
    return now if control.no_cache and response.status in HEURISTICALLY_CACHEABLE else None


def _is_negative(status: int, route: Route) -> bool:
    """Whether a write to the feature's list can bring about what is not there yet; below `**` there is no list."""
    return (status >= 400 or status in route.negative) and not (route.ttl is None and route.identifier.rest)


def _stale_windows(route: Route, control: CacheControl, *, fresh: bool) -> tuple[bool, float, float]:
    """Whether stale is forbidden, and for how long it may be served: while refreshing, and when the upstream fails."""
    # s-maxage "incorporates the semantics of the proxy-revalidate response directive" (5.2.2.10)
    forbidden = control.forbids_stale or (route.ttl is None and control.s_maxage is not None)
    if forbidden or route.critical:
        return forbidden, 0.0, 0.0
    grace, if_error = route.grace, route.if_error
    if route.ttl is None:
        grace = _first(control.stale_while_revalidate, grace)
        # what was never fresh is not kept for the day on which the origin cannot be reached (4.2.4)
        if_error = max(_first(control.stale_if_error, if_error), route.if_unreachable if fresh else 0.0)
    return False, grace, if_error


def _first(seconds: int | None, otherwise: float) -> float:
    return otherwise if seconds is None else float(seconds)


def _is_useful(storable: Storable, now: float) -> bool:
    """Whether any later request could be answered: fresh, stale, or after a validation."""
    if storable.etag is not None or storable.last_modified is not None:
        return True
    return not storable.no_cache and max(storable.grace_until, storable.error_until) > now


def _entity_tag(fields: Fields) -> str | None:
    value = fields.get("etag")
    return value if value is not None and _ENTITY_TAG.fullmatch(value) else None


def asserts(assertion: Assertion, body: bytes, identity: Identity | None) -> bool:
    """Whether the JSON body says what the rule demands: anything missing or unequal is a no."""
    expected = None if identity is None else identity.user if assertion.equals == "user" else identity.tenant
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    for name in assertion.path:
        value = value.get(name) if isinstance(value, dict) else None
    return value is not None and value == expected
