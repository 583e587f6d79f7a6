"""A real browser: EventSource with a ticket, away and back, a restart meanwhile; tabs that share one stream."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.app import running
from proxy.demo import api
from proxy.demo.data import Size, fill
from proxy.demo.database import Database
from proxy.demo.issuer import AUDIENCE, Issuer
from proxy.settings import load
from tests import servers
from tests.admin.test_dashboard_browser import serious
from tests.faults.scene import plain, reached_at
from tests.http.test_browser import ALONE, CHROMIUM

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]
KEY = (
    f"k1:{b64encode(bytes(range(7, 39))).decode()}"  # applications are sensitive: they leave the process encrypted only
)
RULES = Path(__file__).parents[2] / "rules.yaml"

# A ticket, then a stream that remembers on the page what it has got.
OPEN = """async (token) => {
  const answer = await fetch('/.sidecache/ticket', {method: 'POST', headers: {Authorization: 'Bearer ' + token}});
  if (answer.status !== 204) throw new Error('no ticket: ' + answer.status);
  window.seen = []; window.hellos = []; window.errors = 0;
  window.source = new EventSource('/.sidecache/events');
  source.addEventListener('hello', ({data}) => hellos.push(JSON.parse(data)));
  source.addEventListener('application.submitted', ({data, lastEventId}) => seen.push([lastEventId, JSON.parse(data)]));
  source.onerror = () => { errors += 1; };
}"""
# Again, from where the last one was, as a page does whose stream was refused while it was away.
AGAIN = """async (token) => {
  await fetch('/.sidecache/ticket', {method: 'POST', headers: {Authorization: 'Bearer ' + token}});
  source.close();
  window.source = new EventSource('/.sidecache/events?after=' + encodeURIComponent(seen.at(-1)[0]));
  source.addEventListener('hello', ({data}) => hellos.push(JSON.parse(data)));
  source.addEventListener('application.submitted', ({data, lastEventId}) => seen.push([lastEventId, JSON.parse(data)]));
}"""


class Portal:
    """The demo portal, its tokens, and applications that others submit."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    async def token(self) -> str:
        async with ClientSession() as session, session.post(f"{self.url}/oauth/token", json={"org": "org_acme"}) as got:
            return str((await got.json())["access_token"])

    async def submit(self, sidecar: int, count: int = 1) -> list[str]:
        """Through the sidecar; the ids of what was made."""
        headers = {"Authorization": f"Bearer {await self.token()}"}
        base, made = f"http://127.0.0.1:{sidecar}/api/jobs", []
        async with ClientSession(headers=headers) as session:
            async with session.get(f"{base}?status=open") as got:
                job = (await got.json())["items"][0]["id"]
            for _ in range(count):
                draft = {"candidate": "Sam Doe", "email": "sam@example.com"}
                async with session.post(f"{base}/{job}/applications", json=draft) as got:
                    assert got.status == 201
                    made.append((await got.json())["id"])
        return made


@pytest.fixture
async def portal(unused_tcp_port: int) -> AsyncIterator[Portal]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    database = Database(lambda connection: fill(connection, Size(companies=5, jobs=10, applications=10), now=1.7e9))
    made = Portal(unused_tcp_port)
    runner = web.AppRunner(api.make(database, Issuer(made.url, key)), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield made
    await runner.cleanup()


@asynccontextmanager
async def sidecar(portal: Portal, port: int, **environ: str) -> AsyncIterator[int]:
    settings = load(
        {"SIDECACHE_DRAIN_S": "2", "SIDECACHE_ENCRYPTION_KEYS": KEY, **environ},
        upstream=portal.url, rules=str(RULES), listen=f"127.0.0.1:{port}", admin="127.0.0.1:0", profile="development",
        jwt_issuer=f"{portal.url}/", jwt_audience=AUDIENCE, jwks_url=f"{portal.url}/.well-known/jwks.json",
    )  # fmt: skip
    async with running(settings) as started:
        yield started.data_port


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE.split())
        yield opened
        await opened.close()


async def seen(page: Any, count: int) -> list[str]:
    """The applications that the page has got, when there are as many and a moment has passed."""
    async with asyncio.timeout(20):
        await page.wait_for_function(f"seen.length >= {count}")
    return [data["application"] for _, data in await page.evaluate("seen")]


async def opened(browser: Any, port: int) -> Any:
    context = await browser.new_context(base_url=f"http://localhost:{port}")
    page = await context.new_page()
    await page.goto("/.sidecache/livez")
    return page


async def test_an_application_arrives_and_after_being_away_each_of_three_once_in_order(browser, portal):
    async with sidecar(portal, 0) as port:
        page = await opened(browser, port)
        await page.evaluate(OPEN, await portal.token())
        await page.wait_for_function("hellos.length === 1")
        first = await portal.submit(port)
        assert await seen(page, 1) == first
        await page.evaluate("source.close()")
        await page.context.set_offline(True)
        later = await portal.submit(port, 3)
        await page.context.set_offline(False)
        await page.evaluate(AGAIN, await portal.token())
        assert await seen(page, 4) == [*first, *later]
        assert (await page.evaluate("hellos.at(-1)")) | {"epoch": ""} == {"recovered": True, "missed": 3, "epoch": ""}
        fifth = await portal.submit(port)
        assert await seen(page, 5) == [*first, *later, *fifth]


