"""Which bytes go to the upstream for a head like one that was forwarded before? That one's, as far as they are alike.

Two heads have the same shape when nothing differs but the target and whole, well-formed lines of fields that no
decision reads (`hits`). The parser and the fields' rules made the upstream's head of the first of them; for others

    the request line    is the same but for its target
    the lines           are the client's, in its order, without those that were left out of the first
    the last lines      are those that were added to the first; the address before the peer's comes from the head itself

and only if that gives for the first one, byte for byte, what was made of it.
"""

import re

from proxy.serving.unread import Choice

_CRLF = b"\r\n"
_END = b"\r\n\r\n"
_FORWARDED_FOR = b"\r\nX-Forwarded-For: "

# How `hits` takes this field for one that nobody reads: here it is part of what is added.
_ADDRESSES = re.compile(rb"\r\n(?:X-Forwarded-For|x-forwarded-for): ([^\r]*)(?=\r\n)")

# What can be put in the place of another target: paths and queries that the parser and every check let pass.
PLAIN_TARGET = re.compile(rb"/(?!/)[A-Za-z0-9._~!$&'()*+,:@=/?%-]*")


def shape_of(choice: Choice) -> tuple[bytes, bytes] | None:
    """The shape of a head without what no decision reads, and its target. None: it has none."""
    line, rest = choice
    method, _, others = line.partition(b" ")
    target, space, version = others.partition(b" ")
    if not space or not PLAIN_TARGET.fullmatch(target):
        return None
    return b"%b %b%b" % (method, version, rest), target


class Rewriting:
    """Makes the upstream's heads of one shape."""

    __slots__ = ("_added", "_dropped", "_prefix", "_trusted")

    def __init__(self, prefix: bytes, dropped: tuple[bytes, ...], added: bytes, *, trusted: bool) -> None:
        self._prefix = prefix  # of every target, behind the method
        self._dropped = dropped
        self._added = added  # behind the peer's address
        self._trusted = trusted

    def size(self) -> int:
        return len(self._prefix) + len(self._added) + sum(map(len, self._dropped))

    def __call__(self, data: bytes, target: bytes, peer: bytes) -> bytes:
        """The upstream's head for the client's."""
        begin = data.find(_CRLF)
        lines = data[begin : 2 - len(_END)]
        for line in self._dropped:
            lines = lines.replace(line, _CRLF)
        addresses = peer
        if b"orwarded-" in lines:
            before = _ADDRESSES.findall(lines)
            if before:
                lines = _ADDRESSES.sub(b"", lines)
                if self._trusted:
                    addresses = b", ".join((*before, peer))
        return b"%b%b HTTP/1.1%b%b%b%b" % (
            self._prefix, target, lines[:-2], _FORWARDED_FOR, addresses, self._added,
        )  # fmt: skip


def rewriting(
    data: bytes, choice: Choice, target: bytes, peer: bytes, made: bytes, *, trusted: bool
) -> Rewriting | None:
    """What does for others of this shape what was done for `data`, of which `made` came. None: it cannot."""
    line, _, _ = made.partition(_CRLF)
    prefix = line.removesuffix(target + b" HTTP/1.1")
    _, mark, last = made.rpartition(_FORWARDED_FOR)
    if prefix == line or not mark or not peer:
        return None
    dropped = _dropped(choice[1], made)
    if dropped is None:
        return None
    added = _CRLF + last.partition(_CRLF)[2]
    found = Rewriting(prefix, dropped, added, trusted=trusted)
    return found if found(data, target, peer) == made else None


def _dropped(rest: bytes, made: bytes) -> tuple[bytes, ...] | None:
    """The lines of it that the upstream does not get, each with its line ends. None: which, cannot be told."""
    gone = []
    for line in rest[: -len(_END)].split(_CRLF)[1:]:
        name, _, value = line.partition(b":")
        lower = name.decode("latin-1").lower()
        if lower == "x-forwarded-for" or (lower == "connection" and value.strip().lower() != b"keep-alive"):
            return None  # it names other fields, or is spelled as nobody does
        whole = _CRLF + line + _CRLF
        if whole not in made:
            gone.append(whole)
    return tuple(gone) if len(gone) == len(set(gone)) else None
