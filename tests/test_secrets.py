"""P12 as a whole: every secret is a canary, everything that prints is made to print, and no canary is in any of it."""

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.credentials import new_admin_token
from tests import servers, wire
from tests.cli.process import LIMIT, SIDECACHE, environment, said

pytestmark = pytest.mark.process

RULES = """
version: 1
features:
  jobs:
    ttl: 15m
    scope: user
    read: [GET /api/jobs, "GET /api/jobs/{job-id}"]
    write: [POST /api/jobs]
  secrets:
    ttl: 5m
    sensitive: true
    read: [GET /api/secrets]
    write: [POST /api/secrets]
"""
CANARY = "canary0"  # in every secret text
KEYS = {name: hashlib.sha256(f"{CANARY}{name}".encode()).digest() for name in ("encryption", "assertion")}
ADMIN = new_admin_token("ida", "inspector", None, lambda size: f"{CANARY}{'x' * size}".encode()[:size])

SECRETS = {
    "SIDECACHE_NAME_KEY": f"{CANARY}-name-key-of-some-length",
    "SIDECACHE_ENCRYPTION_KEYS": f"k1:{base64.b64encode(KEYS['encryption']).decode()}",
    "SIDECACHE_ASSERTION_KEYS": f"a1:{base64.b64encode(KEYS['assertion']).decode()}",
    "SIDECACHE_ADMIN_TOKENS": ADMIN.entry,
    "REDIS_PASSWORD": f"{CANARY}-redis-password",
    "UPSTASH_REDIS_REST_TOKEN": f"{CANARY}-upstash-token",
    "AUTH0_M2M_CLIENT_SECRET": f"{CANARY}-auth0-secret",
}
# What each of them looks like when it is searched for.
SOUGHT = (
    CANARY,
    ADMIN.token,
    ADMIN.entry.rpartition(":")[2],
    *(base64.b64encode(key).decode().rstrip("=") for key in KEYS.values()),
    *(key.hex() for key in KEYS.values()),
)


def found_in(text: str) -> list[str]:
    return [each for each in SOUGHT if each.lower() in text.lower()]


# Wrong values: they come back as a line that says what is wrong, and not as themselves

C, H = CANARY, "0" * 64
WRONG = [
    ("SIDECACHE_NAME_KEY", [f"{C}"[:7], f"{C}\n{C}" * 200]),
    ("SIDECACHE_NAME_KEY_FILE", [f"{C}-a-key-where-its-file-belongs", f"{C}/with/slashes", "x" * 5000 + C]),
    ("SIDECACHE_ENCRYPTION_KEYS", [
        C, f"{C}-the-key-before-its-id:k1", f"k1:{C}", f"k1:{C}!!", f"k1:{C}:{C}", f" {C},,{C} ",
    ]),
    ("SIDECACHE_ASSERTION_KEYS", [C, f"a1:{C}", f"{C}-the-key-before-its-id:a1"]),
    ("SIDECACHE_ADMIN_TOKENS", [
        C, f"ci:{C}:{H}", f"ci:operator:{C}", f"ci:operator:{C} :{H}", f"sidecache_{C}:operator:{H}",
        f"{C} or so:operator:{H}", f"ci:viewer:{H},{C}", f"ci:operator:org_a:{C}", f"operator:{C}:x:{H}",
    ]),
    ("REDIS_PASSWORD_FILE", [f"{C}"]),
    ("REDIS_HOST", [f"redis://:{C}@cache:6379", f"user:{C}@cache", f":{C}/a@b@cache"]),
    ("UPSTASH_REDIS_REST_TOKEN", [f"{C} {C}", f"{C}é"]),
    ("UPSTASH_REDIS_REST_URL", [
        f"https://default:{C}@x.upstash.io", f"default:{C}@x", f"https://default:{C}/a@x", f"//u:{C}@x",
    ]),
    ("SIDECACHE_UPSTREAM", [
        f"http://me:{C}@portal", f"me:{C}@portal:3000", f"http://me:{C}/x@portal", f"http://{C}:p@portal?x",
    ]),
    ("SIDECACHE_JWT_ISSUER", [f"https://me:{C}@issuer/", f"me:{C}@issuer"]),
    ("SIDECACHE_JWKS_URL", [f"https://me:{C}@issuer/keys", f"https://me:{C}#x@issuer/keys"]),
    ("AUTH0_M2M_CLIENT_SECRET_FILE", [C]),
]  # fmt: skip
CASES = [(name, value) for name, values in WRONG for value in values]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path


