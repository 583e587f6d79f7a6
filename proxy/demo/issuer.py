"""Who vouches for the demo's callers? An issuer of its own, shaped like Auth0's: JWKS and a token endpoint."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from proxy.demo.data import PERMISSIONS, ROLES
from proxy.demo.database import Row, query
from proxy.demo.replies import encode

AUDIENCE = "https://portal.example/api"
LIFETIME = 86400

routes = web.RouteTableDef()


class Issuer:
    """Signs and verifies access tokens with a key that is made at start and never leaves the process."""

    def __init__(self, url: str, key: rsa.RSAPrivateKey | None = None) -> None:
        self.name = url.rstrip("/") + "/"
        self._key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._public = self._key.public_key()
        jwk = RSAAlgorithm.to_jwk(self._public, as_dict=True)
        # RFC 7638: the thumbprint is over the required members in lexical order.
        canonical = json.dumps({name: jwk[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
        self._kid = urlsafe_b64encode(sha256(canonical.encode()).digest()).rstrip(b"=").decode()
        self.jwks = {"keys": [{**jwk, "kid": self._kid, "use": "sig", "alg": "RS256"}]}

    def token(self, subject: str, org: str, permissions: Iterable[str], *, now: float, lifetime: int = LIFETIME) -> str:
        claims = {
            "iss": self.name,
            "aud": AUDIENCE,
            "sub": subject,
            "org_id": org,
            "permissions": sorted(permissions),
            "iat": int(now),
            "exp": int(now) + lifetime,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._kid})

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token of ours; jwt.InvalidTokenError says what is wrong with any other."""
        return jwt.decode(
            token,
            self._public,
            algorithms=["RS256"],
            audience=AUDIENCE,
            issuer=self.name,
            options={"require": ["exp", "iat", "sub", "org_id", "permissions"]},
        )


ISSUER = web.AppKey("ISSUER", Issuer)


@routes.get("/.well-known/jwks.json")
async def jwks(request: web.Request) -> web.Response:
    body = encode(request.app[ISSUER].jwks)
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "public, max-age=300"})


@routes.post("/oauth/token")
async def token(request: web.Request) -> web.Response:
    """{org, user, permissions?, expires_in?} as a form or JSON. It trusts its caller: nobody here has a password.

    `user` is an id or an e-mail address; without one it is the organisation's first member. Without `permissions` the
    token carries what the member's roles give.
    """
    asked = await _asked(request)
    if asked is None:
        return _refusal("invalid_request", "send a form or a JSON object")
    org, user = str(asked.get("org") or ""), str(asked.get("user") or "")
    member = await find_member(request, org, user)
    if member is None:
        return _refusal("invalid_grant", f"no member {user!r} in organisation {org!r}")
    granted = asked.get("permissions", member["permissions"])
    permissions = granted.split() if isinstance(granted, str) else granted
    if not isinstance(permissions, list) or not all(name in PERMISSIONS for name in permissions):
        return _refusal("invalid_scope", f"permissions are some of: {' '.join(PERMISSIONS)}")
    lifetime = str(asked.get("expires_in", LIFETIME))
    if not (lifetime.isascii() and lifetime.isdigit() and 1 <= int(lifetime[:9]) <= LIFETIME):
        return _refusal("invalid_request", f"expires_in is a number of seconds from 1 to {LIFETIME}")
    seconds = int(lifetime)
    signed = request.app[ISSUER].token(member["id"], org, permissions, now=time.time(), lifetime=seconds)
    reply = {"access_token": signed, "token_type": "Bearer", "expires_in": seconds, "scope": " ".join(permissions)}
    return _reply(reply)


@routes.get("/_demo/{org:acme|globex}")
async def ready_made_header(request: web.Request) -> web.Response:
    """For the command lines that `sidecache demo` prints: `curl -H "$(curl -s .../_demo/acme)" ...`."""
    org = f"org_{request.match_info['org']}"
    member = await find_member(request, org, "")
    assert member is not None, "both organisations have members"
    signed = request.app[ISSUER].token(member["id"], org, member["permissions"], now=time.time())
    return web.Response(text=f"Authorization: Bearer {signed}\n", headers={"Cache-Control": "no-store"})


async def find_member(request: web.Request, org: str, user: str) -> Row | None:
    """A member by id or e-mail address, with the permissions that their roles give."""
    rows = await query(
        request,
        lambda connection: connection.execute(
            "SELECT id, org_id, name, email, group_concat(role) AS roles FROM members "
            "LEFT JOIN member_roles ON member_id = id WHERE org_id = :org AND (:user IN (id, email) OR :user = '') "
            "GROUP BY id ORDER BY members.rowid LIMIT 1",
            {"org": org, "user": user},
        ).fetchall(),
    )
    if not rows:
        return None
    roles = sorted(rows[0]["roles"].split(",")) if rows[0]["roles"] else []
    return {**rows[0], "roles": roles, "permissions": sorted({name for role in roles for name in ROLES[role]})}


async def _asked(request: web.Request) -> Mapping[str, Any] | None:
    body = await request.read()
    if request.content_type != "application/json":
        return dict(parse_qsl(body.decode(errors="replace")))
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


def _refusal(error: str, description: str) -> web.Response:
    """RFC 6749 5.2: the token endpoint has an error format of its own."""
    return _reply({"error": error, "error_description": description}, status=400)


def _reply(data: Mapping[str, Any], status: int = 200) -> web.Response:
    # RFC 6749 5.1: a response that holds a token must not be stored.
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=encode(data), status=status, content_type="application/json", headers=headers)
