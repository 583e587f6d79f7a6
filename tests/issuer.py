"""A token issuer for tests: RSA keys, their JWKS document, signed tokens, and a loopback server that can misbehave."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

ISSUER = "https://issuer.test/"
AUDIENCE = "https://api.test"
ABSENT = object()  # token(exp=ABSENT): without that claim


@cache
def rsa_key(name: str, bits: int = 2048) -> RSAPrivateKey:
    """One key per name for the whole run: making one costs 100 ms."""
    return rsa.generate_private_key(65537, bits)


def segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def jwk(key: RSAPrivateKey, kid: object, **members: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": kid,
        "n": segment(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        "e": segment(numbers.e.to_bytes(3, "big")),
        **members,
    }


class Issuer:
    """Signs with the newest key; publishes all of them until they are retired. `clock` is unix seconds."""

    def __init__(
        self,
        url: str = ISSUER,
        audience: str = AUDIENCE,
        kid: str = "k1",
        clock: Callable[[], float] = time.time,
        name: str = "issuer",
    ) -> None:
        self.url = url
        self.audience = audience
        self.clock = clock
        self._name = name
        self.keys: dict[str, RSAPrivateKey] = {}
        self.rotate(kid)

    def rotate(self, kid: str) -> None:
        self.keys[kid] = rsa_key(f"{self._name}/{kid}")
        self.kid = kid

    def retire(self, kid: str) -> None:
        del self.keys[kid]

    def document(self) -> bytes:
        return compact({"keys": [jwk(key, kid) for kid, key in self.keys.items()]})

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A valid token of user u1 in org_a for an hour, changed by `claims`; `header` changes its header."""
        return self.sign(compact(self.header(header)), compact(self.claims(**claims)))

    def header(self, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        return _present({"alg": "RS256", "typ": "JWT", "kid": self.kid, **(changes or {})})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self.clock())
        claims = {
            "iss": self.url,
            "aud": self.audience,
            "sub": "u1",
            "org_id": "org_a",
            "permissions": ["read:jobs"],
            "iat": now,
            "exp": now + 3600,
        }
        return _present({**claims, **changes})

    def sign(self, header: bytes, payload: bytes, key: RSAPrivateKey | None = None) -> str:
        """A correct RS256 signature over any bytes, whatever they say."""
        return self.signed(f"{segment(header)}.{segment(payload)}", key)

    def signed(self, text: str, key: RSAPrivateKey | None = None) -> str:
        signature = (key or self.keys[self.kid]).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{segment(signature)}"


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


class JwksServer:
    """The issuer's key set over HTTP on loopback. Set `status`, `body`, `headers` or `hanging` to make it misbehave."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.url = ""
        self.requests = 0
        self.status = 200
        self.body: bytes | None = None
        self.headers: dict[str, str] = {}
        self.hanging = False
        self._released = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        if self.hanging:
            await self._released.wait()
        body = self.issuer.document() if self.body is None else self.body
        headers = {"Content-Type": "application/json", **self.headers}
        return web.Response(status=self.status, body=body, headers=headers)

    def release(self) -> None:
        self.hanging = False
        self._released.set()


@asynccontextmanager
async def serve_jwks(issuer: Issuer) -> AsyncIterator[JwksServer]:
    server = JwksServer(issuer)
    application = web.Application()
    application.router.add_get("/.well-known/jwks.json", server.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/.well-known/jwks.json"
    try:
        yield server
    finally:
        server.release()
        await runner.cleanup()
