"""How large are the chunks that a client announces? aiohttp's parser takes sizes up to 2^64 and does not show them.

Nobody can send so much: the body would never end, and a reader of fewer bits would see it end elsewhere (RFC 9112 7.1:
"Recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing errors due to integer conversion
overflows").
"""

_CRLF = 2
_MOST_DIGITS = 16
_MOST_BYTES = 1 << 63


class ChunkSizes:
    """Follows the chunks of one body. Anything else that is wrong with them is the parser's to refuse."""

    __slots__ = ("_done", "_line", "_skip")

    def __init__(self) -> None:
        self._skip = 0  # bytes of data, and their CRLF, before the next size
        self._line = b""  # the beginning of a size's line
        self._done = False  # the last chunk has begun, or what came is no chunk

    def sane(self, data: bytes, position: int = 0) -> bool:
        """Whether all sizes that have arrived can be meant; `data` are the body's next bytes, from `position`."""
        while not self._done and position < len(data):
            if self._skip:
                taken = min(self._skip, len(data) - position)
                self._skip -= taken
                position += taken
                continue
            end = data.find(b"\n", position)
            digits = self._line + (data[position:] if end < 0 else data[position:end])
            size = digits.partition(b";")[0].strip(b" \t\r").lstrip(b"0")
            if len(size) > _MOST_DIGITS:
                return False
            if end < 0:
                self._line = digits.lstrip(b"0")[: _MOST_DIGITS + 2]  # an extension may be long, and says nothing here
                return True
            position, self._line = end + 1, b""
            if not self._is_followed(size):
                return False
        return True

    def _is_followed(self, size: bytes) -> bool:
        try:
            length = int(size or b"0", 16)
        except ValueError:
            length = 0  # no size at all
        self._skip = length + _CRLF
        self._done = length <= 0
        return length < _MOST_BYTES
