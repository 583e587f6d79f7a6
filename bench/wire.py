"""Does a server answer what it should? One request, one answer, over a plain socket."""

import re
import socket
from dataclasses import dataclass

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes


def ask(port: int, request: bytes) -> Answer:
    """The answer to these bytes; it must have a length unless it is a 304."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as sock:
        sock.sendall(request)
        data = b""
        while True:
            chunk = sock.recv(1 << 18)
            data += chunk
            head, end, body = data.partition(b"\r\n\r\n")
            if end:
                status, length = int(head[9:12]), _LENGTH.search(head)
                wanted = int(length[1]) if length and status != 304 else 0
                if len(body) >= wanted:
                    return Answer(status, head, body)
            if not chunk:
                raise ValueError(f"port {port} ended in the middle of an answer: {data[:200]!r}")


def fetched(origin: int) -> int:
    """How many requests reached the origin until now."""
    answer = ask(origin, b"GET /_count HTTP/1.1\r\nHost: origin\r\n\r\n")
    found = re.search(rb"X-Count: (\d+)", answer.head)
    assert found is not None, answer.head
    return int(found[1])
