"""Where does everything run? The environment and the flags over it, checked once, in one frozen value (SPEC 3)."""

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from proxy.addresses import HOST, Address, is_bracketed, is_url, quoted
from proxy.credentials import AdminEntry, EncryptionKey, read_admin_tokens, read_encryption_keys
from proxy.errors import ConfigError

Profile = Literal["development", "staging", "production"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROFILES = ("development", "staging", "production")
# A fixed secret so that a development machine needs none. Production refuses to start without its own.
_DEVELOPMENT_NAME_KEY = "development-only-name-key"
_LOCAL_FILE = ".env.local"
_SECRETS = frozenset({"name_key", "redis_password", "upstash_token"})
_ORDER = ("upstash", "elasticache")
_PRESENT = (("upstash", "UPSTASH_REDIS_REST_URL"), ("elasticache", "REDIS_HOST"))
_PROVIDERS = {"memory": "memory", "elasticache": "elasticache", "redis": "elasticache", "upstash": "upstash"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration. Durations are seconds, sizes bytes."""

    upstream: str
    rules: Path
    profile: Profile = "production"
    provider: str = "memory"
    listen: Address = Address("0.0.0.0", 8080)
    admin: Address = Address("127.0.0.1", 9900)
    admin_tokens: tuple[AdminEntry, ...] = field(default=(), repr=False)
    allowed_ips: tuple[Network, ...] = ()  # who may reach the admin port at all; none named: everybody
    audit_log: str = "stdout"  # or off, or a file
    prefix: str = "/.sidecache"  # "" switches the reserved paths off
    hosts: frozenset[str] = frozenset()
    trusted_peers: tuple[Network, ...] = ()
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwks_url: str | None = None
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
    access_log: bool = False
    warnings: tuple[str, ...] = ()

    def described(self) -> Iterator[tuple[str, str]]:
        """Name and value of each setting for people, secrets masked."""
        for each in fields(self):
            if each.name != "warnings":
                value = getattr(self, each.name)
                shown = _masked(value) if each.name in _SECRETS and value is not None else _shown(value)
                yield each.name.replace("_", "-"), shown


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """Settings from the environment and the flags over it. ConfigError names every problem at once."""
    return _Reader(_with_local_file(environ, flags.get("profile")), flags).settings()


def admin_address(environ: Mapping[str, str], flag: str | None) -> Address:
    """Where the admin port is, without the rest of the configuration: for commands that only talk to it."""
    return _Reader(_with_local_file(environ, None), {"admin": flag}).admin_alone()


def admin_token(environ: Mapping[str, str]) -> str | None:
    """What commands show at the admin port."""
    return _Reader(_with_local_file(environ, None), {}).token_alone()


class _Reader:
    """Reads one variable after the other and collects what is wrong instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self._environ = environ
        self._flags = {name: value for name, value in flags.items() if value is not None}
        self._sources: dict[str, str] = {}
        self._problems: list[str] = []
        self._warnings: list[str] = []

    def settings(self) -> Settings:
        profile = self._choice("SIDECACHE_PROFILE", PROFILES, "production", flag="profile")
        if self._problems:
            profile = "development"  # nothing is asked for the sake of a profile that is none
        issuer = self._text("SIDECACHE_JWT_ISSUER", flag="jwt_issuer")
        provider = self._provider(profile)
        settings = Settings(
            upstream=self._upstream(),
            rules=Path(self._text("SIDECACHE_RULES", "rules.yaml", flag="rules") or "rules.yaml"),
            profile=profile,  # type: ignore[arg-type]  # _choice returns one of PROFILES
            provider=provider,
            listen=self._address("SIDECACHE_LISTEN", "0.0.0.0:8080", flag="listen"),
            admin=self._admin(),
            admin_tokens=self._admin_tokens(),
            allowed_ips=tuple(self._networks("SIDECACHE_ALLOWED_IPS")),
            audit_log=self._text("SIDECACHE_AUDIT_LOG") or "stdout",
            prefix=self._prefix(),
            hosts=frozenset(self._hosts()),
            trusted_peers=tuple(self._networks("SIDECACHE_TRUSTED_PEERS")),
            jwt_issuer=issuer,
            jwt_audience=self._text("SIDECACHE_JWT_AUDIENCE", flag="jwt_audience"),
            jwks_url=self._jwks_url(issuer),
            dev_auth=self._switch("SIDECACHE_DEV_AUTH"),
            name_key=self._name_key(profile),
            encryption_keys=self._encryption_keys(),
            **(self._redis(profile) if provider == "elasticache" else {}),
            **(self._upstash() if provider == "upstash" else {}),
            pool_size=self._integer("SIDECACHE_POOL_SIZE", 10 if profile == "development" else 50, 1, 1000),
            sole_replica=self._switch("SIDECACHE_SOLE_REPLICA", default=provider == "memory"),
            store_timeout=self._milliseconds("SIDECACHE_STORE_TIMEOUT_MS", 100),
            l1_bytes=self._integer("SIDECACHE_L1_BYTES", 64 << 20, 1 << 20, 1 << 40),
            connect_timeout=self._milliseconds("SIDECACHE_CONNECT_TIMEOUT_MS", 1000),
            first_byte_timeout=self._milliseconds("SIDECACHE_FIRST_BYTE_TIMEOUT_MS", 30000),
            idle_timeout=self._milliseconds("SIDECACHE_IDLE_TIMEOUT_MS", 60000),
            drain=float(self._integer("SIDECACHE_DRAIN_S", 25, 0, _HOUR)),
            access_log=self._switch("SIDECACHE_ACCESS_LOG"),
            workers=self._integer("SIDECACHE_WORKERS", 1, 1, 64, flag="workers"),
        )
        self._check_together(settings)
        self._note_unknown_names()
        if self._problems:
            raise ConfigError(*self._problems)
        object.__setattr__(settings, "warnings", tuple(self._warnings))
        return settings

    def admin_alone(self) -> Address:
        address = self._admin()
        if self._problems:
            raise ConfigError(*self._problems)
        return address

    def token_alone(self) -> str | None:
        token, source = self._raw("SIDECACHE_TOKEN")
        if token is not None and not re.fullmatch(r"[!-~]{1,512}", token):
            self._problems.append(f"{source}: not a token of visible characters")
        if self._problems:
            raise ConfigError(*self._problems)
        return token

    def _admin(self) -> Address:
        return self._address("SIDECACHE_ADMIN_LISTEN", "127.0.0.1:9900", flag="admin")

    def _raw(self, name: str, flag: str | None = None) -> tuple[str | None, str]:
        """The value (None: there is none) and where it came from: a flag, NAME, or the file named by NAME_FILE."""
        if flag is not None and flag in self._flags:
            source = self._sources[name] = "--" + flag.replace("_", "-")
            return str(self._flags[flag]), source
        file = self._environ.get(f"{name}_FILE")
        if file and name in self._environ:
            self._problems.append(f"{name}: set both directly and as {name}_FILE; keep one")
        if file:
            self._sources[name] = f"{name}_FILE"
            return self._content(file, f"{name}_FILE"), f"{name}_FILE"
        return self._environ.get(name, "").strip() or None, name

    def _content(self, file: str, source: str) -> str | None:
        try:
            content = Path(file).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not text"
            self._problems.append(f"{source}: cannot read {quoted(file)}: {reason}")
            return None
        if not content:
            self._problems.append(f"{source}: {quoted(file)} is empty")
        return content or None

    def _source(self, name: str) -> str:
        """Where a value that is wrong only beside others came from."""
        return self._sources.get(name, name)

    def _missing(self, name: str, why: str) -> None:
        if name not in self._sources:  # a file that could not be read was said already
            self._problems.append(f"{name}: missing; {why}")

    def _text(self, name: str, default: str | None = None, *, flag: str | None = None) -> str | None:
        return self._raw(name, flag)[0] or default

    def _choice(self, name: str, allowed: tuple[str, ...], default: str, *, flag: str | None = None) -> str:
        value, source = self._raw(name, flag)
        if value is None or value in allowed:
            return value or default
        self._problems.append(f"{source}: {quoted(value)} is not one of {', '.join(allowed)}{_meant(value, allowed)}")
        return default

    def _switch(self, name: str, *, default: bool = False) -> bool:
        value, source = self._raw(name)
        if value is None:
            return default
        switched = _SWITCHES.get(value.lower())
        if switched is None:
            self._problems.append(f"{source}: {quoted(value)} is not one of {', '.join(_SWITCHES)}")
        return bool(switched)

    def _integer(self, name: str, default: int, least: int, most: int, *, flag: str | None = None) -> int:
        value, source = self._raw(name, flag)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,15}", value) or not least <= int(value) <= most:
            self._problems.append(f"{source}: {quoted(value)} is not a whole number from {least} to {most}")
            return default
        return int(value)

    def _milliseconds(self, name: str, default: int) -> float:
        return self._integer(name, default, 1, _HOUR * 1000) / 1000

    def _words(self, name: str) -> list[str]:
        return [word for word in re.split(r"[,\s]+", self._text(name) or "") if word]

    def _hosts(self) -> Iterator[str]:
        for word in self._words("SIDECACHE_HOSTS"):
            if not HOST.fullmatch(word):
                self._problems.append(
                    f"{self._source('SIDECACHE_HOSTS')}: {quoted(word)} is not a host name such as api.example.com"
                )
            yield word.lower()

    def _networks(self, name: str) -> Iterator[Network]:
        for word in self._words(name):
            try:
                network = ipaddress.ip_network(word)
            except ValueError:
                self._problems.append(
                    f"{self._source(name)}: {quoted(word)} is not an address range such as 10.0.0.0/8 or 127.0.0.1/32"
                )
                continue
            if network.prefixlen == 0 and name == "SIDECACHE_TRUSTED_PEERS":
                self._warnings.append(f"{self._source(name)}: {word} lets every client say who it is")
            yield network

    def _address(self, name: str, default: str, *, flag: str) -> Address:
        value, source = self._raw(name, flag)
        host, colon, port = (value or default).rpartition(":")
        host = host[1:-1] if is_bracketed(host) else host if HOST.fullmatch(host) else ""
        if not host or not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            self._problems.append(f"{source}: {quoted(value or '')} is not HOST:PORT such as {default}")
            return Address("127.0.0.1", 0)
        return Address(host, int(port))

    def _upstream(self) -> str:
        value, source = self._raw("SIDECACHE_UPSTREAM", "upstream")
        if value is None:
            self._missing("SIDECACHE_UPSTREAM", "say where requests go, e.g. --upstream http://127.0.0.1:3000")
            return ""
        if re.fullmatch(r"unix:(//)?/[^\s/]\S*", value):
            return value
        origin = value.removesuffix("/")
        if not is_url(origin) or origin.count("/") != 2 or "?" in origin or "#" in origin or "@" in origin:
            self._problems.append(
                f"{source}: {quoted(value)} is not a URL such as http://127.0.0.1:3000, https://api.internal or "
                "unix:/run/portal.sock (no path, no query, no credentials)"
            )
        return origin

    def _jwks_url(self, issuer: str | None) -> str | None:
        url = self._text("SIDECACHE_JWKS_URL", flag="jwks_url")
        for name, value in (("SIDECACHE_JWT_ISSUER", issuer), ("SIDECACHE_JWKS_URL", url)):
            if value is not None and not is_url(value):
                self._problems.append(
                    f"{self._source(name)}: {quoted(value)} is not a URL such as https://tenant.eu.auth0.com/"
                )
        if url is None and issuer is not None:
            return issuer.rstrip("/") + "/.well-known/jwks.json"
        return url

    def _prefix(self) -> str:
        if self._environ.get("SIDECACHE_PREFIX") == "":
            return ""
        value, source = self._raw("SIDECACHE_PREFIX")
        if value == "off":
            return ""
        if value is not None and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", value):
            self._problems.append(f"{source}: {quoted(value)} is not a path such as /.sidecache (or off)")
        return value or "/.sidecache"

    def _provider(self, profile: str) -> str:
        value, source = self._raw("REDIS_PROVIDER")
        # the variables that are present say it too; of both, Upstash is the one for development
        present = {
            each: name for each, name in _PRESENT if self._environ.get(name) or self._environ.get(f"{name}_FILE")
        }
        value = value or (min if profile == "development" else max)(present, default="", key=_ORDER.index)
        if not value:
            if profile == "production":
                self._missing("REDIS_PROVIDER", "production needs it said: memory keeps everything in this process")
            value = "memory"
        provider = _PROVIDERS.get(value.lower())
        if provider is None:
            names = tuple(_PROVIDERS)
            self._problems.append(f"{source}: {quoted(value)} is not one of {', '.join(names)}{_meant(value, names)}")
            return "memory"
        for each, name in present.items():
            if each != provider:
                self._warnings.append(f"{name}: has no effect with REDIS_PROVIDER={provider}")
        if provider != "elasticache" and self._environ.get("REDIS_PORT", "").startswith("tcp://"):
            self._warnings.append("REDIS_PORT: ignored; Kubernetes put it there for a service named redis")
        return provider

    def _redis(self, profile: str) -> dict[str, Any]:
        """What a store over TCP needs (`REDIS_PROVIDER=elasticache`)."""
        tls, ca = self._switch("REDIS_TLS"), self._text("REDIS_TLS_CA")
        username, iam = self._text("REDIS_USERNAME"), self._text("REDIS_IAM_AUTH")
        password = self._text("REDIS_PASSWORD")
        if profile == "production" and not tls:
            self._problems.append("REDIS_TLS: production does not talk to Redis in plain text; set REDIS_TLS=true")
        if ca is not None and not tls:
            self._warnings.append("REDIS_TLS_CA: has no effect without REDIS_TLS=true")
        elif ca is not None and not Path(ca).is_file():
            self._problems.append(f"{self._source('REDIS_TLS_CA')}: there is no file {quoted(ca)}")
        if iam is not None:
            if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]/[a-z][a-z0-9-]{0,49}(/serverless)?", iam):
                self._problems.append(
                    f"REDIS_IAM_AUTH: {quoted(iam)} is not REGION/CACHE such as eu-central-1/portal-cache "
                    "(a serverless cache: REGION/CACHE/serverless)"
                )
            if username is None or not tls or password is not None:
                self._problems.append("REDIS_IAM_AUTH: needs REDIS_USERNAME and REDIS_TLS=true, and no REDIS_PASSWORD")
        return {
            "redis": self._redis_address(), "redis_username": username, "redis_password": password, "redis_tls": tls,
            "redis_tls_ca": Path(ca) if ca else None, "redis_iam_auth": iam,
            "redis_cluster": self._choice("REDIS_CLUSTER", ("auto", "true", "false"), "auto"),
        }  # fmt: skip

    def _redis_address(self) -> Address | None:
        (host, source), (port, _) = self._raw("REDIS_HOST"), self._raw("REDIS_PORT")
        if port is not None and (kubernetes := re.fullmatch(r"tcp://([^:/]+):([0-9]{1,5})", port)):
            host, port = host or kubernetes[1], kubernetes[2]
            self._warnings.append(
                f"REDIS_PORT: Kubernetes put it there for a service named redis; {host} port {port} is used"
            )
        if host is None:
            self._missing("REDIS_HOST", "say where Redis is, e.g. REDIS_HOST=cache.internal")
        elif not (HOST.fullmatch(host) or is_bracketed(f"[{host}]")):
            self._problems.append(f"{source}: {quoted(host)} is not a host name or an address such as cache.internal")
        if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
            self._problems.append(f"{self._source('REDIS_PORT')}: {quoted(port)} is not a port such as 6379")
            port = None
        return Address(host or "127.0.0.1", int(port or 6379))

    def _upstash(self) -> dict[str, Any]:
        """What a store over REST needs (`REDIS_PROVIDER=upstash`)."""
        url, source = self._raw("UPSTASH_REDIS_REST_URL")
        if url is None:
            self._missing("UPSTASH_REDIS_REST_URL", "the console of the database shows it")
        elif not is_url(url) or urlsplit(url).username is not None:
            self._problems.append(f"{source}: {quoted(url)} is not a URL such as https://name-12345.upstash.io")
        elif not url.startswith("https://") and not Address(urlsplit(url).hostname or "", 0).loopback:
            self._problems.append(f"{source}: {quoted(url)} would send the token in plain text; use https")
        token = self._text("UPSTASH_REDIS_REST_TOKEN")
        if token is None:
            self._missing("UPSTASH_REDIS_REST_TOKEN", "the console of the database shows it")
        elif not re.fullmatch(r"[!-~]+", token):
            self._problems.append(f"{self._source('UPSTASH_REDIS_REST_TOKEN')}: a token has no blanks in it")
        return {"upstash_url": url.rstrip("/") if url else None, "upstash_token": token}

    def _name_key(self, profile: str) -> str:
        value, source = self._raw("SIDECACHE_NAME_KEY")
        if value is None:
            if profile == "production":
                self._missing(
                    "SIDECACHE_NAME_KEY", "production needs a secret, e.g. from `sidecache keygen --name-key`"
                )
            return _DEVELOPMENT_NAME_KEY
        if not 16 <= len(value.encode("utf-8", "surrogateescape")) <= 1024:
            self._problems.append(f"{source}: a name key has 16 to 1024 characters")
        return value

    def _encryption_keys(self) -> tuple[EncryptionKey, ...]:
        value, source = self._raw("SIDECACHE_ENCRYPTION_KEYS")
        keys, problems = read_encryption_keys(value) if value is not None else ((), ())
        self._problems += [f"{source}: {problem}; `sidecache keygen` makes one" for problem in problems]
        return keys

    def _admin_tokens(self) -> tuple[AdminEntry, ...]:
        value, source = self._raw("SIDECACHE_ADMIN_TOKENS")
        entries, problems = read_admin_tokens(value) if value is not None else ((), ())
        self._problems += [
            f"{source}: {problem}; `sidecache keygen --admin NAME ROLE` makes one" for problem in problems
        ]
        return entries

    def _check_together(self, settings: Settings) -> None:
        admin, listen = self._source("SIDECACHE_ADMIN_LISTEN"), settings.listen
        if not settings.admin.loopback and not settings.admin_tokens:
            self._problems.append(
                f"{admin}: {settings.admin} is reachable from outside and has no tokens; "
                "use 127.0.0.1, or name them in SIDECACHE_ADMIN_TOKENS"
            )
        elif not settings.admin.loopback:
            self._warnings.append(
                f"{admin}: {settings.admin} is reachable from outside without TLS: tokens cross the network as they are"
            )
        if settings.workers > 1 and settings.provider == "memory":
            self._problems.append(
                f"{self._source('SIDECACHE_WORKERS')}: {settings.workers} workers need a store that they share; "
                "the embedded one (REDIS_PROVIDER=memory) is for 1"
            )
        if settings.dev_auth and not (settings.profile == "development" and listen.loopback):
            self._problems.append("SIDECACHE_DEV_AUTH: unsigned tokens are for development on a loopback address only")
        if listen == settings.admin and listen.port:
            self._problems.append(f"{admin}: {settings.admin} is the data port; choose another")
        if settings.jwks_url and not settings.jwt_issuer:
            url = self._source("SIDECACHE_JWKS_URL")
            self._missing("SIDECACHE_JWT_ISSUER", f"{url} does not say whose tokens count")
        elif settings.jwt_issuer and settings.jwt_audience is None:
            self._missing("SIDECACHE_JWT_AUDIENCE", "tokens are checked for issuer and audience")
        if settings.jwks_url is None and not settings.dev_auth:
            self._warnings.append(
                "SIDECACHE_JWT_ISSUER: missing; no token can be verified, so only public features are cached"
            )

    def _note_unknown_names(self) -> None:
        for name in sorted(self._environ):
            setting = name.removesuffix("_FILE")
            if not name.startswith(_OWN) or setting in _NAMES or _KUBERNETES.fullmatch(name):
                continue
            # a typing error is no reason to stay down: it is said, and the default holds
            known = [each.removeprefix(_OWN) for each in _NAMES]
            near = difflib.get_close_matches(setting.removeprefix(_OWN), known, n=1)
            hint = " in this version" if setting in _LATER else f" (did you mean '{_OWN}{near[0]}'?)" if near else ""
            self._warnings.append(f"{name}: has no effect{hint}")