@pytest.mark.parametrize("profile", ["development", "production"])
def test_a_wrong_secret_is_named_and_never_quoted(home, profile, monkeypatch, capsys):
    """In this process, as the console script does it: a process for each of these would take minutes."""
    monkeypatch.chdir(home)
    for name in [name for name in os.environ if name.startswith(("SIDECACHE_", "REDIS_", "UPSTASH_", "AUTH0_"))]:
        monkeypatch.delenv(name)
    for name, value in CASES:
        environ = {"SIDECACHE_PROFILE": profile, "SIDECACHE_UPSTREAM": "http://portal:3000"}
        environ |= {"REDIS_PROVIDER": "upstash"} if name.startswith("UPSTASH") else {"REDIS_PROVIDER": "redis"}
        environ |= {"REDIS_HOST": "cache"} if name != "REDIS_HOST" else {}
        with monkeypatch.context() as patched:
            for each, set_to in {**environ, name: value}.items():
                patched.setenv(each, set_to)
            for words in (["check", "--settings"], ["check", "--json", "--settings"], ["run"]):
                patched.setattr("sys.argv", ["sidecache", *words])
                with pytest.raises(SystemExit) as ended:
                    main.main()
                captured = capsys.readouterr()
                output = captured.out + captured.err
                assert ended.value.code in (1, 2), (name, value)
                assert name.removesuffix("_FILE") in output or name.startswith("REDIS_PASSWORD"), (name, value)
                assert CANARY not in output, (name, value, output)
                assert "Traceback" not in output


def test_a_token_for_the_commands_that_is_none_is_not_quoted(home):
    for value in (f"{C} x", f"{C}\nX: y", f"{C}é"):
        for words in (["status"], ["keys", "--json"], ["purge", "jobs:1", "--tenant", "org_a"]):
            code, out, err = said(*words, cwd=home, SIDECACHE_TOKEN=value)
            assert (code, found_in(out + err)) == (2, []), (value, err)


# A sidecar with all of them


async def everything_asked(data: int, admin: int, token: str) -> list[str]:
    """What clients and admins get to see, right and wrong credentials included."""
    credentials = [
        f"Authorization: Bearer {token}", f"Authorization: Bearer {C}.{C}.{C}", f"Authorization: Basic {C}",
        f"Cookie: __session={C}; other={C}", f"X-Api-Key: {C}", f"Authorization: Bearer {C} {C}",
    ]  # fmt: skip
    for each in credentials:
        for target in (f"/api/jobs?token={C}&page=1", "/api/secrets", f"/nothing?key={C}", "/api/jobs/7"):
            await wire.fetch(data, target, each)
            await wire.fetch(data, target, each, method="POST", body=f'{{"password": "{C}"}}'.encode())
    told = []
    places = ["livez", "readyz", "health", "session", "events?wait=0", "events/unread", "reports", "ticket"]
    for each in credentials[1:3]:
        told += [(await wire.fetch(data, f"/.sidecache/{place}", each)).body for place in places]
    own = (f"Authorization: Bearer {ADMIN.token}", "Content-Type: application/json")
    document = json.loads((await wire.fetch(admin, "/openapi.json", host="127.0.0.1")).body)
    for path, operations in document["paths"].items():
        for method in operations:
            if path == "/api/live":
                continue
            for headers in (own, (credentials[1],), (f"Cookie: sidecache-{admin}={C}",), own[1:]):
                target = path.replace("{file}", "main.js").replace("{feature}", "jobs").replace("{identifier}", "x")
                body = f'{{"token": "{C}"}}'.encode() if method in ("post", "put") else b""
                answer = await wire.fetch(admin, target, *headers, method=method.upper(), body=body, host="127.0.0.1")
                told += [answer.body, *(value for _, value in answer.fields)]
    return [each.decode("latin-1") for each in told]


