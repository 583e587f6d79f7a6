"""Under which key does a record leave this process, and which one opens it?

Every tenant has a key of its own, made from a master key by HKDF-SHA256: no two tenants share one, and 2^32 records of
one tenant (the bound for random 96-bit nonces) are far away. The first master key writes, all of them read.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.credentials import KEY_BYTES, EncryptionKey

NONCE = 12
TAG = 16
MAC = 16

_INFO = b"sidecache/record/1:"  # then the tenant; "" for what is public, which no tenant is called
_CIPHERS = 1024  # tenants and master keys whose ciphers are kept: making one costs about three times using it

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What this process has done with one master key. `needed_until`: when the last of these records ends."""

    sealed: int = 0
    opened: int = 0
    needed_until: float = 0.0


class Sealer:
    """The keys of records: the name key's MAC for plain ones, the master keys for encrypted ones. Safe in threads."""

    def __init__(
        self, name_key: bytes, keys: Sequence[EncryptionKey] = (), *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        # `person` keeps it apart from the hashes in names
        self._mac_key = blake2b(key=name_key, person=b"sidecache-record", digest_size=32).digest()
        self._mac_state = blake2b(key=self._mac_key, digest_size=MAC)
        self._secrets = {key.id: key.secret for key in keys}
        self._random = random
        self._cipher = lru_cache(_CIPHERS)(self._derived)
        self._uses = dict.fromkeys(self._secrets, KeyUse())
        self._counting = Lock()
        self.writer = keys[0].id if keys else None  # the id of the key that writes; None: nothing can be encrypted

    def knows(self, key_id: str) -> bool:
        return key_id in self._secrets

    def mac(self, lead: Buffer, payload: Buffer) -> bytes:
        state = self._mac_state.copy()
        state.update(lead)  # short: it waits for the rest
        state.update(payload)
        return state.digest()

    def encrypt(self, key_id: str, payload: bytes, *, tenant: str, bound: bytes) -> bytes:
        """Nonce, ciphertext and tag; they open only beside the same `bound`. KeyError when there is no such key."""
        nonce = self._random(NONCE)
        return nonce + self._cipher(key_id, tenant).encrypt(nonce, payload, bound)

    def decrypt(self, key_id: str, sealed: memoryview, *, tenant: str, bound: bytes) -> bytes | None:
        """What `encrypt` was given, or None when this is not its work for this tenant and `bound`."""
        if len(sealed) < NONCE + TAG:
            return None
        try:
            return self._cipher(key_id, tenant).decrypt(sealed[:NONCE], sealed[NONCE:], bound)
        except InvalidTag:
            return None

    def count(self, key_id: str, *, sealed: int = 0, opened: int = 0, until: float) -> None:
        with self._counting:
            use = self._uses[key_id]
            self._uses[key_id] = KeyUse(use.sealed + sealed, use.opened + opened, max(use.needed_until, until))

    def uses(self) -> Mapping[str, KeyUse]:
        """By key id, the one that writes first; those not used yet included."""
        with self._counting:
            return dict(self._uses)

    def _derived(self, key_id: str, tenant: str) -> AESGCM:
        info = _INFO + tenant.encode("utf-8", "surrogatepass")
        return AESGCM(HKDF(SHA256(), KEY_BYTES, None, info).derive(self._secrets[key_id]))
