"""Which bytes is an entry in the store, and are these bytes the entry that was asked for?

    0   magic `SCR`, version            4
    4   length of the whole record      4
    8   length of the key id, key id    1 + n   no key id: not encrypted
        plain: MAC                      16      keyed BLAKE2b over everything else
               payload
        else:  nonce                    12
               AES-256-GCM of the payload, bound to all of the above and to the full cache key

    the payload: body codec, length of the unpacked body, numbers, the length of each part, and the parts: tenant, key,
    request, policy, type, ETag, Vary, tags, hard and soft epochs, head, body

Without the key an encrypted record shows its version, length and key id. A record of an unknown version is a miss; any
other flaw is a counted miss. No bytes whatever raise an exception.
"""

import struct
from collections.abc import Iterable
from enum import StrEnum
from hmac import compare_digest
from typing import NamedTuple

from proxy.cache import pack
from proxy.cache.seal import MAC, NONCE, TAG, Sealer
from proxy.policy.entry import NOT_PACKED, Entry

_MAGIC = b"SCR"
_VERSION = 2

_LEAD = struct.Struct("!3sBIB")
_NUMBERS = struct.Struct("!BIHQB7d")
_SIZE = struct.Struct("!xI")  # the second of the numbers
_LENGTHS = struct.Struct("!12I")
_LENGTH = struct.Struct("!I")
_PLAIN = struct.Struct("!3sBIB16sBIHQB7d12I")  # all of the above and the MAC: what a plain record begins with
_EXPANSION = 16  # more than documents of text usually grow by when they are unpacked

_MUST_REVALIDATE, _NO_CACHE, _SENSITIVE, _ENCRYPT = 1, 2, 4, 8
_HAS_TYPE, _HAS_ETAG, _HAS_MODIFIED, _GZIP = 16, 32, 64, 128
_UNUSUAL = _NO_CACHE | _SENSITIVE | _ENCRYPT  # of a record that is not encrypted


class Rejection(StrEnum):
    """Why a record is not used. Each is a miss, and counted; some mean that somebody else writes to the store."""

    VERSION = "unknown-version"
    TRUNCATED = "truncated"
    MAC = "bad-mac"
    KEY_ID = "unknown-key-id"
    SEAL = "bad-seal"  # damaged, or moved from another key or tenant
    PLAIN = "not-encrypted"  # of what we would have encrypted
    KEY = "wrong-key"
    TENANT = "wrong-tenant"
    REQUEST = "wrong-request"
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    BODY = "bad-body"


def encode(entry: Entry, sealer: Sealer) -> bytes:
    """The record of an entry. One that has to be encrypted needs a sealer with a key that writes."""
    payload = _payload(entry)
    if not entry.confidential:
        lead = _LEAD.pack(_MAGIC, _VERSION, _LEAD.size + MAC + len(payload), 0)
        return lead + sealer.mac(lead, payload) + payload
    if sealer.writer is None:
        raise ValueError("a confidential entry and no key to encrypt it with")
    name = sealer.writer.encode("ascii")
    length = _LEAD.size + len(name) + NONCE + len(payload) + TAG
    lead = _LEAD.pack(_MAGIC, _VERSION, length, len(name)) + name
    sealed = sealer.encrypt(sealer.writer, payload, tenant=entry.tenant, bound=lead + _text(entry.key))
    sealer.count(sealer.writer, sealed=1, until=entry.kept_until())
    return lead + sealed


def _payload(entry: Entry) -> bytes:
    codec, body = pack.compress(
        entry.body, entry.compress, entry.content_type, gzip=entry.gzip, packed_before=entry.packed
    )
    flags = (
        (_MUST_REVALIDATE if entry.must_revalidate else 0)
        | (_NO_CACHE if entry.no_cache else 0)
        | (_SENSITIVE if entry.sensitive else 0)
        | (_ENCRYPT if entry.encrypt else 0)
        | (_HAS_TYPE if entry.content_type is not None else 0)
        | (_HAS_ETAG if entry.etag is not None else 0)
        | (_HAS_MODIFIED if entry.last_modified is not None else 0)
        | (_GZIP if entry.gzip else 0)
    )
    numbers = _NUMBERS.pack(
        codec,
        len(entry.body),
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
        _join([text for pair in entry.vary for text in pair]),
        _join(entry.tags),
        entry.epochs_hard,
        entry.epochs_soft,
        entry.head,
        body,
    )
    return b"".join((numbers, _LENGTHS.pack(*map(len, parts)), *parts))


