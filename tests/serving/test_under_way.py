"""proxy.serving.under_way: whoever closes waits until nothing is answered any more."""

import asyncio

from proxy.serving.under_way import UnderWay
from tests.wire import LIMIT


async def test_it_waits_for_the_last_one():
    under_way = UnderWay()
    await asyncio.wait_for(under_way.ended(), LIMIT)
    under_way.begin()
    under_way.begin()
    waiting = asyncio.create_task(under_way.ended())
    under_way.end()
    await asyncio.sleep(0)
    assert not waiting.done()
    under_way.end()
    await asyncio.wait_for(waiting, LIMIT)


async def test_what_begins_while_it_waits_is_waited_for_too():
    under_way = UnderWay()
    under_way.begin()
    waiting = asyncio.create_task(under_way.ended())
    await asyncio.sleep(0)
    under_way.end()
    under_way.begin()
    await asyncio.sleep(0)
    assert not waiting.done()
    under_way.end()
    await asyncio.wait_for(waiting, LIMIT)
