"""Bodies packed for the store, and whatever comes back instead."""

import gzip
import os
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.pack import CODINGS, Codec, compress, decompress, encoded, is_packed

JSON = "application/json"
COMPRESSING = [Codec.ZSTD, Codec.GZIP]
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


@pytest.mark.parametrize("codec", COMPRESSING)
def test_a_body_above_the_threshold_is_compressed_and_comes_back(codec):
    used, packed = compress(TEXT, 1024, JSON, gzip=codec is Codec.GZIP)
    assert used is codec
    assert len(packed) < len(TEXT) / 5
    assert decompress(codec, packed, len(TEXT)) == TEXT


def test_zstd_is_what_one_gets_without_asking():
    assert compress(TEXT, 1024, JSON)[0] is Codec.ZSTD


@pytest.mark.parametrize("codec", COMPRESSING)
@pytest.mark.parametrize("before", ["zstd", "gzip"])
def test_what_was_encoded_before_is_used_where_it_is_the_same_coding(codec, before):
    marked = (before, b"as it was encoded before")
    used, packed = compress(TEXT, 1024, JSON, gzip=codec is Codec.GZIP, packed_before=marked)
    assert used is codec
    assert packed == (marked[1] if before == CODINGS[codec] else encoded(TEXT, CODINGS[codec]))


def test_gzip_is_what_every_other_reader_of_gzip_reads():
    _, packed = compress(TEXT, 1024, JSON, gzip=True)
    assert gzip.decompress(packed) == TEXT


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


@pytest.fixture(scope="module")
def bombs() -> dict[Codec, bytes]:
    zeros = bytes(64 << 20)
    return {Codec.ZSTD: zstandard.ZstdCompressor().compress(zeros), Codec.GZIP: gzip.compress(zeros, 9)}


@pytest.mark.parametrize("codec", COMPRESSING)
def test_a_bomb_is_refused_by_the_size_it_declares(bombs, codec):
    assert len(bombs[codec]) < 70_000
    assert decompress(codec, bombs[codec], 1000) is None


def test_a_gzip_bomb_that_lies_about_its_size_is_stopped_one_byte_above_it(bombs):
    lying = bombs[Codec.GZIP][:-4] + (1000).to_bytes(4, "little")
    tracemalloc.start()
    try:
        assert decompress(Codec.GZIP, lying, 1000) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("claimed", [0, 1, 100, len(TEXT) - 1, len(TEXT) + 1, 1 << 31])
def test_a_gzip_body_that_lies_about_its_size_is_refused(claimed):
    _, packed = compress(TEXT, 0, JSON, gzip=True)
    assert decompress(Codec.GZIP, packed[:-4] + claimed.to_bytes(4, "little"), claimed) is None


def test_a_gzip_body_of_another_checksum_or_with_something_behind_it_is_refused():
    _, packed = compress(TEXT, 0, JSON, gzip=True)
    other = bytes([packed[-8] ^ 1])
    assert decompress(Codec.GZIP, packed[:-8] + other + packed[-7:], len(TEXT)) is None
    assert decompress(Codec.GZIP, packed + packed, len(TEXT)) is None
    assert decompress(Codec.GZIP, packed[:-8] + packed[-4:], len(TEXT)) is None  # no checksum at all
    assert decompress(Codec.GZIP, packed[:-4] + b"x" + packed[-4:], len(TEXT)) is None


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


@pytest.mark.parametrize("codec", COMPRESSING)
def test_a_body_larger_than_the_window_allowed_comes_back(codec):
    body = bytes(12 << 20)
    assert decompress(*compress(body, 0, JSON, gzip=codec is Codec.GZIP), len(body)) == body


@pytest.mark.parametrize("codec", COMPRESSING)
def test_every_truncation_is_refused(codec):
    _, packed = compress(TEXT, 0, JSON, gzip=codec is Codec.GZIP)
    assert {decompress(codec, packed[:length], len(TEXT)) for length in range(len(packed))} == {None}


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 4))
def test_no_bytes_raise_and_nothing_but_the_exact_size_comes_out(data, size, codec):
    body = decompress(codec, data, size)
    assert body is None or len(body) == size


@given(st.data())
def test_no_change_of_a_packed_body_raises(data):
    codec = data.draw(st.sampled_from(COMPRESSING))
    packed = bytearray(compress(TEXT, 0, JSON, gzip=codec is Codec.GZIP)[1])
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    body = decompress(codec, bytes(packed), len(TEXT))
    assert body is None or len(body) == len(TEXT)


@given(st.binary(max_size=5000), st.integers(0, 100), st.booleans())
def test_every_body_comes_back(body, threshold, wanted):
    codec, packed = compress(body, threshold, JSON, gzip=wanted)
    assert decompress(codec, packed, len(body)) == body
    assert len(packed) <= len(body)
