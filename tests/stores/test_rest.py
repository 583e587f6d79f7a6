"""The transport to Upstash against everything that may answer in its place."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import StreamReader

from proxy.errors import ConfigError, StoreError, StoreRefusedError
from proxy.stores import rest
from proxy.stores.rest import Transport
from tests.servers import authority
from tests.stores.service import error, events, hang, http, reset, results, service

TOKEN = "secret-token-of-ours"


class Made:
    """A transport, and how often it said that the service was reached again."""

    def __init__(self, url: str, *, pool_size: int = 4, timeout: float = 5.0, token: str = TOKEN) -> None:
        self.reached_again = 0
        self.url = url
        self.transport = Transport(
            url, token, pool_size=pool_size, timeout=timeout, connect_timeout=2.0, reached_again=self._again
        )

    def _again(self) -> None:
        self.reached_again += 1

    async def send(self, *commands: list[str | int]):
        sent = list(commands) or [["ping"]]
        return await self.transport.execute(f"{self.url}/pipeline", {"Authorization": "Bearer x"}, sent, True)


@asynccontextmanager
async def made(url: str, **settings) -> AsyncIterator[Made]:
    transport = Made(url, **settings)
    try:
        yield transport
    finally:
        await transport.transport.close()


HTML = b"<!doctype html><title>Bad gateway</title>"

BAD_ANSWERS = [
    # realistic
    ("401", error("WRONGPASS invalid or missing auth token", "401 Unauthorized"), "UPSTASH_REDIS_REST_TOKEN"),
    ("401 of a gateway", http(HTML, "401 Unauthorized", "text/html"), "UPSTASH_REDIS_REST_TOKEN"),
    ("403", http(b"", "403 Forbidden"), "UPSTASH_REDIS_REST_TOKEN"),
    ("429", http(b"slow down", "429 Too Many Requests", "text/plain"), "plan's limit"),
    ("quota", error("ERR max requests limit exceeded. Limit: 500000, Usage: 500000"), "Usage: 500000"),
    ("500", http(b"Internal Server Error", "500 Internal Server Error", "text/plain"), "failed (HTTP 500)"),
    ("500 with an error", error("ERR internal", "500 Internal Server Error"), "ERR internal"),
    ("502", http(HTML, "502 Bad Gateway", "text/html"), "UPSTASH_REDIS_REST_URL) failed (HTTP 502)"),
    ("HTML, 200", http(HTML, content_type="text/html"), "check UPSTASH_REDIS_REST_URL"),
    ("an error, 200", http(b'{"error":"ERR empty pipeline request"}'), "ERR empty pipeline request"),
    ("an error of the token, 200", http(b'{"error":"WRONGPASS x"}'), "UPSTASH_REDIS_REST_TOKEN"),
    ("another page", http(HTML, "302 Found", "text/html", Location="http://127.0.0.1:1/"), "(HTTP 302)"),
    ("nothing there", http(b"", "404 Not Found"), "check UPSTASH_REDIS_REST_URL"),
    ("truncated JSON", http(b'[{"result":"b64:'), "check UPSTASH_REDIS_REST_URL"),
    ("truncated response", http(b"x" * 99)[:-9], "broke the connection"),
    # pathological
    ("no JSON object", http(b'"OK"'), "does not answer like Upstash"),
    ("an object without an error", http(b"{}"), "does not answer like Upstash"),
    ("too few", http(b"[]"), "0 of 1"),
    ("too many", results(1, 2), "2 of 1"),
    ("deep JSON", http(b"[" * 100_000), "does not answer like Upstash"),
    ("not UTF-8", http(b'[{"result":"\xff"}]'), "does not answer like Upstash"),
    ("no HTTP", b"+PONG\r\n\r\n", "broke the connection"),
    ("reset", reset, "broke the connection"),
]


@pytest.mark.parametrize(("answer", "said"), [case[1:] for case in BAD_ANSWERS], ids=[case[0] for case in BAD_ANSWERS])
async def test_a_bad_answer_is_one_line_that_says_where_to_look(answer, said):
    async def once(writer: asyncio.StreamWriter) -> None:
        if isinstance(answer, bytes):
            writer.write(answer)
            writer.close()
        else:
            await answer(writer)

    async with service(once) as stub, made(stub.url) as upstash:
        with pytest.raises(StoreError) as failed:
            await upstash.send()
    text = str(failed.value)
    assert said in text
    assert "\n" not in text
    assert len(text) < 300
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__ or failed.value.__context__ is None


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (error("WRONGPASS x", "401 Unauthorized"), True),
        (http(b"slow down", "429 Too Many Requests", "text/plain"), True),
        (error("NOPERM x"), True),
        (http(HTML, "502 Bad Gateway", "text/html"), False),
        (http(b"x" * 99)[:-9], False),
        (results(1, 2), False),
    ],
)
async def test_a_refusal_is_told_apart_from_an_answer_that_leaves_open_what_was_done(answer, refused):
    async def once(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with service(once) as stub, made(stub.url) as upstash:
        with pytest.raises(StoreError) as failed:
            await upstash.send()
    assert isinstance(failed.value, StoreRefusedError) is refused
    async with made("http://127.0.0.1:1") as nowhere:
        with pytest.raises(StoreRefusedError):
            await nowhere.send()


async def test_an_answer_that_does_not_come_is_waited_for_only_so_long():
    async with service(hang) as stub, made(stub.url, timeout=0.05) as upstash:
        with pytest.raises(StoreError, match="did not answer in time: check UPSTASH_REDIS_REST_URL"):
            await upstash.send()


async def test_an_answer_that_stops_halfway_is_waited_for_only_so_long():
    async def halfway(writer: asyncio.StreamWriter) -> None:
        writer.write(results(1)[:-3])
        await hang(writer)

    async with service(halfway) as stub, made(stub.url, timeout=0.05) as upstash:
        with pytest.raises(StoreError, match="in time"):
            await upstash.send()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "cannot connect to 127.0.0.1:1"),
        ("http://nowhere.invalid", "cannot connect to nowhere.invalid"),
        ("http://a b", "cannot connect to a b"),
    ],
)
async def test_where_nobody_answers_the_setting_is_named(url, said):
    async with made(url) as upstash:
        with pytest.raises(StoreError) as failed:
            await upstash.send()
    assert said in str(failed.value)
    assert "check UPSTASH_REDIS_REST_URL" in str(failed.value)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1", "ftp://127.0.0.1", "redis://x.upstash.io:6379", "https://", "https://user:secret@x", "http://x?q=secret",
     "http://[x", "http://x:port"],
)  # fmt: skip
async def test_what_is_no_url_of_a_rest_endpoint_is_refused_at_once(url):
    with pytest.raises(ConfigError, match=r"UPSTASH_REDIS_REST_URL: .* such as https://") as refused:
        Made(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("speaks_tls", [True, False])
async def test_a_certificate_that_nobody_trusts_is_not_accepted(speaks_tls):
    """Nor is a server that speaks no TLS where TLS is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority().certificate, authority().key)
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.write(results(1))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context if speaks_tls else None)
    async with made(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as upstash:
        with pytest.raises(StoreError, match=r"cannot connect to .* \(TLS failed\): check UPSTASH_REDIS_REST_URL"):
            await upstash.send()
    server.close()
    assert not any(b"authorization" in said.lower() for said in heard)


@pytest.mark.parametrize("token", ["", "a b", "a\n", "tökén", '"quoted" '])
def test_what_cannot_be_sent_as_a_token_is_refused_at_once(token):
    with pytest.raises(ConfigError, match="UPSTASH_REDIS_REST_TOKEN") as refused:
        Made("http://127.0.0.1:1", token=token)
    assert token == "" or token not in str(refused.value)


async def test_a_sync_token_that_could_not_be_sent_back_is_dropped():
    async with service(results(1, Upstash_Sync_Token="\xff\u0141"), results(1)) as stub, made(stub.url) as upstash:
        await upstash.send()
        await upstash.send()
    assert stub.asked[1].headers["upstash-sync-token"] == ""


async def test_each_command_of_a_batch_has_its_own_result_or_error():
    answer = http(
        b'[{"result":"OK"},{"error":"ERR value is not an integer"},{"result":null},{"result":[1,["x",null]]}]'
    )
    async with service(answer) as stub, made(stub.url) as upstash:
        ok, failed, nothing, nested = await upstash.send(*[["get", "k"]] * 4)
    assert (ok, nothing, nested) == ("OK", None, [1, ["x", None]])
    assert isinstance(failed, StoreError)
    assert str(failed) == "Upstash: ERR value is not an integer"


@pytest.mark.parametrize("item", [b"null", b"{}", b'{"result":{"a":1}}', b'{"result":1.5}', b'{"result":true}', b"[]"])
async def test_what_is_no_reply_of_redis_fails_its_own_command_only(item):
    async with service(http(b'[{"result":1},%b]' % item)) as stub, made(stub.url) as upstash:
        good, bad = await upstash.send(["incr", "a"], ["incr", "b"])
    assert good == 1
    assert isinstance(bad, StoreError)


@pytest.mark.parametrize(
    "text",
    [
        f"ERR token {TOKEN} has expired",
        "ERR unknown command 'X', with args beginning with: 'a stored value' ",
        "ERR one\r\nERR two\x00\x1b[31m",
        "ERR " + "x" * 5000,
    ],
    ids=["token", "arguments", "lines", "long"],
)
async def test_what_the_server_says_is_quoted_without_secrets_in_one_short_line(text):
    async with service(error(text)) as stub, made(stub.url) as upstash:
        with pytest.raises(StoreError) as failed:
            await upstash.send()
    said = str(failed.value)
    assert said.startswith("Upstash: ERR")
    assert TOKEN not in said
    assert "stored value" not in said
    assert said.isprintable()
    assert len(said) < 200


async def test_a_read_only_token_is_called_that():
    answer = http(b'[{"error":"NOPERM this user has no permissions to run the \'set\' command"}]')
    async with service(answer) as stub, made(stub.url) as upstash:
        (failed,) = await upstash.send()
    assert "is UPSTASH_REDIS_REST_TOKEN a read-only token?" in str(failed)


async def test_a_batch_that_the_service_would_refuse_is_not_sent(monkeypatch):
    monkeypatch.setattr(rest, "MAX_REQUEST", 100)
    async with service(results(1)) as stub, made(stub.url) as upstash:
        with pytest.raises(StoreError, match="accepts 100 at once"):
            await upstash.send(["set", "k", "x" * 100])
        assert stub.asked == []


async def test_an_endless_answer_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(rest, "MAX_RESPONSE", 1000)
    cut_off = asyncio.Event()

    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"100\r\n%b\r\n" % (b"[" * 256))
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            cut_off.set()

    async with service(endless) as stub, made(stub.url) as upstash:
        with pytest.raises(StoreError, match="more than 1000 bytes"):
            await upstash.send()
        await asyncio.wait_for(cut_off.wait(), 5)


