"""How is a body packed before it leaves this process, and unpacked without being blown up by what comes back?"""

import threading
from enum import IntEnum

import zstandard
from isal import isal_zlib

_ZSTD_LEVEL = 3  # gzip -6's ratio at a tenth of its CPU
_GZIP_LEVEL = 1  # of isal's 0 to 3: gzip -6's ratio within 20 % at a tenth of its CPU
_GZIP_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # a class, whatever its stub says
_GZIP_WINDOW = 31  # zlib's 15 bits, plus 16: a gzip wrapper
_MAX_WINDOW = 8 << 20  # what a zstd frame may make us allocate beside its content

# Types whose bytes are compressed already; `image/svg+xml` is text.
_PACKED_FAMILIES = ("image/", "video/", "audio/", "font/")
_PACKED_TYPES = frozenset(
    """
    application/zip application/gzip application/x-gzip application/zstd application/x-bzip2 application/x-xz
    application/x-7z-compressed application/vnd.rar application/pdf application/java-archive
    application/vnd.openxmlformats-officedocument.spreadsheetml.sheet
    application/vnd.openxmlformats-officedocument.wordprocessingml.document
    application/vnd.openxmlformats-officedocument.presentationml.presentation
    """.split()
)


class Codec(IntEnum):
    """The byte in a record that says how its body is packed."""

    PLAIN = 0
    ZSTD = 1
    GZIP = 2


# As Content-Encoding names them: whoever accepts one may have the packed body as it is.
CODINGS: dict[int, str] = {Codec.ZSTD: "zstd", Codec.GZIP: "gzip"}


class _Contexts(threading.local):
    """Contexts are reused, and are not thread-safe."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)


_contexts = _Contexts()


def is_packed(content_type: str | None) -> bool:
    """Would compressing this type again only cost time?"""
    media = (content_type or "").partition(";")[0].strip().lower()
    return media in _PACKED_TYPES or (media.startswith(_PACKED_FAMILIES) and media != "image/svg+xml")


def compress(
    body: bytes, threshold: int, content_type: str | None, *, gzip: bool = False,
    packed_before: tuple[str, bytes] = ("", b""),
) -> tuple[Codec, bytes]:  # fmt: skip
    """The body as the store gets it: compressed above `threshold` bytes, where that makes it smaller.

    `packed_before`: a coding, and what `encoded` made of the body in it.
    """
    if len(body) <= threshold or is_packed(content_type):
        return Codec.PLAIN, body
    used = Codec.GZIP if gzip else Codec.ZSTD
    known, packed = packed_before
    if known != CODINGS[used]:
        packed = encoded(body, CODINGS[used])
    return (used, packed) if len(packed) < len(body) else (Codec.PLAIN, body)


def encoded(body: bytes, coding: str) -> bytes:
    """The body in one of `CODINGS`."""
    if coding == "zstd":
        return _contexts.compressor.compress(body)
    return bytes(isal_zlib.compress(body, _GZIP_LEVEL, wbits=_GZIP_WINDOW))


def decompress(codec: int, packed: bytes, size: int) -> bytes | None:
    """The body of exactly `size` bytes, or None when this is not one. Never makes more than one byte above `size`."""
    body: bytes | None = None
    if codec == Codec.PLAIN:
        body = packed
    elif codec == Codec.ZSTD:
        body = _zstd(packed, size)
    elif codec == Codec.GZIP:
        body = _gzip(packed, size)
    return body if body is not None and len(body) == size else None


# Both look at the size that the packed body declares before they begin, and do not trust it: what comes out is counted.


def _zstd(packed: bytes, size: int) -> bytes | None:
    try:
        if zstandard.frame_content_size(packed) != size:
            return None
        # into a buffer of just that size: a frame that holds more than it says is an error
        return _contexts.decompressor.decompress(packed, max_output_size=size)
    except zstandard.ZstdError:
        return None


def _gzip(packed: bytes, size: int) -> bytes | None:
    if int.from_bytes(packed[-4:], "little") != size:
        return None
    decompressor = isal_zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        body = bytes(decompressor.decompress(packed, size + 1))
    except _GZIP_ERROR:
        return None
    # its end was reached, so its checksum was compared; nothing follows it
    return body if decompressor.eof and not decompressor.unused_data else None
