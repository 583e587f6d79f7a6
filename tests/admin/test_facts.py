"""An entry in names and plain values."""

from proxy.admin.facts import facts
from tests.builders import NOW, entry


def test_a_stale_entry_says_since_when():
    told = facts(entry(), NOW + 1000)
    assert (told["fresh"], told["ttl"], told["stale_until"]) == (False, -101, NOW + 1020)


def test_of_what_is_sensitive_neither_request_nor_head_is_told():
    told = facts(entry(sensitive=True, body=b"hush"), NOW)
    assert (told["request"], told["head"], told["size"]) == ("(sensitive)", {}, 4)
    assert "hush" not in str(told)
