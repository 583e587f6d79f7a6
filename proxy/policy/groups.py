"""Which groups does a response belong to, and which does it make stale? (RFC 9875) Group tags are `@:` and the name."""

from proxy.policy.message import Fields
from proxy.policy.outcome import Reason
from proxy.policy.structured import strings

# "Implementations MUST support at least 32 groups in a field value" (2, 3); an entry is held to the epoch of each
MAX_GROUPS = 128


def tags_of(fields: Fields) -> tuple[str, ...] | Reason:
    """The group tags of a response that is to be stored. One that nobody could invalidate later is not stored."""
    value = fields.get("cache-groups")
    names = strings(value) if value is not None else ()
    if names is None:
        return ()  # "If parsing fails, ... the field MUST be ignored" (RFC 9651 4.2)
    return _tags(names) if len(names) <= MAX_GROUPS else Reason.TOO_MANY_GROUPS


def invalidated(fields: Fields) -> tuple[str, ...]:
    """The group tags that the answer to an unsafe request makes stale."""
    value = fields.get("cache-group-invalidation")
    return _tags(strings(value) or ()) if value is not None else ()


def _tags(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"@:{name}" for name in names))
