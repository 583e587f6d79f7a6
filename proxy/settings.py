"""Where does everything run? The environment and the flags over it, checked once, in one frozen value (SPEC 3)."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from proxy import event_settings, store_settings
from proxy.addresses import HOST, Address, is_origin, is_url, quoted, without_credentials
from proxy.credentials import AdminEntry, EncryptionKey, read_admin_tokens, read_encryption_keys
from proxy.errors import ConfigError
from proxy.profiles import PROFILES, Concern, judge
from proxy.variables import HOUR, Network, Variables

Profile = Literal["development", "staging", "production"]

# A fixed secret so that a development machine needs none. Production refuses to start without its own.
_DEVELOPMENT_NAME_KEY = "development-only-name-key"
_LOCAL_FILE = ".env.local"
_NEEDS_KEY = "{} needs a secret, e.g. from `sidecache keygen --name-key`"
_SECRETS = frozenset({"name_key", "redis_password", "upstash_token", "auth0_client_secret"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration. Durations are seconds, sizes bytes."""

    upstream: str
    rules: Path
    profile: Profile = "production"
    provider: str = "memory"
    listen: Address = Address("0.0.0.0", 8080)
    admin: Address = Address("127.0.0.1", 9900)
    metrics: Address | None = None  # a port for scrapers alone, without a token
    admin_tokens: tuple[AdminEntry, ...] = field(default=(), repr=False)
    allowed_ips: tuple[Network, ...] = ()  # who may reach the admin port at all; none named: everybody
    audit_log: str = "stdout"  # or off, or a file
    audit_format: Literal["native", "ocsf"] = "native"
    prefix: str = "/.sidecache"  # "" switches the reserved paths off
    hosts: frozenset[str] = frozenset()
    trusted_peers: tuple[Network, ...] = ()
    peer_identity: bool = True  # they may say who a caller is, not only where
    allowed_origins: frozenset[str] = frozenset()  # of pages that may read events and reports, beside our own
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwks_url: str | None = None
    oidc_client_id: str | None = None  # whom logout tokens are for
    assertion_keys: tuple[EncryptionKey, ...] = field(default=(), repr=False)  # the first signs, all are published
    auth0_domain: str | None = None  # whose Events API is followed
    auth0_client_id: str | None = None
    auth0_client_secret: str | None = field(default=None, repr=False)
    dev_auth: bool = False
    name_key: str = field(default=_DEVELOPMENT_NAME_KEY, repr=False)
    encryption_keys: tuple[EncryptionKey, ...] = field(default=(), repr=False)  # the first writes, all read
    redis: Address | None = None
    redis_username: str | None = None
    redis_password: str | None = field(default=None, repr=False)
    redis_tls: bool = False
    redis_tls_ca: Path | None = None
    redis_cluster: Literal["auto", "true", "false"] = "auto"
    redis_iam_auth: str | None = None  # region/cache or region/cache/serverless
    upstash_url: str | None = None
    upstash_token: str | None = field(default=None, repr=False)
    pool_size: int = 50
    sole_replica: bool = False
    store_timeout: float = 0.1
    l1_bytes: int = 64 << 20
    connect_timeout: float = 1.0
    first_byte_timeout: float = 30.0
    idle_timeout: float = 60.0
    drain: float = 25.0
    workers: int = 1
    events_kept: int = 500  # of a tenant
    events_kept_for: float = 72 * 3600.0
    event_bytes: int = 8 << 10  # of one event's data
    event_streams: int = 5000  # of this process; of these of one tenant, and of one user
    event_streams_tenant: int = 500
    event_streams_user: int = 10
    access_log: bool = False
    tracing: bool = False  # spans, by the standard variables OTEL_*
    warnings: tuple[str, ...] = ()

    def described(self) -> Iterator[tuple[str, str]]:
        """Name and value of each setting for people, secrets masked."""
        for each in fields(self):
            if each.name != "warnings":
                value = getattr(self, each.name)
                shown = _masked(value) if each.name in _SECRETS and value is not None else _shown(value)
                yield each.name.replace("_", "-"), shown


class Found(NamedTuple):
    """What an environment says; with problems, the settings are those of what could be read."""

    settings: Settings
    problems: tuple[str, ...]