@servers.needs_redis
async def test_a_sidecar_that_is_restarted_meanwhile_changes_nothing(browser, portal):
    with plain() as server:
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(sidecar(portal, 0, **reached_at(server)))
            page = await opened(browser, port)
            await page.evaluate(OPEN, await portal.token())
            await page.wait_for_function("hellos.length === 1")
            first = await portal.submit(port)
            assert await seen(page, 1) == first
        # the browser comes back by itself: its ticket is good for a minute
        async with sidecar(portal, port, **reached_at(server)):
            later = await portal.submit(port, 3)
            assert await seen(page, 4) == [*first, *later]
            assert await page.evaluate("hellos.map((each) => each.recovered)") == [True, True]
            assert await page.evaluate("new Set(seen.map(([id]) => id)).size") == 4


async def test_a_page_of_another_origin_hears_nothing(browser, portal):
    async with sidecar(portal, 0) as port:
        page = await opened(browser, port)
        await page.goto(f"{portal.url}/")
        assert (
            await page.evaluate(
                """(url) => new Promise((resolve) => {
              const source = new EventSource(url, {withCredentials: true});
              source.onerror = () => resolve(source.readyState);
            })""",
                f"http://localhost:{port}/.sidecache/events",
            )
            == 2
        )  # closed for good


@asynccontextmanager
async def demo_page(browser: Any, port: int, width: int = 1280) -> AsyncIterator[Any]:
    """The demo's page; at its end nothing was said on the console."""
    context = await browser.new_context(
        base_url=f"http://localhost:{port}", viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
    page = await context.new_page()
    page.set_default_timeout(15_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto("/_demo/live")
    await page.locator("#state", has_text="connected").wait_for()
    yield page
    assert said == []


async def test_the_demo_page_shows_applications_live_and_tabs_share_one_stream(browser, portal):
    async with sidecar(portal, 0) as port, demo_page(browser, port) as one:
        two = await one.context.new_page()
        await two.goto("/_demo/live")
        await one.get_by_role("button", name="Submit an application").click()
        for page in (one, two):
            await page.locator("#events li").wait_for()
        await one.close()  # the other tab takes over
        await two.locator("#state", has_text="connected").wait_for()
        (made,) = await portal.submit(port)
        await two.locator("#events li", has_text=f"{made} for").wait_for()
        assert await two.locator("#events li").count() == 2


async def test_the_demo_page_shows_reports_that_change_while_one_looks_at_them(browser, portal):
    async with sidecar(portal, 0) as port, demo_page(browser, port) as page:
        loads = await page.evaluate("performance.timeOrigin")
        views, applications = page.locator("#report-job-views"), page.locator("#report-applications")
        await page.get_by_role("button", name="View five jobs").click()
        await views.locator(".figure strong", has_text="5").wait_for()
        await views.locator("tbody tr").nth(4).wait_for()
        await portal.submit(port, 2)
        await applications.locator(".figure strong", has_text="2").wait_for()
        await applications.locator("tbody tr", has_text="2").wait_for()
        await page.get_by_role("img", name="5 in the last hour, by minute").wait_for()
        assert await page.evaluate("performance.timeOrigin") == loads  # the same page all the while


async def test_what_came_while_the_demo_page_was_paused_is_unread_and_then_there(browser, portal):
    async with sidecar(portal, 0) as port, demo_page(browser, port) as page:
        first = await portal.submit(port)
        await page.locator("#events li", has_text=first[0]).wait_for()
        await page.get_by_role("button", name="Pause").click()
        later = await portal.submit(port, 2)
        await page.locator("#unread", has_text="2").wait_for()
        assert await page.title() == "(2) Live portal"
        await page.get_by_role("button", name="Pause").click()
        await page.locator("#state", has_text="connected, 2 missed").wait_for()
        await page.locator("#events li.missed").nth(1).wait_for()
        await page.locator("#report-applications .figure strong", has_text="3").wait_for()  # told to nobody meanwhile
        assert [text.split()[0] for text in await page.locator("#events li").all_inner_texts()] == [
            *reversed(later), *first,
        ]  # fmt: skip


@pytest.mark.parametrize("width", [1280, 390])
async def test_the_demo_page_is_for_everybody_and_fits(browser, portal, width):
    async with sidecar(portal, 0) as port, demo_page(browser, port, width) as page:
        await page.get_by_role("button", name="View five jobs").click()
        await page.get_by_role("button", name="Submit an application").click()
        await page.locator("#events li").wait_for()
        await page.locator("#report-job-views tbody tr").first.wait_for()
        assert await serious(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
