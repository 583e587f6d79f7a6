"""What is an address, a host name, a URL? And how a value that is none is shown."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # any other name resolves to whatever someone wants

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_url(value: str) -> bool:
    """An absolute http or https URL with a host; whatever follows is the caller's to judge."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    named = HOST.fullmatch(host) is not None or is_bracketed(f"[{host}]")
    return parts.scheme in ("http", "https") and named and port != 0 and re.fullmatch(r"[!-~]+", value) is not None


def is_origin(value: str) -> bool:
    """An origin as browsers write it."""
    return is_url(value) and re.fullmatch(r"https?://[^/?#@]+", value) is not None and value == value.lower()


def is_bracketed(host: str) -> bool:
    try:
        return host.startswith("[") and host.endswith("]") and ipaddress.IPv6Address(host[1:-1]) is not None
    except ValueError:
        return False


def quoted(value: str) -> str:
    """A value as a message shows it: one line, not too long, without credentials."""
    return repr(without_credentials(value)[:120])


def without_credentials(value: str) -> str:
    """Up to the last @: a password may hold any of / : @, and whoever forgot the scheme still gave it."""
    return re.sub(r"(?s)^([A-Za-z][A-Za-z0-9+.-]*://|//|).*@", r"\1***@", value)
