"""How is the sidecar started? `sidecache run`: the environment, and flags over it."""

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    upstream: Annotated[str | None, typer.Option(help="Where requests go: http://, https:// or unix:.")] = None,
    rules: Annotated[Path | None, typer.Option(help="The rules file.")] = None,
    listen: Annotated[str | None, typer.Option(help="The data port, HOST:PORT.")] = None,
    admin: Annotated[str | None, typer.Option(help="The admin port, HOST:PORT on loopback.")] = None,
    profile: Annotated[str | None, typer.Option(help="development, staging or production.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the ports; they need a shared store.")
    ] = None,
) -> None:
    """Run the sidecar in front of an upstream. Every flag has an environment variable; see the README."""
    # imported here: `sidecache --help` need not load the server
    from proxy.app import serve
    from proxy.start import startable
    from proxy.telemetry.logs import configure
    from proxy.workers.supervisor import supervise

    settings = startable(
        os.environ, upstream=upstream, rules=rules, listen=listen, admin=admin, profile=profile, workers=workers
    )
    configure()
    run_until_done(serve(settings) if settings.workers == 1 else supervise(settings, time.time))


def run_until_done(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop, which costs a request a fifth less than asyncio's own loop."""
    import uvloop

    from proxy.allocator import use_one_arena

    use_one_arena()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
