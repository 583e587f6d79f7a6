"""proxy.serving.hits: what is answered in the call that brings it is what the ordinary path would answer."""

import itertools
import json
import math
import random
import re
from functools import partial

import pytest

from proxy.policy.message import Fields
from proxy.policy.outcome import Outcome, Reason
from proxy.rules.counting import Counted
from proxy.serving.hits import Hits
from proxy.serving.prepared import Prepared, parted
from proxy.serving.reply import Reply
from proxy.serving.unread import IRRELEVANT, UNREAD, Choices, _any_of
from tests.serving.short import SPOILED, dated, head, prompt, served
from tests.serving.world import RULES, unsigned
from tests.wire import connect

HEADER_RULES = """
version: 1
identity: {tenant: header.x-org-id, user: header.from, roles: header.x-roles}
features:
  mine:
    ttl: 5m
    scope: user
    read: [GET /api/me]
"""


async def ask(client, data: bytes, method: str = "GET"):
    await client.send(data)
    return await client.response(method)


# What the choice leaves out is read by nobody


@pytest.mark.isolation
async def test_a_caller_named_in_a_field_that_is_otherwise_unread_is_not_taken_for_another():
    """A trusted peer names the user in From, which no other rule reads."""
    async with served(HEADER_RULES, trusts=True) as made:
        made.world.upstream.answer = lambda request, n: dated({"for": request.fields.get("from")})
        for user in ("ada", "bob", "ada", "bob", "ada", "bob"):
            lines = "X-Org-Id: org_a", f"From: {user}"
            async with await connect(made.port) as client:
                got = await ask(client, head("/api/me", *lines, token=""))
            await made.settle()
            assert json.loads(got.body) == {"for": user}
        assert made.short == 4


@pytest.mark.isolation
async def test_a_variant_selected_by_a_field_that_is_otherwise_unread_is_for_its_own_readers():
    """The second response says nothing of what selected it; the first one's Vary did."""
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(
            {"got": request.fields.get("referer")}, **({"vary": "referer"} if n == 1 else {})
        )
        for page in "abababab":
            got = await ask(client, head("/api/jobs", f"Referer: {page}"))
            await made.settle()
            assert json.loads(got.body) == {"got": page}


async def test_a_second_key_is_looked_up_under_a_first_one_that_may_be_another_by_now():
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(
            {"n": n}, **({"vary": "accept-language"} if n < 3 else {})
        )
        bodies = []
        for language in ("de", "fr", "fr", "fr"):
            got = await ask(client, head("/api/jobs", f"Accept-Language: {language}"))
            await made.settle()
            bodies.append(json.loads(got.body)["n"])
        await made.world.cache.drop("tenant:org_a:jobs:list")
        got = await ask(client, head("/api/jobs", "Accept-Language: fr"))
        assert [*bodies, json.loads(got.body)["n"]] == [1, 2, 2, 2, 3]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\r\n" + head(), b"\r\nReferer: x\r\n" + head()),
        (head(), head("/api/jobs", "User-Agent: a", "User-Agent: b")),
        (head("/api/jobs", "USER-AGENT: a"), head("/api/jobs", "USER-AGENT: a", "User-Agent: b")),
    ],
    ids=["a field before the request line", "a field that may be there once", "in another spelling"],
)
async def test_a_head_that_the_parser_refuses_is_refused_though_it_looks_like_one_that_it_took(before, after):
    async with served() as made:
        made.world.upstream.answer = lambda request, n: dated()
        async with await connect(made.port) as client:
            for _ in range(3):
                assert (await ask(client, before)).status == 200
                await made.settle()
            assert (await ask(client, after)).status == 400


# Time


@pytest.mark.parametrize("control", ["max-age=60", "min-fresh=3540"])
async def test_what_a_client_says_of_age_is_heard_each_time(control):
    rules = RULES.replace("ttl: 1h", "ttl: 1h\n    client-control: honour")
    got = []
    for short in (True, False):
        async with served(rules, short=short) as made, await connect(made.port) as client:
            made.world.upstream.answer = lambda request, n: dated({"n": n})
            for seconds in (0, 55, 1, 6, 9, 0):
                made.world.clock.advance(seconds)
                answer = await ask(client, head("/api/catalogue", f"Cache-Control: {control}"))
                await made.settle()
                got.append(answer.body)
    assert got[:6] == got[6:]
    assert len(set(got)) > 1


async def test_a_clock_that_is_set_back_makes_nothing_last_longer():
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        for seconds in (0, 0, 5, 0, 0):
            made.world.clock.advance(seconds)
            got = await ask(client, head())
            await made.settle()
        assert got.get("age") == "5"
        made.world.clock.advance(-3)
        got = await ask(client, head())
        assert (got.get("age"), got.cache) == ("2", "sidecache; hit; ttl=898")


