"""Keys of tenants: what opens what, what does not, and what is counted."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.seal import MAC, NONCE, TAG, KeyUse, Sealer
from proxy.credentials import EncryptionKey
from tests.doubles import counted

NAME_KEY = b"n" * 32
OLD, NEW = EncryptionKey("k1", bytes(range(32))), EncryptionKey("k2", bytes(range(1, 33)))
BOUND = b"lead and cache key"


def sealer(*keys: EncryptionKey, random: Callable[[int], bytes] = os.urandom) -> Sealer:
    return Sealer(NAME_KEY, keys, random=random)


def opened(sealed: bytes, by: Sealer, *, key: str = "k1", tenant: str = "org_a", bound: bytes = BOUND) -> bytes | None:
    return by.decrypt(key, memoryview(sealed), tenant=tenant, bound=bound)


def sealed(payload: bytes = b"payload", *, tenant: str = "org_a") -> bytes:
    return sealer(OLD).encrypt("k1", payload, tenant=tenant, bound=BOUND)


def test_what_was_sealed_opens_for_its_tenant_beside_what_it_is_bound_to():
    assert opened(sealed(), sealer(OLD)) == b"payload"
    assert opened(sealed(tenant=""), sealer(OLD), tenant="") == b"payload"


@pytest.mark.isolation
@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "org_b"},  # realistic: another tenant's key
        {"tenant": ""},  # realistic: what is public
        {"bound": b"lead and another cache key"},  # realistic: moved
        {"bound": b""},  # pathological
        {"tenant": "org_a\0"},  # pathological
    ],
)
def test_it_opens_nowhere_else(other):
    assert opened(sealed(), sealer(OLD), **other) is None


def test_another_master_key_under_the_same_id_does_not_open_it():
    assert opened(sealed(), sealer(EncryptionKey("k1", NEW.secret))) is None


def test_tenants_and_ids_with_the_same_master_key_have_different_keys():
    one = sealer(OLD, EncryptionKey("k1b", OLD.secret), random=bytes)  # the same nonce, so equal keys would show
    texts = {
        one.encrypt("k1", bytes(64), tenant=tenant, bound=b"") for tenant in ("", "org_a", "org_b", "org_", "a" * 64)
    }
    assert len(texts) == 5


def test_the_derivation_never_changes():
    """Replicas of two versions share a store; another answer here needs another version in the label."""
    text = sealer(OLD, random=bytes).encrypt("k1", b"payload", tenant="org_a", bound=BOUND)
    assert text.hex() == "000000000000000000000000f0b9d1cd081e49e0c025638602d55e2b5df4b9dd1095d8"


def test_a_payload_costs_a_nonce_and_a_tag_and_shows_nothing():
    payload = b"what nobody may read" * 10
    text = sealed(payload)
    assert len(text) == NONCE + len(payload) + TAG
    assert b"nobody" not in text


def test_no_nonce_is_used_twice():
    one = sealer(OLD, random=counted())
    assert len({one.encrypt("k1", b"", tenant="org_a", bound=b"")[:NONCE] for _ in range(100)}) == 100


def test_every_flipped_bit_and_every_truncation_is_refused():
    text, one = sealed(), sealer(OLD)
    for place in range(len(text) * 8):
        flipped = bytearray(text)
        flipped[place // 8] ^= 1 << place % 8
        assert opened(bytes(flipped), one) is None, place
    assert {opened(text[:length], one) for length in range(len(text))} == {None}


@given(st.binary(max_size=200))
def test_no_bytes_raise(data):
    assert opened(data, sealer(OLD)) is None


@given(st.binary(max_size=3000), st.text(max_size=70), st.binary(max_size=300))
def test_every_payload_comes_back(payload, tenant, bound):
    one = sealer(OLD)
    text = one.encrypt("k1", payload, tenant=tenant, bound=bound)
    assert opened(text, one, tenant=tenant, bound=bound) == payload


def test_the_first_key_writes_and_all_are_known():
    assert sealer(NEW, OLD).writer == "k2"
    assert [sealer(NEW, OLD).knows(key) for key in ("k1", "k2", "k3", "")] == [True, True, False, False]
    assert opened(sealed(), sealer(NEW, OLD)) == b"payload"


def test_without_keys_nothing_is_encrypted_ever():
    assert sealer().writer is None
    assert sealer().uses() == {}
    with pytest.raises(KeyError):
        sealer().encrypt("k1", b"payload", tenant="org_a", bound=b"")


def test_the_key_of_the_mac_is_not_the_name_key_and_depends_on_it():
    one = Sealer(NAME_KEY)
    assert len(one.mac(b"", b"")) == MAC
    assert one.mac(b"lead", b"payload") != Sealer(b"m" * 32).mac(b"lead", b"payload")
    assert one._mac_key.hex() == "87388828894977f130353f3a507effec65d0ce3f1836da794d2ce872a0b47995"


def test_what_each_key_did_is_counted_and_unused_ones_are_named():
    one = sealer(NEW, OLD)
    assert list(one.uses().items()) == [("k2", KeyUse()), ("k1", KeyUse())]
    one.count("k2", sealed=1, until=100.0)
    one.count("k2", opened=1, until=50.0)
    one.count("k1", opened=1, until=70.0)
    assert one.uses() == {"k2": KeyUse(1, 1, 100.0), "k1": KeyUse(0, 1, 70.0)}


def test_secrets_are_in_no_representation():
    assert repr(OLD) == "EncryptionKey(id='k1')"
    assert str(OLD) == "k1"


def test_threads_share_one_sealer():
    one = sealer(OLD)

    def round_trips(number: int) -> bool:
        tenant = f"org_{number % 3}"
        texts = [one.encrypt("k1", bytes([number]) * size, tenant=tenant, bound=BOUND) for size in range(1, 200)]
        one.count("k1", sealed=1, until=float(number))
        return all(opened(text, one, tenant=tenant) == bytes([number]) * size for size, text in enumerate(texts, 1))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trips, range(40)))
    assert one.uses()["k1"] == KeyUse(40, 0, 39.0)


def test_more_tenants_than_ciphers_are_kept_still_open():
    one = sealer(OLD)
    first = one.encrypt("k1", b"payload", tenant="org_0", bound=BOUND)
    for number in range(1, 1100):
        one.encrypt("k1", b"", tenant=f"org_{number}", bound=BOUND)
    assert one._cipher.cache_info().currsize == 1024
    assert opened(first, one, tenant="org_0") == b"payload"
