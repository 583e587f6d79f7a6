"""How is a body packed before it leaves this process, and unpacked without being blown up by what comes back?"""

import threading
from enum import IntEnum

import zstandard

_LEVEL = 3  # gzip -6's ratio at a tenth of its CPU
_MAX_WINDOW = 8 << 20  # what a frame may make us allocate beside its content

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


class _Contexts(threading.local):
    """Contexts are reused, and are not thread-safe."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)


_contexts = _Contexts()


def is_packed(content_type: str | None) -> bool:
    """Would compressing this type again only cost time?"""
    media = (content_type or "").partition(";")[0].strip().lower()
    return media in _PACKED_TYPES or (media.startswith(_PACKED_FAMILIES) and media != "image/svg+xml")


def compress(body: bytes, threshold: int, content_type: str | None) -> tuple[Codec, bytes]:
    """The body as the store gets it: compressed above `threshold` bytes, where that makes it smaller."""
    if len(body) <= threshold or is_packed(content_type):
        return Codec.PLAIN, body
    packed = _contexts.compressor.compress(body)
    return (Codec.ZSTD, packed) if len(packed) < len(body) else (Codec.PLAIN, body)


def decompress(codec: int, packed: bytes, size: int) -> bytes | None:
    """The body of exactly `size` bytes, or None when this is not one. Never makes more than `size` bytes of it."""
    if codec == Codec.PLAIN:
        return packed if len(packed) == size else None
    if codec != Codec.ZSTD:
        return None
    try:
        if zstandard.get_frame_parameters(packed).content_size != size:
            return None
        # the frame's own word is not trusted: what comes out is counted too
        with _contexts.decompressor.stream_reader(packed) as reader:
            body = reader.read(size + 1)
    except zstandard.ZstdError:
        return None
    return body if len(body) == size else None