async def test_an_age_and_a_rest_of_freshness_are_those_of_the_moment():
    """At no instant another head than the ordinary one, and never younger than the response is."""
    chance = random.Random(20261126)
    heads: list[list[bytes]] = []
    for short in (True, False):
        chance.seed(20261126)
        async with served(short=short) as made, await connect(made.port) as client:
            made.world.upstream.answer = lambda request, n: dated(b"{}")
            made.world.clock.advance(0.123456)
            stored_at = made.world.clock.now
            got = []
            for _ in range(400):
                answer = await ask(client, head())
                await made.settle()
                got.append(answer.raw)
                if answer.get("age") is not None:
                    assert int(answer.get("age")) >= int(made.world.clock.now - stored_at)
                # to one side or the other of a second's end
                made.world.clock.advance(chance.choice((0.0, 0.1, 0.9, 0.876544, 0.123456, 1.0, 2.38e-7, 1e-6)))
            heads.append(got)
            assert not short or made.hits.repeated > 250
    assert heads[0] == heads[1]


@pytest.mark.parametrize("start", [1_700_000_000.0, 1_700_000_000.1, 1_700_000_000.3, 1_699_999_999.99])
@pytest.mark.parametrize("rest", [900.0, 899.7, 12.3])
def test_a_head_is_written_anew_before_its_seconds_change(start, rest):
    prepared = Prepared()
    prepared.before, prepared.middle, prepared.after = b"a", b"b", b"c"
    prepared.entry_age, prepared.stored_at, prepared.fresh_until = 0.25, start, start + rest
    for step in range(400):
        now = start + step / 7
        if now >= prepared.fresh_until:
            break
        prepared.render(now)
        held = prepared.head
        last = math.nextafter(prepared.head_until, 0)
        if last > now:
            prepared.render(last)
            assert prepared.head == held


async def test_a_response_that_came_before_the_clock_was_set_back_is_not_younger_than_new():
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        await ask(client, head())
        await made.settle()
        made.world.clock.advance(-3)
        ages = [(await ask(client, head())).get("age") for _ in range(5)]
        assert (ages, made.hits.repeated) == (["0"] * 5, 2)


# What a prepared answer holds on to


async def prepared_in(made) -> Prepared:
    ((prepared, _),) = made.hits._choices._known.values()
    return prepared


SPOILED_OR_OLD = SPOILED | {"its time": lambda made, prepared: made.world.clock.advance(10)}


@pytest.mark.parametrize("spoil", SPOILED_OR_OLD.values(), ids=SPOILED_OR_OLD)
async def test_it_answers_while_all_of_this_holds_and_is_gone_with_any_of_it(spoil):
    async with served() as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        await ask(client, head())
        await made.settle()
        await ask(client, head())
        prepared = await prepared_in(made)
        assert made.hits.known(head(), False) is not None
        spoil(made, prepared)
        before = made.hits.repeated, made.hits.chosen
        made.hits.known(head(), False)  # by another way, it may well be
        assert (made.hits.repeated, made.hits.chosen) == before
        assert prepared not in [each for each, _ in made.hits._choices._known.values()]


@pytest.mark.parametrize(
    ("seconds", "fetch", "held"),
    [(5.0, 0.0, 3.0), (None, 0.0, 10.0), (None, 22.4, 4.0)],
    ids=["the token's", "the recheck's", "an early refresh's"],
)
async def test_it_holds_until_the_first_of_its_times_is_over(seconds, fetch, held):
    async with served() as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: (made.world.clock.advance(fetch), dated())[1]
        start = made.world.clock.now + fetch + 2
        token = unsigned(exp=start + 3) if seconds else unsigned()
        await ask(client, head(token=token))
        await made.settle()
        made.world.clock.advance(2 if not fetch else 0)
        await ask(client, head(token=token))
        until = (await prepared_in(made)).valid_until - made.world.clock.now
        assert until == pytest.approx(held if not fetch else 900 - 40 * 22.4, abs=0.01)


NOT_PREPARED = {
    "a part": head("/api/jobs", "Range: bytes=0-1"),
    "too many lines": head("/api/jobs", *["Keep-Alive: 5"] * 50),
    "one that ends its connection": head("/api/jobs", "Connection: close"),
    "one of another version": head().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "one of another version that goes on": head("/api/jobs", "Connection: keep-alive").replace(b"1.1", b"1.0"),
    "one that expects": head("/api/jobs", "Expect: 100-continue"),
}


@pytest.mark.parametrize("data", NOT_PREPARED.values(), ids=NOT_PREPARED)
async def test_nothing_is_prepared_for(data):
    async with served() as made:
        made.world.upstream.answer = lambda request, n: dated()
        for _ in range(3):
            async with await connect(made.port) as client:
                assert (await ask(client, data)).status in (200, 206, 304)
            await made.settle()
        assert made.hits.known(data, False) is None
        assert made.hits._choices.size == 0


