"""What is kept at the moment? Keys page by page, one entry's numbers; never a body."""

import asyncio
import heapq
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from proxy.admin.access import Role
from proxy.admin.asked import Asked
from proxy.admin.audit import Audit
from proxy.admin.endpoint import Endpoint
from proxy.admin.problems import Refused, answer, shown
from proxy.cache.tiers import Cache
from proxy.policy.entry import Entry

MOST = 1000
_DEFAULT = 100
_FIRST_TIER = "the first tier of this process; what only the store holds is not listed"

# Of a stored head, what tells nothing of its content.
_SHOWN_FIELDS = frozenset(
    "content-type content-encoding content-language cache-control etag last-modified expires date vary".split()
)


class Contents:
    """`GET /api/cache/keys` and `GET /api/cache/entry`."""

    def __init__(self, cache: Cache, audit: Audit, clock: Callable[[], float]) -> None:
        self._cache = cache
        self._audit = audit
        self._clock = clock

    def endpoints(self) -> Iterator[Endpoint]:
        yield Endpoint(
            "GET", "/api/cache/keys", self.keys, "List the keys of the first tier, in their order.", (Role.INSPECTOR,),
            {
                "tenant": "only this tenant's",
                "prefix": "only keys that begin with this",
                "limit": f"how many at once, at most {MOST} ({_DEFAULT})",
                "cursor": "where the page before has ended: its next",
            },
        )  # fmt: skip
        yield Endpoint(
            "GET", "/api/cache/entry", self.entry, "Numbers, tags and head of one entry of the first tier.",
            (Role.INSPECTOR,), {"key": "the full key"},
            answers={200: "The entry, without its body.", 404: "Not in the first tier of this process."},
        )  # fmt: skip

    async def keys(self, asked: Asked) -> web.Response:
        tenant, prefix = asked.tenant(), asked.text("prefix") or ""
        limit = asked.number("limit", _DEFAULT, 1, MOST)
        after = _position(asked.text("cursor"))
        own = f"tenant:{tenant}:" if tenant is not None else ""
        # in a thread: there may be a hundred thousand of them, and requests do not wait
        found = await asyncio.to_thread(_page, self._cache.keys(), own, prefix, after, limit + 1)
        page = found[:limit]
        return answer({"keys": page, "of": _FIRST_TIER, "next": _cursor(page[-1]) if len(found) > limit else None})

    async def entry(self, asked: Asked) -> web.Response:
        key = asked.required("key")
        entry = self._cache.look(key)
        if entry is None or asked.actor.tenant not in (None, entry.tenant):
            raise Refused(f"{shown(key)} is not in the first tier of this process", field="key", status=404)
        if entry.sensitive:
            self._audit.record("sensitive-entry", asked.actor, tenant=entry.tenant or None, target={"key": key})
        return answer(facts(entry, self._clock()))


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


def _page(keys: list[str], own: str, prefix: str, after: str, count: int) -> list[str]:
    return heapq.nsmallest(
        count, (key for key in keys if key > after and key.startswith(own) and key.startswith(prefix))
    )


def _cursor(key: str) -> str:
    return urlsafe_b64encode(key.encode()).rstrip(b"=").decode()


def _position(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True).decode("ascii")
    except ValueError:
        raise Refused(f"{shown(cursor)} is not a cursor that was given out here", field="cursor") from None
