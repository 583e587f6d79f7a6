"""What does it do, in two minutes? `sidecache demo`: a portal, a sidecar in front of it, and five lines to paste."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import proxy
from proxy.cli.run import run_until_done
from proxy.errors import ConfigError
from proxy.settings import Settings, load

_READY = "portal ready on "
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Portal:
    process: asyncio.subprocess.Process
    url: str


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the sidecar listens.")] = "127.0.0.1:8080",
    admin: Annotated[str, typer.Option(metavar="HOST:PORT", help="The sidecar's admin port.")] = "127.0.0.1:9900",
    portal: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the portal listens.")] = "127.0.0.1:9901",
    rules: Annotated[Path | None, typer.Option(help="Rules file. [default: ./rules.yaml, else the demo's own]")] = None,
    portal_only: Annotated[bool, typer.Option("--portal-only", help="Run the portal without a sidecar.")] = False,
    portal_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The portal's name for itself, in its tokens. [with --portal-only]"),
    ] = None,
    latency_ms: Annotated[float, typer.Option(min=0, help="Simulated way to the portal's database.")] = 8.0,
) -> None:
    """Start a demo portal with two organisations, and a sidecar in front of it. Nothing else is needed."""
    if portal_only:
        from proxy.demo.portal import main

        named = () if portal_url is None else ("--url", portal_url)
        main(["--listen", portal, "--latency-ms", str(latency_ms), *named])
        return
    if portal_url is not None:
        raise typer.BadParameter(
            "only with --portal-only: the demo's sidecar knows its portal", param_hint="--portal-url"
        )
    from proxy.telemetry.logs import configure

    file = rules or find_rules(Path("rules.yaml"), *_PACKAGED)
    configure()
    run_until_done(_run(portal, latency_ms, listen=listen, admin=admin, rules=file))


async def _run(portal: str, latency_ms: float, *, listen: str, admin: str, rules: Path) -> None:
    from proxy.demo.issuer import AUDIENCE

    async with running_portal(portal, latency_ms) as child:
        settings = load(
            {**os.environ, "REDIS_PROVIDER": "memory"},
            upstream=child.url,
            rules=str(rules),
            listen=listen,
            admin=admin,
            profile="development",
            jwt_issuer=f"{child.url}/",
            jwt_audience=AUDIENCE,
            jwks_url=f"{child.url}/.well-known/jwks.json",
        )
        await together(child.process, _serve(settings, lambda: typer.echo(introduction(settings, child.url))))


async def together(portal: asyncio.subprocess.Process, sidecar: Coroutine[Any, Any, None]) -> None:
    """Until the sidecar has ended, which also ends when the portal does."""
    running = asyncio.create_task(sidecar)
    gone = asyncio.create_task(portal.wait())
    await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        gone.cancel()
        return await running
    typer.echo("The portal has ended, so the demo ends too.", err=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    raise typer.Exit(1)


async def _serve(settings: Settings, ready: Callable[[], None]) -> None:
    """Run the sidecar in this process until SIGINT or SIGTERM."""
    from proxy.app import serve  # here: --help needs no server

    await serve(settings, ready=ready)


@asynccontextmanager
async def running_portal(address: str, latency_ms: float) -> AsyncIterator[Portal]:
    """The portal as a child process that answers; stopped by its own id at the end.

    It has a session of its own, so that Ctrl-C reaches it only through us, after the sidecar has drained; and a pipe as
    its standard input, so that it ends even when we are killed.
    """
    command = ["-m", "proxy.demo.portal", "--listen", address, "--latency-ms", str(latency_ms), "--until-eof"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=pipe, stdout=pipe, start_new_session=True
    )
    assert process.stdout is not None, "a pipe was asked for"
    try:
        async with asyncio.timeout(_START_SECONDS):
            line = (await process.stdout.readline()).decode()
        if not line.startswith(_READY):
            raise ConfigError(
                f"the demo portal did not start on {address}, for the reason above; "
                "--portal HOST:PORT chooses another address"
            )
        yield Portal(process, line.removeprefix(_READY).strip())
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
    await process.communicate()  # also closes the pipes


def find_rules(*candidates: Path) -> Path:
    """The first of these that exists."""
    for file in candidates:
        if file.is_file():
            return file
    raise ConfigError("no rules.yaml in this directory: --rules FILE says where it is")


# In a wheel the rules lie beside the portal, in a checkout at the top.
_PACKAGE = Path(proxy.__file__).parent
_PACKAGED = (_PACKAGE / "demo" / "rules.yaml", _PACKAGE.parent / "rules.yaml")


def introduction(settings: Settings, portal: str) -> str:
    sidecar = f"http://{_reachable(str(settings.listen))}"
    admin = f"http://{_reachable(str(settings.admin))}"
    steps = "\n\n".join(
        f"{number}. {text}\n\n{line}" for number, (text, line) in enumerate(lines_to_paste(sidecar, portal), 1)
    )
    return f"""
The demo is running. Ctrl-C ends it.

  sidecar  {sidecar}   the portal's API through the cache
  portal   {portal}   the API itself, two organisations in SQLite (open it in a browser)
  live     {sidecar}/_demo/live   new applications and reports as they come (in a browser)
  admin    {admin}/   the dashboard (open it in a browser)
           {admin}/metrics   counters; /api/health, /readyz
  rules    {settings.rules.resolve()}
           edit and save: valid rules are in force at once, a mistake is reported here and changes nothing

Paste these lines one after the other into another terminal, and compare Cache-Status and time.
The inner curl fetches a token of that organisation, as a header line.

{steps}

How many requests reached the portal:  curl -s {portal}/_demo/requests
A minute of both organisations' work:  {Path(sys.executable).name} -m proxy.demo.traffic --base {sidecar} --seconds 60
"""


def lines_to_paste(sidecar: str, portal: str) -> list[tuple[str, str]]:
    """What each line shows, and the line: each works on its own in bash or zsh."""
    jobs = f"{sidecar}/api/jobs"
    draft = """-H 'Content-Type: application/json' -d '{"title":"Night-shift welder"}'"""
    return [
        ("Acme lists its jobs: a miss, stored (fwd=uri-miss; stored).", _curl(portal, "acme", jobs)),
        (
            "The same again: a hit with the seconds it stays fresh (hit; ttl=...), and faster.",
            _curl(portal, "acme", jobs),
        ),
        ("Globex asks for the same URL: a miss again, and other jobs.", _curl(portal, "globex", jobs)),
        (
            "Acme posts a job: 201 from the portal; Acme's lists are outdated now.",
            _curl(portal, "acme", f"{draft} {jobs}"),
        ),
        ("Acme's list once more: a miss, and the new job stands first.", _curl(portal, "acme", jobs)),
    ]


def _curl(portal: str, org: str, what: str) -> str:
    return (
        f"""curl -si -H "$(curl -s {portal}/_demo/{org})" {what} -w 'time: %{{time_total}} s\\n' """
        r"| grep -iE '^(http|cache-status|time|\{)' | cut -c1-150"
    )


def _reachable(address: str) -> str:
    """0.0.0.0 and [::] are places to listen, not places to go."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address
