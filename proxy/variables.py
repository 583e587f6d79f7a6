"""What does a variable say? Its value, from a flag, the environment or a file, checked; every problem is collected."""

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy.addresses import HOST, Address, is_bracketed, quoted

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOUR = 3600
_LONGEST = 64 << 10  # bytes of a file that holds one value
_SWITCHES = {"0": False, "1": True, "false": False, "true": True, "off": False, "on": True}


class Variables:
    """Reads one variable after the other and collects what is wrong instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self.environ = environ
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.asked: set[str] = set()
        self._flags = {name: value for name, value in flags.items() if value is not None}
        self._sources: dict[str, str] = {}

    def raw(self, name: str, flag: str | None = None) -> tuple[str | None, str]:
        """The value (None: there is none) and where it came from: a flag, NAME, or the file named by NAME_FILE."""
        self.asked.add(name)
        if flag is not None and flag in self._flags:
            source = self._sources[name] = "--" + flag.replace("_", "-")
            return str(self._flags[flag]), source
        file = self.environ.get(f"{name}_FILE")
        if file and self.environ.get(name):  # empty is as good as not set, as everywhere
            self.problems.append(f"{name}: set both directly and as {name}_FILE; keep one")
        if file:
            self._sources[name] = f"{name}_FILE"
            return self._content(file, f"{name}_FILE"), f"{name}_FILE"
        return self.environ.get(name, "").strip() or None, name

    def _content(self, file: str, source: str) -> str | None:
        try:
            with Path(file).open("rb") as opened:
                raw = opened.read(_LONGEST + 1)
            content = raw.decode("utf-8-sig").strip()  # some editors begin a text with a mark of its encoding
        except (OSError, ValueError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not text"
            # what does not look like a path may be the secret itself, put into the wrong variable
            told = file.startswith(("/", ".")) or isinstance(error, ValueError)
            shown = quoted(file) if told else "the file that it names (does it begin with /?)"
            self.problems.append(f"{source}: cannot read {shown}: {reason}")
            return None
        if len(raw) > _LONGEST:
            self.problems.append(f"{source}: {quoted(file)} is larger than {_LONGEST} bytes, which no setting is")
            return None
        if not content:
            self.problems.append(f"{source}: {quoted(file)} is empty")
        return content or None

    def source(self, name: str) -> str:
        """Where a value that is wrong only beside others came from."""
        return self._sources.get(name, name)

    def unsaid(self, name: str) -> bool:
        """Whether nothing gave it a value: neither it, nor a flag, nor a file (which may not have been readable)."""
        return name not in self._sources and not self.environ.get(name)

    def missing(self, name: str, why: str) -> None:
        if name not in self._sources:  # a file that could not be read was said already
            self.problems.append(f"{name}: missing; {why}")

    def text(self, name: str, default: str | None = None, *, flag: str | None = None) -> str | None:
        return self.raw(name, flag)[0] or default

    def choice(self, name: str, allowed: tuple[str, ...], default: str, *, flag: str | None = None) -> str:
        value, source = self.raw(name, flag)
        if value is None or value in allowed:
            return value or default
        self.problems.append(f"{source}: {quoted(value)} is not one of {', '.join(allowed)}{meant(value, allowed)}")
        return default

    def switch(self, name: str, *, default: bool = False) -> bool:
        value, source = self.raw(name)
        if value is None:
            return default
        switched = _SWITCHES.get(value.lower())
        if switched is None:
            self.problems.append(f"{source}: {quoted(value)} is not one of {', '.join(_SWITCHES)}")
        return bool(switched)

    def integer(self, name: str, default: int, least: int, most: int, *, flag: str | None = None) -> int:
        value, source = self.raw(name, flag)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,15}", value) or not least <= int(value) <= most:
            self.problems.append(f"{source}: {quoted(value)} is not a whole number from {least} to {most}")
            return default
        return int(value)

    def milliseconds(self, name: str, default: int) -> float:
        return self.integer(name, default, 1, HOUR * 1000) / 1000

    def words(self, name: str) -> list[str]:
        return [word for word in re.split(r"[,\s]+", self.text(name) or "") if word]

    def networks(self, name: str) -> Iterator[Network]:
        for word in self.words(name):
            try:
                network = ipaddress.ip_network(word)
            except ValueError:
                self.problems.append(
                    f"{self.source(name)}: {quoted(word)} is not an address range such as 10.0.0.0/8 or 127.0.0.1/32"
                )
                continue
            yield network

    def address(self, name: str, default: str, *, flag: str) -> Address:
        value, source = self.raw(name, flag)
        host, colon, port = (value or default).rpartition(":")
        host = host[1:-1] if is_bracketed(host) else host if HOST.fullmatch(host) else ""
        if not host or not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            self.problems.append(f"{source}: {quoted(value or '')} is not HOST:PORT such as {default}")
            return Address("127.0.0.1", 0)
        return Address(host, int(port))


def meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
