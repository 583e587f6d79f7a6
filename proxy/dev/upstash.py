"""What would Upstash answer? Its REST API over a Redis or Valkey server, for development without a network."""

import hmac
import itertools
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson
from aiohttp import web

from proxy.dev.resp import Connection, Failed, Pool, Reply, Status, Unanswered, Value

MAX_REQUEST = 10 * 1024 * 1024
MAX_KEY = 32 * 1024

# What needs a connection of its own, or belongs to whoever runs the server: the service refuses these over REST too.
_UNAVAILABLE = frozenset(
    b"""
    AUTH BGREWRITEAOF BGSAVE BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN CLIENT CLUSTER CONFIG DEBUG
    DISCARD EXEC FAILOVER HELLO LATENCY MIGRATE MODULE MONITOR MULTI PSUBSCRIBE PSYNC PUNSUBSCRIBE QUIT REPLICAOF
    RESET SAVE SELECT SHUTDOWN SLAVEOF SLOWLOG SSUBSCRIBE SUBSCRIBE SUNSUBSCRIBE SYNC UNSUBSCRIBE UNWATCH WAIT WATCH
    """.split()
)
_KEYLESS = frozenset(b"ECHO EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO FUNCTION PING PUBLISH SCRIPT".split())

Command = list[bytes]


