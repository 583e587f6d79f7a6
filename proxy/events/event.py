"""What is one event, and how does a mailbox keep it? Bound to its tenant; encrypted where its feature is sensitive."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from proxy.cache.seal import MAC, Sealer

_PLAIN, _SEALED = b"\x01p", b"\x01s"
_TAG = 12  # characters of an event's id in a cursor

# Entries of a mailbox that no reader gets. The mailbox begins here; events before this were lost.
BEGINNING, GAP = "beginning", "gap"


class Event(NamedTuple):
    """`id` is the same whatever becomes of the event. `to`: tenant, role:<permission>, user:<user>. `data` is JSON."""

    id: str
    name: str  # "" is a mark, and `to` says which
    to: str
    at: float
    data: bytes = b"{}"

    @property
    def tag(self) -> str:
        """Enough of the id to tell it from another event at the same place."""
        return self.id[:_TAG]

    @property
    def is_mark(self) -> bool:
        return not self.name


class Codec:
    """Events as records, and back. `keep`: seconds a record may be kept for, which is how long its key is needed."""

    def __init__(self, sealer: Sealer, keep: float, clock: Callable[[], float]) -> None:
        self._sealer = sealer
        self._keep = keep
        self._clock = clock

    @property
    def can_seal(self) -> bool:
        return self._sealer.writer is not None

    def pack(self, tenant: str, event: Event, *, seal: bool = False) -> bytes:
        """`seal` needs a key to write with (`can_seal`)."""
        payload = orjson.dumps([event.id, event.name, event.to, event.at, event.data.decode()])
        bound = _bound(tenant)
        if not seal:
            return _PLAIN + self._sealer.mac(bound, payload) + payload
        key = self._sealer.writer
        assert key is not None, "can_seal was asked"
        self._sealer.count(key, sealed=1, until=self._clock() + self._keep)
        name = key.encode()
        return _SEALED + bytes((len(name),)) + name + self._sealer.encrypt(key, payload, tenant=tenant, bound=bound)

    @staticmethod
    def is_sealed(record: bytes) -> bool:
        return record[:2] == _SEALED

    def unpack(self, tenant: str, record: bytes) -> Event | None:
        """The event; None for what is no record of this tenant's, whatever it is."""
        payload = self._payload(tenant, record)
        return None if payload is None else _event(payload)

    def _payload(self, tenant: str, record: bytes) -> bytes | None:
        kind, rest = record[:2], record[2:]
        bound = _bound(tenant)
        if kind == _PLAIN:
            mac, payload = rest[:MAC], rest[MAC:]
            return payload if mac == self._sealer.mac(bound, payload) else None
        if kind != _SEALED or not rest:
            return None
        name, sealed = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        key = name.decode("utf-8", "replace")
        if not self._sealer.knows(key):
            return None
        self._sealer.count(key, opened=1, until=self._clock() + self._keep)
        return self._sealer.decrypt(key, memoryview(sealed), tenant=tenant, bound=bound)


def _bound(tenant: str) -> bytes:
    return b"sidecache/event/1:" + tenant.encode()


def _event(payload: bytes) -> Event | None:
    try:
        said: Any = orjson.loads(payload)
    except ValueError:
        return None
    match said:
        case [str(id), str(name), str(to), int() | float() as at, str(data)]:
            return Event(id, name, to, float(at), data.encode())
        case _:
            return None
