from aiohttp import WSMsgType

from proxy.demo.live import HUB, Hub
from tests.wire import until


async def test_the_socket_greets_ticks_echoes_and_tells_the_news(portal, acme):
    async with portal.ws_connect("/api/live", headers=acme) as socket:
        assert await socket.receive_json() == {"type": "hello", "org_id": "org_acme"}
        assert await socket.receive_json() == {"type": "tick", "number": 1}
        await socket.send_str("how are you?")
        await socket.send_bytes(b"\x00\xff")
        async with portal.post("/api/jobs", headers=acme, json={"title": "Welder"}) as response:
            made = await response.json()
        wanted = [{"type": "echo", "text": "how are you?"}, b"\x00\xff"]
        wanted.append({"type": "job.created", "id": made["id"], "title": "Welder"})
        while wanted:
            message = await socket.receive(timeout=5)
            event = message.json() if message.type is WSMsgType.TEXT else message.data
            if event in wanted:
                wanted.remove(event)


async def test_the_stream_sends_frames_with_ids(portal, acme):
    async with portal.get("/api/stream", headers=acme) as response:
        assert (response.content_type, response.headers["Cache-Control"]) == ("text/event-stream", "no-store")
        assert await response.content.readuntil(b"\n\n") == (
            b'id: 0\nevent: hello\ndata: {"type":"hello","org_id":"org_acme"}\n\n'
        )
        assert await response.content.readuntil(b"\n\n") == b'id: 1\nevent: tick\ndata: {"type":"tick","number":1}\n\n'


async def test_a_client_that_leaves_is_forgotten(portal, acme):
    hub = portal.app[HUB]
    async with portal.ws_connect("/api/live", headers=acme) as socket:
        await socket.receive_json()
        assert len(hub._listeners) == 1
    response = await portal.get("/api/stream", headers=acme)
    await response.content.readuntil(b"\n\n")
    response.close()
    await until(lambda: not hub._listeners)


async def test_news_stay_in_their_organisation_and_a_full_listener_misses_some():
    hub = Hub(tick=60)
    async with hub.listen("org_acme") as ours, hub.listen("org_globex") as theirs:
        hub.publish("org_acme", {"type": "first"})
        for _ in range(200):
            hub.publish("org_globex", {"type": "other"})
        hub.close()
        assert [event["type"] async for event in ours] == ["first"]
        assert {event["type"] async for event in theirs} == {"other"}


async def test_shutting_down_ends_open_streams(portal, acme):
    async with portal.ws_connect("/api/live", headers=acme) as socket:
        await socket.receive_json()
        portal.app[HUB].close()
        while (message := await socket.receive(timeout=5)).type is WSMsgType.TEXT:
            pass
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
