"""A whole request path without a socket: real rules, cache and epochs, a scripted upstream, and a clock one turns."""

import asyncio
import json
import os
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import cache
from typing import Any

from proxy.cache.background import Background
from proxy.cache.coalesce import Flights
from proxy.cache.epochs import Epochs
from proxy.cache.lease import Leases
from proxy.cache.seal import Sealer
from proxy.cache.tiers import Cache
from proxy.credentials import EncryptionKey
from proxy.errors import UpstreamError
from proxy.identity.sources import IdentityResolver
from proxy.identity.tokens import TokenVerifier
from proxy.policy.key import Keyring
from proxy.policy.message import Fields, Request, Response
from proxy.rules.compile import RuleSet, compile_rules
from proxy.serving.at_once import Hosts
from proxy.serving.connection import Interim
from proxy.serving.exchange import Exchange
from proxy.serving.fetch import Fetcher
from proxy.serving.naming import Naming
from proxy.serving.reply import Reply
from proxy.serving.serving_epoch import ServingEpoch
from proxy.serving.upstream import Body
from proxy.sessions.assertion import Assertions
from proxy.sessions.cookie import CookieOwners
from proxy.sessions.enrich import Enriching
from proxy.sessions.notbefore import Revocation
from proxy.sessions.observer import Observer
from proxy.sessions.open_streams import OpenStreams
from proxy.sessions.revocation import Revocations
from proxy.sessions.telling import Telling
from proxy.stores.memory import MemoryStore
from tests.doubles import FakeClock, StoreDouble

RULES = """
version: 1
identity: {tenant: [jwt.org_id, header.x-org-id], user: jwt.sub, roles: jwt.permissions}
defaults: {grace: 2m, if-error: 1h, negative: {404: 30s}}
features:
  jobs:
    ttl: 15m
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs, "PUT|DELETE /api/jobs/{job-id}"]
    also-purge: [search]
  search:
    ttl: 10m
    query: [q]
    read: [GET /api/search, POST /api/search]
  mine:
    ttl: 5m
    scope: user
    read: [GET /api/me]
  applications:
    ttl: 2m
    scope: role
    require: [read:applications]
    read: ["GET /api/jobs/{job-id}/applications"]
  catalogue:
    ttl: 1h
    scope: public
    read: [GET /api/catalogue]
  checked:
    ttl: 5m
    assert: response.org_id == tenant
    read: [GET /api/checked]
  origin:
    ttl: origin
    read: [GET /api/origin]
"""


def unsigned(org: str | None = "org_a", sub: str | None = "u1", **claims: Any) -> str:
    """A development token: the exchange's own tests are not about signatures."""
    named = {"org_id": org, "sub": sub, "permissions": ["read:applications"], **claims}
    present = {name: value for name, value in named.items() if value is not None}
    segments = ({"alg": "none", "typ": "JWT"}, present)
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in segments) + "."


class ScriptedStream:
    def __init__(self, response: Response, chunks: list[bytes | UpstreamError | asyncio.Event], framed: bool) -> None:
        self.response = response
        self.framed = framed
        length = response.fields.get("content-length")
        self.length = int(length) if length is not None else None
        self.closed = False
        self._chunks = chunks

    def whole(self) -> None:
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, asyncio.Event):
                await chunk.wait()
            elif isinstance(chunk, UpstreamError):
                raise chunk
            else:
                yield chunk

    def close(self) -> None:
        self.closed = True