def unpacked_size(data: bytes) -> int:
    """How many bytes decoding this may touch, as far as the record shows it: only good for choosing where to do it."""
    if len(data) < _LEAD.size + MAC + _SIZE.size:
        return len(data)
    if data[_LEAD.size - 1]:
        return len(data) * _EXPANSION  # a sealed record keeps its size to itself
    (declared,) = _SIZE.unpack_from(data, _LEAD.size + MAC)
    return max(int(declared), len(data))


def decode(
    data: bytes, sealer: Sealer, *, key: str, tenant: str, request: str | None, max_body: int,
    tags: tuple[str, ...] = (),
) -> Entry | Rejection:  # fmt: skip
    """The entry in `data`, if it is the one of `key`, `tenant` and `request`; None: of whichever, to look at only.

    `tags` are those that it most likely has.
    """
    if len(data) < _LEAD.size:
        return Rejection.TRUNCATED
    magic, version, length, name_length = _LEAD.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        return Rejection.VERSION
    start = _LEAD.size + name_length
    if length != len(data) or length < start:
        return Rejection.TRUNCATED
    key_id = data[_LEAD.size : start].decode("latin-1")
    payload = _opened(data, start, sealer, key_id, key, tenant)
    if isinstance(payload, Rejection):
        return payload
    try:
        entry = _parse(payload, key, tenant, request, max_body, tags)
    except (struct.error, ValueError):
        return Rejection.MALFORMED
    if isinstance(entry, Entry):
        if key_id:
            sealer.count(key_id, opened=1, until=entry.kept_until())
        elif entry.confidential:
            return Rejection.PLAIN
    return entry


class Expected(NamedTuple):
    """What the record of one request holds, as bytes: whose it is, what it answers, by which rule, and its tags."""

    text: bytes
    lengths: tuple[int, int, int, int]
    tags: bytes


def expected(tenant: str, key: str, request: str, policy: bytes, tags: tuple[str, ...]) -> Expected:
    text = f"{tenant}{key}{request}".encode("ascii") + policy
    feature, item = tags  # of a request there are these two
    tagged = b"%b%b%b%b" % (
        _LENGTH.pack(len(feature)), feature.encode("ascii"), _LENGTH.pack(len(item)), item.encode("ascii"),
    )  # fmt: skip
    return Expected(text, (len(tenant), len(key), len(request), len(policy)), tagged)


class Plain(NamedTuple):
    """What of a record it takes to answer with it."""

    status: int
    stored_at: float
    age: float
    fresh_until: float
    fetch_seconds: float
    media: bytes | None
    hard: bytes
    soft: bytes
    head: bytes
    codec: int
    size: int
    packed: bytes


def plain(data: bytes, sealer: Sealer, wanted: Expected) -> Plain | None:
    """The record in `data`, if it is just what was expected: plain, ours, its own key's, without Vary or `no-cache`.

    None: `decode` says what else it is. The body is not unpacked: its MAC says that it is one that we have packed.
    """
    if len(data) < _PLAIN.size:
        return None
    (
        magic, version, length, name_length, mac,
        codec, size, status, _, flags, stored_at, age, fresh, _, _, _, seconds,
        tenant, key, request, policy, media, etag, vary, tagged, hard, soft, head, body,
    ) = _PLAIN.unpack_from(data)  # fmt: skip
    if magic != _MAGIC or version != _VERSION or name_length or length != len(data) or vary or flags & _UNUSUAL:
        return None
    if not compare_digest(mac, sealer.mac(data[: _LEAD.size], data[_LEAD.size + MAC :])):
        return None
    at = _PLAIN.size
    if (tenant, key, request, policy) != wanted.lengths or not data.startswith(wanted.text, at):
        return None
    at += len(wanted.text)
    type_at, at = at, at + media + etag
    if tagged != len(wanted.tags) or not data.startswith(wanted.tags, at):
        return None
    hard_at = at + tagged
    soft_at = hard_at + hard
    head_at = soft_at + soft
    body_at = head_at + head
    if body_at + body != length:
        return None
    return Plain(
        status, stored_at, age, fresh, seconds,
        data[type_at : type_at + media] if flags & _HAS_TYPE else None,
        data[hard_at:soft_at], data[soft_at:head_at], data[head_at:body_at], codec, size, data[body_at:],
    )  # fmt: skip


