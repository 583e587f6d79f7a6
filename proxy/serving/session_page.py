"""Who am I? `GET /.sidecache/session` tells the front end of the caller's session, and nobody else's."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from proxy.policy.identity import Identity
from proxy.policy.message import Fields, Request
from proxy.policy.outcome import Outcome, Reason
from proxy.serving.problem import problem
from proxy.serving.reply import Reply
from proxy.serving.upstream import Body

_OUTCOME = Outcome(Reason.RESERVED)
_FIELDS = (
    ("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
)  # fmt: skip


class SessionPage:
    """`who` judges the caller, `about` adds what is known of the session beside the token."""

    def __init__(
        self,
        who: Callable[[Request], Awaitable[Identity | Reason]],
        about: Callable[[Identity], Awaitable[Mapping[str, Any]]],
    ) -> None:
        self._who = who
        self._about = about

    async def __call__(self, request: Request, body: Body) -> Reply:
        if request.method not in ("GET", "HEAD"):
            fields, text = problem(405, "This is read with GET.", ("Allow", "GET, HEAD"))
            return Reply.own(405, fields, text, _OUTCOME, last=body is not None)
        identity = await self._who(request)
        if isinstance(identity, Reason):
            challenge = "Bearer" if identity is Reason.NO_CREDENTIALS else 'Bearer error="invalid_token"'
            fields, text = problem(401, "Nobody is signed in.", ("WWW-Authenticate", challenge))
            return Reply.own(401, fields, text, _OUTCOME)
        presented = identity.presented
        said = {
            "user": identity.user, "tenant": identity.tenant,
            "session": presented.session if presented is not None else None,
            "roles": None if identity.roles is None else sorted(identity.roles),
            "issued": presented.issued if presented is not None else None,
            "expires": identity.expires if identity.expires != float("inf") else None,
            "standing": identity.standing.value, **await self._about(identity),
        }  # fmt: skip
        return Reply.own(200, Fields(_FIELDS), orjson.dumps(said), _OUTCOME)