@pytest.mark.parametrize("count", [50, 51])
async def test_more_unread_lines_than_the_parser_may_take_are_for_it_to_refuse(count):
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        await ask(client, head())
        await made.settle()
        await ask(client, head())
        answer = made.hits.known(head("/api/jobs", *["Cookie: a=b"] * count), False)
        assert (answer is not None) == (count == 50)


async def test_only_a_head_that_came_before_has_a_place_of_its_own():
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        await ask(client, head())
        await made.settle()
        for n in range(50):
            await ask(client, head("/api/jobs", f"Referer: {n}"))
        assert made.hits._heads.size == 0
        await ask(client, head("/api/jobs", "Referer: 7"))
        await ask(client, head("/api/jobs", "Referer: 7"))
        assert len(made.hits._heads._known) == 1
        assert made.counts == (1, 50, 1)


@pytest.mark.parametrize("logs", [False, True])
async def test_both_ways_count_alike_and_tell_of_each_request(logs):
    counted = []
    for short in (True, False):
        async with served(short=short, logs=logs) as made, await connect(made.port) as client:
            made.world.upstream.answer = lambda request, n: dated(etag='"1"')
            for data in (head(), head("/api/jobs", 'If-None-Match: "1"'), head("/api/catalogue"), head("/api/me")) * 6:
                await ask(client, data)
                await made.settle()
            counted.append(made.counted())
            assert len(made.logged) == 24 * logs
            if short:
                repeated, chosen, decided = made.counts
                assert (repeated + chosen > 0) is not logs
                assert repeated + chosen + decided >= 18
                assert len(made.noted) == decided  # of those that repeat, the counters tell
    assert counted[0] == counted[1]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
async def test_an_answer_is_in_the_encoding_that_is_asked_for(method, coding):
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated({"n": "n" * 3000}, etag='"1"')
        await ask(client, head("/api/catalogue"))
        await made.settle()
        data = head("/api/catalogue", f"Accept-Encoding: {coding}", method=method)
        got = [await ask(client, data, method) for _ in range(6)]
        assert len({answer.raw + answer.body for answer in got}) == 1
        assert got[0].get("content-encoding") == (coding or None)
        assert made.hits.repeated >= 2


async def test_a_response_without_a_body_has_no_length_either_way():
    got = []
    for short in (True, False):
        async with served(short=short) as made, await connect(made.port) as client:
            made.world.upstream.answer = lambda request, n: dated(b"", 204, cache_control="max-age=60")
            for _ in range(4):
                got.append((await ask(client, head("/api/origin"))).raw)
                await made.settle()
    assert got[:4] == got[4:]
    assert b"; hit" in got[1]


async def test_what_is_answered_so_is_in_use_and_stays_when_room_is_short():
    async with served() as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated()
        await ask(client, head())
        await made.settle()
        await ask(client, head())
        resident = (await prepared_in(made)).resident
        resident.touched = False
        assert made.hits.known(head(), False) is not None
        assert resident.touched


# The parts


def test_a_pattern_of_words_takes_these_words_and_no_others():
    words = ["a", "ab", "abc", "b3", "x-b3-flags", "x-b3-spanid", "abd", "from", "a.c"]
    pattern = re.compile(_any_of(words))
    made = {"".join(letters) for n in range(4) for letters in itertools.product("abc.dx", repeat=n)} | set(words)
    assert {word for word in made if pattern.fullmatch(word)} == set(words)


@pytest.mark.parametrize("name", sorted(IRRELEVANT))
def test_lines_of_unread_fields_are_left_out(name):
    spelled = "-".join(part.capitalize() for part in name.split("-"))
    before, after = b"GET / HTTP/1.1\r\nHost: h", b"\r\nAccept: a\r\n\r\n"
    for each in (name, spelled):
        assert UNREAD.sub(b"", before + f"\r\n{each}: a \tb".encode() + after) == before + after


KEPT = [
    b"\r\nReferer:a", b"\r\nReferer : a", b"\r\nReferer: \x00", b"\r\nReferer: \x7f", b"\r\nReferer: \x80",
    b"\r\nReferer: a\n b", b"\r\nReferer: a\rb", b"\nReferer: a", b"\r\nRefere: a", b"\r\nReferers: a",
    b"\r\nX-Referer: a", b"\r\n Referer: a", b"\r\nREFERER: a", b"\r\nX_Request_Id: a", b"\r\nAuthorization: a",
    b"\r\nUser-Agent: a", b"\r\nAccept: a", b"\r\nx-org-id: a",
]  # fmt: skip


@pytest.mark.parametrize("line", KEPT)
def test_any_other_line_is_part_of_the_choice(line):
    data = b"GET / HTTP/1.1\r\nHost: h" + line + b"\r\n\r\n"
    assert UNREAD.sub(b"", data) == data


