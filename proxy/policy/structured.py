"""Is this a structured field, and what is in it? Strict: one mistake voids it all (RFC 9651 4.2)."""

import re

Value = bool | int | str | tuple["Value", ...] | None  # None: of a type that no field read here has

_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE = r"""(?:
    -?[0-9]{1,12}\.[0-9]{1,3}
  | -?[0-9]{1,15}
  | "(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"
  | [A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*
  | :[A-Za-z0-9+/=]*:
  | \?[01]
  | @-?[0-9]{1,15}
  | %"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*"
)"""
_PARAMETERS = rf"(?:;\x20*{_KEY}(?:={_BARE})?)*"
_ITEM = re.compile(rf"({_BARE}){_PARAMETERS}", re.VERBOSE)
_INNER_LIST = rf"\(\x20*(?:{_BARE}{_PARAMETERS}(?:\x20+{_BARE}{_PARAMETERS})*\x20*)?\)"
_MEMBER = re.compile(rf"({_KEY})(?:=(?:({_BARE})|({_INNER_LIST})))?{_PARAMETERS}", re.VERBOSE)
_STRING = re.compile(rf'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"{_PARAMETERS}', re.VERBOSE)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_ESCAPED = re.compile(r"\\(.)")


def dictionary(text: str) -> dict[str, Value] | None:
    """The members by key, the last of equal ones; parameters left out. None when it does not parse (4.2.2)."""
    found = _members(text, _MEMBER)
    if found is None:
        return None
    members: dict[str, Value] = {}
    for member in found:
        members.pop(member[1], None)
        members[member[1]] = _value(member[2], member[3])
    return members


def strings(text: str) -> tuple[str, ...] | None:
    """The members of a list of strings; parameters left out. None when it is not one (4.2.1)."""
    found = _members(text, _STRING)
    return None if found is None else tuple(_ESCAPED.sub(r"\1", member[1]) for member in found)


def _members(text: str, member: re.Pattern[str]) -> list[re.Match[str]] | None:
    """What stands between the commas; None when any of it is not a `member`."""
    text = text.lstrip(" ")
    text = text.rstrip(" \t") or text
    members: list[re.Match[str]] = []
    position = 0
    while position < len(text):
        found = member.match(text, position)
        if found is None:
            return None
        members.append(found)
        position = found.end()
        if position == len(text):
            break
        comma = _COMMA.match(text, position)
        if comma is None or comma.end() == len(text):  # "If input_string is empty, there is a trailing comma; fail"
            return None
        position = comma.end()
    return members


def _value(bare: str | None, inner: str | None) -> Value:
    if inner is not None:
        return tuple([_value(item[1], None) for item in _ITEM.finditer(inner, 1, len(inner) - 1)])
    if bare is None:
        return True
    if bare[0] == "?":
        return bare == "?1"
    if bare[0] == '"':
        return _ESCAPED.sub(r"\1", bare[1:-1])
    return int(bare) if re.fullmatch(r"-?[0-9]+", bare) else None
