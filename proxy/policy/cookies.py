"""Which cookies of a message are the session's, and which are ours? The session's is one, or its chunks: `name.0`."""

import re

from proxy.policy.identity import CookieSource
from proxy.policy.message import Fields, Response

TICKET = "__Host-sidecache-ticket"
# A ticket, and the dashboard's sessions: browsers send the cookies of a host to every port of it.
_OURS = re.compile(rf"[ \t]*(?:{TICKET}|sidecache-(?:[0-9]{{1,5}}|session))[ \t]*=")
_ANY_OF_OURS = re.compile(_OURS.pattern.encode())
_MARK = "sidecache-"


def without_ours(fields: Fields) -> Fields:
    """What the upstream may have of these: our cookies are credentials for us alone. All else is as it was."""
    cookies = fields.get("cookie")
    if cookies is None or _MARK not in cookies:
        return fields
    pairs = []
    for name, value in fields:
        kept = value
        if name.lower() == "cookie":
            parts = value.split(";")
            others = [part for part in parts if _OURS.match(part) is None]
            if not others:
                continue
            if len(others) < len(parts):
                kept = ";".join(others).lstrip(" \t")
        pairs.append((name, kept))
    return Fields(pairs)


def may_carry_ours(head: bytes) -> bool:
    """Whether one of our cookies may be in this head; False is certain."""
    return _MARK.encode() in head and _ANY_OF_OURS.search(head) is not None


def without_reissued(response: Response, source: CookieSource | None) -> Response:
    """The response as others may have it: a cookie that is merely issued again goes to its client alone."""
    if source is None or "set-cookie" not in response.fields:
        return response
    lines = response.fields.get_all("set-cookie")
    if any(not _is_part(line.partition("=")[0].strip(), source.name) for line in lines):
        return response  # another cookie: what it means nobody knows
    return Response(response.status, response.fields.without(("set-cookie",)), response.reason)


def _is_part(name: str, of: str) -> bool:
    return name == of or re.fullmatch(rf"{re.escape(of)}(\.|__)[0-9]{{1,2}}", name) is not None


def parts_of(fields: Fields, name: str) -> list[tuple[str, str]]:
    pairs = (pair.partition("=") for line in fields.get_all("cookie") for pair in line.split(";"))
    return [(key.strip(), value.strip()) for key, equals, value in pairs if equals and _is_part(key.strip(), name)]
