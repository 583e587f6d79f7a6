"""The link to Upstash: what travels, what comes back, and what listeners hear."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from proxy.errors import StoreError
from proxy.stores import upstash
from proxy.stores.commands import CommandStore
from proxy.stores.upstash import UpstashLink
from tests.stores.service import error, events, hang, http, reset, results, service

TOKEN = "secret-token-of-ours"


@asynccontextmanager
async def linked(url: str, **settings) -> AsyncIterator[UpstashLink]:
    link = UpstashLink(url, TOKEN, **{"pool_size": 4, "timeout": 5.0, **settings})
    try:
        yield link
    finally:
        await link.close()


def text(value: bytes) -> str:
    return "b64:" + b64encode(value).decode()


# -- commands


async def test_commands_travel_as_one_pipeline_with_their_values_as_text():
    async with service(results("OK", 1, None)) as stub, linked(stub.url + "/") as link:
        replies = await link.execute([("SET", "k", b"\x00\xff", "PX", 1000), ("DEL", "k"), ("GET", "k")])
    assert replies == [b"OK", 1, None]
    (asked,) = stub.asked
    assert asked.path == "/pipeline"
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.commands == [["set", "k", text(b"\x00\xff"), "PX", 1000], ["del", "k"], ["get", "k"]]


@pytest.mark.parametrize(
    ("answered", "reply"),
    [
        (text(b"value"), b"value"),  # realistic
        (text(b""), b""),
        (text(bytes(range(256))), bytes(range(256))),
        (text(b"OK"), b"OK"),
        ("OK", b"OK"),
        ("PONG", b"PONG"),
        (None, None),
        (7, 7),
        ([text(b"a"), None], [b"a", None]),
        ([["id", ["f", text(b"a")]]], [[b"id", [b"f", b"a"]]]),
        ("\ufffd\ufffdraw", "\ufffd\ufffdraw".encode()),  # pathological: binary, written by somebody else
        ("b64:not base64!", b"b64:not base64!"),  # pathological: text that looks like ours
        ("b64:YQ", b"b64:YQ"),  # pathological: cut off
        ("", b""),
    ],
)
async def test_replies_are_what_was_stored(answered, reply):
    async with service(results(answered)) as stub, linked(stub.url) as link:
        assert await link.execute([("GET", "k")]) == [reply]


async def test_much_is_encoded_and_decoded_elsewhere_and_is_the_same(monkeypatch):
    threads = []

    async def in_thread(function, *arguments):
        threads.append(function.__name__)
        return function(*arguments)

    monkeypatch.setattr(upstash.asyncio, "to_thread", in_thread)
    values = [bytes([number]) * 100_000 for number in range(4)]
    async with service(results(*map(text, values)), results(1)) as stub, linked(stub.url) as link:
        assert await link.execute([("GETSET", "k", value) for value in values]) == values
        assert threads == ["_texts", "dumps", "loads", "_values"]
        await link.execute([("GET", "k")])
        assert len(threads) == 4


async def test_every_command_has_its_own_reply_or_error():
    answer = http(b'[{"result":"OK"},{"error":"ERR max key size exceeded. Limit: 32768 bytes, Actual: 33000 bytes"}]')
    async with service(answer) as stub, linked(stub.url) as link:
        good, bad = await link.execute([("GET", "a"), ("GET", "b" * 33_000)])
    assert good == b"OK"
    assert isinstance(bad, StoreError)
    assert "max key size exceeded" in str(bad)


async def test_a_value_that_upstash_would_refuse_fails_alone_and_is_not_sent():
    huge = ("SET", "huge", bytes(11 * 1024 * 1024), "PX", 1000)
    async with service(results("OK", None)) as stub, linked(stub.url) as link:
        first, refused, last = await link.execute([("GET", "a"), huge, ("GET", "b")])
        assert (first, last) == (b"OK", None)
        assert isinstance(refused, StoreError)
        assert "Upstash accepts" in str(refused)
        assert stub.asked[0].commands == [["get", "a"], ["get", "b"]]
        (alone,) = await link.execute([huge])
        assert isinstance(alone, StoreError)
        assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [error("WRONGPASS invalid or missing auth token", "401 Unauthorized"), http(b"<html>"), reset, http(b'[{"resu')],
    ids=["401", "html", "reset", "truncated"],
)
async def test_a_bad_answer_is_a_store_error_without_the_token(answer):
    async with service(answer) as stub, linked(stub.url) as link:
        with pytest.raises(StoreError) as failed:
            await link.execute([("GET", "a")])
    assert TOKEN not in str(failed.value)
    assert TOKEN not in repr(link)


async def test_a_lease_that_somebody_else_has_is_not_taken_for_ours():
    """The library would make True and False of the replies of SET."""
    async with service(results(None), results("OK")) as stub, linked(stub.url) as link:
        store = CommandStore(link)
        assert await store.claim("lease", b"a", 10) is False
        assert await store.claim("lease", b"a", 10) is True


async def test_who_asked_to_hear_of_disturbances_does():
    heard: list[str] = []
    async with service(reset, results(1)) as stub, linked(stub.url) as link:
        link.on_disturbance(heard.append)
        with pytest.raises(StoreError):
            await link.execute([("GET", "a")])
        await link.execute([("GET", "a")])
    assert heard == ["Upstash was reached again"]


async def test_connections_are_opened_before_they_are_needed():
    async with service(results("PONG")) as stub, linked(stub.url, pool_size=2) as link:
        await link.warm()
        assert [asked.commands for asked in stub.asked] == [[["ping"]]] * 2
    async with service(error("WRONGPASS x", "401 Unauthorized")) as stub, linked(stub.url) as link:
        with pytest.raises(StoreError, match="UPSTASH_REDIS_REST_TOKEN"):
            await link.warm()


# -- news


def told(sender: str, token: str, message: bytes) -> bytes:
    return b"data: message,bell,%b.%b.%b\n\n" % (sender.encode(), b64encode(token.encode()), b64encode(message))


SUBSCRIBED = b"data: subscribe,bell,1\n\n"


async def test_a_message_carries_the_sync_token_of_its_writer():
    async with service(results(1, Upstash_Sync_Token="ours"), results(0)) as stub, linked(stub.url) as link:
        await link.execute([("HSET", "s", "f", b"v")])
        await link.execute([("PUBLISH", "bell", b"a,b\n")])
    ((name, channel, letter),) = stub.asked[1].commands
    sender, token, message = letter.split(".")
    assert (name, channel) == ("publish", "bell")
    assert sender
    assert (token, message) == (b64encode(b"ours").decode(), b64encode(b"a,b\n").decode())


async def test_whoever_hears_a_message_sends_its_writer_s_token_from_then_on():
    async with service(events(SUBSCRIBED, told("other", "theirs", b"m")), results(1)) as stub, linked(stub.url) as link:
        async with aclosing(link.listen(["bell"])) as heard:
            assert await anext(heard) is None
            assert await anext(heard) == ("bell", b"m")
        assert link.sync_token == "theirs"
        await link.execute([("GET", "a")])
    assert stub.asked[-1].headers["upstash-sync-token"] == "theirs"


async def test_our_own_message_does_not_bring_back_an_older_token():
    async with service(results(0), events()) as stub, linked(stub.url) as link:
        await link.execute([("PUBLISH", "bell", b"m")])
        letter = stub.asked[0].commands[0][2].encode()
        link.heed("newer")
        stub.answers = [events(SUBSCRIBED, b"data: message,bell,%b\n\n" % letter)]
        async with aclosing(link.listen(["bell"])) as heard:
            assert [await anext(heard), await anext(heard)] == [None, ("bell", b"m")]
        assert link.sync_token == "newer"


@pytest.mark.parametrize(
    "payload",
    [b"hello", b"", b"a.b", b"a.b.c.d", b"x.!!.YQ==", b"x..YQ", b"x./w==.YQ==", b"\xff\xfe", b'{"a":1}'],
)
async def test_what_others_publish_in_another_format_is_not_heard(payload):
    foreign = b"data: message,bell,%b\n\n" % payload
    stream = events(SUBSCRIBED, foreign, b"data: message,other,x..YQ==\n\n", told("x", "", b"ours"))
    async with service(stream) as stub, linked(stub.url) as link, aclosing(link.listen(["bell"])) as heard:
        assert [await anext(heard), await anext(heard)] == [None, ("bell", b"ours")]


async def test_a_channel_s_name_is_one_part_of_the_path():
    name = "tenant:a/b c?d,e%"
    confirmed = b"data: subscribe,%b,1\n\n" % name.encode()
    async with service(events(confirmed)) as stub, linked(stub.url) as link, aclosing(link.listen([name])) as heard:
        assert await anext(heard) is None
        assert stub.asked[0].path == "/subscribe/tenant:a%2Fb%20c%3Fd,e%25"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (hang, "in time"),
        (events(), "in time"),
        (events(b"data: nonsense\n\n"), "did not confirm"),
        (error("WRONGPASS x", "401 Unauthorized"), "UPSTASH_REDIS_REST_TOKEN"),
        (reset, "broke the connection"),
    ],
    ids=["hang", "no-event", "nonsense", "401", "reset"],
)
async def test_a_subscription_that_is_not_confirmed_is_an_error(stream, said):
    async with service(stream) as stub, linked(stub.url, timeout=0.05, connect_timeout=0.05) as link:
        with pytest.raises(StoreError, match=said):
            await anext(link.listen(["bell"]))


@pytest.mark.parametrize("then", [reset, hang], ids=["reset", "silence"])
async def test_a_stream_that_dies_ends_the_listening(then):
    stream = events(SUBSCRIBED, then=then)
    async with (
        service(stream) as stub,
        linked(stub.url, silence=0.1) as link,
        aclosing(link.listen(["bell"])) as heard,
    ):
        assert await anext(heard) is None
        with pytest.raises(StoreError):
            await asyncio.wait_for(anext(heard), 5)


async def test_one_of_several_streams_that_dies_ends_the_listening():
    streams = (events(SUBSCRIBED), events(SUBSCRIBED, then=reset))
    async with service(*streams) as stub, linked(stub.url) as link, aclosing(link.listen(["a", "b"])) as heard:
        assert await anext(heard) is None
        with pytest.raises(StoreError):
            await asyncio.wait_for(anext(heard), 5)


async def test_nothing_is_heard_before_every_channel_is_subscribed():
    subscribed = asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        await subscribed.wait()
        await events(b"data: subscribe,other,1\n\n")(writer)

    streams = (events(SUBSCRIBED, told("x", "", b"m")), late)
    async with (
        service(*streams) as stub,
        linked(stub.url) as link,
        aclosing(link.listen(["bell", "other"])) as heard,
    ):
        first = asyncio.ensure_future(anext(heard))
        await asyncio.wait([first], timeout=0.05)
        assert not first.done()
        subscribed.set()
        assert await first is None


async def test_listeners_and_callers_hear_that_the_link_was_closed():
    async with (
        service(events(SUBSCRIBED), hang) as stub,
        linked(stub.url) as link,
        aclosing(link.listen(["bell"])) as heard,
    ):
        await anext(heard)
        call = asyncio.ensure_future(link.execute([("GET", "a")]))
        listener = asyncio.ensure_future(anext(heard))
        await asyncio.sleep(0)
        await link.close()
        for each in (call, listener):
            with pytest.raises(StoreError, match="closed"):
                await asyncio.wait_for(each, 5)


# -- with the emulator, over a real server


@asynccontextmanager
async def linked_to(at) -> AsyncIterator[UpstashLink]:
    link = UpstashLink(at.url, at.token, pool_size=4, timeout=5.0)
    try:
        yield link
    finally:
        await link.close()


async def test_what_another_client_wrote_as_bytes_does_not_hurt(upstash_at):
    upstash_at.flush()
    upstash_at.server.admin.set("k", b"\xff\x00\xfe")
    upstash_at.server.admin.set("wrong type", b"x")
    async with linked_to(upstash_at) as link:
        raw, wrong = await link.execute([("GET", "k"), ("HMGET", "wrong type", "f")])
    assert isinstance(raw, bytes)
    assert isinstance(wrong, StoreError)
    assert "WRONGTYPE" in str(wrong)


async def test_a_wrong_token_is_refused_in_words_that_help(upstash_at):
    async with linked(upstash_at.url) as link:
        with pytest.raises(StoreError, match="check UPSTASH_REDIS_REST_TOKEN"):
            await link.execute([("PING",)])
        with pytest.raises(StoreError, match="check UPSTASH_REDIS_REST_TOKEN"):
            await anext(link.listen(["bell"]))


async def test_what_is_stored_is_text_that_any_client_of_the_service_can_read(upstash_at):
    upstash_at.flush()
    async with linked_to(upstash_at) as link:
        await link.execute([("SET", "k", b"\x00\xff", "PX", 60_000)])
    assert upstash_at.server.admin.get("k") == text(b"\x00\xff").encode()