def _opened(data: bytes, start: int, sealer: Sealer, key_id: str, key: str, tenant: str) -> bytes | Rejection:
    """The payload, once it is known to be ours."""
    if key_id:
        if not sealer.knows(key_id):
            return Rejection.KEY_ID
        payload = sealer.decrypt(key_id, memoryview(data)[start:], tenant=tenant, bound=data[:start] + _text(key))
        return Rejection.SEAL if payload is None else payload
    if len(data) < start + MAC:
        return Rejection.TRUNCATED
    plain = data[start + MAC :]
    return plain if compare_digest(data[start : start + MAC], sealer.mac(data[:start], plain)) else Rejection.MAC


def _parse(
    payload: bytes, key: str, tenant: str, request: str | None, max_body: int, likely: tuple[str, ...]
) -> Entry | Rejection:
    numbers = _NUMBERS.unpack_from(payload)
    codec, size, status, compress, flags, stored_at, age, fresh, grace, error, modified, fetch_seconds = numbers
    if size > max_body:
        return Rejection.TOO_LARGE
    lengths = _LENGTHS.unpack_from(payload, _NUMBERS.size)
    end = _NUMBERS.size + _LENGTHS.size
    if end + sum(lengths) != len(payload):
        return Rejection.MALFORMED
    parts = [payload[end : (end := end + length)] for length in lengths]
    tenant_part, key_part, request_part, policy, media, etag, selecting, tagged, hard, soft, head, packed = parts
    if tenant_part != _text(tenant):
        return Rejection.TENANT
    if key_part != _text(key):
        return Rejection.KEY
    if request is None:
        request = _string(request_part)
    elif request_part != _text(request):
        return Rejection.REQUEST
    vary = _split(selecting) if selecting else []
    tags = likely if tagged == _join(likely) else tuple(_split(tagged))
    body = pack.decompress(codec, packed, size)
    if body is None:
        return Rejection.BODY
    # each hit from the store makes one: names would cost as much as everything else
    return Entry(
        key,
        tenant,
        request,
        policy,
        status,
        head,
        body,
        stored_at,
        age,
        fresh,
        grace,
        error,
        _string(etag) if flags & _HAS_ETAG else None,
        modified if flags & _HAS_MODIFIED else None,
        _string(media) if flags & _HAS_TYPE else None,
        tuple(zip(vary[::2], vary[1::2], strict=True)),
        bool(flags & _MUST_REVALIDATE),
        bool(flags & _NO_CACHE),
        tags,
        hard,
        soft,
        fetch_seconds,
        compress,
        bool(flags & _SENSITIVE),
        bool(flags & _GZIP),
        bool(flags & _ENCRYPT),
        packed=(pack.CODINGS[codec], packed) if codec else NOT_PACKED,
    )


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _string(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _join(texts: Iterable[str]) -> bytes:
    return b"".join([piece for text in map(_text, texts) for piece in (_LENGTH.pack(len(text)), text)])


def _split(data: bytes) -> list[str]:
    """The texts that `_join` put together; ValueError when the last one is not whole."""
    texts = []
    start = 0
    while start < len(data):
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > len(data) - start:
            raise ValueError("a text is not whole")
        texts.append(_string(data[start : start + length]))
        start += length
    return texts
