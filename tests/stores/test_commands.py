"""Operations as commands: what is sent, together with what, and what becomes of replies, errors and cancellations."""

import asyncio
import gc

import pytest

from proxy.errors import StoreError, StoreRefusedError
from proxy.stores.base import Addition, Heard
from proxy.stores.commands import MAX_BATCH, CommandStore
from tests.doubles import settle


class ScriptedLink:
    """Answers each command from `answers` by its first word, notes batches, and waits at `gate` when there is one."""

    name = "redis"

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.batches: list[list[tuple]] = []
        self.failure: BaseException | None = None
        self.gate: asyncio.Event | None = None
        self.short = 0
        self.closed = False
        self.reports: list = []

    async def execute(self, commands):
        self.batches.append(list(commands))
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [self._answer(command) for command in commands][self.short :]

    def _answer(self, command):
        answer = self.answers.get(command[0], "OK")
        return answer(command) if callable(answer) else answer

    async def listen(self, channels):
        yield None
        yield Heard(channels[0], b"m")

    def on_disturbance(self, report):
        self.reports.append(report)

    async def close(self):
        self.closed = True
        if self.gate is not None:
            self.failure = StoreError("closed")
            self.gate.set()


def echo(command):
    return command[1].encode()


@pytest.mark.parametrize(
    ("call", "answer", "commands", "result"),
    [
        # realistic
        (lambda s: s.get(["a", "b"]), echo, [("GET", "a"), ("GET", "b")], [b"a", b"b"]),
        (lambda s: s.set("a", b"v", 900), "OK", [("SET", "a", b"v", "PX", 900_000)], None),
        (lambda s: s.claim("a", b"v", 2), b"OK", [("SET", "a", b"v", "NX", "PX", 2000)], True),
        (lambda s: s.claim("a", b"v", 2), "OK", [("SET", "a", b"v", "NX", "PX", 2000)], True),
        (lambda s: s.claim("a", b"v", 2), None, [("SET", "a", b"v", "NX", "PX", 2000)], False),
        (lambda s: s.delete(["a", "b"]), 1, [("DEL", "a"), ("DEL", "b")], 2),
        (lambda s: s.epochs("s", ["*", "jobs"]), [b"1", None], [("HMGET", "s", "*", "jobs")], [b"1", None]),
        (lambda s: s.create_epochs("s", {"a": b"1", "b": b"2"}), 1,
         [("HSETNX", "s", "a", b"1"), ("HSETNX", "s", "b", b"2")], None),
        (lambda s: s.advance_epochs("s", {"a": b"1", "b": b"2"}), 2, [("HSET", "s", "a", b"1", "b", b"2")], None),
        (lambda s: s.add([Addition("a", "9", 2, 60)]), 5, [("HINCRBY", "a", "9", 2)], [5]),
        (lambda s: s.counts(["a"]), [b"9", b"5", b"10", b"1"], [("HGETALL", "a")], [{"9": 5, "10": 1}]),
        (lambda s: s.counts(["a"]), {b"9": b"5"}, [("HGETALL", "a")], [{"9": 5}]),
        (lambda s: s.observe("a", ["x", "y"], 60), 0, [("PFADD", "a", "x", "y")], None),
        (lambda s: s.distinct(["a", "b"]), 7, [("PFCOUNT", "a", "b")], 7),
        (lambda s: s.publish("c", b"m"), 0, [("PUBLISH", "c", b"m")], None),
        (lambda s: s.ping(), b"PONG", [("PING",)], "PONG"),
        (lambda s: s.ping(), "PONG", [("PING",)], "PONG"),
        # pathological: a fraction of a millisecond is still a time to live
        (lambda s: s.set("a", b"v", 0.0001), "OK", [("SET", "a", b"v", "PX", 1)], None),
        (lambda s: s.set("a", b"v", 0.5), "OK", [("SET", "a", b"v", "PX", 500)], None),
    ],
)  # fmt: skip
async def test_an_operation_is_these_commands(call, answer, commands, result):
    link = ScriptedLink(**{commands[0][0]: answer})
    assert await call(CommandStore(link)) == result
    assert link.batches == [commands]


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda s: s.get([]), []),
        (lambda s: s.delete([]), 0),
        (lambda s: s.epochs("s", []), []),
        (lambda s: s.create_epochs("s", {}), None),
        (lambda s: s.advance_epochs("s", {}), None),
    ],
    ids="get delete epochs create advance".split(),
)
async def test_nothing_to_do_sends_nothing(call, result):
    link = ScriptedLink()
    assert await call(CommandStore(link)) == result
    assert link.batches == []


