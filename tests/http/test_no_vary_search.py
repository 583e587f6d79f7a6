"""No-Vary-Search (draft-ietf-httpbis-no-vary-search): parameters that the origin says do not select its response."""

import asyncio

import pytest

from proxy.policy.message import Fields, Response
from tests.http.plain import RULES, Ask, Says, played, table
from tests.serving.world import Answer, ScriptedStream, World, unsigned

SAME = "URLs ... are equivalent modulo search variance"
DEFAULT = "if the field does not parse, or is not as defined, the default: every parameter counts"


@table(
    ("sentence", "says", "first", "second", "how"),
    [
        # realistic
        (SAME + ": named", 'params=("x")', "/a?x=1&q=1", "/a?x=2&q=1", "hit"),
        (SAME + ": named, and absent", 'params=("x")', "/a?x=1", "/a", "hit"),
        (SAME + ": another one differs", 'params=("x")', "/a?x=1&q=1", "/a?x=1&q=2", "fetched"),
        (SAME + ": all", "params", "/a?x=1", "/a?y=2", "hit"),
        (SAME + ": all but", 'params, except=("q")', "/a?q=1&x=1", "/a?y=1&q=1", "hit"),
        (SAME + ": all but one that differs", 'params, except=("q")', "/a?q=1", "/a?q=2", "fetched"),
        (SAME + ": key-order", "key-order", "/a?a=1&b=2", "/a?b=2&a=1", "hit"),
        (SAME + ": of this path alone", 'params=("x")', "/a?x=1", "/b?x=2", "fetched"),
        # pathological
        (SAME + ": names are compared decoded", 'params=("a+b")', "/a?a%20b=1", "/a?a+b=2", "hit"),
        (
            "a query in which others may see other parameters: every one counts",
            "params",
            "/a?x=1;q=2",
            "/a?x=1;q=3",
            "fetched",
        ),
        (DEFAULT + ": no list of strings", "params=(x)", "/a?x=1", "/a?x=2", "fetched"),
        (DEFAULT + ": except alone", 'except=("q")', "/a?x=1", "/a?x=2", "fetched"),
        (DEFAULT + ": no dictionary", 'params=("x"', "/a?x=1", "/a?x=2", "fetched"),
    ],
)
async def test_the_origin_says_which_parameters_select(sentence, says, first, second, how):
    found = Says({"Cache-Control": "max-age=60", "No-Vary-Search": says})
    _, later = await played(Ask(found, target=first), Ask(target=second))
    assert later.how == how


async def test_the_upstream_is_asked_for_the_whole_target():
    """Only the response that comes says whether the rest of it mattered."""
    says = Says({"Cache-Control": "max-age=60", "No-Vary-Search": 'params=("x")'})
    _, stale = await played(Ask(says, target="/a?x=1"), Ask(says, target="/a?x=2", after=61))
    assert stale.upstream.target == "/a?x=2"


async def test_a_response_that_does_not_say_so_answers_its_own_query_alone():
    said = Says({"Cache-Control": "max-age=60", "No-Vary-Search": 'params=("x")'})
    silent = Says({"Cache-Control": "max-age=60"})
    targets = ["/a?x=1", "/a?x=1&q=1", "/a?x=2&q=1", "/a?x=1&q=1"]
    found = await played(*[Ask(said if n == 0 else silent, target=target) for n, target in enumerate(targets)])
    assert [answer.how for answer in found] == ["fetched", "fetched", "fetched", "hit"]


async def test_a_validated_response_goes_by_its_newest_word():
    said = {"Cache-Control": "max-age=60", "ETag": '"1"', "No-Vary-Search": 'params=("x")'}
    later = said | {"No-Vary-Search": 'params=("y")'}
    found = await played(
        Ask(Says(said), target="/a?x=1"),
        Ask(Says(later, status=304), target="/a?x=1", after=61),
        Ask(target="/a?x=1&y=2"),
        Ask(target="/a?x=2"),
    )
    assert [answer.how for answer in found] == ["fetched", "validated", "hit", "fetched"]


async def test_a_rule_with_a_query_of_its_own_decides_itself():
    rules = RULES.replace("write: []", "write: [], query: [q, x]")
    says = Says({"Cache-Control": "max-age=60", "No-Vary-Search": "params"})
    _, later = await played(Ask(says, target="/a?x=1"), Ask(target="/a?x=2"), rules=rules)
    assert later.how == "fetched"


async def test_a_write_to_the_path_finds_it():
    says = Says({"Cache-Control": "max-age=60", "No-Vary-Search": "params"})
    *_, later = await played(
        Ask(says, target="/a?x=1"), Ask(method="POST", target="/a", body=b"b"), Ask(target="/a?x=2")
    )
    assert later.how == "fetched"


TENANTS = """
version: 1
features:
  jobs: {ttl: origin, read: ["GET /jobs"], write: []}
"""


@pytest.mark.isolation
async def test_no_tenant_learns_from_another():
    world = World(TENANTS)
    heads = {"Cache-Control": "max-age=60", "No-Vary-Search": "params"}
    world.upstream.answer = lambda request, n: _stream(heads)
    await world.get("/jobs?x=1", token=unsigned("org_a"))
    world.upstream.answer = lambda request, n: _stream({"Cache-Control": "max-age=60"})
    for target in ("/jobs?x=1", "/jobs?x=2"):
        await world.get(target, token=unsigned("org_b"))
    assert len(world.upstream.asked) == 3
    assert "hit" in ((await world.get("/jobs?x=3", token=unsigned("org_a"))).cache or "")


def _stream(heads: dict[str, str]) -> ScriptedStream:
    return ScriptedStream(Response(200, Fields([*heads.items(), ("Content-Length", "4")])), [b"body"], framed=True)


async def test_who_waits_for_one_response_gets_it_only_by_its_own_word():
    world = World(RULES)
    gate = asyncio.Event()
    world.upstream.answer = lambda request, n: _stream({"Cache-Control": "max-age=60", "No-Vary-Search": "params"})
    await world.get("/a?x=0", token="")
    world.clock.advance(61)
    silent = {"Cache-Control": "max-age=60"}
    world.upstream.answer = lambda request, n: _stream(silent)
    world.upstream.gate = gate
    waiting = [asyncio.ensure_future(world.begin("GET", f"/a?x={n}", token="")) for n in (1, 1, 2)]
    await world.settle()
    gate.set()
    replies = [await Answer.of(await reply) for reply in waiting]
    assert [reply.status for reply in replies] == [200, 200, 200]
    # one for both who asked the same, and one for the third, whose query the response does not speak of
    assert sorted(request.target for request in world.upstream.asked[1:]) == ["/a?x=1", "/a?x=2"]
