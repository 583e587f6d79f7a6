"""Which secrets does an operator hand over, and how is a fresh one made? Encryption keys, name keys, admin tokens."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

KEY_BYTES = 32  # AES-256
KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)
ROLES = ("viewer", "operator", "inspector", "backend")

_ADMIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_TOKEN_PREFIX = "sidecache_"  # scanners for leaked secrets find it, and so does a person
_SHOWN_ID = 16  # characters: no secret is as short
_LEAST_DISTINCT = 16  # of 32 random bytes about 30 are distinct; fewer than this never comes from a generator

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """A master key, and the id by which a record says that it was sealed with it."""

    id: str
    secret: bytes = field(repr=False)

    def entry(self) -> str:
        return f"{self.id}:{base64.b64encode(self.secret).decode()}"

    def __str__(self) -> str:
        return self.id


class EncryptionKeys(NamedTuple):
    """What SIDECACHE_ENCRYPTION_KEYS holds: the first key writes, all read. No problem quotes a secret."""

    keys: tuple[EncryptionKey, ...]
    problems: tuple[str, ...]


def read_encryption_keys(text: str) -> EncryptionKeys:
    keys: list[EncryptionKey] = []
    problems: list[str] = []
    for number, entry in enumerate(re.split(r"[,\s]+", text.strip(", \t\r\n")), 1):
        found = _read_key(entry, keys)
        if isinstance(found, EncryptionKey):
            keys.append(found)
        else:
            name = entry.partition(":")[0]
            # what stands before a colon is an id, unless the two were confused; without one all may be a secret
            is_id = ":" in entry and KEY_ID.fullmatch(name) and len(name) <= _SHOWN_ID
            which = f"entry {number} ({name})" if is_id else f"entry {number}"
            problems.append(f"{which}: {found}")
    return EncryptionKeys(tuple(keys), tuple(problems))


def _read_key(entry: str, before: list[EncryptionKey]) -> EncryptionKey | str:
    name, colon, encoded = entry.partition(":")
    if not colon:
        return "has no key id: write KEYID:BASE64"
    if not KEY_ID.fullmatch(name):
        return "its key id is not 1 to 32 letters, digits, '.', '_' or '-'"
    try:
        secret = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return "what follows the colon is not base64"
    if len(secret) != KEY_BYTES:
        return f"the key has {len(secret)} bytes instead of {KEY_BYTES}"
    if len(set(secret)) < _LEAST_DISTINCT:
        return "the key does not look random"
    for other in before:
        if other.id == name:
            return "another entry has the same key id"
        if other.secret == secret:
            return f"the same key as {other.id}"
    return EncryptionKey(name, secret)


def new_encryption_key(key_id: str, random: Random) -> EncryptionKey:
    """ValueError when the id is none."""
    if not KEY_ID.fullmatch(key_id):
        raise ValueError("a key id is 1 to 32 letters, digits, '.', '_' or '-'")
    return EncryptionKey(key_id, random(KEY_BYTES))


def new_name_key(random: Random) -> str:
    return random(KEY_BYTES).hex()


class AdminToken(NamedTuple):
    """A token, which its owner keeps, and the entry of SIDECACHE_ADMIN_TOKENS, which cannot be turned back into it."""

    token: str
    entry: str


@dataclass(frozen=True, slots=True)
class AdminEntry:
    """One entry of SIDECACHE_ADMIN_TOKENS: whose token it is, and what it may do. The token itself is not in it."""

    name: str
    role: str
    tenant: str | None
    digest: str = field(repr=False)  # SHA-256 of the token, in hex

    def __str__(self) -> str:
        return f"{self.name} ({self.role}{f' of {self.tenant}' if self.tenant is not None else ''})"


class AdminEntries(NamedTuple):
    """What SIDECACHE_ADMIN_TOKENS holds. No problem quotes a digest."""

    entries: tuple[AdminEntry, ...]
    problems: tuple[str, ...]


def read_admin_tokens(text: str) -> AdminEntries:
    entries: list[AdminEntry] = []
    problems: list[str] = []
    for number, written in enumerate(re.split(r"[,\s]+", text.strip(", \t\r\n")), 1):
        found = _read_admin(written, entries)
        if isinstance(found, AdminEntry):
            entries.append(found)
        else:
            problems.append(f"entry {number}: {found}")
    return AdminEntries(tuple(entries), tuple(problems))


def _read_admin(written: str, before: list[AdminEntry]) -> AdminEntry | str:
    parts = written.split(":")
    if len(parts) not in (3, 4):
        return "is not NAME:ROLE[:TENANT]:SHA256HEX"
    name, role, digest = parts[0], parts[1], parts[-1]
    tenant = parts[2] if len(parts) == 4 else None
    for part, _, wanted in _wrong_in(name, role, tenant):
        return (
            f"its {part} is not {wanted.removeprefix(f'a {part} of ')}"  # what it is may be a token in the wrong place
        )
    if name.startswith(_TOKEN_PREFIX):
        return "begins with a token, which does not belong here: NAME:ROLE[:TENANT]:SHA256HEX"
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        return "does not end with the 64 hex digits of a SHA-256: a token itself does not belong here"
    for other in before:
        if other.name == name:
            return f"another entry has the name {name}"
        if other.digest == digest:
            return f"the same token as {other.name}'s"
    return AdminEntry(name, role, tenant, digest)


def new_admin_token(name: str, role: str, tenant: str | None, random: Random) -> AdminToken:
    """ValueError, in words, when a part of the entry could not be read back."""
    for _, value, wanted in _wrong_in(name, role, tenant):
        raise ValueError(f"{value[:80]!r} is not {wanted}")
    token = _TOKEN_PREFIX + base64.urlsafe_b64encode(random(KEY_BYTES)).rstrip(b"=").decode()
    parts = (name, role, *(() if tenant is None else (tenant,)), sha256(token.encode()).hexdigest())
    return AdminToken(token, ":".join(parts))


def _wrong_in(name: str, role: str, tenant: str | None) -> Iterator[tuple[str, str, str]]:
    """Which part, its value, and what it is not."""
    if not _ADMIN_NAME.fullmatch(name):
        yield "name", name, "a name of 1 to 64 letters, digits, '.', '_' or '-'"
    if role not in ROLES:
        yield "role", role, f"one of {', '.join(ROLES)}"
    if tenant is not None and not _TENANT.fullmatch(tenant):
        yield "tenant", tenant, "a tenant of 1 to 64 letters, digits, '_' or '-'"