async def test_what_is_read_in_one_turn_of_the_loop_is_one_batch():
    link = ScriptedLink(GET=echo, HMGET=[b"1"])
    store = CommandStore(link)
    read = await asyncio.gather(*(store.get([str(n)]) for n in range(20)), store.epochs("s", ["*"]), store.get(["x"]))
    assert read == [[str(n).encode()] for n in range(20)] + [[b"1"], [b"x"]]
    assert len(link.batches) == 1


async def test_the_next_turn_does_not_wait_for_the_last_one():
    link = ScriptedLink(GET=echo)
    link.gate = asyncio.Event()
    store = CommandStore(link)
    first = asyncio.ensure_future(store.get(["a"]))
    await settle()
    second = asyncio.ensure_future(store.get(["b"]))
    await settle()
    assert link.batches == [[("GET", "a")], [("GET", "b")]]
    link.gate.set()
    assert await asyncio.gather(first, second) == [[b"a"], [b"b"]]


async def test_a_batch_is_bounded_and_a_long_read_is_cut():
    link = ScriptedLink(GET=echo)
    store = CommandStore(link)
    names = [str(n) for n in range(2 * MAX_BATCH + 7)]
    long, short = await asyncio.gather(store.get(names), store.get(["x"]))
    assert (long, short) == ([name.encode() for name in names], [b"x"])
    assert [len(batch) for batch in link.batches] == [MAX_BATCH, MAX_BATCH, 8]


async def test_writes_go_at_once_and_alone():
    link = ScriptedLink(GET=echo)
    store = CommandStore(link)
    await asyncio.gather(store.get(["a"]), store.set("b", b"", 1), store.get(["c"]))
    assert sorted(map(len, link.batches)) == [1, 2]


async def test_an_error_of_one_command_is_the_error_of_who_sent_it():
    link = ScriptedLink(GET=lambda command: StoreError("WRONGTYPE") if command[1] == "bad" else echo(command))
    store = CommandStore(link)
    read = await asyncio.gather(*(store.get([name]) for name in ("a", "bad", "b")), return_exceptions=True)
    assert (read[0], read[2]) == ([b"a"], [b"b"])
    assert str(read[1]) == "WRONGTYPE"
    assert isinstance(read[1], StoreError)


async def test_an_error_of_one_name_is_its_own_where_each_is_read_for_itself():
    answers = {"bad": StoreError("WRONGTYPE"), "odd": 7}
    store = CommandStore(ScriptedLink(GET=lambda command: answers.get(command[1]) or echo(command)))
    good, bad, odd, other = await store.get_each(["a", "bad", "odd", "b"])
    assert (good, other) == (b"a", b"b")
    assert [str(each) for each in (bad, odd)] == ["WRONGTYPE", "the store answered with something that is no value"]


async def test_no_reply_at_all_is_everybody_s_error_and_each_has_their_own():
    link = ScriptedLink()
    link.failure = StoreError("refused")
    store = CommandStore(link)
    read = await asyncio.gather(store.get(["a"]), store.get(["b"]), return_exceptions=True)
    assert [str(each) for each in read] == ["refused", "refused"]
    assert read[0] is not read[1]


@pytest.mark.parametrize(
    ("call", "answers"),
    [
        (lambda s: s.get(["a"]), {"GET": 7}),
        (lambda s: s.get(["a"]), {"GET": "text"}),
        (lambda s: s.epochs("s", ["a", "b"]), {"HMGET": [b"1"]}),
        (lambda s: s.epochs("s", ["a"]), {"HMGET": b"1"}),
        (lambda s: s.epochs("s", ["a"]), {"HMGET": [1]}),
        (lambda s: s.delete(["a"]), {"DEL": b"1"}),
    ],
)
async def test_an_answer_of_another_kind_is_an_error_and_never_a_value(call, answers):
    with pytest.raises(StoreError, match="the store answered"):
        await call(CommandStore(ScriptedLink(**answers)))


async def test_a_reply_too_few_is_nobody_s_value():
    link = ScriptedLink(GET=echo)
    link.short = 1
    with pytest.raises(StoreError, match="another number"):
        await CommandStore(link).get(["a", "b"])