class ScriptedUpstream:
    """Answers with `answer(request, n)`; remembers what it was asked. A `gate` holds every answer back."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.bodies: list[bytes] = []
        self.streams: list[ScriptedStream] = []
        self.gate: asyncio.Event | None = None
        self.answer: Callable[[Request, int], Any] = lambda request, n: f"answer {n}".encode()

    async def fetch(self, request: Request, body: Body, *, interim: Interim | None = None) -> ScriptedStream:
        self.asked.append(request)
        number = len(self.asked)
        self.bodies.append(await _whole(body))
        # decided on arrival: what a held-back upstream has read is older than what is written meanwhile
        answer = self.answer(request, number)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(answer, UpstreamError):
            raise answer
        stream = answer if isinstance(answer, ScriptedStream) else answered(answer)
        self.streams.append(stream)
        return stream


def answered(body: Any = b"", status: int = 200, framed: bool = True, **headers: str) -> ScriptedStream:
    """A response: bytes, a list of chunks (events wait, errors raise), or anything else as JSON."""
    chunks = body if isinstance(body, list) else [body if isinstance(body, bytes) else json.dumps(body).encode()]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("content-type", "application/json")
    if not isinstance(body, list) and framed:
        named.setdefault("content-length", str(len(chunks[0])))
    return ScriptedStream(Response(status, Fields(named.items())), chunks, framed)


async def _whole(body: Body) -> bytes:
    if body is None or isinstance(body, bytes):
        return body or b""
    return b"".join([chunk async for chunk in body])


class World:
    """One sidecar's request path. `get` and `send` return the reply with its body read to the end."""

    def __init__(
        self, rules: str = RULES, *, hosts: frozenset[str] = frozenset({"portal.test"}), beside: "World | None" = None,
        others: bool = False, **tiers: Any,
    ) -> None:  # fmt: skip
        """`beside`: another replica, with the same store, upstream and clock; `others`: there will be one."""
        self.clock = FakeClock() if beside is None else beside.clock
        self.rules = compiled(rules)
        self.upstream = ScriptedUpstream() if beside is None else beside.upstream
        self.serving: ServingEpoch | None = None  # of the short way, where there is one
        self.failures: list[BaseException] = []
        self.noted: list[str] = []
        self.off: set[tuple[str, str | None]] = set()  # features and tenants of which caching is switched off
        self.purged: list[tuple[str, Mapping[str, tuple[str, ...]], bool]] = []
        self.luck = 0.0  # of those who may refresh early; 0 never does
        self.background = Background(self.failures.append)
        self.store = StoreDouble(MemoryStore(8 << 20, self.clock) if beside is None else beside.store.inner)
        self.store.shared = others or beside is not None
        self.epochs = Epochs(self.store, self.clock, os.urandom, self.background, sleep=self.clock.sleep)
        settings = {"l1_bytes": 8 << 20, **tiers}
        self.cache = Cache(
            self.store, self.epochs, clock=self.clock, sealer=Sealer(b"s" * 32), background=self.background, **settings
        )
        self.streams = OpenStreams(self.clock)
        self.applied: list[Revocation] = []
        self.audited: list[tuple[str, str | None, Mapping[str, object], bool]] = []
        self.revocations = Revocations(
            StoreDouble(MemoryStore(1 << 20, self.clock)), self.epochs.doorbell, self.clock, self.background,
            applied=self._revoked,
        )  # fmt: skip
        self.observer = Observer(
            self.revocations, self.epochs, self.streams, self.background, self.clock,
            personal=lambda: self.rules.session.personal, noted=self._note,
            audited=lambda *line: self.audited.append(line),
        )  # fmt: skip
        verifier = TokenVerifier(None, "", "", allow_unsigned=True)
        self.owners = CookieOwners(
            self.upstream, verifier, self.revocations, self.background, self.clock,
            lambda: self.revocations.version,
        )  # fmt: skip
        self.enriching = Enriching(lambda: self.rules.session.enrich, self.upstream, self.background, self.clock)
        self.assertions = Assertions([EncryptionKey("a1", bytes(range(32)))], "http://portal.test", self.clock)
        telling = Telling(
            lambda: self.rules.session, self.enriching, self.assertions, lambda: self.rules.identity.cookie
        )
        keys = Keyring(b"k" * 32)
        naming = Naming(keys, Hosts(hosts).home)
        fetcher = Fetcher(
            upstream=self.upstream, cache=self.cache, epochs=self.epochs, flights=Flights(), naming=naming,
            leases=Leases(
                self.store, self.background, self.clock, others=self.store.shared, sleep=lambda _: asyncio.sleep(0)
            ),
            background=self.background, clock=self.clock, jitter=lambda: 0.0, noted=self._note, telling=telling,
        )  # fmt: skip
        self.exchange = Exchange(
            rules=lambda: self.rules,
            identity=IdentityResolver(verifier, self.revocations, self.owners),
            sessions=self.observer, telling=telling,
            cache=self.cache, epochs=self.epochs, fetcher=fetcher, upstream=self.upstream,
            background=self.background, keys=keys, naming=naming, clock=self.clock, hosts=Hosts(hosts),
            random=lambda: self.luck, noted=self._note,
            is_off=lambda feature, tenant: (feature, tenant) in self.off,
            purged=lambda by, purge, accepted: self.purged.append((by, purge, accepted)),
        )  # fmt: skip

    def _revoked(self, news: Sequence[Revocation]) -> None:
        self.applied += news
        self.streams.judge(self.revocations)
        if self.serving is not None:
            self.serving.advance()

    def _note(self, event: str, details: Mapping[str, str]) -> None:
        self.noted.append(event)

    async def get(self, target: str, *, token: str | None = None, **more: Any) -> "Answer":
        return await self.send("GET", target, token=token, **more)

    async def send(
        self, method: str, target: str, *, token: str | None = None, headers: Mapping[str, str] | None = None,
        body: bytes | None = None, trusted: bool = False,
    ) -> "Answer":  # fmt: skip
        reply = await self.begin(method, target, token=token, headers=headers, body=body, trusted=trusted)
        return await Answer.of(reply)

    async def begin(
        self, method: str, target: str, *, token: str | None = None, headers: Mapping[str, str] | None = None,
        body: bytes | None = None, trusted: bool = False,
    ) -> Reply:  # fmt: skip
        fields = {"Host": "portal.test", **(headers or {})}
        if token != "":
            fields["Authorization"] = f"Bearer {token if token is not None else unsigned()}"
        request = Request(
            method, target, Fields(fields.items()), peer="192.0.2.1", peer_trusted=trusted, has_body=body is not None
        )
        return await self.exchange.handle(request, _stream(body) if body is not None else None)

    async def settle(self) -> None:
        """Let background work that can end, end."""
        for _ in range(200):
            await asyncio.sleep(0)


async def _stream(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


class Answer:
    """A reply whose body was read: `error` is what cut it short."""

    def __init__(self, reply: Reply, body: bytes, error: UpstreamError | None) -> None:
        self.reply = reply
        self.status = reply.status
        self.fields = reply.fields
        self.body = body
        self.error = error

    @property
    def cache(self) -> str | None:
        return self.fields.get("cache-status")

    @classmethod
    async def of(cls, reply: Reply) -> "Answer":
        if isinstance(reply.body, bytes):
            return cls(reply, reply.body, None)
        chunks: list[bytes] = []
        try:
            async for chunk in reply.body:
                chunks.append(chunk)
        except UpstreamError as error:
            return cls(reply, b"".join(chunks), error)
        finally:
            reply.close()
        return cls(reply, b"".join(chunks), None)


@cache
def compiled(text: str) -> RuleSet:
    rules = compile_rules(text, profile="development")
    assert isinstance(rules, RuleSet), rules
    return rules
