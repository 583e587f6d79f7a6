import pytest

from proxy.serving.chunks import ChunkSizes


def sane(data: bytes, pieces: int) -> bool:
    sizes = ChunkSizes()
    return all(sizes.sane(data[start : start + pieces]) for start in range(0, len(data), pieces))


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "body",
    [
        # realistic
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;name=value\r\nhello\r\nA \r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        b"0000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"f" * 100 + b"\r\nhello\r\n",
        # pathological
        b"7fffffffffffffff\r\nhello",
        b"000000000000000000000005\r\nhello\r\n0000000000000000000000\r\n\r\n",
        b"14\r\nFFFFFFFFFFFFFFFF\r\nxx\r\n0\r\n\r\n",  # data that looks like a size
        b"0\r\n\r\nFFFFFFFFFFFFFFFF\r\n",  # the next request
        b"xyz\r\nFFFFFFFFFFFFFFFF\r\n",  # no chunk: the parser's to refuse
        b"-5\r\nFFFFFFFFFFFFFFFF\r\n",
        b"\r\n",
    ],
)
def test_sizes_that_can_be_meant_pass(body, pieces):
    assert sane(body, pieces)


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "body",
    [
        b"8000000000000000\r\n",
        b"FFFFFFFFFFFFFFED\r\nhello",
        b"5\r\nhello\r\nffffffffffffffff;x=y\r\nmore",
        b"10000000000000000",
    ],
)
def test_sizes_beyond_all_bodies_do_not(body, pieces):
    assert not sane(body, pieces)
