"""How do commands reach Upstash over HTTP? A transport for its client library; every wait and size has an end."""

import asyncio
import io
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import orjson

from proxy.errors import ConfigError, StoreError, StoreRefusedError

URL_SETTING = "UPSTASH_REDIS_REST_URL"
TOKEN_SETTING = "UPSTASH_REDIS_REST_TOKEN"

MAX_REQUEST = 10 * 1024 * 1024  # what the service accepts
MAX_RESPONSE = 16 * 1024 * 1024  # it answers no more than it accepts; beyond that it is something else that answers
_MAX_EVENT = MAX_RESPONSE
_MAX_TOKEN = 2048  # characters
LARGE = 256 * 1024  # bytes of JSON: from here on a thread does it, the loop has others to serve

RestReply: TypeAlias = "str | int | StoreError | list[RestReply] | None"


class Transport:
    """Stands in for the library's `AsyncHttpClient`, which has no timeouts and loses all results for one error."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        pool_size: int,
        timeout: float,
        connect_timeout: float,
        reached_again: Callable[[], None],
    ) -> None:
        self._url = url
        self._host = _host(url)
        if not _is_token(token):
            raise ConfigError(f"{TOKEN_SETTING}: empty, or not a token of printable ASCII characters")
        self._secret = token
        self._pool_size = pool_size
        self._patience = aiohttp.ClientTimeout(
            total=connect_timeout + timeout, connect=connect_timeout, sock_read=timeout
        )
        self._session: aiohttp.ClientSession | None = None
        self._streams: aiohttp.ClientSession | None = None  # its own, so that listeners take no place in the pool
        self._waits: set[asyncio.Timeout] = set()
        self._responses: set[aiohttp.ClientResponse] = set()
        self._closed = False
        self._sent = 0
        self._sync_token = ""
        self._sync_token_of = 0  # the number of the request that it answered
        self._lost = False  # nothing answered, or the service itself failed, and no answer since
        self._reached_again = reached_again

    @property
    def sync_token(self) -> str:
        """Stands for all that this client has written and seen; empty before the first answer."""
        return self._sync_token

    def heed(self, token: str) -> None:
        """Let what is sent from now on see what another client had written when it was told this token."""
        if _is_token(token):
            self._sync_token = token
            self._sync_token_of = self._sent  # an answer to what is under way knows nothing of it

    async def execute(
        self, url: str, headers: Mapping[str, str], command: Sequence[Any], from_pipeline: bool = False
    ) -> list[RestReply]:
        """What the library calls: one POST of a pipeline; each command's result, or its StoreError."""
        assert from_pipeline, "the link sends nothing else"
        body = await _in_thread(sum(map(_size, command)), orjson.dumps, command)
        if len(body) > MAX_REQUEST:
            raise StoreError(f"{len(command)} commands of {len(body)} bytes: Upstash accepts {MAX_REQUEST} at once")
        status, answer = await self._post(url, headers, body)
        return self._replies(status, await self._parsed(status, answer), len(command))

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        session = self._commands_session()
        self._sent += 1
        number = self._sent
        sent = {**headers, "Content-Type": "application/json", "Upstash-Sync-Token": self._sync_token}
        data = io.BytesIO(body) if len(body) > LARGE else body  # a file is sent in parts
        request = session.post(url, headers=sent, data=data, allow_redirects=False)
        async with self._answer(request, marks=True) as response:
            answer = await self._bounded(response)
            told = response.headers.get("Upstash-Sync-Token", "")
        if number > self._sync_token_of and _is_token(told):
            self._sync_token, self._sync_token_of = told, number
        self._note(lost=response.status >= 500)
        return response.status, answer

    def _note(self, *, lost: bool) -> None:
        was_lost, self._lost = self._lost, lost
        if was_lost and not lost:
            self._reached_again()

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_RESPONSE:
                response.close()
                raise StoreError(f"Upstash answered with more than {MAX_RESPONSE} bytes at once")
            parts.append(part)
        return b"".join(parts)

    async def _parsed(self, status: int, answer: bytes) -> Any:
        try:
            return await _in_thread(len(answer), orjson.loads, answer)
        except orjson.JSONDecodeError:
            raise self._refusal(status, "") from None

    def _replies(self, status: int, answer: Any, expected: int) -> list[RestReply]:
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            raise self._refusal(status, answer["error"])
        if status != 200 or not isinstance(answer, list):
            raise self._refusal(status, "")
        if len(answer) != expected:
            raise StoreError(f"Upstash answered {len(answer)} of {expected} commands")
        return [self._reply(item) for item in answer]

    def _reply(self, item: Any) -> RestReply:
        if isinstance(item, dict):
            if isinstance(item.get("error"), str):
                return StoreRefusedError.of(self._refusal(200, item["error"]))
            if "result" in item and _is_reply(item["result"]):
                return item["result"]  # type: ignore[no-any-return]  # just checked
        return StoreError("Upstash answered a command with neither a result nor an error")

    # -- listening

    async def events(self, path: str, headers: Mapping[str, str], *, silence: float) -> AsyncGenerator[str, None]:
        """The data of each server-sent event; StoreError when the stream ends or is silent for `silence` seconds."""
        patience = aiohttp.ClientTimeout(total=None, connect=self._patience.connect, sock_read=silence)
        session = self._streams_session()
        sent = {**headers, "Accept": "text/event-stream"}
        request = session.post(self._url + path, headers=sent, timeout=patience, allow_redirects=False)
        async with self._answer(request, marks=False) as response:
            if response.status != 200 or response.content_type != "text/event-stream":
                answer = await self._parsed(response.status, await self._bounded(response))
                text = answer.get("error") if isinstance(answer, dict) else None
                raise self._refusal(response.status, text if isinstance(text, str) else "")
            async for data in _event_data(response.content):
                yield data
        raise StoreError("Upstash ended the subscription")

    # -- connections

    async def close(self) -> None:
        self._closed = True
        for wait in self._waits:  # closing a session wakes nobody who waits for an answer
            wait.reschedule(asyncio.get_running_loop().time())
        for response in self._responses:
            response.close()
        for session in (self._session, self._streams):
            if session is not None:
                await session.close()

    def _commands_session(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._session is None:
            self._session = self._opened(limit=self._pool_size)
        return self._session

    def _streams_session(self) -> aiohttp.ClientSession:
        self._check_open()
        if self._streams is None:
            self._streams = self._opened(limit=0)
        return self._streams

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")

    def _opened(self, *, limit: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, ttl_dns_cache=10, socket_factory=_kept_alive),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._patience,
            headers={"Accept-Encoding": "identity"},  # values are compressed before they are stored
            auto_decompress=False,
            read_bufsize=1 << 18,
        )

    @asynccontextmanager
    async def _answer(
        self, request: Awaitable[aiohttp.ClientResponse], *, marks: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The one place where failures of the way there become StoreError. A listener's silence marks no loss."""
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                try:
                    response = await request
                finally:
                    self._waits.discard(wait)
            self._responses.add(response)
            try:
                async with response:
                    yield response
            finally:
                self._responses.discard(response)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            self._check_open()
            if marks:
                self._note(lost=True)
            unsent = isinstance(error, aiohttp.ClientConnectorError)
            raise (StoreRefusedError if unsent else StoreError)(self._failure(error)) from None

    def _failure(self, error: aiohttp.ClientError | OSError) -> str:
        if isinstance(error, TimeoutError):
            return f"{self._host} did not answer in time: check {URL_SETTING} and the network"
        if isinstance(error, aiohttp.ClientConnectorError):
            return f"cannot connect to {self._host} ({_why(error)}): check {URL_SETTING}"
        return f"{self._host} ({URL_SETTING}) broke the connection ({type(error).__name__})"

    # -- what an answer means

    def _refusal(self, status: int, text: str) -> StoreError:
        said = self._quotable(text)
        if status in (401, 403) or text.startswith(("WRONGPASS", "NOAUTH")):
            return StoreRefusedError(f"Upstash refuses the token: check {TOKEN_SETTING} ({said or f'HTTP {status}'})")
        if text.startswith("NOPERM"):
            return StoreRefusedError(f"Upstash does not allow this: is {TOKEN_SETTING} a read-only token? ({said})")
        if status == 429 or text.startswith("ERR max requests limit exceeded"):
            limit = f"its plan's limit ({said or 'HTTP 429'})"
            return StoreRefusedError(f"Upstash accepts no more requests at present: {limit}")
        if text:
            return StoreError(f"Upstash: {said}")
        if status >= 500:
            return StoreError(f"{self._host} ({URL_SETTING}) failed (HTTP {status})")
        return StoreError(f"{self._host} does not answer like Upstash (HTTP {status}): check {URL_SETTING}")

    def _quotable(self, text: str) -> str:
        """A server's words without our token, and without the arguments that Redis quotes: they can hold values."""
        text = text.partition(", with args beginning with")[0]
        text = text.replace(self._secret, "***")
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= 160 else text[:157] + "..."


def _host(url: str) -> str:
    """Where the endpoint is. Credentials and queries do not belong there: they would end up in texts."""
    refusal = ConfigError(f"{URL_SETTING}: this is not a URL such as https://name.upstash.io")
    try:
        parts = urlsplit(url)
        named = parts.hostname and parts.port != 0
    except ValueError:
        raise refusal from None
    if not named or parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        raise refusal
    return parts.netloc


def _is_token(text: str) -> bool:
    """Fit for a header, as our own and sync tokens must be."""
    return 0 < len(text) <= _MAX_TOKEN and text.isascii() and text.isprintable() and " " not in text


async def _event_data(content: aiohttp.StreamReader) -> AsyncGenerator[str, None]:
    """Lines of text/event-stream as events: several data lines are one datum, a comment keeps the connection alive."""
    unread = b""
    data: list[str] = []
    async for part in content.iter_any():
        *lines, unread = (unread + part).split(b"\n")
        if len(unread) > _MAX_EVENT:
            raise StoreError(f"Upstash sent an event of more than {_MAX_EVENT} bytes")
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            if line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:
                yield "\n".join(data)
                data = []


async def _in_thread(size: int, function: Any, argument: Any) -> Any:
    return function(argument) if size < LARGE else await asyncio.to_thread(function, argument)


def _size(command: Sequence[Any]) -> int:
    return sum(len(argument) for argument in command if isinstance(argument, str))


def _is_reply(result: Any) -> bool:
    if isinstance(result, list):
        return all(map(_is_reply, result))
    return result is None or (isinstance(result, str | int) and not isinstance(result, bool))


def _why(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "TLS failed"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    return error.os_error.strerror or "refused"


def _kept_alive(address: Any) -> socket.socket:
    """A socket whose peer is asked after 10 quiet seconds whether it is there: a listener only waits."""
    made = socket.socket(*address[:3])
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
