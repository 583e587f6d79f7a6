"""How is the sidecar set up for a comparison? As in production: verified tokens, tenant scope, metrics."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from bench.heads import HOST
from bench.machine import NotAvailable, beside_python
from bench.peers import Place, Server, started
from bench.processes import clean_environment, free_port
from tests.issuer import AUDIENCE, Issuer

RULES = """\
version: 1
identity:
  tenant: [jwt.org_id]
  user: jwt.sub
  roles: jwt.permissions
defaults: {scope: tenant, grace: 2m, if-error: 1h}
features:
  jobs:
    ttl: 1h
    require: [read:jobs]
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: ["PUT|PATCH|DELETE /api/jobs/{job-id}"]
"""


def many_rules(routes: int) -> str:
    """The same, among `routes` others."""
    lines = [RULES]
    for number in range(routes // 5):
        base = f"GET /api/things-{number}"
        lines += [
            f"  things-{number}:\n    ttl: 1m\n    write: []\n    read:\n      - {base}\n      - {base}/{{item-id}}"
        ]
        lines += [f"      - {base}/{{item-id}}/parts\n      - {base}/{{item-id}}/parts/{{part-id}}"]
        lines += [f"      - {{route: {base}/notes, key-name: n{number}}}"]
    return "\n".join(lines) + "\n"


class Tokens:
    """RS256 tokens of one issuer, whose keys this process serves on loopback."""

    def __init__(self) -> None:
        self.issuer = Issuer(name="bench")
        document = self.issuer.document()

        class Keys(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/.well-known/jwks.json"

    def of(self, tenant: str) -> str:
        """A token as a portal's users have them, about 800 characters."""
        permissions = ["read:jobs", "write:jobs", "read:applications", "read:analytics", "read:members"]
        return self.issuer.token(org_id=tenant, sub=f"auth0|{tenant}-5f7c8ec7c33c6c004bbafe82", permissions=permissions)


@cache
def tokens() -> Tokens:
    return Tokens()


@contextmanager
def sidecache(
    place: Place,
    *flags: str,
    rules: str = RULES,
    name: str = "sidecache",
    program: Sequence[str] = (beside_python("sidecache"),),
    **environ: str,
) -> Iterator[Server]:
    """A sidecar with the keys of its issuer. NotAvailable when it refuses these flags or settings."""
    data, admin = free_port(), free_port()
    file = place.folder / "rules.yaml"
    file.write_text(rules)
    settings = {
        "SIDECACHE_PROFILE": "production",
        "SIDECACHE_UPSTREAM": f"http://127.0.0.1:{place.origin}",
        "SIDECACHE_RULES": str(file),
        "SIDECACHE_LISTEN": f"127.0.0.1:{data}",
        "SIDECACHE_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "SIDECACHE_JWT_ISSUER": tokens().issuer.url,
        "SIDECACHE_JWT_AUDIENCE": AUDIENCE,
        "SIDECACHE_JWKS_URL": tokens().url,
        "SIDECACHE_NAME_KEY": "5b1e2f0c9a7d4e3f8b6a1c2d3e4f5a6b",
        "SIDECACHE_HOSTS": HOST,
        "SIDECACHE_DRAIN_S": "1",
        "SIDECACHE_L1_BYTES": str(256 << 20),
        "REDIS_PROVIDER": "memory",
    }
    command = [*program, "run", *flags]
    with started(name, command, data, place, clean_environment(**settings | environ)) as server:
        _await_keys(admin)
        yield server


def holding(many: int) -> Callable[[Place], AbstractContextManager[Server]]:
    """A sidecar with room for so many entries, most of which it does not have to be asked for (`bench.filled`)."""

    @contextmanager
    def sidecache_that_fills_itself(place: Place) -> Iterator[Server]:
        program = (beside_python("python"), "-m", "bench.filled")
        room = {"SIDECACHE_L1_BYTES": str(10 << 30), "BENCH_MANY": str(many)}
        with sidecache(place, program=program, **room) as server:
            yield replace(server, fills_itself=True)

    return sidecache_that_fills_itself


def _await_keys(admin: int) -> None:
    """Ready, by its own word."""
    opener = build_opener(ProxyHandler({}))
    try:
        opener.open(f"http://127.0.0.1:{admin}/readyz", timeout=5).close()
    except URLError as error:
        raise NotAvailable(f"the sidecar is not ready: {error}") from None
