"""An entry as bytes, and every other kind of bytes."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import record
from proxy.cache.record import Rejection, decode, encode, mac_key
from proxy.policy.entry import Entry
from tests import builders

SECRET = b"n" * 32
MAC = mac_key(SECRET)
KEY = "tenant:org_a:jobs:list"
JOBS = b'{"title":"Engineer","location":"Berlin"},' * 100


def opened(
    data: bytes,
    key: str = KEY,
    tenant: str = "org_a",
    request: str = "GET /api/jobs",
    mac: bytes = MAC,
    max_body: int = 1 << 20,
) -> Entry | Rejection:
    return decode(data, key=key, tenant=tenant, request=request, mac=mac, max_body=max_body)


def as_dict(entry: Entry) -> dict[str, object]:
    return {field.name: getattr(entry, field.name) for field in fields(entry)}


def signed(data: bytes) -> bytes:
    """These bytes with a MAC that is right: what only a holder of the name key can write."""
    lead, payload = data[: record._LEAD.size], data[record._START :]
    return lead + record._mac(lead, payload, MAC) + payload


FULL = builders.entry(
    body=JOBS,
    etag='W/"a\xe9"',
    last_modified=1.6e9,
    vary=(("accept-language", "de"), ("x-a", "")),
    must_revalidate=True,
    no_cache=True,
    sensitive=True,
    epochs_hard=b"h" * 16,
    epochs_soft=b"s" * 16,
    age=3.5,
    fetch_seconds=0.25,
    compress=1 << 40,
)


@pytest.mark.parametrize(
    "entry",
    [
        builders.entry(),  # realistic
        FULL,  # realistic: everything set
        builders.entry(body=b"", head=b"", content_type=None, tags=(), policy=b"", request=""),  # pathological
        builders.entry(content_type="", etag=""),  # pathological: empty is not absent
        builders.entry(last_modified=0.0),  # pathological: the epoch is a time
        builders.entry(error_until=float("inf")),  # pathological
        builders.entry(request="GET /\x00\udce9", tags=("a:\n", "")),  # pathological
    ],
)
def test_an_entry_comes_back_as_it_was(entry):
    back = opened(encode(entry, MAC), request=entry.request)
    assert isinstance(back, Entry)
    assert as_dict(back) == as_dict(entry)


def test_a_body_above_the_entry_s_threshold_is_smaller_in_the_store():
    assert len(encode(builders.entry(body=JOBS, compress=1024), MAC)) < len(JOBS) / 4
    assert len(encode(builders.entry(body=JOBS, compress=1 << 20), MAC)) > len(JOBS)


def test_encodings_made_for_the_wire_are_not_stored():
    entry = builders.entry()
    entry.encodings["gzip"] = b"x" * 1000
    back = opened(encode(entry, MAC))
    assert isinstance(back, Entry)
    assert back.encodings == {}


def test_the_key_of_the_mac_is_not_the_name_key_and_depends_on_it():
    assert mac_key(SECRET) != SECRET
    assert mac_key(SECRET) != mac_key(b"m" * 32)
    assert mac_key(SECRET).hex() == "87388828894977f130353f3a507effec65d0ce3f1836da794d2ce872a0b47995"


def test_a_record_of_another_key_tenant_or_request_is_refused():
    data = encode(builders.entry(), MAC)
    assert opened(data, key="tenant:org_a:jobs:77") is Rejection.KEY
    assert opened(data, tenant="org_b") is Rejection.TENANT
    assert opened(data, tenant="") is Rejection.TENANT
    assert opened(data, request="GET /api/jobs/77") is Rejection.REQUEST


def test_a_record_signed_with_another_key_is_refused():
    assert opened(encode(builders.entry(), mac_key(b"m" * 32))) is Rejection.MAC


def test_a_record_of_another_version_or_of_no_kind_of_ours_is_unknown():
    data = bytearray(encode(builders.entry(), MAC))
    data[3] += 1
    assert opened(bytes(data)) is Rejection.VERSION
    assert opened(b"x" * 200) is Rejection.VERSION


def test_a_record_encrypted_with_a_key_nobody_has_is_refused():
    data = bytearray(encode(builders.entry(), MAC))
    data[5] = 7
    assert opened(signed(bytes(data))) is Rejection.KEY_ID


def test_a_body_larger_than_allowed_is_refused_before_it_is_unpacked():
    assert opened(encode(builders.entry(body=JOBS), MAC), max_body=len(JOBS) - 1) is Rejection.TOO_LARGE


def test_a_signed_record_whose_body_has_another_size_is_refused():
    data = bytearray(encode(builders.entry(body=JOBS), MAC))
    data[10:14] = (len(JOBS) + 1).to_bytes(4, "big")
    assert opened(signed(bytes(data))) is Rejection.BODY


def test_a_signed_record_with_a_part_too_many_is_malformed():
    data = encode(builders.entry(), MAC) + b"\0\0\0\0"
    longer = data[:6] + len(data).to_bytes(4, "big") + data[10:]
    assert opened(signed(longer)) is Rejection.MALFORMED


def test_every_truncation_is_refused():
    data = encode(FULL, MAC)
    assert {opened(data[:length]) for length in range(len(data))} == {Rejection.TRUNCATED}


def test_every_flipped_bit_is_refused():
    data = encode(builders.entry(), MAC)
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        assert isinstance(opened(bytes(flipped)), Rejection), place


def test_the_size_to_choose_a_thread_by_is_the_unpacked_one():
    data = encode(builders.entry(body=bytes(1 << 20)), MAC)
    assert len(data) < 1000
    assert record.unpacked_size(data) == 1 << 20
    assert record.unpacked_size(b"short") == 5


@given(st.binary(max_size=300))
def test_no_bytes_at_all_raise(data):
    assert isinstance(opened(data), Rejection)
    assert record.unpacked_size(data) >= len(data)


@given(st.binary(max_size=200), st.integers(0, 255), st.integers(0, 1 << 20))
def test_no_bytes_behind_a_right_mac_raise(payload, codec, size):
    lead = record._LEAD.pack(b"SCR", 1, codec, 0, record._START + len(payload), size)
    assert isinstance(opened(lead + record._mac(lead, payload, MAC) + payload), Rejection)


@given(st.data())
def test_no_change_behind_a_right_mac_raises(data):
    whole = bytearray(encode(FULL, MAC))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(record._START, len(whole) - 1))] = data.draw(st.integers(0, 255))
    result = opened(signed(bytes(whole)))
    assert isinstance(result, Rejection | Entry)
    if isinstance(result, Entry):
        assert (result.key, result.tenant) == (FULL.key, FULL.tenant)


TEXT = st.text(max_size=20)
TIME = st.floats(allow_nan=False)


@given(
    st.builds(
        Entry,
        key=TEXT,
        tenant=TEXT,
        request=TEXT,
        policy=st.binary(max_size=20),
        status=st.integers(0, 65535),
        head=st.binary(max_size=50),
        body=st.binary(max_size=3000),
        stored_at=TIME,
        age=TIME,
        fresh_until=TIME,
        grace_until=TIME,
        error_until=TIME,
        etag=st.none() | TEXT,
        last_modified=st.none() | TIME,
        content_type=st.none() | TEXT,
        vary=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
        must_revalidate=st.booleans(),
        no_cache=st.booleans(),
        tags=st.lists(TEXT, max_size=4).map(tuple),
        compress=st.integers(0, 1 << 63),
        sensitive=st.booleans(),
    )
)
def test_every_entry_comes_back(entry):
    back = opened(encode(entry, MAC), key=entry.key, tenant=entry.tenant, request=entry.request)
    assert isinstance(back, Entry)
    assert as_dict(back) == as_dict(entry)


def test_two_entries_never_make_the_same_record():
    one, other = builders.entry(tags=("a", "b")), builders.entry(tags=("a,b",))
    assert encode(one, MAC) != encode(other, MAC)
    assert encode(one, MAC) != encode(replace(one, request="GET /api/jobs "), MAC)