def started(home: Path, words: list[str], environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    with (home / "log").open("w") as log:
        return subprocess.Popen(
            [*SIDECACHE, "run", *words], cwd=home, env=environment(**environ), stdout=log, stderr=log
        )


@pytest.mark.parametrize("store", ["redis", "upstash"])
async def test_nothing_that_a_sidecar_says_holds_a_secret(home, store):
    where = {
        "redis": {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(servers.free_port()), "REDIS_USERNAME": "sidecache"},
        "upstash": {"UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{servers.free_port()}"},
    }[store]
    issuer = f"http://127.0.0.1:{servers.free_port()}/"
    environ = {
        **SECRETS, **where, "REDIS_PROVIDER": store, "SIDECACHE_ACCESS_LOG": "1", "SIDECACHE_AUDIT_LOG": "audit",
        "SIDECACHE_JWT_ISSUER": issuer, "SIDECACHE_JWT_AUDIENCE": "portal", "SIDECACHE_DRAIN_S": "1",
        "AUTH0_DOMAIN": "127.0.0.1", "AUTH0_M2M_CLIENT_ID": "client", "SIDECACHE_PROFILE": "staging",
    }  # fmt: skip

    async def answer(request: wire.Message, peer: wire.Peer) -> None:
        body = json.dumps({"secret": CANARY}).encode()
        await peer.send(wire.response(body, "Content-Type: application/json"))

    async with wire.upstream(answer) as upstream:
        listen, admin = servers.free_port(), servers.free_port()
        words = ["--upstream", f"http://127.0.0.1:{upstream.port}", "--listen", f"127.0.0.1:{listen}"]
        process = started(home, [*words, "--admin", f"127.0.0.1:{admin}"], environ)
        try:
            await wire.until(lambda: process.poll() is not None or '"listening"' in (home / "log").read_text())
            token = f"eyJhbGciOiJub25lIn0.{base64.urlsafe_b64encode(b'canary0canary0').decode().rstrip('=')}."
            told = await everything_asked(listen, admin, token)
            commands = commanded(home, admin, environ)
        finally:
            process.terminate()
            ended = process.wait(LIMIT)
    log_lines = (home / "log").read_text()
    assert ended == 0, log_lines
    assert "store" in log_lines
    assert len(told) > 200
    for name, text in {"log": log_lines, "audit": (home / "audit").read_text(), **commands}.items():
        assert found_in(text) == [], (name, [line for line in text.splitlines() if found_in(line)][:3])
    leaks = [text for text in told if found_in(text)]
    assert leaks == []


def commanded(home: Path, admin: int, environ: dict[str, str]) -> dict[str, str]:
    """What the commands print, with the right token."""
    token = {**environ, "SIDECACHE_TOKEN": ADMIN.token}
    at = ["--admin", f"127.0.0.1:{admin}"]
    printed = {}
    for words in (
        ["status", *at], ["status", "--json", *at], ["keys", *at], ["top", "reasons", *at], ["audit", *at],
        ["why", "/api/jobs", "--as", "org_a:u1", *at], ["purge", "jobs:7", "--tenant", "org_a", *at],
        ["bypass", "on", "--for", "1m", *at], ["check", "--settings"], ["check", "--settings", "--json"],
        ["health", *at], ["explain", "GET /api/jobs", "--org", "org_a", "--header", f"authorization: Bearer {C}"],
    ):  # fmt: skip
        code, out, err = said(*words, cwd=home, **token)
        assert "Traceback" not in err, (words, err)
        printed[f"{' '.join(words)} ({code})"] = out + err
    return printed


def test_the_check_would_find_each_of_them():
    for name, value in SECRETS.items():
        if name != "SIDECACHE_ADMIN_TOKENS":
            secret = value.partition(":")[2] or value
            assert found_in(f"an error about {secret} here"), name
    assert found_in(ADMIN.token)
    assert found_in(ADMIN.entry)
