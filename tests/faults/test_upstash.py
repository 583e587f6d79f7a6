"""Upstash and what may answer in its place: a refused token, a plan's limit, a failure, a page, or nobody."""

from collections.abc import Callable

import pytest

from proxy.dev.server import running
from tests import servers
from tests.chaos import Chaos
from tests.faults.scene import scene
from tests.stores.service import error, http

pytestmark = pytest.mark.process

TOKEN = "emulator-token"


@pytest.fixture(scope="module")
def server():
    with servers.running(servers.valkey_server()) as made:
        yield made


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error("WRONGPASS invalid or missing auth token", "401 Unauthorized"), "check UPSTASH_REDIS_REST_TOKEN"),
        (error("ERR max requests limit exceeded", "429 Too Many Requests"), "no more requests at present"),
        (http(b"oops", "500 Internal Server Error", "text/plain"), r"\(UPSTASH_REDIS_REST_URL\) failed \(HTTP 500\)"),
        (http(b"<html>hello</html>", "200 OK", "text/html"), "does not answer like Upstash .* UPSTASH_REDIS_REST_URL"),
        (http(b'[{"result": "b64:!!"', "200 OK"), "does not answer like Upstash .* UPSTASH_REDIS_REST_URL"),
        (None, "did not answer within 400 ms"),
    ],
    ids="401 429 500 html cut hang".split(),
)
async def test_an_answer_that_is_none(server, tmp_path, answer: bytes | None, says: str):
    server.flush()
    async with (
        running("127.0.0.1", 0, f"127.0.0.1:{server.port}", TOKEN) as url,
        Chaos("127.0.0.1", int(url.rpartition(":")[2])) as chaos,
    ):
        environ = {
            "UPSTASH_REDIS_REST_URL": f"http://127.0.0.1:{chaos.port}", "UPSTASH_REDIS_REST_TOKEN": TOKEN,
            "SIDECACHE_SOLE_REPLICA": "0", "SIDECACHE_STORE_TIMEOUT_MS": "400",
        }  # fmt: skip
        async with scene(tmp_path, **environ) as made:
            rewrite: Callable[[bytes], bytes] | None = None if answer is None else lambda said: answer

            def begin() -> None:
                if answer is None:
                    chaos.hang()
                chaos.rewrite = rewrite

            def end() -> None:
                chaos.rewrite = None
                chaos.go_on()
                chaos.reset()

            await made.endures(begin, end, says=says)
