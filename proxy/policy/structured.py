"""Is this a structured field's dictionary, and what is in it? Strict: one mistake voids it all (RFC 9651 4.2.2)."""

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
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_ESCAPED = re.compile(r"\\(.)")


def dictionary(text: str) -> dict[str, Value] | None:
    """The members by key, the last of equal ones; parameters left out. None when it does not parse."""
    text = text.lstrip(" ")
    text = text.rstrip(" \t") or text
    members: dict[str, Value] = {}
    position = 0
    while position < len(text):
        found = _MEMBER.match(text, position)
        if found is None:
            return None
        members.pop(found[1], None)
        members[found[1]] = _value(found[2], found[3])
        position = found.end()
        if position == len(text):
            return members
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