async def test_a_cancelled_reader_takes_nothing_from_the_others_and_interrupts_nothing():
    link = ScriptedLink(GET=echo)
    link.gate = asyncio.Event()
    store = CommandStore(link)
    readers = [asyncio.ensure_future(store.get([name])) for name in "abc"]
    await settle()
    readers[1].cancel()
    await settle()
    link.gate.set()
    read = await asyncio.gather(*readers, return_exceptions=True)
    assert (read[0], read[2]) == ([b"a"], [b"c"])
    assert isinstance(read[1], asyncio.CancelledError)


async def test_a_reader_cancelled_in_the_same_turn_is_not_sent():
    link = ScriptedLink(GET=echo)
    store = CommandStore(link)
    gone, stays = (asyncio.ensure_future(store.get([name])) for name in "ab")
    asyncio.get_running_loop().call_soon(gone.cancel)
    assert await stays == [b"b"]
    assert link.batches == [[("GET", "b")]]


async def test_a_cancelled_write_is_carried_out():
    link = ScriptedLink()
    link.gate = asyncio.Event()
    store = CommandStore(link)
    write = asyncio.ensure_future(store.set("a", b"v", 1))
    await settle()
    write.cancel()
    await settle()
    link.failure = StoreError("and nobody is there to hear it")
    link.gate.set()
    await settle()
    assert link.batches == [[("SET", "a", b"v", "PX", 1000)]]


async def test_closing_ends_what_is_under_way():
    link = ScriptedLink()
    link.gate = asyncio.Event()
    store = CommandStore(link)
    reading = asyncio.ensure_future(store.get(["a"]))
    await settle()
    await store.close()
    with pytest.raises(StoreError):
        await reading
    assert link.closed
    with pytest.raises(StoreError, match="closed"):
        await store.get([])


async def test_a_defect_of_the_link_ends_the_wait_and_is_not_hidden(caplog):
    link = ScriptedLink()
    link.failure = ZeroDivisionError()
    loop = asyncio.get_running_loop()
    told: list = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    with pytest.raises(StoreError, match="the store's client failed: ZeroDivisionError"):
        await CommandStore(link).get(["a"])
    gc.collect()
    await settle()
    assert told == [link.failure]


async def test_a_hash_gets_its_end_when_a_field_is_new_and_a_set_when_it_changed():
    link = ScriptedLink(HINCRBY=lambda command: 2 if command[1] == "new" else 9, PFADD=1, PEXPIRE=1)
    store = CommandStore(link)
    assert await store.add([Addition("new", "1", 2, 60), Addition("old", "1", 2, 60)]) == [2, 9]
    await store.observe("set", ["x"], 30)
    assert link.batches[1:] == [[("PEXPIRE", "new", 60_000)], [("PFADD", "set", "x")], [("PEXPIRE", "set", 30_000)]]


async def test_what_was_added_is_told_even_when_its_end_could_not_be_set():
    link = ScriptedLink(HINCRBY=1)
    store = CommandStore(link)
    adding = asyncio.ensure_future(store.add([Addition("a", "1", 1, 60)]))
    link.gate = asyncio.Event()
    link.gate.set()
    link.answers["PEXPIRE"] = StoreError("lost")
    assert await adding == [1]


async def test_each_addition_has_its_number_or_its_own_error():
    refusal, doubt = StoreRefusedError("wrong kind"), StoreError("the connection was lost")
    link = ScriptedLink(HINCRBY=lambda command: {"a": 3, "b": refusal, "c": doubt, "d": b"what"}[command[1]])
    one, two, three, four = await CommandStore(link).add([Addition(name, "1", 1, 60) for name in "abcd"])
    assert (one, two, three) == (3, refusal, doubt)
    assert isinstance(four, StoreError)
    assert not isinstance(four, StoreRefusedError)


@pytest.mark.parametrize("failure", [StoreRefusedError("down"), StoreError("lost")])
async def test_no_reply_at_all_is_the_error_of_each_addition(failure):
    link = ScriptedLink()
    link.failure = failure
    (told,) = await CommandStore(link).add([Addition("a", "1", 1, 60)])
    assert type(told) is type(failure)


@pytest.mark.parametrize("answer", [[b"9", b"x"], [b"9"], b"9", {b"9": None}])
async def test_what_is_no_hash_of_numbers_is_an_error(answer):
    with pytest.raises((StoreError, ValueError)):
        await CommandStore(ScriptedLink(HGETALL=answer)).counts(["a"])
