"""A real browser, the sidecar and the demo portal: WebSockets and event streams as front ends use them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.demo import api
from proxy.demo.data import Size, fill
from proxy.demo.database import Database
from proxy.demo.issuer import Issuer
from tests.wire import sidecar

CHROMIUM = Path("/usr/bin/chromium")
ALONE = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]

# Each returns when it has seen all that it waits for.
SOCKET = """(jobs) => new Promise((resolve, reject) => {
  const seen = [], socket = new WebSocket(location.origin.replace('http', 'ws') + '/api/live');
  socket.binaryType = 'arraybuffer';
  socket.onerror = () => reject(new Error('the socket failed'));
  socket.onopen = () => {
    socket.send('how are you?');
    socket.send('x'.repeat(200000));
    socket.send(new Uint8Array([0, 255, 128]));
    fetch(jobs, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"title": "Welder"}'});
  };
  socket.onmessage = ({data}) => {
    const event = typeof data === 'string' ? JSON.parse(data) : {type: 'bytes', bytes: [...new Uint8Array(data)]};
    if (event.type === 'tick' && seen.some((each) => each.type === 'tick')) return;
    seen.push(event);
    if (seen.length === 6) socket.close(4001, 'enough');
  };
  socket.onclose = ({code, wasClean}) => resolve({seen, code, wasClean});
})"""

EVENTS = """() => new Promise((resolve, reject) => {
  const seen = [], source = new EventSource('/api/stream');
  const note = ({type, data, lastEventId}) => {
    seen.push([type, JSON.parse(data), lastEventId]);
    if (seen.length === 4) { source.close(); resolve(seen); }
  };
  for (const type of ['hello', 'tick']) source.addEventListener(type, note);
  source.onerror = () => reject(new Error('the stream failed'));
})"""


@pytest.fixture
async def portal(unused_tcp_port: int) -> AsyncIterator[str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    database = Database(lambda connection: fill(connection, Size(companies=5, jobs=10, applications=10), now=1.7e9))
    runner = web.AppRunner(api.make(database, Issuer("http://portal.test", key), tick=0.05), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield f"http://127.0.0.1:{unused_tcp_port}"
    await runner.cleanup()


@pytest.fixture
async def page(portal: str, tmp_path: Path) -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with ClientSession() as session, session.post(f"{portal}/oauth/token", json={"org": "org_acme"}) as response:
        token = (await response.json())["access_token"]
    async with sidecar(int(portal.rpartition(":")[2]), tmp_path) as running, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE.split())
        context = await browser.new_context(
            extra_http_headers={"Authorization": f"Bearer {token}"}, base_url=f"http://127.0.0.1:{running.data_port}"
        )
        opened = await context.new_page()
        await opened.goto("/.sidecache/livez")  # a page of the origin that everything else is asked from
        yield opened
        await browser.close()


async def test_a_websocket_of_a_page(page):
    async with asyncio.timeout(20):
        got = await page.evaluate(SOCKET, "/api/jobs")
    kinds = [event["type"] for event in got["seen"]]
    assert kinds[0] == "hello"
    assert sorted(kinds) == ["bytes", "echo", "echo", "hello", "job.created", "tick"]
    echoes = [event["text"] for event in got["seen"] if event["type"] == "echo"]
    assert echoes == ["how are you?", "x" * 200_000]
    assert [event["bytes"] for event in got["seen"] if event["type"] == "bytes"] == [[0, 255, 128]]
    assert (got["code"], got["wasClean"]) == (1000, True)  # with which the portal answers any close


async def test_an_event_stream_of_a_page(page):
    async with asyncio.timeout(20):
        seen = await page.evaluate(EVENTS)
    assert seen[0] == ["hello", {"type": "hello", "org_id": "org_acme"}, "0"]
    assert seen[1:] == [["tick", {"type": "tick", "number": n}, str(n)] for n in (1, 2, 3)]
