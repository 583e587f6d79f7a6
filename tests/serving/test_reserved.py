"""proxy.serving.reserved: the few paths of the data port that are ours."""

import pytest

from proxy.serving.reserved import Reserved


def reserved(prefix: str = "/.sidecache", *, ready: bool = True) -> Reserved:
    return Reserved(prefix, lambda: "ready" if ready else "draining", lambda: ready)


@pytest.mark.parametrize(
    ("path", "ready", "status", "body"),
    [
        ("/.sidecache/livez", True, 200, b"alive\n"),  # realistic
        ("/.sidecache/readyz", True, 200, b"ready\n"),
        ("/.sidecache/health", True, 200, b"ready\n"),
        ("/.sidecache/livez", False, 200, b"alive\n"),
        ("/.sidecache/readyz", False, 503, b"draining\n"),
        ("/.sidecache/health", False, 200, b"draining\n"),
    ],
)
def test_health_is_one_word(path, ready, status, body):
    reply = reserved(ready=ready)(path)
    assert reply is not None
    assert (reply.status, reply.body) == (status, body)
    assert reply.fields.get("cache-control") == "no-store"
    assert reply.fields.get_all("cache-status") == ("sidecache; detail=reserved-path",)


@pytest.mark.parametrize(
    "path", ["/.sidecache/", "/.sidecache/metrics", "/.sidecache/livez/", "/.sidecache/../api/cache/keys"]
)
def test_nothing_else_below_the_prefix_reaches_the_upstream(path):
    reply = reserved()(path)
    assert reply is not None
    assert reply.status == 404
    assert path.encode() not in bytes(reply.body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path", ["/", "/livez", "/.sidecache", "/.sidecachelivez", "/x/.sidecache/livez", "//.sidecache/livez", ""]
)
def test_everything_else_is_the_upstreams(path):
    assert reserved()(path) is None


def test_the_prefix_can_be_changed_or_switched_off():
    assert reserved("/own")("/own/livez") is not None
    assert reserved("/own")("/.sidecache/livez") is None
    assert reserved("")("/.sidecache/livez") is None
    assert reserved("")("/livez") is None
