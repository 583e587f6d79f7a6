"""Which page does a request come from, as far as a browser tells? Ours, one that is allowed, or a foreign one."""

import re
from collections.abc import Collection
from enum import StrEnum

from proxy.policy.message import Request

_ORIGIN = re.compile(r"(https?)://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
_PORTS = {"http": ":80", "https": ":443"}


class Source(StrEnum):
    OWN = "own"  # or no browser: nobody says otherwise
    ALLOWED = "allowed"
    FOREIGN = "foreign"


def source(request: Request, allowed: Collection[str]) -> Source:
    """`allowed` are origins as browsers write them. The scheme of our own is whatever a proxy before us has ended."""
    lines = request.fields.get_all("origin")
    if not lines:
        return Source.OWN
    if len(lines) > 1:
        return Source.FOREIGN
    if lines[0] in allowed:
        return Source.ALLOWED
    found = _ORIGIN.fullmatch(lines[0])
    if found is None:
        return Source.FOREIGN  # `null`: a sandboxed page, a file
    return Source.OWN if _authority(found) in _own(request, found[1]) else Source.FOREIGN


def _authority(found: re.Match[str]) -> str:
    port = found[3] or ""
    return found[2].lower() + ("" if port == _PORTS[found[1]] else port)


def _own(request: Request, scheme: str) -> set[str]:
    hosts = [request.fields.get("host")]
    if request.peer_trusted:
        hosts.append(request.fields.get("x-forwarded-host"))
    return {host.lower().removesuffix(_PORTS[scheme]) for host in hosts if host}
