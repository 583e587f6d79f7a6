"""Bodies packed for the store, and whatever comes back instead."""

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.seal import Codec, compress, decompress, is_packed

JSON = "application/json"
TEXT = b'{"title":"Engineer","location":"Berlin"},' * 100


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ("application/json", False),  # realistic
        ("text/html; charset=utf-8", False),  # realistic
        ("image/png", True),  # realistic
        ("application/zip", True),  # realistic
        ("application/gzip", True),  # realistic
        ("video/mp4", True),  # realistic
        ("image/svg+xml", False),  # pathological: an image that is text
        ("IMAGE/PNG ; q=1", True),  # pathological
        ("application/octet-stream", False),  # pathological: could be anything
        (None, False),  # pathological
        ("", False),  # pathological
    ],
)
def test_types_that_are_compressed_already_are_known(media, expected):
    assert is_packed(media) is expected


def test_a_body_above_the_threshold_is_compressed_and_comes_back():
    codec, packed = compress(TEXT, 1024, JSON)
    assert codec is Codec.ZSTD
    assert len(packed) < len(TEXT) / 5
    assert decompress(codec, packed, len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("body", "threshold", "media"),
    [
        (TEXT, len(TEXT), JSON),  # realistic: not above
        (TEXT, 0, "image/png"),  # realistic: packed already
        (os.urandom(4096), 1024, JSON),  # pathological: would only grow
        (b"", 0, JSON),  # pathological
    ],
)
def test_a_body_that_would_gain_nothing_stays_plain(body, threshold, media):
    assert compress(body, threshold, media) == (Codec.PLAIN, body)
    assert decompress(Codec.PLAIN, body, len(body)) == body


def test_a_plain_body_of_another_length_is_refused():
    assert decompress(Codec.PLAIN, b"abc", 4) is None


def test_an_unknown_codec_is_refused():
    assert decompress(99, b"abc", 3) is None


def test_a_bomb_is_refused_by_the_size_it_declares():
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    assert len(bomb) < 10_000
    assert decompress(Codec.ZSTD, bomb, 1000) is None


def test_a_frame_that_does_not_say_its_size_is_refused():
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)
    assert decompress(Codec.ZSTD, packed, len(TEXT)) is None


def test_a_frame_that_lies_about_its_size_is_refused():
    # the content size of a small single-segment frame is its sixth byte
    honest = zstandard.ZstdCompressor().compress(b"a" * 200)
    assert zstandard.get_frame_parameters(honest).content_size == 200
    for claimed in (1, 100, 199, 201, 255):
        lying = honest[:5] + bytes([claimed]) + honest[6:]
        assert zstandard.get_frame_parameters(lying).content_size == claimed
        assert decompress(Codec.ZSTD, lying, claimed) is None


def test_a_body_larger_than_the_window_allowed_comes_back():
    body = bytes(12 << 20)
    assert decompress(*compress(body, 0, JSON), len(body)) == body


@pytest.mark.parametrize("cut", [0, 1, 4, 10, -1])
def test_a_truncated_frame_is_refused(cut):
    _, packed = compress(TEXT, 0, JSON)
    assert decompress(Codec.ZSTD, packed[:cut], len(TEXT)) is None


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 3))
def test_no_bytes_raise_and_nothing_but_the_exact_size_comes_out(data, size, codec):
    body = decompress(codec, data, size)
    assert body is None or len(body) == size


@given(st.binary(max_size=5000), st.integers(0, 100))
def test_every_body_comes_back(body, threshold):
    codec, packed = compress(body, threshold, JSON)
    assert decompress(codec, packed, len(body)) == body
    assert len(packed) <= len(body)