_OWN = "SIDECACHE_"
_HOUR = 3600
_SWITCHES = {"0": False, "1": True, "false": False, "true": True, "off": False, "on": True}
# What Kubernetes sets in every pod beside a service of our name.
_KUBERNETES = re.compile(r"SIDECACHE_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")
_NAMES = (
    "SIDECACHE_ACCESS_LOG SIDECACHE_ADMIN_LISTEN SIDECACHE_ADMIN_TOKENS SIDECACHE_ALLOWED_IPS SIDECACHE_AUDIT_LOG "
    "SIDECACHE_CONNECT_TIMEOUT_MS SIDECACHE_DEV_AUTH SIDECACHE_DRAIN_S "
    "SIDECACHE_ENCRYPTION_KEYS "
    "SIDECACHE_FIRST_BYTE_TIMEOUT_MS SIDECACHE_HOSTS SIDECACHE_IDLE_TIMEOUT_MS SIDECACHE_JWKS_URL "
    "SIDECACHE_JWT_AUDIENCE SIDECACHE_JWT_ISSUER SIDECACHE_L1_BYTES SIDECACHE_LISTEN SIDECACHE_NAME_KEY "
    "SIDECACHE_POOL_SIZE SIDECACHE_PREFIX SIDECACHE_PROFILE SIDECACHE_RULES SIDECACHE_SOLE_REPLICA "
    "SIDECACHE_STORE_TIMEOUT_MS SIDECACHE_TOKEN SIDECACHE_TRUSTED_PEERS SIDECACHE_UPSTREAM SIDECACHE_WORKERS"
).split()

_LATER = ("SIDECACHE_ALLOWED_ORIGINS SIDECACHE_METRICS_LISTEN SIDECACHE_OIDC_CLIENT_ID").split()


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


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, frozenset | tuple):
        shown = map(str, value)
        return ", ".join(sorted(shown) if isinstance(value, frozenset) else shown) or "(none)"
    return "(none)" if value is None else str(value) or "(none)"


def _masked(secret: str) -> str:
    return "(the fixed key for development)" if secret == _DEVELOPMENT_NAME_KEY else "(set)"