async def test_what_is_prepared_stays_within_its_bytes():
    async with served(max_bytes=20_000) as made, await connect(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(x_long="x" * 1000)
        for n in range(12):
            for again in range(5):
                await ask(client, head(f"/api/jobs/{n}", f"Referer: {again // 4}"))
                await made.settle()
        held = {
            id(prepared): prepared
            for table in (made.hits._heads, made.hits._choices)
            for prepared, _ in table._known.values()
        }
        assert sum(prepared.size() for prepared in held.values()) <= 20_000
        assert made.hits._heads.size <= 10_000
        assert made.hits._choices.size <= 10_000
        assert made.hits._heads.size > 0


SHAPES = {
    "no Age": [("Date", "d"), ("Cache-Status", "sidecache; hit; ttl=5")],
    "no Date": [("Age", "1"), ("Cache-Status", "sidecache; hit; ttl=5")],
    "no rest of freshness": [("Date", "d"), ("Age", "1"), ("Cache-Status", "sidecache; hit")],
    "more behind it": [("Date", "d"), ("Age", "1"), ("Cache-Status", "sidecache; hit; ttl=5; detail=x")],
    "in another order": [("Date", "d"), ("Cache-Status", "sidecache; hit; ttl=5"), ("Age", "1")],
}


@pytest.mark.parametrize("pairs", SHAPES.values(), ids=SHAPES)
def test_a_head_of_another_shape_is_not_taken_apart(pairs):
    assert parted(Reply(200, Fields(pairs), b"", Outcome(Reason.FRESH))) is None


def test_a_head_is_taken_apart_at_what_is_ours():
    pairs = [
        ("age", "7"), ("Cache-Status", "other; ttl=9"), ("Date", "d"), ("Age", "1"),
        ("Cache-Status", "sidecache; hit; ttl=5"), ("Via", "v"),
    ]  # fmt: skip
    assert parted(Reply(200, Fields(pairs), b"", Outcome(Reason.FRESH))) == (
        b"HTTP/1.1 200 OK\r\nage: 7\r\nCache-Status: other; ttl=9\r\nDate: d\r\nAge: ",
        b"\r\nCache-Status: sidecache; hit; ttl=",
        b"\r\nVia: v\r\n\r\n",
    )


@pytest.mark.parametrize(
    "name", ["X-Request-ID", "DNT", "X-B3-TraceId", "Sec-CH-UA", "CF-RAY", "X-Real-IP", "traceparent"]
)
def test_a_field_is_left_out_in_each_spelling_that_is_in_use(name):
    lone = b"GET / HTTP/1.1\r\nHost: portal.test\r\n\r\n"
    assert UNREAD.sub(b"", lone[:-2] + name.encode() + b": 1\r\n\r\n") == lone


# What rules count

COUNTING = """
version: 1
identity: {tenant: jwt.org_id}
features:
  open: {ttl: 5m, scope: public, read: [{route: GET /open, count: {name: pages}}]}
"""


async def test_no_answer_is_prepared_before_it_is_known_what_it_counts_as():
    """Of a public route nobody had to know the caller, whose key may have to be learnt first."""
    known, tally = False, []

    def counted_of(request, match, identity, status):
        return Counted("org_a", "pages", None, "") if known else None

    made_so = partial(Hits, counted_of=counted_of, count=tally.append)
    async with served(COUNTING, made=made_so) as made, await prompt(made.port) as client:
        made.world.upstream.answer = lambda request, n: dated(b"{}")
        for _ in range(5):
            await ask(client, head("/open"))
            await made.settle()
        known = True
        for _ in range(5):
            await ask(client, head("/open"))
        assert len(tally) == 5
        assert made.counts[0] > 0


def test_what_is_left_of_a_head_is_the_same_when_the_rest_of_it_came_before():
    choices = Choices()

    def left(data):
        (line, rest), unread = choices(data)
        assert line == data.partition(b"\r\n")[0]
        return line + rest, unread

    for _ in range(3):
        for number, lines in itertools.product(
            range(3), (["Referer: a"], ["X: y", "Cookie: c"], ["Referer: a", "DNT: 1"])
        ):
            data = head(f"/api/jobs/{number}", *lines)
            assert left(data) == UNREAD.subn(b"", data)
    odd = [b"\r\nReferer: x\r\n" + head(), b"Referer: x" + head(), head().replace(b"\r\n", b"\n", 1)]
    for data in odd * 3:
        assert left(data) == UNREAD.subn(b"", data)
    for number in range(600):
        data = head("/api/jobs", f"Referer: {number}")
        assert [left(bytes(bytearray(data))) for _ in range(2)] == [UNREAD.subn(b"", data)] * 2
    assert len(choices._rests) <= 256
