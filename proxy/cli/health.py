"""Is the sidecar alive? `sidecache health` for container probes: exit 0 for yes, 1 for no."""

import json
import os
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from proxy.addresses import Address
from proxy.settings import admin_address

TIMEOUT = 2.0  # seconds; a probe that hangs is a no
_MAX_ANSWER = 16 << 10
_FOREIGN: dict[str, object] = {"error": "not a sidecar's answer"}


def register(app: typer.Typer) -> None:
    app.command("health")(health)


def health(
    store: Annotated[bool, typer.Option("--store", help="Ask the store too: not for liveness probes.")] = False,
    admin: Annotated[str | None, typer.Option(help="The admin port, HOST:PORT.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Ask livez on the admin port. A store outage does not make a sidecar unhealthy; --store asks for that."""
    address = admin_address(os.environ, admin)
    status, answer = _get(address, "/api/health" if store else "/livez")
    # not any 200: whatever else answers on this port is no sidecar
    healthy = status == 200 and answer.get("status") in ("alive", "healthy")
    if as_json:
        typer.echo(json.dumps({"healthy": healthy, **answer}))
    else:
        typer.echo(answer["status"] if healthy else f"unhealthy: {answer.get('error', f'status {status}')}")
    raise typer.Exit(0 if healthy else 1)


def _get(address: Address, path: str) -> tuple[int, dict[str, object]]:
    # this client follows no redirect and knows no proxy: a probe of this machine never leaves it
    connection = HTTPConnection(address.host, address.port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, _document(response.read(_MAX_ANSWER))
    except OSError as error:
        return 0, {"error": f"no answer from {address}: {error.strerror or error}"}
    except HTTPException:
        return 0, _FOREIGN
    finally:
        connection.close()


def _document(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _FOREIGN
    return value if isinstance(value, dict) else _FOREIGN
