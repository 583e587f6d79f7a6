"""Durations and sizes: texts with units, exactly."""

import pytest
from pydantic_core import PydanticCustomError

from proxy.rules.values import duration_text, seconds, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0), ("30s", 30), ("15m", 900), ("1h", 3600), ("2d", 172800), ("500ms", 0.5), ("365d", 31536000)],
)
def test_a_duration_is_a_number_and_a_unit(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "value",
    ["", "s", "15", "15 m", "1.5h", "-1s", "+1s", "01s", "1M", "1y", "1h30m", "15:00", "1e3s", 15, 1.5, None, True],
)
def test_anything_else_is_no_duration(value):
    with pytest.raises(PydanticCustomError, match="is not a duration such as 30s, 15m, 1h"):
        seconds(value)


def test_a_duration_ends_after_a_year():
    with pytest.raises(PydanticCustomError, match="is longer than 365d"):
        seconds("366d")


@pytest.mark.parametrize(
    ("text", "expected"), [("0B", 0), ("512B", 512), ("1KiB", 1024), ("64MiB", 64 << 20), ("1GiB", 1 << 30)]
)
def test_a_size_is_a_number_and_a_binary_unit(text, expected):
    assert size(text) == expected


@pytest.mark.parametrize("value", ["1KB", "1K", "1 KiB", "-1B", "1.5MiB", "010B", 1024, None])
def test_anything_else_is_no_size(value):
    with pytest.raises(PydanticCustomError, match="is not a size such as 512B, 64KiB, 1MiB"):
        size(value)


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0, "0s"), (0.5, "0.5s"), (30, "30s"), (90, "90s"), (900, "15m"), (3600, "1h"), (5400, "90m"), (172800, "2d")],
)
def test_a_duration_is_shown_in_its_largest_whole_unit(duration, text):
    assert duration_text(duration) == text
