"""Which keys does the issuer sign with right now? (RFC 7517; fetched in the background, never a reason to fail)"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWTError
from jwt.algorithms import RSAAlgorithm

from proxy.errors import SidecacheError
from proxy.policy.outcome import Reason

REFRESH = 600.0  # ahead of need: a new key is known long before its first token, as issuers publish early
COOLDOWN = 30.0  # between two fetches that unknown key ids asked for
KEEP = 24 * 3600.0  # how long the last good set is believed without confirmation
WAIT = 2.0  # what a request waits for keys, at most
TIMEOUT = 5.0  # what one fetch may take
RETRY = 2.0  # after a failure; doubles up to COOLDOWN
MAX_DOCUMENT = 256 << 10
MAX_KEYS = 100
MIN_BITS = 2048  # RFC 7518 3.3
MAX_BITS = 8192  # beyond, one verification costs milliseconds

Report = Callable[[str, Mapping[str, object]], None]


class FetchError(SidecacheError):
    """The key set could not be fetched, or what came is none."""


async def fetch_document(session: aiohttp.ClientSession, url: str) -> bytes:
    """The body at this URL: 200 only, no redirect (the address is configured, nobody else chooses it), bounded."""
    try:
        async with session.get(
            url,
            allow_redirects=False,
            auto_decompress=False,  # with identity asked for, a compressed body is not JSON: nothing to inflate
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        ) as response:
            if response.status != 200:
                raise FetchError(f"status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_DOCUMENT:
                    raise FetchError(f"more than {MAX_DOCUMENT} bytes")
            return bytes(body)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise FetchError(type(error).__name__) from error


def signing_keys(document: bytes) -> dict[str, RSAPublicKey]:
    """The keys by id that may verify RS256. Others are left out; a document without any is a FetchError."""
    if len(document) > MAX_DOCUMENT:
        raise FetchError(f"more than {MAX_DOCUMENT} bytes")
    try:
        parsed = orjson.loads(document)
    except ValueError as error:
        raise FetchError("not JSON") from error
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list):
        raise FetchError("not a key set")
    keys: dict[str, RSAPublicKey] = {}
    for entry in listed[:MAX_KEYS]:
        key = _signing_key(entry)
        if key is not None:
            keys.setdefault(entry["kid"], key)
    if not keys:
        raise FetchError("no usable key")
    return keys


def _signing_key(entry: Any) -> RSAPublicKey | None:
    if not isinstance(entry, dict) or entry.get("kty") != "RSA":
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", "RS256") != "RS256":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if not all(isinstance(entry.get(member), str) for member in ("kid", "n", "e")):
        return None
    try:
        # n and e only: a set that leaks private members must not give us a private key
        key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": entry["n"], "e": entry["e"]})
    except (PyJWTError, ValueError):
        return None
    return key if isinstance(key, RSAPublicKey) and MIN_BITS <= key.key_size <= MAX_BITS else None


class Jwks:
    """The issuer's signing keys: one fetch at a time, refreshed ahead, the last good set kept for 24 hours.

    `clock` is monotonic seconds: a step of the wall clock must neither hold back a fetch nor keep keys alive.
    `fetch` raises FetchError. `changed` is called after any change of what `key` answers; `report` gets one event per
    change of state: `jwks-available`, `jwks-unavailable`, `jwks-changed`, `jwks-expired`.
    """

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], Awaitable[bytes]],
        clock: Callable[[], float],
        *,
        report: Report = lambda event, details: None,
        changed: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wait: float = WAIT,
        timeout: float = TIMEOUT,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._report = report
        self._changed = changed
        self._sleep = sleep
        self._wait = wait
        self._timeout = timeout
        self._keys: dict[str, RSAPublicKey] = {}
        self._believed_until = float("-inf")
        self._asked_at = float("-inf")  # when the last fetch began
        self._reachable: bool | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        state = {None: "not asked yet", True: "reachable", False: "unreachable"}[self._reachable]
        return f"{self._url}: {state}, {len(self._keys)} keys"

    def key(self, kid: str) -> RSAPublicKey | None:
        """The key with this id, as of now. The same object as long as the issuer publishes the same key."""
        return self._keys.get(kid) if self._clock() < self._believed_until else None

    @property
    def is_known(self) -> bool:
        """Whether it is known which keys the issuer publishes."""
        return self._clock() < self._believed_until

    def absence(self) -> Reason:
        """Why a token has no key: the issuer does not publish it, or nothing is known about the issuer."""
        return Reason.TOKEN_INVALID if self.is_known else Reason.KEYS_UNAVAILABLE

    def may_learn(self) -> bool:
        """Is `wait_for` worth awaiting? False while the last answer is too young, or a fetch hangs."""
        now = self._clock()
        if self._fetching is not None:
            return now - self._asked_at < self._wait
        return now - self._asked_at >= COOLDOWN

    async def wait_for(self, kid: str) -> RSAPublicKey | None:
        """The key with this id, fetched if need be: never raises, and waits no longer than `wait` in all."""
        if self.key(kid) is None and self.may_learn():
            fetching = self._begin()
            await asyncio.wait({fetching}, timeout=self._asked_at + self._wait - self._clock())
        return self.key(kid)

    def start(self) -> None:
        """Fetch now, and again ahead of need, until `close`."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh_ahead())

    async def close(self) -> None:
        """Stop, and fetch no more: what is known stays usable while the last requests drain."""
        tasks = [task for task in (self._refreshing, self._fetching) if task is not None]
        self._asked_at = float("inf")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._asked_at = self._clock()
            self._fetching = asyncio.create_task(self._refresh())
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _refresh_ahead(self) -> None:
        retry = RETRY
        while True:
            await asyncio.wait({self._begin()})
            pause, retry = (REFRESH, RETRY) if self._reachable else (retry, min(retry * 2, COOLDOWN))
            left = self._believed_until - self._clock()
            await self._sleep(min(pause, left) if left > 0 else pause)
            self._expire()

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                document = await self._fetch(self._url)
            keys = signing_keys(document)
        except (FetchError, TimeoutError) as error:
            self._failed(str(error) or "timeout")
        else:
            self._learned(keys)

    def _failed(self, why: str) -> None:
        if self._reachable is not False:
            self._reachable = False
            self._report("jwks-unavailable", {"url": self._url, "error": why, "keys": len(self._keys)})
        self._expire()

    def _learned(self, keys: dict[str, RSAPublicKey]) -> None:
        before = self._keys
        # an unchanged key stays the same object: what was verified with it stays verified
        self._keys = {kid: before[kid] if before.get(kid) == key else key for kid, key in keys.items()}
        self._believed_until = self._clock() + KEEP
        if self._reachable is not True:
            self._reachable = True
            self._report("jwks-available", {"url": self._url, "keys": len(keys)})
        if self._keys != before:
            if before:
                added, removed = sorted(keys.keys() - before.keys()), sorted(before.keys() - keys.keys())
                self._report("jwks-changed", {"url": self._url, "added": added, "removed": removed})
            self._changed()

    def _expire(self) -> None:
        if self._keys and self._clock() >= self._believed_until:
            self._keys = {}
            self._report("jwks-expired", {"url": self._url})
            self._changed()
