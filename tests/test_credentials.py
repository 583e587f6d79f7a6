"""What stands in a list of keys or tokens, and what comes out of it."""

import base64
import os
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.credentials import (
    KEY_BYTES,
    EncryptionKey,
    new_admin_token,
    new_encryption_key,
    new_name_key,
    read_admin_tokens,
    read_encryption_keys,
)

# the same in each process that collects these tests: the keys stand in their names
ONE, TWO = (EncryptionKey(key_id, sha256(key_id.encode()).digest()) for key_id in ("k1", "k2"))
SHORT = base64.b64encode(sha256(b"short").digest()[:16]).decode()


@pytest.mark.parametrize("joint", [",", ", ", "\n", ",\r\n", " "])
def test_the_keys_come_in_their_order(joint):
    assert read_encryption_keys(f"{TWO.entry()}{joint}{ONE.entry()}") == ((TWO, ONE), ())


def test_commas_and_lines_around_the_entries_are_no_entries():
    assert read_encryption_keys(f"\n{ONE.entry()},\n") == ((ONE,), ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # realistic
        (f"k1:{SHORT}", "entry 1 (k1): the key has 16 bytes instead of 32"),
        (f"k1:{ONE.secret.hex()}", "entry 1 (k1): the key has 48 bytes instead of 32"),
        (ONE.entry()[3:], "entry 1: has no key id: write KEYID:BASE64"),
        (ONE.entry()[:-3], "entry 1 (k1): what follows the colon is not base64"),
        (f"{ONE.entry()},{TWO.entry()[:-1]}", "entry 2 (k2): what follows the colon is not base64"),
        (f"{ONE.entry()},k1:{TWO.entry()[3:]}", "entry 2 (k1): another entry has the same key id"),
        (f"{ONE.entry()},k2:{ONE.entry()[3:]}", "entry 2 (k2): the same key as k1"),
        # pathological
        (f"k1:{base64.b64encode(bytes(32)).decode()}", "entry 1 (k1): the key does not look random"),
        (f"k1:{base64.b64encode(b'abcdefgh' * 4).decode()}", "entry 1 (k1): the key does not look random"),
        (f":{SHORT}", "entry 1: its key id is not 1 to 32 letters, digits, '.', '_' or '-'"),
        (f"{'k' * 33}:{SHORT}", "entry 1: its key id is not 1 to 32 letters, digits, '.', '_' or '-'"),
        (f"k\xe9:{SHORT}", "entry 1: its key id is not 1 to 32 letters, digits, '.', '_' or '-'"),
        ("k1:\xe9", "entry 1 (k1): what follows the colon is not base64"),
        ("k1:", "entry 1 (k1): the key has 0 bytes instead of 32"),
        (",", "entry 1: has no key id: write KEYID:BASE64"),
        (f"{ONE.entry()},,{TWO.entry()[:-1]}", "entry 2 (k2): what follows the colon is not base64"),
    ],
)
def test_a_wrong_entry_is_named_without_quoting_a_secret(text, expected):
    assert read_encryption_keys(text).problems == (expected,)


def test_every_wrong_entry_is_named():
    keys, problems = read_encryption_keys(f"k1:x,{ONE.entry()},nothing")
    assert keys == (ONE,)
    assert len(problems) == 2


@given(st.text(max_size=100))
def test_no_text_raises_and_all_that_is_read_is_usable(text):
    keys, problems = read_encryption_keys(text)
    assert keys or problems
    assert all(len(key.secret) == KEY_BYTES for key in keys)


def test_a_key_is_shown_by_its_id_alone():
    assert (str(ONE), repr(ONE)) == ("k1", "EncryptionKey(id='k1')")


def test_a_new_key_can_be_read_back():
    key = new_encryption_key("K_1.a-b", lambda size: bytes(range(size)))
    assert key == EncryptionKey("K_1.a-b", bytes(range(32)))
    assert read_encryption_keys(key.entry()).keys == (key,)


@pytest.mark.parametrize("key_id", ["", "a b", "a:b", "a,b", "k" * 33, "-a", "k\n", "\xe9"])
def test_an_id_that_could_not_be_read_back_is_refused(key_id):
    with pytest.raises(ValueError, match="a key id is"):
        new_encryption_key(key_id, os.urandom)


def test_a_name_key_is_256_bits_of_text():
    assert new_name_key(bytes) == "00" * 32
    assert len({new_name_key(os.urandom) for _ in range(20)}) == 20


def test_an_admin_token_is_stored_as_its_digest():
    token, entry = new_admin_token("ci", "operator", None, os.urandom)
    assert token.startswith("sidecache_")
    assert len(token) == len("sidecache_") + 43
    assert entry == f"ci:operator:{sha256(token.encode()).hexdigest()}"
    assert new_admin_token("ci", "viewer", "org_a", os.urandom).entry.startswith("ci:viewer:org_a:")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("ci", "boss", None), "'boss' is not one of viewer, operator, inspector, backend"),  # realistic
        (("a b", "viewer", None), "'a b' is not a name of 1 to 64 letters"),  # realistic
        (("ci", "viewer", "org:a"), "'org:a' is not a tenant of 1 to 64 letters"),  # realistic
        (("", "viewer", None), "'' is not a name of"),  # pathological
        (("ci", "viewer", ""), "'' is not a tenant of"),  # pathological
        (("ci:x", "viewer", None), "'ci:x' is not a name of"),  # pathological
        (("ci\n", "viewer", None), r"'ci\\n' is not a name of"),  # pathological
    ],
)
def test_an_entry_that_could_not_be_read_back_is_refused(words, wrong):
    with pytest.raises(ValueError, match=wrong):
        new_admin_token(*words, os.urandom)


def made(name: str, role: str = "viewer", tenant: str | None = None) -> str:
    return new_admin_token(name, role, tenant, os.urandom).entry


def test_entries_of_admin_tokens_are_read_back_and_show_no_digest():
    first, second = made("ci", "operator"), made("anna", "viewer", "org_a")
    entries, problems = read_admin_tokens(f"{first}, {second}\n")
    assert problems == ()
    assert [str(entry) for entry in entries] == ["ci (operator)", "anna (viewer of org_a)"]
    assert entries[0].digest not in repr(entries)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # realistic
        ("sidecache_secret", "entry 1: is not NAME:ROLE[:TENANT]:SHA256HEX"),
        ("ci:boss:" + "0" * 64, "entry 1: its role is not one of"),
        ("ci:viewer:sidecache_secret", "entry 1: does not end with the 64 hex digits"),
        ("ci:viewer:" + "0" * 64 + ",ci:operator:" + "1" * 64, "entry 2: another entry has the name ci"),
        ("ci:viewer:" + "0" * 64 + ",me:operator:" + "0" * 64, "entry 2: the same token as ci's"),
        # pathological
        ("", "entry 1: is not"), (":viewer:" + "0" * 64, "entry 1: its name is not 1"),
        ("a:b:c:d:e", "entry 1: is not"),
        ("ci:viewer::" + "0" * 64, "entry 1: its tenant is not 1"), ("ci:viewer:" + "A" * 64, "entry 1: does not end"),
    ],
)  # fmt: skip
def test_an_entry_that_is_none_is_named_by_its_place_and_never_quoted(text, problem):
    _, (found, *_) = read_admin_tokens(text)
    assert found.startswith(problem)
    assert "secret" not in found
