"""How is the sidecar started? `sidecache run`: the environment, and flags over it."""

import asyncio
import os
import resource
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

LEAST_OPEN_FILES = 128


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
    # imported here: neither `sidecache --help` nor what is wrong with the settings need the server loaded
    from proxy.start import startable

    settings = startable(
        os.environ, upstream=upstream, rules=rules, listen=listen, admin=admin, profile=profile, workers=workers
    )
    from proxy.app import serve
    from proxy.telemetry.logs import configure
    from proxy.workers.supervisor import supervise

    configure()
    _allow_open_files()
    run_until_done(serve(settings) if settings.workers == 1 else supervise(settings, time.time))


def _allow_open_files() -> None:
    """As many as this process may have: each client is one, and so is each connection to upstream and store."""
    from proxy.errors import ConfigError

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems call it unlimited and still refuse that
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed < LEAST_OPEN_FILES:
        raise ConfigError(
            f"the limit on open files is {allowed}: at least {LEAST_OPEN_FILES} are needed, and one for each client "
            "(ulimit -n; LimitNOFILE= of systemd; `ulimits` of a container)"
        )


def run_until_done(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop, which costs a request a fifth less than asyncio's own loop."""
    import uvloop

    from proxy.allocator import use_one_arena

    use_one_arena()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)
