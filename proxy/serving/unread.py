"""Which lines of a request's head does nobody read who decides about a stored response?

Two heads that are the same but for such lines get the same answer: trace ids, cookies, referers.
"""

import re

from proxy.policy.variant import NEUTRAL_HEADERS
from proxy.serving.table import Seen

# Fields that a decision about a stored response reads, or the parser (it refuses a second User-Agent). They, and every
# name that is not neutral to a key, are part of the choice.
_READ = frozenset(
    """
    accept accept-charset accept-encoding accept-language authorization cache-control connection content-length
    content-type expect host if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive
    max-forwards pragma proxy-authorization proxy-connection range te trailer transfer-encoding user-agent via
    x-forwarded-host x-forwarded-proto forwarded
    """.split()
)
IRRELEVANT = NEUTRAL_HEADERS - _READ


MAX_LINES = 50  # of either kind in a head, together fewer than the parser takes


_ABBREVIATIONS = frozenset("cf ch dnt id ip ray ua".split())


def _any_of(words: list[str]) -> str:
    """A pattern of these words that reads each character once."""
    if words == [""]:
        return ""
    tails: dict[str, list[str]] = {}
    for word in sorted(words):
        tails.setdefault(word[:1], []).append(word[1:])
    optional = tails.pop("", None) is not None
    pattern = "|".join(re.escape(first) + _any_of(rest) for first, rest in tails.items())
    return f"(?:{pattern}){'?' if optional else ''}" if optional or len(tails) > 1 else pattern


def _spellings(name: str) -> set[str]:
    """As HTTP/2 gateways, libraries and people write it."""
    parts = name.split("-")
    capitalized = "-".join(part.capitalize() for part in parts)
    abbreviated = "-".join(part.upper() if part in _ABBREVIATIONS else part.capitalize() for part in parts)
    return {name, capitalized, abbreviated, capitalized.replace("id", "Id")}  # X-B3-TraceId


# Visible ASCII up to the end of the line, with no white space around it but the one space of an ordinary line: a line
# with anything else stays, and then this head is like no other.
UNREAD = re.compile(
    f"\r\n{_any_of([spelling for name in IRRELEVANT for spelling in _spellings(name)])}: "
    "(?![\t ])[\t\x20-\x7e]*+(?<![\t ])(?=\r\n)".encode()
)


_LONGEST = 4096  # bytes of a head that is remembered without its first line
_MOST = 256  # of those
_SEEN = 4096  # that came once

Choice = tuple[bytes, bytes]  # the first line of a head, and what is left of the rest, from the end of that line on


class Choices:
    """A head without the lines that no decision reads, and how many these are.

    The newest one's is remembered; and for heads that come again with other first lines what is left of the rest. In
    two parts, as each of them is looked up by itself: bytes are hashed once.
    """

    __slots__ = ("_newest", "_rests", "_seen")

    def __init__(self) -> None:
        self._newest: tuple[bytes, Choice, int] = b"", (b"", b""), 0
        self._rests: dict[bytes, tuple[bytes, int]] = {}
        self._seen = Seen(_SEEN)

    def __call__(self, data: bytes) -> tuple[Choice, int]:
        newest, choice, unread = self._newest
        if newest is not data:
            end = data.find(b"\r\n")  # no line that nobody reads begins before it
            rest = data[end:]
            known = self._rests.get(rest)
            left, unread = known if known is not None else self._read(rest)
            choice = data[:end], left
            self._newest = data, choice, unread
        return choice, unread

    def _read(self, rest: bytes) -> tuple[bytes, int]:
        read = UNREAD.subn(b"", rest)
        if self._seen.again(rest) and len(rest) <= _LONGEST:
            if len(self._rests) >= _MOST:
                self._rests.clear()
            self._rests[rest] = read
        return read