def read(environ: Mapping[str, str], **flags: Any) -> Found:
    """Settings from the environment and the flags over it, and every problem of them."""
    reader = _Reader(_with_local_file(environ, flags.get("profile")), flags)
    return Found(reader.settings(), tuple(reader.problems))


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """The same where they are good. ConfigError names every problem at once."""
    settings, problems = read(environ, **flags)
    if problems:
        raise ConfigError(*problems)
    return settings


def admin_address(environ: Mapping[str, str], flag: str | None) -> Address:
    """Where the admin port is, without the rest of the configuration: for commands that only talk to it."""
    return _Reader(_with_local_file(environ, None), {"admin": flag}).admin_alone()


def admin_token(environ: Mapping[str, str]) -> str | None:
    """What commands show at the admin port."""
    return _Reader(_with_local_file(environ, None), {}).token_alone()


class _Reader(Variables):
    """The settings, one after the other."""

    def settings(self) -> Settings:
        profile = self.choice("SIDECACHE_PROFILE", PROFILES, "production", flag="profile")
        if self.problems:
            profile = "development"  # nothing is asked for the sake of a profile that is none
        issuer = self.text("SIDECACHE_JWT_ISSUER", flag="jwt_issuer")
        provider = store_settings.provider(self, profile)
        settings = Settings(
            upstream=self._upstream(),
            rules=Path(self.text("SIDECACHE_RULES", "rules.yaml", flag="rules") or "rules.yaml"),
            profile=profile,  # type: ignore[arg-type]  # _choice returns one of PROFILES
            provider=provider,
            listen=self.address("SIDECACHE_LISTEN", "0.0.0.0:8080", flag="listen"),
            admin=self._admin(),
            metrics=self._metrics(),
            admin_tokens=self._admin_tokens(),
            allowed_ips=tuple(self.networks("SIDECACHE_ALLOWED_IPS")),
            audit_log=self.text("SIDECACHE_AUDIT_LOG") or "stdout",
            audit_format=self.choice("SIDECACHE_AUDIT_FORMAT", ("native", "ocsf"), "native"),  # type: ignore[arg-type]
            prefix=self._prefix(),
            hosts=frozenset(self._hosts()),
            trusted_peers=tuple(self.networks("SIDECACHE_TRUSTED_PEERS")),
            peer_identity=self.switch("SIDECACHE_PEER_IDENTITY", default=True),
            allowed_origins=frozenset(self._origins()),
            jwt_issuer=issuer,
            jwt_audience=self.text("SIDECACHE_JWT_AUDIENCE", flag="jwt_audience"),
            jwks_url=self._jwks_url(issuer),
            oidc_client_id=self.text("SIDECACHE_OIDC_CLIENT_ID"),
            assertion_keys=self._keys("SIDECACHE_ASSERTION_KEYS"),
            auth0_domain=self._auth0_domain(),
            auth0_client_id=self.text("AUTH0_M2M_CLIENT_ID"),
            auth0_client_secret=self.text("AUTH0_M2M_CLIENT_SECRET"),
            dev_auth=self.switch("SIDECACHE_DEV_AUTH"),
            name_key=self._name_key(profile),
            encryption_keys=self._keys("SIDECACHE_ENCRYPTION_KEYS"),
            **(store_settings.redis(self, profile) if provider == "elasticache" else {}),
            **(store_settings.upstash(self) if provider == "upstash" else {}),
            pool_size=self.integer("SIDECACHE_POOL_SIZE", 10 if profile == "development" else 50, 1, 1000),
            sole_replica=self.switch("SIDECACHE_SOLE_REPLICA", default=provider == "memory"),
            store_timeout=self.milliseconds("SIDECACHE_STORE_TIMEOUT_MS", 100),
            l1_bytes=self.integer("SIDECACHE_L1_BYTES", 64 << 20, 1 << 20, 1 << 40),
            connect_timeout=self.milliseconds("SIDECACHE_CONNECT_TIMEOUT_MS", 1000),
            first_byte_timeout=self.milliseconds("SIDECACHE_FIRST_BYTE_TIMEOUT_MS", 30000),
            idle_timeout=self.milliseconds("SIDECACHE_IDLE_TIMEOUT_MS", 60000),
            drain=float(self.integer("SIDECACHE_DRAIN_S", 25, 0, HOUR)),
            **event_settings.events(self),
            access_log=self.switch("SIDECACHE_ACCESS_LOG"),
            tracing=self._tracing(),
            workers=self.integer("SIDECACHE_WORKERS", 1, 1, 64, flag="workers"),
        )
        self._check_together(settings)
        self._note_unknown_names()
        return replace(settings, warnings=tuple(self.warnings))

    def admin_alone(self) -> Address:
        address = self._admin()
        if self.problems:
            raise ConfigError(*self.problems)
        return address

    def token_alone(self) -> str | None:
        token, source = self.raw("SIDECACHE_TOKEN")
        if token is not None and not re.fullmatch(r"[!-~]{1,512}", token):
            self.problems.append(f"{source}: not a token of visible characters")
        if self.problems:
            raise ConfigError(*self.problems)
        return token

    def _admin(self) -> Address:
        return self.address("SIDECACHE_ADMIN_LISTEN", "127.0.0.1:9900", flag="admin")

    def _metrics(self) -> Address | None:
        if self.raw("SIDECACHE_METRICS_LISTEN")[0] is None:
            return None
        return self.address("SIDECACHE_METRICS_LISTEN", "0.0.0.0:9901", flag="metrics_listen")

    def _tracing(self) -> bool:
        """OpenTelemetry's own variables say whether and where; without its SDK nothing comes of it."""
        environ = self.environ
        wanted = [name for name in _TRACES if environ.get(name)]
        if not wanted or environ.get("OTEL_TRACES_EXPORTER") == "none" or _is_on(environ.get("OTEL_SDK_DISABLED")):
            return False
        protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        if protocol not in (None, "", "http/protobuf") or environ.get("OTEL_TRACES_EXPORTER") not in (None, "", "otlp"):
            self.warnings.append(f"{wanted[0]}: no spans are sent: only OTLP over http/protobuf is known here")
            return False
        if not _has_otlp():
            self.warnings.append(f'{wanted[0]}: no spans are sent: install the extra, pip install "sidecache[otel]"')
            return False
        return True

    def _hosts(self) -> Iterator[str]:
        for word in self.words("SIDECACHE_HOSTS"):
            if not HOST.fullmatch(word):
                self.problems.append(
                    f"{self.source('SIDECACHE_HOSTS')}: {quoted(word)} is not a host name such as api.example.com"
                )
            yield word.lower()

    def _origins(self) -> Iterator[str]:
        for word in self.words("SIDECACHE_ALLOWED_ORIGINS"):
            if not is_origin(word):
                self.problems.append(
                    f"{self.source('SIDECACHE_ALLOWED_ORIGINS')}: {quoted(word)} is not an origin such as "
                    "https://portal.example.com (no path, no *)"
                )
            yield word

    def _upstream(self) -> str:
        value, source = self.raw("SIDECACHE_UPSTREAM", "upstream")
        if value is None:
            self.missing("SIDECACHE_UPSTREAM", "say where requests go, e.g. --upstream http://127.0.0.1:3000")
            return ""
        if re.fullmatch(r"unix:(//)?/[^\s/]\S*", value):
            return value
        origin = value.removesuffix("/")
        if not is_url(origin) or origin.count("/") != 2 or "?" in origin or "#" in origin or "@" in origin:
            self.problems.append(
                f"{source}: {quoted(value)} is not a URL such as http://127.0.0.1:3000, https://api.internal or "
                "unix:/run/portal.sock (no path, no query, no credentials)"
            )
        return origin

    def _jwks_url(self, issuer: str | None) -> str | None:
        url = self.text("SIDECACHE_JWKS_URL", flag="jwks_url")
        for name, value in (("SIDECACHE_JWT_ISSUER", issuer), ("SIDECACHE_JWKS_URL", url)):
            if value is not None and (not is_url(value) or "@" in urlsplit(value).netloc):
                self.problems.append(
                    f"{self.source(name)}: {quoted(value)} is not a URL such as https://tenant.eu.auth0.com/ "
                    "(no credentials)"
                )
        if url is None and issuer is not None:
            return issuer.rstrip("/") + "/.well-known/jwks.json"
        return url

    def _auth0_domain(self) -> str | None:
        value, source = self.raw("AUTH0_DOMAIN")
        if value is not None and not HOST.fullmatch(value):
            self.problems.append(f"{source}: {quoted(value)} is not a host name such as tenant.eu.auth0.com")
        return value

    def _prefix(self) -> str:
        value, source = self.raw("SIDECACHE_PREFIX")
        if value == "off" or self.environ.get("SIDECACHE_PREFIX") == "":
            return ""
        if value is not None and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", value):
            self.problems.append(f"{source}: {quoted(value)} is not a path such as /.sidecache (or off)")
        return value or "/.sidecache"

    def _name_key(self, profile: str) -> str:
        value, source = self.raw("SIDECACHE_NAME_KEY")
        if value is None:
            if not self.unsaid("SIDECACHE_NAME_KEY"):
                return ""  # its file could not be read, which was said
            judge(self, profile, Concern.NO_NAME_KEY, f"SIDECACHE_NAME_KEY: missing; {_NEEDS_KEY.format(profile)}")
            return _DEVELOPMENT_NAME_KEY
        if not 16 <= len(value.encode("utf-8", "surrogateescape")) <= 1024:
            self.problems.append(f"{source}: a name key has 16 to 1024 characters")
        return value

    def _keys(self, name: str) -> tuple[EncryptionKey, ...]:
        value, source = self.raw(name)
        keys, problems = read_encryption_keys(value) if value is not None else ((), ())
        self.problems += [f"{source}: {problem}; `sidecache keygen` makes one" for problem in problems]
        return keys

    def _admin_tokens(self) -> tuple[AdminEntry, ...]:
        value, source = self.raw("SIDECACHE_ADMIN_TOKENS")
        entries, problems = read_admin_tokens(value) if value is not None else ((), ())
        self.problems += [
            f"{source}: {problem}; `sidecache keygen --admin NAME ROLE` makes one" for problem in problems
        ]
        return entries

    def _check_together(self, settings: Settings) -> None:
        admin, listen = self.source("SIDECACHE_ADMIN_LISTEN"), settings.listen
        if not settings.admin.loopback and not settings.admin_tokens:
            self.problems.append(
                f"{admin}: {settings.admin} is reachable from outside and has no tokens; "
                "use 127.0.0.1, or name them in SIDECACHE_ADMIN_TOKENS"
            )
        elif not settings.admin.loopback:
            self.warnings.append(
                f"{admin}: {settings.admin} is reachable from outside without TLS: tokens cross the network as they are"
            )
        if settings.workers > 1 and settings.provider == "memory":
            self.problems.append(
                f"{self.source('SIDECACHE_WORKERS')}: {settings.workers} workers need a store that they share; "
                "the embedded one (REDIS_PROVIDER=memory) is for 1"
            )
        if settings.dev_auth and not (settings.profile == "development" and listen.loopback):
            self.problems.append("SIDECACHE_DEV_AUTH: unsigned tokens are for development on a loopback address only")
        self._check_profile(settings)
        if listen == settings.admin and listen.port:
            self.problems.append(f"{admin}: {settings.admin} is the data port; choose another")
        metrics = settings.metrics
        if metrics is not None and metrics.port and metrics.port in (listen.port, settings.admin.port):
            taken = "data" if metrics.port == listen.port else "admin"
            self.problems.append(
                f"{self.source('SIDECACHE_METRICS_LISTEN')}: {metrics} is the {taken} port; choose another"
            )
        if settings.jwks_url and not settings.jwt_issuer:
            url = self.source("SIDECACHE_JWKS_URL")
            self.missing("SIDECACHE_JWT_ISSUER", f"{url} does not say whose tokens count")
        elif settings.jwt_issuer and settings.jwt_audience is None:
            self.missing("SIDECACHE_JWT_AUDIENCE", "tokens are checked for issuer and audience")
        if settings.auth0_client_id is not None or settings.auth0_client_secret is not None:
            for name, value in (
                ("AUTH0_DOMAIN", settings.auth0_domain), ("AUTH0_M2M_CLIENT_ID", settings.auth0_client_id),
                ("AUTH0_M2M_CLIENT_SECRET", settings.auth0_client_secret),
            ):  # fmt: skip
                if value is None:
                    self.missing(name, "the Events API needs the domain, a client and its secret")
        if settings.oidc_client_id is not None and settings.jwks_url is None:
            self.missing("SIDECACHE_JWT_ISSUER", "SIDECACHE_OIDC_CLIENT_ID does not say whose logout tokens count")
        if settings.jwks_url is None and not settings.dev_auth:
            self.warnings.append(
                "SIDECACHE_JWT_ISSUER: missing; no token can be verified, so only public features are cached"
            )

    def _check_profile(self, settings: Settings) -> None:
        """What one profile may and another may not, of several settings together."""
        profile, keys = settings.profile, settings.jwks_url
        if settings.name_key == _DEVELOPMENT_NAME_KEY and (profile == "production" or _is_reached_by_others(settings)):
            line = f"SIDECACHE_NAME_KEY: the one for development, which everybody knows; {_NEEDS_KEY.format(profile)}"
            if profile != "production" or not self.unsaid("SIDECACHE_NAME_KEY"):  # there its absence is said already
                judge(self, profile, Concern.KNOWN_NAME_KEY, line)
        if keys is not None and keys.startswith("http://") and not _is_loopback(keys):
            source = self.source("SIDECACHE_JWT_ISSUER" if self.unsaid("SIDECACHE_JWKS_URL") else "SIDECACHE_JWKS_URL")
            line = f"{source}: signing keys would come in plain text: whoever is on the way speaks for any tenant"
            judge(self, profile, Concern.PLAIN_SIGNING_KEYS, f"{line}; use https")
        for network in settings.trusted_peers:
            if network.prefixlen == 0:
                what = "who" if settings.peer_identity else "where"
                line = f"{self.source('SIDECACHE_TRUSTED_PEERS')}: {network} lets every client say {what} it is"
                judge(self, profile, Concern.EVERYBODY_TRUSTED, f"{line}; name the addresses of your own proxies")
        if settings.audit_log == "off":
            line = f"{self.source('SIDECACHE_AUDIT_LOG')}: off: nothing tells who purged or looked at what"
            judge(self, profile, Concern.NO_AUDIT, line)

    def _note_unknown_names(self) -> None:
        names = self.asked | _ELSEWHERE
        for name in sorted(self.environ):
            setting = name.removesuffix("_FILE")
            if not name.startswith(_OWN) or setting in names or _KUBERNETES.fullmatch(name):
                continue
            # a typing error is no reason to stay down: it is said, and the default holds
            known = [each.removeprefix(_OWN) for each in sorted(names) if each.startswith(_OWN)]
            near = difflib.get_close_matches(setting.removeprefix(_OWN), known, n=1)
            hint = f" (did you mean '{_OWN}{near[0]}'?)" if near else ""
            self.warnings.append(f"{name}: has no effect{hint}")