class Refused(Exception):
    """A request that is answered with an error as a whole."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class Emulator:
    """Its answers as an application. Whatever it answers is up to date, so a sync token changes nothing."""

    def __init__(self, server: str, token: str) -> None:
        self._pool = Pool(server)
        self._token = token.encode()
        self._streams: set[Connection] = set()
        self._positions = itertools.count(1)

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=2 * MAX_REQUEST, middlewares=[self._checked])
        app.router.add_route("*", "/", self._one)
        app.router.add_route("*", "/pipeline", self._pipeline)
        app.router.add_route("*", "/multi-exec", self._transaction)
        app.router.add_route("*", "/{command:.+}", self._by_path)
        app.on_shutdown.append(self._end_streams)
        app.on_cleanup.append(self._close)
        return app

    async def _end_streams(self, _: web.Application) -> None:
        for connection in self._streams:
            connection.close()

    async def _close(self, _: web.Application) -> None:
        self._pool.close()

    @web.middleware
    async def _checked(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        """Method and token first; every refusal in the service's own form."""
        try:
            if request.method not in ("GET", "POST", "PUT", "HEAD"):
                raise Refused("ERR method not allowed", 405)
            if not hmac.compare_digest(_token_of(request), self._token):
                raise Refused("WRONGPASS invalid or missing auth token", 401)
            response: web.StreamResponse = await handler(request)
        except Refused as refusal:
            return _json({"error": refusal.text}, refusal.status)
        except Unanswered as error:
            return _json({"error": f"ERR {error}"}, 502)
        if not response.prepared:
            response.headers["Upstash-Sync-Token"] = f"emulated-{next(self._positions)}"
        return response

    # -- the ways to send commands

    async def _one(self, request: web.Request) -> web.Response:
        command = _command(_parsed(await _body(request), "ERR failed to parse command"), "ERR failed to parse command")
        return await self._answer(request, command)

    async def _by_path(self, request: web.Request) -> web.StreamResponse:
        """`/set/name/value?EX=100`; the body, if there is one, stands behind the path and before the query."""
        path, _, query = request.raw_path.partition("?")
        command = [unquote_to_bytes(part) for part in path.strip("/").split("/")]
        if command[0].upper() == b"SUBSCRIBE":
            return await self._subscribe(request, command)
        body = await _body(request) if request.method in ("POST", "PUT") else b""
        command += [body] if body else []
        for pair in filter(None, query.split("&")):
            if not pair.startswith("_token="):
                command += [unquote_to_bytes(part.replace("+", " ")) for part in pair.split("=", 1) if part]
        return await self._answer(request, command)

    async def _answer(self, request: web.Request, command: Command) -> web.Response:
        text = _objection(command)
        reply = _failed(text) if text is not None else (await self._pool.call([command]))[0]
        status = 400 if isinstance(reply.value, Failed) else 200
        if _as_resp(request):
            return web.Response(body=reply.raw, status=status, content_type="application/octet-stream")
        return _json(_item(reply.value, _encoder(request)), status)

    async def _pipeline(self, request: web.Request) -> web.Response:
        """In order, not atomic; each command has its own result or error."""
        commands = _commands(await _body(request), "pipeline")
        refused = {place: text for place, command in enumerate(commands) if (text := _objection(command)) is not None}
        replies = iter(await self._pool.call([each for place, each in enumerate(commands) if place not in refused]))
        all_replies = [_failed(refused[place]) if place in refused else next(replies) for place in range(len(commands))]
        if _as_resp(request):
            return web.Response(
                body=b"".join(reply.raw for reply in all_replies), content_type="application/octet-stream"
            )
        return _json([_item(reply.value, _encoder(request)) for reply in all_replies])

    async def _transaction(self, request: web.Request) -> web.Response:
        """All or nothing: a command that cannot be queued discards the whole."""
        commands = _commands(await _body(request), "multi-exec")
        for command in commands:
            if (text := _objection(command)) is not None:
                raise Refused(text)
        *_, done = await self._pool.call([[b"MULTI"], *commands, [b"EXEC"]])
        if not isinstance(done.value, list):
            raise Refused(done.value.text if isinstance(done.value, Failed) else "ERR the transaction was discarded")
        return _json([_item(value, _encoder(request)) for value in done.value])

    # -- news

    async def _subscribe(self, request: web.Request, command: Command) -> web.StreamResponse:
        """Server-sent events from a connection of its own, until either end leaves."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        connection = await Connection.open(self._pool.server)
        self._streams.add(connection)
        try:
            (confirmed,) = await connection.call([command])
            if isinstance(confirmed.value, Failed):
                raise Refused(confirmed.value.text)
            await response.prepare(request)
            await response.write(_event(confirmed.value))
            while True:
                await response.write(_event((await connection.reply()).value))
        except (OSError, EOFError):
            return response  # the server or the client has gone
        finally:
            self._streams.discard(connection)
            connection.close()


# -- requests


def _token_of(request: web.Request) -> bytes:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return (token if scheme.lower() == "bearer" else request.query.get("_token", "")).encode()


async def _body(request: web.Request) -> bytes:
    size = request.content_length or 0
    if size <= MAX_REQUEST:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _too_large(MAX_REQUEST + 1) from None
        if len(body) <= MAX_REQUEST:
            return body
        size = len(body)
    raise _too_large(size)


def _too_large(size: int) -> Refused:
    return Refused(f"ERR max request size exceeded. Limit: {MAX_REQUEST} bytes, Actual: {size} bytes")


def _parsed(body: bytes, objection: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(objection) from None


def _commands(body: bytes, kind: str) -> list[Command]:
    parsed = _parsed(body, f"ERR failed to parse {kind} request")
    if not isinstance(parsed, list):
        raise Refused(f"ERR failed to parse {kind} request")
    if not parsed:
        raise Refused(f"ERR empty {kind} request")
    return [_command(each, f"ERR failed to parse {kind} request") for each in parsed]


def _command(parsed: Any, objection: str) -> Command:
    if not isinstance(parsed, list):
        raise Refused(objection)
    if not parsed:
        raise Refused("ERR empty command")
    if not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in parsed):
        raise Refused(objection)
    return [str(each).encode() for each in parsed]


def _objection(command: Command) -> str | None:
    name = command[0].upper()
    if name in _UNAVAILABLE:
        shown = name.decode("ascii", "replace")
        return f"ERR Command is not available: '{shown}'. See https://upstash.com/docs/redis/overall/rediscompatibility"
    if len(command) > 1 and name not in _KEYLESS and len(command[1]) > MAX_KEY:
        return f"ERR max key size exceeded. Limit: {MAX_KEY} bytes, Actual: {len(command[1])} bytes"
    return None


def _as_resp(request: web.Request) -> bool:
    if request.headers.get("Upstash-Response-Format", "json").lower() != "resp2":
        return False
    if _encodes(request):
        raise Refused("ERR base64 encoding is not supported with the resp2 response format")
    return True


def _encodes(request: web.Request) -> bool:
    return request.headers.get("Upstash-Encoding", "").lower() == "base64"


# -- answers


def _encoder(request: web.Request) -> Callable[[bytes], str]:
    """JSON has text only: base64 when asked for, else what is not UTF-8 is lost, as it is with the service."""
    return (
        (lambda value: b64encode(value).decode())
        if _encodes(request)
        else (lambda value: value.decode(errors="replace"))
    )


def _item(value: Value, encode: Callable[[bytes], str]) -> dict[str, Any]:
    return {"error": value.text} if isinstance(value, Failed) else {"result": _plain(value, encode)}


def _plain(value: Value, encode: Callable[[bytes], str]) -> Any:
    match value:
        case bytes():
            return encode(value)
        case Status(text):
            return text if text == "OK" else encode(text.encode())
        case Failed(text):
            return encode(text.encode())
        case list():
            return [_plain(each, encode) for each in value]
        case _:
            return value


def _failed(text: str) -> Reply:
    return Reply(Failed(text), b"-%b\r\n" % text.encode())


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _event(value: Value) -> bytes:
    """`data: message,CHANNEL,PAYLOAD`; a payload of several lines is as many data lines."""
    parts = value if isinstance(value, list) else [value]
    text = ",".join(part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in parts)
    return "".join(f"data: {line}\n" for line in text.split("\n")).encode() + b"\n"
