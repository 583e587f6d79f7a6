"""Which bytes is an entry in the store, and are these bytes the entry that was asked for?

    0   magic `SCR`, version            4
    4   body codec, key id              1 + 1   key id 0: not encrypted
    6   length of the whole record      4
    10  length of the unpacked body     4
    14  MAC                             16      keyed BLAKE2b over everything else
    30  numbers, then each part after its length: tenant, key, request, policy, type, ETag, Vary, tags, hard and soft
        epochs, head, body

A record of an unknown version is a miss; any other flaw is a counted miss. No bytes whatever raise an exception.
"""

import struct
from enum import StrEnum
from hashlib import blake2b
from hmac import compare_digest

from proxy.cache import seal
from proxy.policy.entry import Entry

_MAGIC = b"SCR"
_VERSION = 1
_NOT_ENCRYPTED = 0

_LEAD = struct.Struct("!3sBBBII")
_MAC = 16
_NUMBERS = struct.Struct("!HQB7d")
_LENGTH = struct.Struct("!I")
_START = _LEAD.size + _MAC
_PARTS = 12

_MUST_REVALIDATE, _NO_CACHE, _SENSITIVE, _HAS_TYPE, _HAS_ETAG, _HAS_MODIFIED = (1 << bit for bit in range(6))


class Rejection(StrEnum):
    """Why a record is not used. Each is a miss, and counted; some mean that somebody else writes to the store."""

    VERSION = "unknown-version"
    TRUNCATED = "truncated"
    MAC = "bad-mac"
    KEY_ID = "unknown-key-id"
    KEY = "wrong-key"
    TENANT = "wrong-tenant"
    REQUEST = "wrong-request"
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    BODY = "bad-body"


def mac_key(secret: bytes) -> bytes:
    """The key of the records' MACs, from the name key: `person` keeps it apart from the hashes in names."""
    return blake2b(key=secret, person=b"sidecache-record", digest_size=32).digest()


def encode(entry: Entry, key: bytes) -> bytes:
    """The record of an entry. `key` is `mac_key` of the name key."""
    codec, body = seal.compress(entry.body, entry.compress, entry.content_type)
    flags = (
        (_MUST_REVALIDATE if entry.must_revalidate else 0)
        | (_NO_CACHE if entry.no_cache else 0)
        | (_SENSITIVE if entry.sensitive else 0)
        | (_HAS_TYPE if entry.content_type is not None else 0)
        | (_HAS_ETAG if entry.etag is not None else 0)
        | (_HAS_MODIFIED if entry.last_modified is not None else 0)
    )
    numbers = _NUMBERS.pack(
        entry.status,
        entry.compress,
        flags,
        entry.stored_at,
        entry.age,
        entry.fresh_until,
        entry.grace_until,
        entry.error_until,
        entry.last_modified or 0.0,
        entry.fetch_seconds,
    )
    parts = (
        _text(entry.tenant),
        _text(entry.key),
        _text(entry.request),
        entry.policy,
        _text(entry.content_type or ""),
        _text(entry.etag or ""),
        _join([_text(text) for pair in entry.vary for text in pair]),
        _join([_text(tag) for tag in entry.tags]),
        entry.epochs_hard,
        entry.epochs_soft,
        entry.head,
        body,
    )
    payload = numbers + _join(parts)
    lead = _LEAD.pack(_MAGIC, _VERSION, codec, _NOT_ENCRYPTED, _START + len(payload), len(entry.body))
    return lead + _mac(lead, payload, key) + payload


def unpacked_size(data: bytes) -> int:
    """How many bytes decoding this may touch, as the record says itself: only good for choosing where to do it."""
    declared = _LEAD.unpack_from(data)[5] if len(data) >= _LEAD.size else 0
    return max(declared, len(data))


def decode(data: bytes, *, key: str, tenant: str, request: str, mac: bytes, max_body: int) -> Entry | Rejection:
    """The entry in `data`, if it is the one of `key`, `tenant` and `request`. `mac`: `mac_key` of the name key."""
    if len(data) < _START:
        return Rejection.TRUNCATED
    magic, version, codec, key_id, length, size = _LEAD.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        return Rejection.VERSION
    if length != len(data):
        return Rejection.TRUNCATED
    if key_id != _NOT_ENCRYPTED:
        return Rejection.KEY_ID
    payload = memoryview(data)[_START:]
    if not compare_digest(data[_LEAD.size : _START], _mac(data[: _LEAD.size], payload, mac)):
        return Rejection.MAC
    if size > max_body:
        return Rejection.TOO_LARGE
    try:
        return _parse(payload, codec, size, key, tenant, request)
    except (struct.error, ValueError):
        return Rejection.MALFORMED


def _parse(payload: memoryview, codec: int, size: int, key: str, tenant: str, request: str) -> Entry | Rejection:
    numbers = _NUMBERS.unpack_from(payload)
    status, compress, flags, stored_at, age, fresh, grace, error, modified, fetch_seconds = numbers
    parts = _split(payload[_NUMBERS.size :])
    if len(parts) != _PARTS:
        return Rejection.MALFORMED
    if _string(parts[0]) != tenant:
        return Rejection.TENANT
    if _string(parts[1]) != key:
        return Rejection.KEY
    if _string(parts[2]) != request:
        return Rejection.REQUEST
    vary = [_string(part) for part in _split(memoryview(parts[6]))]
    body = seal.decompress(codec, parts[11], size)
    if body is None:
        return Rejection.BODY
    return Entry(
        key=key,
        tenant=tenant,
        request=request,
        policy=parts[3],
        status=status,
        head=parts[10],
        body=body,
        stored_at=stored_at,
        age=age,
        fresh_until=fresh,
        grace_until=grace,
        error_until=error,
        etag=_string(parts[5]) if flags & _HAS_ETAG else None,
        last_modified=modified if flags & _HAS_MODIFIED else None,
        content_type=_string(parts[4]) if flags & _HAS_TYPE else None,
        vary=tuple(zip(vary[::2], vary[1::2], strict=True)),
        must_revalidate=bool(flags & _MUST_REVALIDATE),
        no_cache=bool(flags & _NO_CACHE),
        tags=tuple([_string(part) for part in _split(memoryview(parts[7]))]),
        epochs_hard=parts[8],
        epochs_soft=parts[9],
        fetch_seconds=fetch_seconds,
        compress=compress,
        sensitive=bool(flags & _SENSITIVE),
    )


def _mac(lead: bytes, payload: bytes | memoryview, key: bytes) -> bytes:
    state = blake2b(lead, key=key, digest_size=_MAC)
    state.update(payload)
    return state.digest()


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _string(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _join(parts: list[bytes] | tuple[bytes, ...]) -> bytes:
    return b"".join([piece for part in parts for piece in (_LENGTH.pack(len(part)), part)])


def _split(data: memoryview) -> list[bytes]:
    """The parts that `_join` put together; ValueError when the last one is not whole."""
    parts = []
    start = 0
    while start < len(data):
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > len(data) - start:
            raise ValueError("a part is not whole")
        parts.append(bytes(data[start : start + length]))
        start += length
    return parts