_TRACES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER")
_OWN = "SIDECACHE_"
# What Kubernetes sets in every pod beside a service of our name.
_KUBERNETES = re.compile(r"SIDECACHE_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")
_ELSEWHERE = frozenset({"SIDECACHE_TOKEN"})  # read by commands only


def _with_local_file(environ: Mapping[str, str], profile: object) -> Mapping[str, str]:
    """In development `.env.local` stands behind the real environment (the guide's way to keep the Upstash token)."""
    file = Path(_LOCAL_FILE)
    if (profile or environ.get("SIDECACHE_PROFILE")) != "development" or not file.is_file():
        return environ
    from dotenv import dotenv_values  # here: only development needs it

    try:
        local = dotenv_values(file, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{_LOCAL_FILE}: cannot be read: {reason}") from None
    # NAME in the environment also stands before NAME_FILE in the file, and the other way round
    said = {name.removesuffix("_FILE") for name in environ}
    behind = {name: value for name, value in local.items() if value is not None}
    return {**{name: value for name, value in behind.items() if name.removesuffix("_FILE") not in said}, **environ}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, frozenset | tuple):
        shown = map(str, value)
        return ", ".join(sorted(shown) if isinstance(value, frozenset) else shown) or "(none)"
    return "(none)" if value is None else without_credentials(str(value)) or "(none)"


def _has_otlp() -> bool:
    try:
        return None not in (find_spec("opentelemetry.sdk"), find_spec("opentelemetry.exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        return False


def _is_reached_by_others(settings: Settings) -> bool:
    """Whether the store is more than this process, or a server on this machine."""
    if settings.provider == "upstash":
        return settings.upstash_url is not None and not _is_loopback(settings.upstash_url)
    return settings.redis is not None and not settings.redis.loopback


def _is_loopback(url: str) -> bool:
    return Address(urlsplit(url).hostname or "", 0).loopback if is_url(url) else False


def _is_on(value: str | None) -> bool:
    return (value or "").lower() == "true"


def _masked(secret: str) -> str:
    return "(the fixed key for development)" if secret == _DEVELOPMENT_NAME_KEY else "(set)"
