"""Which head does the upstream get? What is not in the key must not influence a stored response (RFC 9110 7.6)."""

from collections.abc import Iterable

from proxy.policy.fields import end_to_end
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
_TAGGED = frozenset({"if-match", "if-none-match", "if-range"})


def passing(request: Request) -> Fields:
    """The head of a request that is forwarded as it is: end-to-end fields, and who forwards it for whom."""
    fields = end_to_end(request.fields)
    if not request.has_body:
        fields = fields.without(("expect",))  # no content, nothing to expect (RFC 9110 10.1.1)
    if not request.peer_trusted:
        fields = fields.without(_FORWARDED)
    if not _TAGGED.isdisjoint(fields.names()):
        fields = Fields([(name, plain_etag(value) if name.lower() in _TAGGED else value) for name, value in fields])
    dropped = ("x-forwarded-for", "via", "range") if _is_part_of_ours(request.fields) else ("x-forwarded-for", "via")
    return fields.without(dropped).plus(*_added(request, fields))


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
    fields = passing(request).without(dropped)
    return fields.plus(("Accept-Encoding", "identity"), *conditions)


def _is_part_of_ours(fields: Fields) -> bool:
    """Whether a part is wanted of an encoding that only we make: the origin's bytes would not fit to it."""
    known = fields.get("if-range")
    return known is not None and known != plain_etag(known)


def _added(request: Request, fields: Fields) -> Iterable[tuple[str, str]]:
    before = fields.get("x-forwarded-for")
    if request.peer:
        yield "X-Forwarded-For", f"{before}, {request.peer}" if before else request.peer
    elif before:
        yield "X-Forwarded-For", before
    if "x-forwarded-proto" not in fields:
        yield "X-Forwarded-Proto", request.scheme
    host = fields.get("host")
    if "x-forwarded-host" not in fields and host:
        yield "X-Forwarded-Host", host
    # "a proxy MUST send an appropriate Via header field ... in each message that it forwards" (RFC 9110 7.6.3)
    via = fields.get("via")
    yield "Via", f"{via}, 1.1 {CACHE_NAME}" if via else f"1.1 {CACHE_NAME}"
