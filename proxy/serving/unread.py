"""Which lines of a request's head does nobody read who decides about a stored response?

Two heads that are the same but for such lines get the same answer: trace ids, cookies, referers.
"""

import re

from proxy.policy.key import NEUTRAL_HEADERS

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


class Choices:
    """A head without the lines that no decision reads, and how many these are; the newest one's is remembered."""

    __slots__ = ("_newest",)

    def __init__(self) -> None:
        self._newest = b"", b"", 0

    def __call__(self, data: bytes) -> tuple[bytes, int]:
        newest, choice, unread = self._newest
        if newest is not data:
            choice, unread = UNREAD.subn(b"", data)
            self._newest = data, choice, unread
        return choice, unread
