"""Connections that are open for long end with the credential they were opened with."""

import asyncio

from proxy.policy.identity import Presented, Standing
from proxy.sessions.open_streams import OpenStreams
from tests.doubles import FakeClock


class Standings:
    any = True
    version = 0

    def __init__(self) -> None:
        self.revoked: set[str] = set()

    def of(self, presented: Presented) -> Standing:
        return Standing.REVOKED if presented.user in self.revoked else Standing.OUTDATED


async def test_only_those_of_the_revoked_end_and_each_once():
    standings, streams, ended = Standings(), OpenStreams(FakeClock()), []
    for user in ("u1", "u2", "u1"):
        streams.watch(Presented(user), lambda user=user: ended.append(user))
    streams.judge(standings)
    assert ended == []
    standings.revoked.add("u1")
    streams.judge(standings)
    streams.judge(standings)
    assert ended == ["u1", "u1"]
    assert (len(streams), streams.ended) == (1, 2)


async def test_what_has_closed_by_itself_is_watched_no_more():
    standings, streams, ended = Standings(), OpenStreams(FakeClock()), []
    release = streams.watch(Presented("u1", expires=FakeClock()() + 60), lambda: ended.append("u1"))
    release()
    release()
    standings.revoked.add("u1")
    streams.judge(standings)
    assert (ended, len(streams)) == ([], 0)


async def test_it_ends_when_the_token_expires():
    clock, ended = FakeClock(), asyncio.Event()
    streams = OpenStreams(clock)
    streams.watch(Presented("u1", expires=clock() + 0.01), ended.set)
    streams.watch(Presented("u2"), lambda: None)  # of a token without an end
    async with asyncio.timeout(5):
        await ended.wait()
    assert len(streams) == 1


async def test_ending_one_may_release_another():
    standings, streams = Standings(), OpenStreams(FakeClock())
    releases = []
    for _ in range(2):
        releases.append(streams.watch(Presented("u1"), lambda: [release() for release in releases]))
    standings.revoked.add("u1")
    streams.judge(standings)
    assert len(streams) == 0
