"""The emulator as its clients meet it: raw HTTP, and the service's own client library."""

import asyncio
import io
from base64 import b64encode

import aiohttp
import pytest
from upstash_redis.asyncio import Redis
from upstash_redis.errors import UpstashError
from yarl import URL

from proxy.dev import upstash
from tests.dev.conftest import TOKEN
from tests.wire import until


def encoded(value: bytes) -> str:
    return b64encode(value).decode()


async def ask(http, method: str, path: str, **more):
    async with http.request(method, URL(path, encoded=True), **more) as response:
        return response.status, await response.json() if method != "HEAD" else await response.read()


# -- ways to send a command


@pytest.mark.parametrize(
    ("method", "path", "body", "command"),
    [
        ("POST", "/", b'["SET","k","v","EX",100]', ("v", True)),
        ("POST", "/", b'["set","k","v"]', ("v", False)),
        ("POST", "/", b'["SET","k",7]', ("7", False)),
        ("POST", "/", b'["SET","k",1.5]', ("1.5", False)),
        ("GET", "/set/k/v/EX/100", None, ("v", True)),
        ("PUT", "/set/k/v/EX/100", None, ("v", True)),
        ("HEAD", "/set/k/v", None, ("v", False)),
        ("POST", "/set/k/v?EX=100", None, ("v", True)),
        ("POST", "/set/k?EX=100", b"the body", ("the body", True)),
        ("PUT", "/set/k?NX", b"the body", ("the body", False)),
        ("POST", "/SET/k/a%2Fb%20%25+c", None, ("a/b %+c", False)),
        ("POST", f"/set/k/v?EX=100&_token={TOKEN}", None, ("v", True)),
    ],
)
async def test_a_command_is_sent_as_json_or_in_the_path(http, server, method, path, body, command):
    status, answer = await ask(http, method, path, data=body)
    assert status == 200
    assert answer == ({"result": "OK"} if method != "HEAD" else b"")
    assert (server.admin.get("k").decode(), server.admin.ttl("k") > 0) == command


async def test_a_body_may_be_any_bytes(http, server):
    await ask(http, "POST", "/set/k", data=bytes(range(256)))
    assert server.admin.get("k") == bytes(range(256))


# -- results


@pytest.mark.parametrize(
    ("command", "plain", "base64"),
    [
        (["SET", "k", "v"], "OK", "OK"),
        (["PING"], "PONG", encoded(b"PONG")),
        (["ECHO", "OK"], "OK", encoded(b"OK")),
        (["GET", "missing"], None, None),
        (["INCR", "n"], 1, 1),
        (["ECHO", "ä"], "ä", encoded("ä".encode())),
        (["GET", "binary"], "\ufffd\x00", encoded(b"\xff\x00")),
        (["MGET", "binary", "missing"], ["\ufffd\x00", None], [encoded(b"\xff\x00"), None]),
        (["EVAL", "return {{err='ERR x'}}", 0], ["ERR x"], [encoded(b"ERR x")]),
        (["EVAL", "return {1,{'a'},redis.status_reply('OK')}", 0], [1, ["a"], "OK"], [1, [encoded(b"a")], "OK"]),
    ],
)
async def test_results_are_text_or_base64(http, server, command, plain, base64):
    server.admin.set("binary", b"\xff\x00")
    assert await ask(http, "POST", "/", json=command) == (200, {"result": plain})
    server.admin.delete("n")
    headers = {"Upstash-Encoding": "base64"}
    assert await ask(http, "POST", "/", json=command, headers=headers) == (200, {"result": base64})


@pytest.mark.parametrize(
    ("path", "body", "status", "raw"),
    [
        ("/", ["ECHO", "OK"], 200, b"$2\r\nOK\r\n"),
        ("/", ["SET", "k", "v"], 200, b"+OK\r\n"),
        ("/", ["NOSUCH"], 400, None),
        ("/", ["SELECT", 1], 400, None),
        ("/pipeline", [["ECHO", "a"], ["GET", "missing"], ["INCR", "n"]], 200, b"$1\r\na\r\n$-1\r\n:1\r\n"),
    ],
)
async def test_the_server_s_own_words_can_be_had(http, path, body, status, raw):
    async with http.post(path, json=body, headers={"Upstash-Response-Format": "resp2"}) as response:
        said = await response.read()
    assert (response.status, response.content_type) == (status, "application/octet-stream")
    assert said == raw if raw is not None else said.startswith(b"-ERR ")


async def test_the_server_s_own_words_are_not_encoded(http):
    headers = {"Upstash-Response-Format": "resp2", "Upstash-Encoding": "base64"}
    status, answer = await ask(http, "POST", "/", json=["PING"], headers=headers)
    assert status == 400
    assert "resp2" in answer["error"]


