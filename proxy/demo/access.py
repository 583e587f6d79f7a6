"""Who is calling the portal, and may they? RFC 6750: 401 without a good token, 403 without the permission."""

from dataclasses import dataclass

import jwt
from aiohttp import web

from proxy.demo.issuer import ISSUER
from proxy.demo.replies import Problem


@dataclass(frozen=True, slots=True)
class Caller:
    subject: str
    org: str
    permissions: frozenset[str]


def authorize(request: web.Request, permission: str | None = None) -> Caller:
    """The verified caller. Every query after this is limited to `caller.org`."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Problem(401, "send a bearer token", headers={"WWW-Authenticate": 'Bearer realm="portal"'})
    try:
        claims = request.app[ISSUER].verify(token.strip())
    except jwt.InvalidTokenError as error:
        challenge = 'Bearer realm="portal", error="invalid_token"'
        raise Problem(401, f"the token is not good: {error}", headers={"WWW-Authenticate": challenge}) from None
    caller = Caller(claims["sub"], claims["org_id"], frozenset(claims["permissions"]))
    if permission is not None and permission not in caller.permissions:
        challenge = f'Bearer realm="portal", error="insufficient_scope", scope="{permission}"'
        raise Problem(403, f"this needs the permission {permission}", headers={"WWW-Authenticate": challenge})
    return caller
