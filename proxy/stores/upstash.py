"""How does the store live on Upstash? The commands of `stores.commands` over REST, values as text, news by SSE."""

import asyncio
import binascii
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast
from urllib.parse import quote

from upstash_redis.asyncio import Redis

from proxy.errors import StoreError
from proxy.stores.base import Heard
from proxy.stores.commands import Argument, Command, Reply
from proxy.stores.rest import LARGE, MAX_REQUEST, RestReply, Transport

_T = TypeVar("_T")
_U = TypeVar("_U")

_WARMED = 4  # connections opened at the start: each costs a command
_UNHEARD = 1024  # messages that may wait for a listener; beyond that its connection is not read
# JSON carries text only. What we write starts with this; what does not was written by somebody else and stays as it is.
_ENCODED = "b64:"


class UpstashLink:
    """The command API of `upstash-redis` over our transport. Every wait and every size has an end; nothing is repeated.

    Upstash may answer from a replica that lags. Its sync token stands for what a client has seen: it is sent with each
    request, travels with each published message, and whoever hears one sends that token from then on. Tokens cannot be
    compared, so the one heard last wins: reads follow the news, as far as one token can say it.
    """

    name = "upstash"

    def __init__(
        self,
        url: str,
        token: str,
        *,
        pool_size: int,
        timeout: float,
        connect_timeout: float = 1.0,
        silence: float = 60.0,
    ) -> None:
        """`timeout`: seconds for an answer once connected. `silence`: a listener that hears nothing so long ends."""
        url = url.rstrip("/")
        self._transport = Transport(
            url,
            token,
            pool_size=pool_size,
            timeout=timeout,
            connect_timeout=connect_timeout,
            reached_again=self._reached_again,
        )
        self._redis = Redis(
            url, token, rest_encoding=None, rest_retries=0, allow_telemetry=False, read_your_writes=False
        )
        self._redis._http = self._transport  # type: ignore[assignment]  # its two methods; there is no public way
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._warmed = min(pool_size, _WARMED)
        self._silence = silence
        self._confirmation = connect_timeout + timeout
        self._own = secrets.token_hex(8)
        self._reports: list[Callable[[str], None]] = []

    @property
    def sync_token(self) -> str:
        return self._transport.sync_token

    def heed(self, token: str) -> None:
        self._transport.heed(token)

    async def execute(self, commands: Sequence[Command]) -> list[Reply | StoreError]:
        sizes = [_size(command) for command in commands]
        sent = [command for command, size in zip(commands, sizes, strict=True) if size <= MAX_REQUEST]
        replies = iter(await self._exchange(sent) if sent else [])
        return [
            next(replies)
            if size <= MAX_REQUEST
            else StoreError(f"{size} bytes in one command: Upstash accepts {MAX_REQUEST}")
            for size in sizes
        ]

    async def warm(self) -> None:
        """Open connections before they are needed. StoreError when that fails: the first command tries again."""
        await asyncio.gather(*(self._exchange([("PING",)]) for _ in range(self._warmed)))

    async def _exchange(self, commands: Sequence[Command]) -> list[Reply | StoreError]:
        pipeline = self._redis.pipeline()
        for command in await _run(sum(map(_size, commands)), self._texts, commands):
            pipeline.execute(command)
        # what our transport made: the library's types know nothing of StoreError
        replies = cast(list[RestReply], await pipeline.exec())
        return await _run(sum(map(_length, replies)), _values, replies)

    def _texts(self, commands: Sequence[Command]) -> list[list[str | int]]:
        """As JSON can carry them. Names in lower case: the library would turn the reply of SET into a bool."""
        return [self._text(*command) for command in commands]

    def _text(self, name: Argument, *arguments: Argument) -> list[str | int]:
        if name == "PUBLISH":
            channel, message = arguments
            assert isinstance(channel, str)
            assert isinstance(message, bytes)
            return ["publish", channel, _letter(self._own, self.sync_token, message)]
        return [str(name).lower(), *map(_encoded, arguments)]

    def _reached_again(self) -> None:
        for report in self._reports:
            report("Upstash was reached again")

    async def listen(self, channels: Sequence[str]) -> AsyncGenerator[Heard | None, None]:
        """One stream per channel, as the service documents it; no order between channels is promised."""
        heard: asyncio.Queue[Heard | StoreError | None] = asyncio.Queue(_UNHEARD)
        everywhere = asyncio.Event()
        loop = asyncio.get_running_loop()
        followers = [loop.create_task(self._follow(channel, heard, everywhere)) for channel in set(channels)]
        try:
            for _ in followers:
                _raise_if_error(await heard.get())
            everywhere.set()
            yield None
            while True:
                yield _raise_if_error(await heard.get())
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def _follow(
        self, channel: str, heard: asyncio.Queue[Heard | StoreError | None], everywhere: asyncio.Event
    ) -> None:
        """Puts None when subscribed, then, once that is so everywhere, the messages, and at the end the error."""
        path = f"/subscribe/{quote(channel, safe='')}"
        prefix = f"message,{channel},"
        try:
            async with aclosing(self._transport.events(path, self._authorization, silence=self._silence)) as events:
                async with asyncio.timeout(self._confirmation):
                    first = await anext(events)
                if not first.startswith("subscribe,"):
                    raise StoreError("Upstash did not confirm the subscription")
                await heard.put(None)
                await everywhere.wait()
                async for event in events:
                    if event.startswith(prefix) and (message := self._opened(event[len(prefix) :])) is not None:
                        await heard.put(Heard(channel, message))
        except TimeoutError:
            await heard.put(StoreError("Upstash did not confirm the subscription in time"))
        except StoreError as error:
            await heard.put(error)

    def _opened(self, letter: str) -> bytes | None:
        """The message, its writer's token heeded; None when it is not in our format (anybody may publish)."""
        try:
            sender, token, message = letter.split(".")
            if sender != self._own:
                self.heed(b64decode(token, validate=True).decode("ascii"))
            return b64decode(message, validate=True)
        except ValueError:  # too few parts, not base64, not ASCII
            return None

    def on_disturbance(self, report: Callable[[str], None]) -> None:
        self._reports.append(report)

    async def close(self) -> None:
        await self._redis.close()