async def test_a_pipeline_gives_each_command_its_result_or_error(http):
    commands = [["SET", "k", "v"], ["INCR", "k"], ["SUBSCRIBE", "c"], ["GET", "k"]]
    status, (first, second, third, last) = await ask(http, "POST", "/pipeline", json=commands)
    assert (status, first, last) == (200, {"result": "OK"}, {"result": "v"})
    assert second == {"error": "ERR value is not an integer or out of range"}
    assert "'SUBSCRIBE'" in third["error"]


async def test_a_transaction_is_carried_out_as_a_whole(http):
    commands = [["SET", "k", "v"], ["INCR", "k"], ["GET", "k"]]
    status, answer = await ask(http, "POST", "/multi-exec", json=commands)
    assert status == 200
    assert answer == [{"result": "OK"}, {"error": "ERR value is not an integer or out of range"}, {"result": "v"}]


@pytest.mark.parametrize("bad", [["NOSUCH"], ["SET", "k"], ["SELECT", 1]])
async def test_a_transaction_with_a_command_that_cannot_be_queued_is_discarded(http, server, bad):
    status, answer = await ask(http, "POST", "/multi-exec", json=[["SET", "k", "v"], bad])
    assert status == 400
    assert isinstance(answer["error"], str)
    assert server.admin.get("k") is None
    assert (await ask(http, "POST", "/", json=["GET", "k"]))[1] == {
        "result": None
    }  # and no connection is left inside it


async def test_every_answer_has_a_sync_token_and_any_may_be_sent(http):
    tokens = set()
    for _ in range(3):
        async with http.post("/", json=["PING"], headers={"Upstash-Sync-Token": "anything"}) as response:
            tokens.add(response.headers["Upstash-Sync-Token"])
    assert len(tokens) == 3


# -- refusals


@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong", "Basic x", "Bearer", f"Token {TOKEN}", f"Bearer {TOKEN}x"]
)
@pytest.mark.parametrize("path", ["/", "/pipeline", "/get/k", "/subscribe/c"])
async def test_without_the_token_nothing_is_answered(url, path, authorization):
    headers = {"Authorization": authorization} if authorization else {}
    async with aiohttp.ClientSession(url) as session:
        answer = await ask(session, "POST", path, json=["PING"], headers=headers)
    assert answer == (401, {"error": "WRONGPASS invalid or missing auth token"})


async def test_the_token_may_be_in_the_query(url):
    async with aiohttp.ClientSession(url) as session:
        assert await ask(session, "GET", f"/echo/x?_token={TOKEN}") == (200, {"result": "x"})
        assert (await ask(session, "GET", "/echo/x?_token=wrong"))[0] == 401


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_not_allowed(http, method):
    assert (await ask(http, method, "/get/k"))[0] == 405


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/", b"", "ERR failed to parse command"),
        ("/", b"{}", "ERR failed to parse command"),
        ("/", b"[]", "ERR empty command"),
        ("/", b'["GET",null]', "ERR failed to parse command"),
        ("/", b'["GET",["k"]]', "ERR failed to parse command"),
        ("/", b'["SET","k","\xff"]', "ERR failed to parse command"),
        ("/pipeline", b"x", "ERR failed to parse pipeline request"),
        ("/pipeline", b"{}", "ERR failed to parse pipeline request"),
        ("/pipeline", b"[]", "ERR empty pipeline request"),
        ("/pipeline", b'["GET","k"]', "ERR failed to parse pipeline request"),
        ("/multi-exec", b"[]", "ERR empty multi-exec request"),
        ("/nosuch/k", b"", "ERR unknown command"),
        ("/get", b"", "ERR wrong number of arguments for 'get' command"),
        ("/blpop/k/0", b"", "ERR Command is not available: 'BLPOP'"),
        ("/subscribe", b"", "ERR wrong number of arguments for 'subscribe' command"),
    ],
)
async def test_mistakes_are_answered_in_the_service_s_words(http, path, body, said):
    status, answer = await ask(http, "POST", path, data=body)
    assert status == 400
    assert answer["error"].startswith(said)


@pytest.mark.parametrize("size", [10 * 1024 * 1024 + 1, 25 * 1024 * 1024])
async def test_a_request_is_at_most_10_megabytes(http, size):
    async def parts():
        yield bytes(size)

    said = "ERR max request size exceeded. Limit: 10485760 bytes, Actual: "
    status, answer = await ask(http, "POST", "/set/k", data=parts())
    assert (status, answer["error"].startswith(said)) == (400, True)


