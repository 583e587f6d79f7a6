"""Which head does the upstream get? What is not in the key must not influence a stored response (RFC 9110 7.6)."""

from collections.abc import Iterable

from proxy.policy.cookies import without_ours
from proxy.policy.fields import for_this_side
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import CACHE_NAME
from proxy.policy.validation import plain_etag

# What the peer in front of us says about the client counts only when that peer is trusted.
_FORWARDED = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"})

# The same under other names. They make no variant, so what a client says there must not reach a fill.
_ADDRESSES = frozenset({"x-real-ip", "true-client-ip", "cf-connecting-ip"})

# A fill asks for the one canonical representation: unconditional, whole, not encoded. The client's own conditions are
# answered from what comes back.
_NOT_IN_A_FILL = frozenset(
    {
        "accept-encoding",
        "cache-control",
        "expect",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "pragma",
        "range",
    }
)
_NOT_IN_A_READ = _NOT_IN_A_FILL - {"cache-control"}  # Pragma is: what caches read there is often a way to debug them
_TYPE = frozenset({"content-type"})
_EXPECT = frozenset({"expect"})
_RANGE = frozenset({"range"})
_ADDED = frozenset({"x-forwarded-for", "via"})  # anew
_TAGGED = frozenset({"if-match", "if-none-match", "if-range"})


def passing(request: Request) -> Fields:
    """The head of a request that is forwarded as it is: end-to-end fields, and who forwards it for whom."""
    return _forwarded(request, frozenset(), ())


def filling(request: Request, conditions: Iterable[tuple[str, str]] = (), *, directives: bool = False) -> Fields:
    """The head of a request whose response may be stored, with the stored entry's validators when it revalidates.

    `directives`: the client's Cache-Control counts here, and so it does with the caches behind us: "a proxy ... MUST
    pass cache directives through in forwarded messages" (RFC 9111 5.2).
    """
    dropped = _NOT_IN_A_READ if directives else _NOT_IN_A_FILL
    if not request.peer_trusted:
        dropped |= _ADDRESSES
    if not request.has_body:
        dropped |= _TYPE  # of nothing, and some upstreams answer by it
    return _forwarded(request, dropped, (("Accept-Encoding", "identity"), *conditions))


def _forwarded(request: Request, dropped: frozenset[str], more: Iterable[tuple[str, str]]) -> Fields:
    """The client's fields without what is not for the upstream, then what is added. Each request needs it: one copy."""
    fields = request.fields
    hidden = for_this_side(fields)
    if not request.peer_trusted:
        hidden |= _FORWARDED
    gone = hidden | dropped | _ADDED
    if not request.has_body:
        gone |= _EXPECT  # no content, nothing to expect (RFC 9110 10.1.1)
    if _is_part_of_ours(fields):
        gone |= _RANGE
    kept = without_ours(fields.without(gone))
    if not _TAGGED.isdisjoint(kept.names()):
        kept = Fields([(name, plain_etag(value) if name.lower() in _TAGGED else value) for name, value in kept])
    return kept.plus(*_added(request, fields, hidden), *more)


def _is_part_of_ours(fields: Fields) -> bool:
    """Whether a part is wanted of an encoding that only we make: the origin's bytes would not fit to it."""
    known = fields.get("if-range")
    return known is not None and known != plain_etag(known)


def _added(request: Request, fields: Fields, hidden: frozenset[str]) -> Iterable[tuple[str, str]]:
    before = None if "x-forwarded-for" in hidden else fields.get("x-forwarded-for")
    if request.peer:
        yield "X-Forwarded-For", f"{before}, {request.peer}" if before else request.peer
    elif before:
        yield "X-Forwarded-For", before
    if "x-forwarded-proto" not in fields or "x-forwarded-proto" in hidden:
        yield "X-Forwarded-Proto", request.scheme
    host = None if "host" in hidden else fields.get("host")
    if host and ("x-forwarded-host" not in fields or "x-forwarded-host" in hidden):
        yield "X-Forwarded-Host", host
    # "a proxy MUST send an appropriate Via header field ... in each message that it forwards" (RFC 9110 7.6.3)
    via = None if "via" in hidden else fields.get("via")
    yield "Via", f"{via}, 1.1 {CACHE_NAME}" if via else f"1.1 {CACHE_NAME}"
