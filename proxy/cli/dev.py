"""What helps to develop without a network? `sidecache dev upstash`: Upstash's REST API on this machine."""

import re
import secrets
from enum import StrEnum
from typing import Annotated

import typer

from proxy.cli.run import run_until_done
from proxy.errors import ConfigError


class Tool(StrEnum):
    UPSTASH = "upstash"


def register(app: typer.Typer) -> None:
    app.command("dev")(dev)


def dev(
    tool: Annotated[Tool, typer.Argument(help="upstash: its REST API over a Redis or Valkey server.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where it listens.")] = "127.0.0.1:9902",
    redis: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The server that keeps the data. [default: one of its own]")
    ] = None,
    token: Annotated[str | None, typer.Option(help="The token it accepts. [default: a new one]")] = None,
) -> None:
    """Run an Upstash emulator for offline development, and print the two settings that point at it."""
    from proxy.dev.server import serve

    assert tool is Tool.UPSTASH
    host, port = _address("--listen", listen)
    if redis is not None:
        _address("--redis", redis)
    chosen = token or secrets.token_urlsafe(24)
    run_until_done(serve(host, port, redis, chosen, lambda url, server: typer.echo(introduction(url, server, chosen))))


def introduction(url: str, server: str, token: str) -> str:
    return f"""Upstash emulator over the Redis server at {server}. Ctrl-C ends it.

export UPSTASH_REDIS_REST_URL={url}
export UPSTASH_REDIS_REST_TOKEN={token}
"""


def _address(flag: str, text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):([0-9]{1,5})", text)
    if found is None or int(found[2]) > 65535:
        raise ConfigError(f"{flag}: '{text}' is not HOST:PORT such as 127.0.0.1:6379")
    return found[1].strip("[]"), int(found[2])
