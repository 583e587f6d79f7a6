"""What is told of an entry? Names and plain values, never its body."""

from typing import Any

from proxy.policy.entry import Entry

# Of a stored head, what tells nothing of its content.
_SHOWN_FIELDS = frozenset(
    "content-type content-encoding content-language cache-control etag last-modified expires date vary".split()
)


def facts(entry: Entry, now: float) -> dict[str, Any]:
    """An entry as names and plain values. What a sensitive one answers stays out of it."""
    shown_head = {} if entry.sensitive else {
        name: value for name, value in entry.fields() if name.lower() in _SHOWN_FIELDS
    }  # fmt: skip
    return {
        "key": entry.key,
        "tenant": entry.tenant or None,
        "request": "(sensitive)" if entry.sensitive else entry.request,
        "status": entry.status,
        "stored_at": entry.stored_at,
        "age": round(entry.age_at(now), 1),
        "ttl": entry.ttl_at(now),
        "fresh": now < entry.fresh_until,
        "stale_until": max(entry.grace_until, entry.fresh_until),
        "stale_if_error_until": entry.error_until,
        "size": len(entry.body),
        "tags": list(entry.tags),
        "epochs": {"hard": entry.epochs_hard.hex(), "soft": entry.epochs_soft.hex()},
        "vary": [name for name, _ in entry.vary],
        "sensitive": entry.sensitive,
        "encrypted_in_store": entry.confidential,
        "head": shown_head,
    }