def _letter(sender: str, token: str, message: bytes) -> str:
    return f"{sender}.{b64encode(token.encode()).decode()}.{b64encode(message).decode()}"


def _encoded(argument: Argument) -> str | int:
    return _ENCODED + b64encode(argument).decode() if isinstance(argument, bytes) else argument


def _values(replies: Sequence[RestReply]) -> list[Reply | StoreError]:
    return [_value(reply) for reply in replies]


def _value(reply: RestReply) -> Any:
    if isinstance(reply, list):
        return [_value(each) for each in reply]
    if not isinstance(reply, str):
        return reply
    if reply.startswith(_ENCODED):
        try:
            return b64decode(reply[len(_ENCODED) :], validate=True)
        except binascii.Error:
            pass  # somebody else's text
    return reply.encode()


async def _run(size: int, function: Callable[[_T], _U], argument: _T) -> _U:
    """In a thread when there is much to do: the loop has others to serve."""
    return function(argument) if size < LARGE else await asyncio.to_thread(function, argument)


def _raise_if_error(heard: Heard | StoreError | None) -> Heard | None:
    if isinstance(heard, StoreError):
        raise heard
    return heard


def _size(command: Command) -> int:
    """Bytes of a command on its way, about."""
    return sum(len(each) * 4 // 3 if isinstance(each, bytes) else _length(each) for each in command)


def _length(reply: RestReply) -> int:
    if isinstance(reply, list):
        return sum(map(_length, reply))
    return len(reply) if isinstance(reply, str) else 0
