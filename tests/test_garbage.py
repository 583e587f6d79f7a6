"""proxy.garbage: what has survived a full pass is not looked at by the next one; everything is, now and then."""

import gc
from collections.abc import Iterator

import pytest

from proxy.garbage import EVERYTHING_AFTER, Survivors, freeze_survivors
from proxy.serving.upstream import HttpUpstream, Timeouts
from tests.serving.short import head, prompt, served
from tests.serving.world import RULES
from tests.wire import Message, Peer, chunked, response, upstream


@pytest.fixture
def survivors() -> Iterator[Survivors]:
    before = list(gc.callbacks)
    freeze_survivors()
    (made,) = [each for each in gc.callbacks if isinstance(each, Survivors)]
    yield made
    gc.callbacks[:] = before
    gc.unfreeze()


def test_what_survives_a_full_pass_is_not_looked_at_again(survivors):
    kept = [[n] for n in range(1000)]
    gc.collect()
    assert not any(each is kept[7] for each in gc.get_objects())
    later = [[n] for n in range(10)]
    assert any(each is later[7] for each in gc.get_objects())


def test_a_younger_pass_freezes_nothing(survivors):
    frozen = gc.get_freeze_count()
    gc.collect(1)
    assert gc.get_freeze_count() <= frozen


def test_now_and_then_everything_is_looked_at_again(survivors):
    kept = [[n] for n in range(1000)]
    while survivors.passes % EVERYTHING_AFTER != EVERYTHING_AFTER - 1:
        gc.collect()
    gc.collect()
    assert gc.get_freeze_count() == 0
    assert any(each is kept[7] for each in gc.get_objects())
    gc.collect()
    assert gc.get_freeze_count() > 1000


def test_a_process_freezes_them_once(survivors):
    freeze_survivors()
    assert sum(isinstance(each, Survivors) for each in gc.callbacks) == 1


REQUESTS = {
    "forwarded": (head("/x/{}"),),
    "missed": (head("/api/jobs?page={}"),),
    "hit": (head("/api/jobs"), head("/api/jobs")),
    "a write": (head("/api/jobs/{}", method="PUT"),),
    "a long miss": (head("/api/jobs?long={}"),),
    "unchanged": (head("/api/jobs?page={}", 'If-None-Match: "1"'),),
    "a part": (head("/api/jobs?page={}", "Range: bytes=0-1"),),
}


async def _answer(request: Message, peer: Peer) -> None:
    if b"long" in request.target:
        await peer.send(chunked([b"a" * 100_000] * 3))
    else:
        await peer.send(response(b"{}", 'ETag: "1"', "Content-Type: application/json"))


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_request_leaves_nothing_of_ours_to_it(kind):
    """What is frozen while it is under way would stay until all is looked at again."""
    async with upstream(_answer) as up:
        through = HttpUpstream(f"http://127.0.0.1:{up.port}", Timeouts())
        async with served(RULES, through=through, forwards=True, fetches=True) as made:

            async def ask(number: int) -> None:
                async with await prompt(made.port) as client:
                    for each in REQUESTS[kind]:
                        await client.send(each.replace(b"{}", b"%d" % number))
                        await client.response()
                await made.settle()

            for number in range(3):  # what is made once and kept
                await ask(number)
            gc.collect()
            gc.disable()
            try:
                for number in range(3, 9):
                    await ask(number)
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                left = {type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("proxy.")}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            await through.close()
    assert left == set()