async def test_no_more_connections_are_opened_than_the_pool_has():
    async with service(results(1)) as stub, made(stub.url, pool_size=3) as upstash:
        await asyncio.gather(*(upstash.send() for _ in range(20)))
        assert stub.connections <= 3
        assert len(stub.asked) == 20


async def test_a_command_is_never_sent_twice():
    async with service(results(1), reset, results(1)) as stub, made(stub.url) as upstash:
        await upstash.send(["incr", "a"])
        with pytest.raises(StoreError):
            await upstash.send(["incr", "b"])
        assert [asked.commands for asked in stub.asked] == [[["incr", "a"]], [["incr", "b"]]]


async def test_nothing_tells_the_service_what_we_run_on(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    async with service(results(1)) as stub, made(stub.url) as upstash:
        await upstash.send()
    assert set(stub.asked[0].headers) == {
        "host", "authorization", "content-type", "content-length", "upstash-sync-token",
        "accept", "accept-encoding", "user-agent",
    }  # fmt: skip


# -- sync tokens


async def test_the_token_of_the_last_answer_is_sent_with_the_next_request():
    answers = (results(1, Upstash_Sync_Token="one"), results(1), results(1, Upstash_Sync_Token="two"))
    async with service(*answers) as stub, made(stub.url) as upstash:
        for _ in range(4):
            await upstash.send()
    assert [asked.headers["upstash-sync-token"] for asked in stub.asked] == ["", "one", "one", "two"]


async def test_an_answer_that_was_overtaken_does_not_bring_an_old_token_back():
    overtaken = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await overtaken.wait()
        writer.write(results(1, Upstash_Sync_Token="old"))

    async with service(slow, results(1, Upstash_Sync_Token="new")) as stub, made(stub.url) as upstash:
        first = asyncio.ensure_future(upstash.send())
        await stub.first.wait()
        await upstash.send()
        overtaken.set()
        await first
        assert upstash.transport.sync_token == "new"


async def test_a_token_that_was_heard_outlives_the_answers_to_what_was_under_way():
    heard = asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        await heard.wait()
        writer.write(results(1, Upstash_Sync_Token="ours"))

    async with service(slow, results(1, Upstash_Sync_Token="later")) as stub, made(stub.url) as upstash:
        first = asyncio.ensure_future(upstash.send())
        await stub.first.wait()
        upstash.transport.heed("theirs")
        heard.set()
        await first
        assert upstash.transport.sync_token == "theirs"
        await upstash.send()
        assert stub.asked[-1].headers["upstash-sync-token"] == "theirs"
        assert upstash.transport.sync_token == "later"


@pytest.mark.parametrize("token", ["", "a\r\nX-Evil: 1", "é", "\x00", "x" * 3000])
async def test_what_cannot_be_a_token_is_not_heeded(token):
    async with made("http://127.0.0.1:1") as upstash:
        upstash.transport.heed("good")
        upstash.transport.heed(token)
        assert upstash.transport.sync_token == "good"


# -- lost and found


@pytest.mark.parametrize("failure", [reset, http(b"", "503 Service Unavailable")], ids=["reset", "503"])
async def test_being_reached_again_is_said_once(failure):
    async with service(results(1), failure, results(1)) as stub, made(stub.url) as upstash:
        await upstash.send()
        with pytest.raises(StoreError):
            await upstash.send()
        assert upstash.reached_again == 0
        await upstash.send()
        await upstash.send()
        assert upstash.reached_again == 1


async def test_a_refusal_is_no_loss():
    async with service(error("ERR nothing lost"), results(1)) as stub, made(stub.url) as upstash:
        with pytest.raises(StoreError):
            await upstash.send()
        await upstash.send()
        assert upstash.reached_again == 0


async def test_whoever_waits_hears_that_the_transport_was_closed():
    async with service(hang) as stub, made(stub.url, pool_size=1) as upstash:
        waiting = [asyncio.ensure_future(upstash.send()) for _ in range(2)]  # for an answer, and for a connection
        await stub.first.wait()
        await upstash.transport.close()
        for each in waiting:
            with pytest.raises(StoreError, match="the store is closed"):
                await asyncio.wait_for(each, 1)
        with pytest.raises(StoreError, match="the store is closed"):
            await upstash.send()


async def test_whoever_is_cancelled_leaves_no_connection_with_an_unread_answer():
    async with service(hang, results("right")) as stub, made(stub.url, pool_size=1) as upstash:
        waiting = asyncio.ensure_future(upstash.send())
        await stub.first.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert await upstash.send() == ["right"]
        assert stub.connections == 2


# -- events


@pytest.mark.parametrize(
    ("parts", "data"),
    [
        ([b"data: subscribe,c,1\n\n", b"data: message,c,x\n\n"], ["subscribe,c,1", "message,c,x"]),  # realistic
        ([b"data: a\n", b"\ndata:", b" b\n\n"], ["a", "b"]),  # realistic: split anywhere
        ([b"data:a\r\n\r\n"], ["a"]),
        ([b": keepalive\n\n", b"event: x\nid: 7\ndata: a\n\n"], ["a"]),
        ([b"data: a\ndata: b\n\n"], ["a\nb"]),
        ([b"data: \xff\n\n"], ["\ufffd"]),  # pathological
        ([b"data: unfinished"], []),  # pathological
        ([b"\n\n\n"], []),  # pathological
    ],
)
async def test_events_are_read_as_the_format_says(parts, data):
    async def end(writer: asyncio.StreamWriter) -> None:
        writer.write(b"0\r\n\r\n")

    async with service(events(*parts, then=end)) as stub, made(stub.url) as upstash:
        stream = upstash.transport.events("/subscribe/c", {}, silence=5)
        heard = [await anext(stream) for _ in data]
        with pytest.raises(StoreError, match="ended the subscription"):
            await anext(stream)
    assert heard == data
    assert (stub.asked[0].path, stub.asked[0].headers["accept"]) == ("/subscribe/c", "text/event-stream")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error("WRONGPASS x", "401 Unauthorized"), "UPSTASH_REDIS_REST_TOKEN"),
        (http(HTML, content_type="text/html"), "check UPSTASH_REDIS_REST_URL"),
        (http(b'{"result":1}'), "does not answer like Upstash"),
        (events(b"data: x\n\n", then=reset), "broke the connection"),
        (events(b"data: x\n\n", then=hang), "did not answer in time"),
    ],
    ids=["401", "html", "json", "reset", "silence"],
)
async def test_a_stream_that_is_none_or_ends_is_an_error(answer, said):
    async with service(answer) as stub, made(stub.url) as upstash:
        with pytest.raises(StoreError) as failed:
            async for _ in upstash.transport.events("/subscribe/c", {}, silence=0.05):
                pass
    assert said in str(failed.value)


async def test_an_event_without_end_is_not_collected(monkeypatch):
    monkeypatch.setattr(rest, "_MAX_EVENT", 1000)
    content = StreamReader(_Protocol(), 1 << 16, loop=asyncio.get_running_loop())
    content.feed_data(b"data: " + b"x" * 1001)
    with pytest.raises(StoreError, match="more than 1000"):
        async with aclosing(rest._event_data(content)) as data:
            await anext(data)


class _Protocol:
    _reading_paused = False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def test_listening_takes_no_place_in_the_pool_and_its_silence_is_no_loss():
    async with service(events(), results(1)) as stub, made(stub.url, pool_size=1) as upstash:
        stream = upstash.transport.events("/subscribe/c", {}, silence=0.05)
        listening = asyncio.ensure_future(anext(stream))
        await stub.first.wait()
        assert await upstash.send() == [1]
        with pytest.raises(StoreError, match="in time"):
            await listening
        assert await upstash.send() == [1]
        assert upstash.reached_again == 0
