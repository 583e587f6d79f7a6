"""Where does everything run? The environment and the flags over it, checked once, in one frozen value (SPEC 3)."""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values

from proxy.errors import ConfigError

Profile = Literal["development", "staging", "production"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROFILES = ("development", "staging", "production")
# A fixed secret so that a development machine needs none. Production refuses to start without its own.
_DEVELOPMENT_NAME_KEY = "development-only-name-key"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PROVIDERS = {"memory": "memory", "elasticache": "elasticache", "redis": "elasticache", "upstash": "upstash"}


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.host in _LOOPBACK or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration. Durations are seconds, sizes bytes."""

    upstream: str
    rules: Path
    profile: Profile = "production"
    provider: str = "memory"
    listen: Address = Address("0.0.0.0", 8080)
    admin: Address = Address("127.0.0.1", 9900)
    prefix: str = "/.sidecache"  # "" switches the reserved paths off
    hosts: frozenset[str] = frozenset()
    trusted_peers: tuple[Network, ...] = ()
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwks_url: str | None = None
    dev_auth: bool = False
    name_key: str = field(default=_DEVELOPMENT_NAME_KEY, repr=False)
    l1_bytes: int = 64 << 20
    connect_timeout: float = 1.0
    first_byte_timeout: float = 30.0
    idle_timeout: float = 60.0
    drain: float = 25.0
    access_log: bool = False
    warnings: tuple[str, ...] = ()

    def described(self) -> Iterator[tuple[str, str]]:
        """Name and value of each setting for people, secrets masked."""
        for each in fields(self):
            if each.name != "warnings":
                value = getattr(self, each.name)
                yield each.name.replace("_", "-"), "(set)" if each.name == "name_key" else _shown(value)


def load(environ: Mapping[str, str], **flags: Any) -> Settings:
    """Settings from the environment and the flags over it. ConfigError names every problem at once."""
    return _Reader(_with_local_file(environ, flags.get("profile")), flags).settings()


def admin_address(environ: Mapping[str, str], flag: str | None) -> Address:
    """Where the admin port is, without the rest of the configuration: for commands that only talk to it."""
    return _Reader(environ, {"admin": flag}).admin_alone()


class _Reader:
    """Reads one variable after the other and collects what is wrong instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self._environ = environ
        self._flags = {name: value for name, value in flags.items() if value is not None}
        self._problems: list[str] = []
        self._warnings: list[str] = []

    def settings(self) -> Settings:
        profile = self._choice("SIDECACHE_PROFILE", PROFILES, "production", flag="profile")
        issuer = self._text("SIDECACHE_JWT_ISSUER", flag="jwt_issuer")
        settings = Settings(
            upstream=self._upstream(),
            rules=Path(self._text("SIDECACHE_RULES", "rules.yaml", flag="rules") or "rules.yaml"),
            profile=profile,  # type: ignore[arg-type]  # _choice returns one of PROFILES
            provider=self._provider(profile),
            listen=self._address("SIDECACHE_LISTEN", "0.0.0.0:8080", flag="listen"),
            admin=self._admin(),
            prefix=self._prefix(),
            hosts=frozenset(host.lower() for host in self._words("SIDECACHE_HOSTS")),
            trusted_peers=tuple(self._networks("SIDECACHE_TRUSTED_PEERS")),
            jwt_issuer=issuer,
            jwt_audience=self._text("SIDECACHE_JWT_AUDIENCE", flag="jwt_audience"),
            jwks_url=self._jwks_url(issuer),
            dev_auth=self._switch("SIDECACHE_DEV_AUTH"),
            name_key=self._name_key(profile),
            l1_bytes=self._integer("SIDECACHE_L1_BYTES", 64 << 20, least=1 << 20),
            connect_timeout=self._milliseconds("SIDECACHE_CONNECT_TIMEOUT_MS", 1000),
            first_byte_timeout=self._milliseconds("SIDECACHE_FIRST_BYTE_TIMEOUT_MS", 30000),
            idle_timeout=self._milliseconds("SIDECACHE_IDLE_TIMEOUT_MS", 60000),
            drain=float(self._integer("SIDECACHE_DRAIN_S", 25, least=0)),
            access_log=self._switch("SIDECACHE_ACCESS_LOG"),
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

    def _admin(self) -> Address:
        return self._address("SIDECACHE_ADMIN_LISTEN", "127.0.0.1:9900", flag="admin")

    def _raw(self, name: str, flag: str | None = None) -> tuple[str | None, str]:
        """The value and where it came from: a flag, NAME, or the file named by NAME_FILE."""
        if flag is not None and flag in self._flags:
            return str(self._flags[flag]), "--" + flag.replace("_", "-")
        file = self._environ.get(f"{name}_FILE")
        if file and name in self._environ:
            self._problems.append(f"{name}: set both directly and as {name}_FILE; keep one")
        if file:
            try:
                return Path(file).read_text().strip(), f"{name}_FILE"
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not text"
                self._problems.append(f"{name}_FILE: cannot read {file}: {reason}")
                return None, f"{name}_FILE"
        value = self._environ.get(name)
        return (value.strip() or None if value is not None else None), name

    def _text(self, name: str, default: str | None = None, *, flag: str | None = None) -> str | None:
        return self._raw(name, flag)[0] or default

    def _choice(self, name: str, allowed: tuple[str, ...], default: str, *, flag: str | None = None) -> str:
        value, source = self._raw(name, flag)
        if value is None or value in allowed:
            return value or default
        self._problems.append(f"{source}: '{value}' is not one of {', '.join(allowed)}{_meant(value, allowed)}")
        return default

    def _switch(self, name: str) -> bool:
        return self._choice(name, ("0", "1", "false", "true", "off", "on"), "0") in ("1", "true", "on")

    def _integer(self, name: str, default: int, *, least: int) -> int:
        value, source = self._raw(name)
        if value is None:
            return default
        if not re.fullmatch(r"\d{1,15}", value) or int(value) < least:
            self._problems.append(f"{source}: '{value}' is not a whole number of at least {least}")
            return default
        return int(value)

    def _milliseconds(self, name: str, default: int) -> float:
        return self._integer(name, default, least=1) / 1000

    def _words(self, name: str) -> list[str]:
        return [word for word in re.split(r"[,\s]+", self._text(name) or "") if word]

    def _networks(self, name: str) -> Iterator[Network]:
        for word in self._words(name):
            try:
                yield ipaddress.ip_network(word)
            except ValueError:
                self._problems.append(f"{name}: '{word}' is not an address range such as 10.0.0.0/8 or 127.0.0.1/32")

    def _address(self, name: str, default: str, *, flag: str) -> Address:
        value, source = self._raw(name, flag)
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+):(\d{1,5})", value or default)
        if match is None or int(match[2]) > 65535:
            self._problems.append(f"{source}: '{value}' is not HOST:PORT such as {default}")
            return Address("127.0.0.1", 0)
        return Address(match[1].strip("[]"), int(match[2]))

    def _upstream(self) -> str:
        value, source = self._raw("SIDECACHE_UPSTREAM", "upstream")
        if value is None:
            self._problems.append(
                "SIDECACHE_UPSTREAM: missing; say where requests go, e.g. --upstream http://127.0.0.1:3000"
            )
            return ""
        if value.startswith("unix:/") and len(value) > len("unix:/"):
            return value
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable, parts = False, urlsplit("")
        if not usable or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            self._problems.append(
                f"{source}: '{_without_userinfo(value)}' is not a URL such as http://127.0.0.1:3000, "
                "https://api.internal or unix:/run/portal.sock (no path, no query, no credentials)"
            )
        return value.rstrip("/")

    def _jwks_url(self, issuer: str | None) -> str | None:
        url = self._text("SIDECACHE_JWKS_URL", flag="jwks_url")
        for name, value in (("SIDECACHE_JWT_ISSUER", issuer), ("SIDECACHE_JWKS_URL", url)):
            if value is not None and urlsplit(value).scheme not in ("http", "https"):
                self._problems.append(f"{name}: '{value}' is not a URL such as https://tenant.eu.auth0.com/")
        if url is None and issuer is not None:
            return issuer.rstrip("/") + "/.well-known/jwks.json"
        return url

    def _prefix(self) -> str:
        raw = self._environ.get("SIDECACHE_PREFIX")
        if raw is None:
            return "/.sidecache"
        if raw in ("", "off"):
            return ""
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", raw):
            self._problems.append(f"SIDECACHE_PREFIX: '{raw}' is not a path such as /.sidecache (or off)")
        return raw

    def _provider(self, profile: str) -> str:
        value, source = self._raw("REDIS_PROVIDER")
        if value is None:
            inferred = next(
                (
                    (provider, name)
                    for provider, name in (("upstash", "UPSTASH_REDIS_REST_URL"), ("elasticache", "REDIS_HOST"))
                    if self._environ.get(name)
                ),
                None,
            )
            if inferred is not None:
                value, source = inferred[0], f"REDIS_PROVIDER (inferred from {inferred[1]})"
            elif profile == "production":
                self._problems.append(
                    "REDIS_PROVIDER: not set; production needs it said: memory keeps everything in this process"
                )
                return "memory"
            else:
                return "memory"
        provider = _PROVIDERS.get(value.lower())
        if provider is None:
            names = tuple(_PROVIDERS)
            self._problems.append(f"{source}: '{value}' is not one of {', '.join(names)}{_meant(value, names)}")
        elif provider != "memory":
            self._problems.append(f"{source}: '{value}' is not available in this version; set REDIS_PROVIDER=memory")
        return "memory"

    def _name_key(self, profile: str) -> str:
        value, source = self._raw("SIDECACHE_NAME_KEY")
        if value is None:
            if profile == "production":
                self._problems.append(
                    "SIDECACHE_NAME_KEY: missing; production needs its own secret, e.g. from `openssl rand -hex 32`"
                )
            return _DEVELOPMENT_NAME_KEY
        if not 16 <= len(value.encode()) <= 1024:
            self._problems.append(f"{source}: a name key has 16 to 1024 characters")
        return value

    def _check_together(self, settings: Settings) -> None:
        if not settings.admin.loopback:
            self._problems.append(
                f"SIDECACHE_ADMIN_LISTEN: {settings.admin} is reachable from outside and has no tokens; use 127.0.0.1"
            )
        if settings.dev_auth and not (settings.profile == "development" and settings.listen.loopback):
            self._problems.append("SIDECACHE_DEV_AUTH: unsigned tokens are for development on a loopback address only")
        if settings.listen == settings.admin and settings.listen.port:
            self._problems.append(f"SIDECACHE_ADMIN_LISTEN: {settings.admin} is the data port; choose another")
        if settings.jwks_url and not settings.jwt_issuer:
            self._problems.append("SIDECACHE_JWT_ISSUER: missing; SIDECACHE_JWKS_URL does not say whose tokens count")
        if settings.jwks_url is None and not settings.dev_auth:
            self._warnings.append(
                "SIDECACHE_JWT_ISSUER is not set: no token can be verified, so only public features are cached"
            )
        elif settings.jwt_issuer and settings.jwt_audience is None:
            self._problems.append("SIDECACHE_JWT_AUDIENCE: missing; tokens are checked for issuer and audience")

    def _note_unknown_names(self) -> None:
        for name in sorted(self._environ):
            known = name.removesuffix("_FILE") in _NAMES
            # Kubernetes adds SIDECACHE_PORT=tcp://... and the like for a service of that name: warn, do not refuse
            if name.startswith("SIDECACHE_") and not known:
                later = name.removesuffix("_FILE") in _LATER
                hint = " in this version" if later else _meant(name, _NAMES)
                self._warnings.append(f"{name}: has no effect{hint}")


_NAMES = (
    "SIDECACHE_ACCESS_LOG SIDECACHE_ADMIN_LISTEN SIDECACHE_CONNECT_TIMEOUT_MS SIDECACHE_DEV_AUTH SIDECACHE_DRAIN_S "
    "SIDECACHE_FIRST_BYTE_TIMEOUT_MS SIDECACHE_HOSTS SIDECACHE_IDLE_TIMEOUT_MS SIDECACHE_JWKS_URL "
    "SIDECACHE_JWT_AUDIENCE SIDECACHE_JWT_ISSUER SIDECACHE_L1_BYTES SIDECACHE_LISTEN SIDECACHE_NAME_KEY "
    "SIDECACHE_PREFIX SIDECACHE_PROFILE SIDECACHE_RULES SIDECACHE_TRUSTED_PEERS SIDECACHE_UPSTREAM"
).split()

_LATER = (
    "SIDECACHE_ADMIN_TOKENS SIDECACHE_ALLOWED_IPS SIDECACHE_ALLOWED_ORIGINS SIDECACHE_AUDIT_LOG "
    "SIDECACHE_ENCRYPTION_KEYS SIDECACHE_METRICS_LISTEN SIDECACHE_OIDC_CLIENT_ID SIDECACHE_POOL_SIZE "
    "SIDECACHE_SOLE_REPLICA SIDECACHE_STORE_TIMEOUT_MS SIDECACHE_TOKEN"
).split()


def _with_local_file(environ: Mapping[str, str], profile: object) -> Mapping[str, str]:
    """In development `.env.local` stands behind the real environment (the guide's way to keep the Upstash token)."""
    if (profile or environ.get("SIDECACHE_PROFILE")) != "development" or not os.path.isfile(".env.local"):
        return environ
    local = {name: value for name, value in dotenv_values(".env.local").items() if value is not None}
    return {**local, **environ}


def _meant(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _without_userinfo(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)


def _shown(value: object) -> str:
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(map(str, value))) or "(none)"
    return "(none)" if value is None else str(value)
