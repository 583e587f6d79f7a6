"""An entry as bytes, and every other kind of bytes."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import pack, record
from proxy.cache.record import Rejection, decode, encode
from proxy.cache.seal import MAC, NONCE, TAG, KeyUse, Sealer
from proxy.credentials import EncryptionKey
from proxy.policy.entry import Entry
from tests import builders

SECRET = b"n" * 32
OLD, NEW = EncryptionKey("k1", bytes(range(32))), EncryptionKey("k2", bytes(range(1, 33)))
SEALER = Sealer(SECRET, [OLD])
KEY = "tenant:org_a:jobs:list"
JOBS = b'{"title":"Engineer","location":"Berlin"},' * 100


def opened(
    data: bytes,
    key: str = KEY,
    tenant: str = "org_a",
    request: str = "GET /api/jobs",
    sealer: Sealer = SEALER,
    max_body: int = 1 << 20,
) -> Entry | Rejection:
    return decode(data, sealer, key=key, tenant=tenant, request=request, max_body=max_body)


def as_dict(entry: Entry) -> dict[str, object]:
    return {field.name: getattr(entry, field.name) for field in fields(entry) if field.name != "packed"}


START = record._LEAD.size + MAC  # of a plain record's payload


def genuine(payload: bytes, *, encrypt: bool) -> bytes:
    """A record with this payload behind a right MAC or seal: what only a holder of the keys can write."""
    name = b"k1" if encrypt else b""
    length = record._LEAD.size + len(name) + (NONCE + TAG if encrypt else MAC) + len(payload)
    lead = record._LEAD.pack(b"SCR", 2, length, len(name)) + name
    if encrypt:
        return lead + SEALER.encrypt("k1", payload, tenant="org_a", bound=lead + KEY.encode())
    return lead + SEALER.mac(lead, payload) + payload


def payload_of(entry: Entry) -> bytearray:
    return bytearray(record._payload(entry))


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
    gzip=True,
    encrypt=True,
)
PLAIN = replace(FULL, sensitive=False, encrypt=False)


@pytest.mark.parametrize(
    "entry",
    [
        builders.entry(),  # realistic
        FULL,  # realistic: everything set
        PLAIN,  # realistic: the same, not encrypted
        builders.entry(sensitive=True),  # realistic
        builders.entry(body=JOBS, gzip=True, encrypt=True),  # realistic
        builders.entry(tenant="", encrypt=True),  # pathological: public, by `encrypt: all`
        builders.entry(body=b"", head=b"", content_type=None, tags=(), policy=b"", request=""),  # pathological
        builders.entry(content_type="", etag=""),  # pathological: empty is not absent
        builders.entry(last_modified=0.0),  # pathological: the epoch is a time
        builders.entry(error_until=float("inf")),  # pathological
        builders.entry(request="GET /\x00\udce9", tags=("a:\n", "")),  # pathological
    ],
)
def test_an_entry_comes_back_as_it_was(entry):
    back = opened(encode(entry, SEALER), tenant=entry.tenant, request=entry.request)
    assert isinstance(back, Entry)
    assert as_dict(back) == as_dict(entry)


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("gzip", [False, True])
def test_a_body_above_the_entry_s_threshold_is_smaller_in_the_store(gzip, encrypt):
    entry = builders.entry(body=JOBS, compress=1024, gzip=gzip, encrypt=encrypt)
    assert len(encode(entry, SEALER)) < len(JOBS) / 4
    assert len(encode(replace(entry, compress=1 << 20), SEALER)) > len(JOBS)


def test_encodings_made_for_the_wire_are_not_stored():
    entry = builders.entry()
    entry.encodings["gzip"] = b"x" * 1000
    back = opened(encode(entry, SEALER))
    assert isinstance(back, Entry)
    assert back.encodings == {}


# Whose it is


@pytest.mark.isolation
def test_a_plain_record_of_another_key_tenant_or_request_is_refused():
    data = encode(builders.entry(), SEALER)
    assert opened(data, key="tenant:org_a:jobs:77") is Rejection.KEY
    assert opened(data, tenant="org_b") is Rejection.TENANT
    assert opened(data, tenant="") is Rejection.TENANT
    assert opened(data, request="GET /api/jobs/77") is Rejection.REQUEST


@pytest.mark.isolation
def test_an_encrypted_record_of_another_key_or_tenant_does_not_even_open():
    data = encode(FULL, SEALER)
    assert opened(data, key="tenant:org_a:jobs:77") is Rejection.SEAL
    assert opened(data, tenant="org_b") is Rejection.SEAL
    assert opened(data, tenant="") is Rejection.SEAL
    assert opened(data, key="tenant:org_b:jobs:list", tenant="org_b") is Rejection.SEAL
    assert opened(data, request="GET /api/jobs/77") is Rejection.REQUEST


@pytest.mark.isolation
@pytest.mark.parametrize(
    ("change", "rejection"),
    [
        ({"tenant": "org_b"}, Rejection.TENANT),
        ({"key": "tenant:org_a:jobs:77"}, Rejection.KEY),
        ({"request": "GET /x"}, Rejection.REQUEST),
    ],
)
@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.isolation
def test_even_behind_right_keys_tenant_key_and_request_are_compared(change, rejection, encrypt):
    payload = payload_of(builders.entry(encrypt=encrypt, **change))
    assert opened(genuine(bytes(payload), encrypt=encrypt)) is rejection


def test_a_record_signed_with_another_name_key_is_refused():
    assert opened(encode(builders.entry(), Sealer(b"m" * 32))) is Rejection.MAC


def test_a_record_encrypted_with_a_key_nobody_has_is_refused():
    data = encode(FULL, SEALER)
    assert opened(data, sealer=Sealer(SECRET)) is Rejection.KEY_ID
    assert opened(data, sealer=Sealer(SECRET, [NEW])) is Rejection.KEY_ID
    assert opened(data, sealer=Sealer(SECRET, [EncryptionKey("k1", NEW.secret)])) is Rejection.SEAL


def test_an_encrypted_record_does_not_depend_on_the_name_key():
    assert isinstance(opened(encode(FULL, SEALER), sealer=Sealer(b"m" * 32, [OLD])), Entry)


def test_while_keys_rotate_both_open_and_only_the_first_seals():
    old, both, new = Sealer(SECRET, [OLD]), Sealer(SECRET, [NEW, OLD]), Sealer(SECRET, [NEW])
    assert isinstance(opened(encode(FULL, old), sealer=both), Entry)
    data = encode(FULL, both)
    assert isinstance(opened(data, sealer=new), Entry)
    assert opened(data, sealer=old) is Rejection.KEY_ID
    until = FULL.kept_until()
    assert both.uses() == {"k2": KeyUse(1, 0, until), "k1": KeyUse(0, 1, until)}


def test_what_is_refused_counts_as_no_use_of_a_key():
    one = Sealer(SECRET, [OLD])
    assert opened(encode(FULL, SEALER), sealer=one, request="GET /x") is Rejection.REQUEST
    assert one.uses() == {"k1": KeyUse()}


def test_what_must_be_encrypted_is_never_encoded_without_a_key():
    for entry in (builders.entry(sensitive=True), builders.entry(encrypt=True)):
        with pytest.raises(ValueError, match="no key"):
            encode(entry, Sealer(SECRET))


@pytest.mark.parametrize("how", [{"sensitive": True}, {"encrypt": True}], ids=str)
def test_a_signed_plain_record_of_what_must_be_encrypted_is_refused(how):
    assert opened(genuine(bytes(payload_of(builders.entry(**how))), encrypt=False)) is Rejection.PLAIN


@pytest.mark.parametrize("gzip", [False, True])
def test_without_the_key_an_encrypted_record_shows_its_key_id_and_nothing_else(gzip):
    words = {
        "tenant": "org_secret",
        "key": "tenant:org_secret:applications:job-77",
        "request": "GET /api/hidden?q=who",
        "policy": b"policy-digest",
        "etag": '"validator"',
        "content_type": "application/x-unusual",
        "vary": (("x-plan", "enterprise"),),
        "tags": ("applications", "applications:job-77"),
        "head": b"X-Org: org_secret\r\n",
        "body": b"a candidate",
        "epochs_hard": b"hard-epoch-digest",
    }
    entry = builders.entry(sensitive=True, gzip=gzip, **words)
    data = encode(entry, SEALER)
    assert data[record._LEAD.size :].startswith(b"k1")
    hidden = [b"org_", b"tenant", b"applications", b"hidden", b"policy", b"validator", b"unusual", b"x-plan"]
    hidden += [b"enterprise", b"X-Org", b"candidate", b"hard-epoch", b"zstd", b"gzip"]
    assert [word for word in hidden if word in data] == []
    assert [word for word in hidden[:11] if word not in encode(replace(entry, sensitive=False), SEALER)] == []


def test_two_records_of_one_entry_have_nothing_in_common_behind_the_key_id():
    one, other = encode(FULL, SEALER), encode(FULL, SEALER)
    assert one[:11] == other[:11]
    assert one[11:23] != other[11:23]
    assert one[23:39] != other[23:39]


# Damaged, made up, too large


@pytest.mark.parametrize("version", [0, 1, 3, 255])
def test_a_record_of_another_version_or_of_no_kind_of_ours_is_unknown(version):
    data = bytearray(encode(builders.entry(), SEALER))
    data[3] = version
    assert opened(bytes(data)) is Rejection.VERSION
    assert opened(b"x" * 200) is Rejection.VERSION


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("gzip", [False, True])
def test_a_body_larger_than_allowed_is_refused_before_it_is_unpacked(gzip, encrypt):
    entry = builders.entry(body=JOBS, gzip=gzip, encrypt=encrypt)
    assert opened(encode(entry, SEALER), max_body=len(JOBS) - 1) is Rejection.TOO_LARGE
    assert isinstance(opened(encode(entry, SEALER), max_body=len(JOBS)), Entry)


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("size", [0, len(JOBS) - 1, len(JOBS) + 1, 1 << 19])
def test_a_genuine_record_whose_body_has_another_size_is_refused(size, gzip, encrypt):
    payload = payload_of(builders.entry(body=JOBS, gzip=gzip, encrypt=encrypt))
    payload[1:5] = size.to_bytes(4, "big")
    assert opened(genuine(bytes(payload), encrypt=encrypt)) is Rejection.BODY


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_genuine_record_with_a_part_too_many_is_malformed(encrypt):
    payload = payload_of(builders.entry(encrypt=encrypt)) + bytes(4)
    assert opened(genuine(bytes(payload), encrypt=encrypt)) is Rejection.MALFORMED


@pytest.mark.parametrize("entry", [PLAIN, FULL], ids=["plain", "encrypted"])
def test_every_truncation_and_every_byte_too_many_is_refused(entry):
    data = encode(entry, SEALER)
    assert {opened(data[:length]) for length in range(len(data))} == {Rejection.TRUNCATED}
    assert opened(data + b"x") is Rejection.TRUNCATED


@pytest.mark.parametrize("name_length", [0, 1, 2, 3, 200, 255])
def test_a_record_that_ends_inside_its_lead_is_refused(name_length):
    for size in range(record._LEAD.size, record._LEAD.size + 40):
        data = record._LEAD.pack(b"SCR", 2, size, name_length) + b"k1".ljust(size - record._LEAD.size, b"x")
        assert opened(data) in (Rejection.TRUNCATED, Rejection.KEY_ID, Rejection.SEAL, Rejection.MAC)


@pytest.mark.parametrize("how", [{}, {"sensitive": True}], ids=str)
def test_every_flipped_bit_is_refused(how):
    data = encode(builders.entry(**how), SEALER)
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        assert isinstance(opened(bytes(flipped)), Rejection), place


def test_the_size_to_choose_a_thread_by_is_the_unpacked_one():
    data = encode(builders.entry(body=bytes(1 << 20)), SEALER)
    assert len(data) < 1000
    assert record.unpacked_size(data) == 1 << 20
    assert record.unpacked_size(b"short") == 5


def test_the_size_of_an_encrypted_record_is_not_shown_and_guessed_generously():
    data = encode(builders.entry(body=JOBS, encrypt=True), SEALER)
    assert record.unpacked_size(data) == 16 * len(data) > len(JOBS)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_raise(data):
    assert isinstance(opened(data), Rejection)
    assert record.unpacked_size(data) >= len(data)


@given(st.binary(max_size=250), st.integers(0, 255))
def test_no_bytes_behind_a_right_lead_raise(rest, name_length):
    data = record._LEAD.pack(b"SCR", 2, record._LEAD.size + len(rest), name_length) + rest
    assert isinstance(opened(data), Rejection)
    assert record.unpacked_size(data) >= len(data)


@given(st.binary(max_size=200), st.booleans())
def test_no_payload_behind_right_keys_raises(payload, encrypt):
    assert isinstance(opened(genuine(payload, encrypt=encrypt)), Rejection)


@given(st.data())
def test_no_change_behind_right_keys_raises(data):
    encrypt = data.draw(st.booleans())
    payload = payload_of(FULL if encrypt else PLAIN)
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    result = opened(genuine(bytes(payload), encrypt=encrypt))
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
        gzip=st.booleans(),
        encrypt=st.booleans(),
    )
)
def test_every_entry_comes_back(entry):
    back = opened(encode(entry, SEALER), key=entry.key, tenant=entry.tenant, request=entry.request)
    assert isinstance(back, Entry)
    assert as_dict(back) == as_dict(entry)


def test_two_entries_never_make_the_same_record():
    one, other = builders.entry(tags=("a", "b")), builders.entry(tags=("a,b",))
    assert encode(one, SEALER) != encode(other, SEALER)
    assert encode(one, SEALER) != encode(replace(one, request="GET /api/jobs "), SEALER)


# The parts of a plain record, as a hit needs them

TAGS = ("jobs", "jobs:list")
WANTED = record.expected("org_a", KEY, "GET /api/jobs", b"p" * 16, TAGS)
USUAL = builders.entry(
    key=KEY, tenant="org_a", request="GET /api/jobs", policy=b"p" * 16, tags=TAGS, body=JOBS, etag='"e"',
    epochs_hard=b"h" * 16, epochs_soft=b"s" * 16,
)  # fmt: skip


@pytest.mark.parametrize("entry", [USUAL, replace(USUAL, content_type=None, etag=None, body=b"")])
def test_what_was_expected_has_the_parts_that_decoding_gives(entry):
    found = record.plain(encode(entry, SEALER), SEALER, WANTED)
    assert found is not None
    assert (found.status, found.stored_at, found.age, found.fresh_until, found.fetch_seconds) == (
        entry.status, entry.stored_at, entry.age, entry.fresh_until, entry.fetch_seconds,
    )  # fmt: skip
    assert (found.hard, found.soft, found.head, found.size) == (b"h" * 16, b"s" * 16, entry.head, len(entry.body))
    assert found.media == (entry.content_type.encode() if entry.content_type is not None else None)
    assert pack.decompress(found.codec, found.packed, found.size) == entry.body


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "org_b"}, {"key": KEY + "x"}, {"request": "GET /api/job"}, {"policy": b"q" * 16},
        {"tags": ("jobs",)}, {"tags": (*TAGS, "@:g")}, {"tags": ("jobs", "jobs:lisu")}, {"no_cache": True},
        {"sensitive": True}, {"encrypt": True}, {"vary": (("accept-language", "de"),)},
    ],
)  # fmt: skip
def test_anything_else_has_none(change):
    assert record.plain(encode(replace(USUAL, **change), SEALER), SEALER, WANTED) is None


def test_no_other_bytes_have_any_and_none_raise():
    data = encode(USUAL, SEALER)
    others = [data[:length] for length in range(len(data))] + [data + b"x", b"", b"x" * 500]
    others += [data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :] for at in range(len(data)) for bit in (1, 128)]
    assert [record.plain(other, SEALER, WANTED) for other in others] == [None] * len(others)
    assert record.plain(data, Sealer(b"m" * 32), WANTED) is None


@given(st.data())
def test_a_right_mac_over_any_lengths_gives_what_decoding_gives_or_nothing(data):
    payload = payload_of(USUAL)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, record._NUMBERS.size + record._LENGTHS.size + 8))
        payload[at] = data.draw(st.integers(0, 255))
    made = genuine(bytes(payload), encrypt=False)
    found = record.plain(made, SEALER, WANTED)
    if found is None:
        return
    entry = decode(made, SEALER, key=KEY, tenant="org_a", request="GET /api/jobs", max_body=1 << 40, tags=TAGS)
    if isinstance(entry, Rejection):
        assert pack.decompress(found.codec, found.packed, found.size) is None
    else:
        assert (found.head, found.hard, found.soft) == (entry.head, entry.epochs_hard, entry.epochs_soft)
