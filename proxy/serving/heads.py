"""Which request is this head? None that two servers could read differently."""

import re

from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11
from aiohttp.http_parser import RawRequestMessage

from proxy.policy.fields import HOP_BY_HOP, protected_nomination
from proxy.policy.message import Fields, Request

_VERSIONS = (HttpVersion10, HttpVersion11)  # aiohttp's parser takes 0.9 and 2.0 as well

# Servers that keep fields as variables read an underscore as a hyphen: these they must not find twice.
_NEVER_DISGUISED = HOP_BY_HOP | frozenset(
    "authorization content-length expect host via x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)

# RFC 9112 3.2, RFC 3986 3.2.2: a name, an IPv4 or a bracketed IPv6 address, and a port
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


def request_of(message: RawRequestMessage, peer: str, trusted: bool, has_body: bool) -> Request | None:
    """The request as decisions need it; None when it is ambiguous (SPEC 6: refused, the connection closed)."""
    fields = Fields([(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers])
    target = _origin_form(message.path, fields.get("host"))
    hosts = fields.get_all("host")
    if (
        target is None
        or len(hosts) > 1
        or (hosts and not _HOST.fullmatch(hosts[0]))
        or (not hosts and message.version >= HttpVersion11)
        or len(fields.get_all("authorization")) > 1
        or message.version not in _VERSIONS
        or not _is_plainly_framed(fields, message.version)
        or protected_nomination(fields)
    ):
        return None
    if message.version < HttpVersion11:
        fields = fields.without(("expect",))  # "MUST ignore that expectation" (RFC 9110 10.1.1)
    return Request(message.method, target, fields, peer=peer, peer_trusted=trusted, has_body=has_body)


def _origin_form(target: str, host: str | None) -> str | None:
    """The target as a path; absolute-form only for the very host that is asked (RFC 9112 3.2.2)."""
    if target.startswith("/"):
        return target if "#" not in target else None
    scheme, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    if scheme.lower() not in ("http", "https") or authority != host or "#" in path:
        return None
    return slash + path if slash else "/"


def _is_plainly_framed(fields: Fields, version: HttpVersion) -> bool:
    coding = fields.get("transfer-encoding")
    if coding is not None and (coding.lower() != "chunked" or version < HttpVersion11):
        # "A server ... that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST treat the
        # message as if the framing is faulty" (RFC 9112 6.1)
        return False
    underscored = [name for name in fields.names() if "_" in name]
    return not any(name.replace("_", "-") in _NEVER_DISGUISED for name in underscored)


def fields_of(head: bytes) -> tuple[tuple[str, str], ...]:
    """The fields of a head of a few whole lines, as the parser gives them if there is nothing odd about it."""
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return tuple([(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)])
