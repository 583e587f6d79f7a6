"""Which cookies of a message are the session's? One by its name, or its chunks: `name.0`, `name__1`."""

import re

from proxy.policy.identity import CookieSource
from proxy.policy.message import Fields, Response


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