async def test_a_request_that_says_that_it_is_too_large_is_not_read(http):
    said = {"error": "ERR max request size exceeded. Limit: 10485760 bytes, Actual: 11000000 bytes"}
    assert await ask(http, "POST", "/set/k", data=io.BytesIO(bytes(11_000_000))) == (400, said)


async def test_a_key_is_at_most_32_kilobytes(http):
    key = "k" * 33_000
    said = {"error": "ERR max key size exceeded. Limit: 32768 bytes, Actual: 33000 bytes"}
    assert await ask(http, "POST", "/", json=["SET", key, "v"]) == (400, said)
    assert await ask(http, "POST", "/pipeline", json=[["GET", key], ["PING"]]) == (200, [said, {"result": "PONG"}])
    assert (await ask(http, "POST", "/multi-exec", json=[["GET", key]])) == (400, said)
    assert (await ask(http, "POST", "/", json=["ECHO", key]))[0] == 200


async def test_a_server_that_is_gone_is_an_answer(http, monkeypatch):
    monkeypatch.setattr(upstash.Pool, "call", _unanswered)
    status, answer = await ask(http, "POST", "/", json=["PING"])
    assert (status, answer) == (502, {"error": "ERR gone"})


async def _unanswered(*_):
    raise upstash.Unanswered("gone")


# -- news


async def line(response: aiohttp.ClientResponse) -> str:
    async with asyncio.timeout(5):
        read: bytes = await response.content.readuntil(b"\n\n")
    return read.decode().removesuffix("\n\n")


async def test_what_is_published_is_told_to_subscribers(http, server):
    async with http.post("/subscribe/a/b", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.content_type == "text/event-stream"
        assert [await line(stream), await line(stream)] == ["data: subscribe,a,1", "data: subscribe,b,2"]
        assert await ask(http, "POST", "/publish/a/hello") == (200, {"result": 1})
        server.admin.publish("b", b"x,y")
        server.admin.publish("b", b"two\nlines \xff")
        assert await line(stream) == "data: message,a,hello"
        assert await line(stream) == "data: message,b,x,y"
        assert await line(stream) == "data: message,b,two\ndata: lines \ufffd"


async def test_a_subscriber_that_leaves_is_forgotten(http, server):
    async with http.post("/subscribe/left") as stream:
        await line(stream)
        assert server.admin.pubsub_numsub("left") == [(b"left", 1)]
    await until(lambda: server.admin.pubsub_numsub("left") == [(b"left", 0)])


async def test_subscribers_hear_the_end_of_the_server(http, server):
    async with http.post("/subscribe/c") as stream:
        await line(stream)
        server.admin.client_kill_filter(_type="pubsub")
        assert await line(stream) == ""


# -- the service's own client


async def test_the_service_s_own_client_finds_nothing_amiss(url):
    async with Redis(url, TOKEN, rest_retries=0, allow_telemetry=False) as redis:
        assert await redis.set("k", "v", ex=100, nx=True) is True
        assert await redis.set("k", "w", nx=True) is False
        assert await redis.get("k") == "v"
        assert await redis.mget("k", "missing") == ["v", None]
        assert await redis.hset("h", values={"a": "1", "b": "2"}) == 2
        assert await redis.hgetall("h") == {"a": "1", "b": "2"}
        assert await redis.hmget("h", "b", "c") == ["2", None]
        assert await redis.ttl("k") == 100
        assert await redis.eval("return {KEYS[1], ARGV[1]}", keys=["k"], args=["ä"]) == ["k", "ä"]
        assert await redis.xadd("s", "1-1", {"f": "v"}) == "1-1"
        assert await redis.xrange("s") == [["1-1", ["f", "v"]]]
        assert (await redis.scan(0, match="k"))[1] == ["k"]
        assert await redis.publish("c", "m") == 0
        assert await redis.ping() == "PONG"
        assert await redis.delete("k", "h", "s") == 3


async def test_the_service_s_own_client_pipelines_and_has_its_errors(url):
    async with Redis(url, TOKEN, rest_retries=0, allow_telemetry=False) as redis:
        pipeline = redis.pipeline()
        pipeline.set("k", 1)
        pipeline.incr("k")
        assert await pipeline.exec() == [True, 2]
        transaction = redis.multi()
        transaction.incr("k")
        transaction.get("k")
        assert await transaction.exec() == [3, "3"]
        with pytest.raises(UpstashError, match="not an integer"):
            await redis.execute(["INCRBY", "k", "x"])
        assert redis._sync_token.startswith("emulated-")
    async with Redis(url, "wrong", rest_retries=0, allow_telemetry=False) as redis:
        with pytest.raises(UpstashError, match="WRONGPASS invalid or missing auth token"):
            await redis.ping()
