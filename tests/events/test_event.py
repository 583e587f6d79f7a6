"""How a mailbox keeps an event: bound to its tenant, encrypted where it must be."""

import pytest

from proxy.cache.seal import Sealer
from proxy.credentials import EncryptionKey
from proxy.events.event import Codec, Event
from tests.builders import NOW

KEYS = (EncryptionKey("k2", b"2" * 32), EncryptionKey("k1", b"1" * 32))
EVENT = Event("0123456789abcdef", "application.submitted", "role:read:applications", NOW, '{"who":"Zoë"}'.encode())


def codec(*keys: EncryptionKey, name_key: bytes = b"n" * 32) -> Codec:
    return Codec(Sealer(name_key, keys), 3600.0, lambda: NOW)


@pytest.mark.parametrize("seal", [False, True])
def test_an_event_comes_back_as_it_was(seal):
    made = codec(*KEYS)
    record = made.pack("org_a", EVENT, seal=seal)
    assert made.unpack("org_a", record) == EVENT
    assert Codec.is_sealed(record) is seal
    assert (b"submitted" in record) is not seal


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.isolation
def test_another_tenant_cannot_read_it(seal):
    made = codec(*KEYS)
    assert made.unpack("org_b", made.pack("org_a", EVENT, seal=seal)) is None


@pytest.mark.parametrize("seal", [False, True])
def test_no_byte_of_it_can_be_changed(seal):
    made = codec(*KEYS)
    record = made.pack("org_a", EVENT, seal=seal)
    for at in range(len(record)):
        assert made.unpack("org_a", record[:at] + bytes((record[at] ^ 1,)) + record[at + 1 :]) is None
        assert made.unpack("org_a", record[:at]) is None


def test_older_keys_read_and_their_use_is_counted():
    record = codec(KEYS[1]).pack("org_a", EVENT, seal=True)
    sealer = Sealer(b"n" * 32, KEYS)
    assert Codec(sealer, 3600.0, lambda: NOW).unpack("org_a", record) == EVENT
    assert sealer.uses()["k1"].opened == 1
    assert sealer.uses()["k1"].needed_until == NOW + 3600
    assert codec(KEYS[0]).unpack("org_a", record) is None
    assert codec().unpack("org_a", record) is None


@pytest.mark.parametrize("record", [b"", b"\x01", b"\x01p", b"\x01s", b"\x02p" + b"x" * 40, b"\x01s\xff" + b"x" * 40])
def test_what_is_no_record(record):
    assert codec(*KEYS).unpack("org_a", record) is None


@pytest.mark.parametrize("payload", [b"[]", b"{}", b'["a","b","c","d","e"]', b"no", b'["a","b","c",1,2]'])
def test_a_payload_of_another_shape_is_no_event(payload):
    sealer = Sealer(b"n" * 32)
    record = b"\x01p" + sealer.mac(b"sidecache/event/1:org_a", payload) + payload
    assert Codec(sealer, 1.0, lambda: NOW).unpack("org_a", record) is None


def test_whether_it_can_encrypt():
    assert codec(*KEYS).can_seal
    assert not codec().can_seal
