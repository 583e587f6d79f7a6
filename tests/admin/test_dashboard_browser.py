"""The dashboard in a real browser: its policy, live, by keyboard, for screen readers, in both themes and widths."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient

from proxy.admin.access import Actor
from proxy.policy.outcome import Forward, Outcome, Reason
from tests.admin.world import TOKENS, World, port

CHROMIUM = Path("/usr/bin/chromium")
ALONE = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"

pytestmark = [
    pytest.mark.process,
    pytest.mark.asyncio(loop_scope="module"),  # one browser for all of them
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]

VIEWS = "overview requests explain features tenants store rules keys audit".split()
HIT = Outcome(Reason.FRESH, hit=True, ttl=9, feature="jobs", tenant="org_a")
MISS = Outcome(Reason.COLD, forward=Forward.URI_MISS, stored=True, feature="jobs", tenant="org_a")
MARKUP = "<img/src=x/onerror=document.title='owned'>"


@dataclass
class Opened:
    """A page of the dashboard, what stands behind it, and what its console has said."""

    world: World
    client: TestClient
    page: Any
    said: list[str]

    async def turn(self) -> None:
        """Two seconds pass for the sidecar: a frame for each viewer."""
        self.world.clock.advance(2.0)
        await self.world.course.turn()

    async def go(self, view: str) -> None:
        await self.page.evaluate("view => { location.hash = view; }", view)
        await self.page.locator(f"#views a[aria-current][href='#{view}']").wait_for()
        await self.turn()

    async def text(self, selector: str) -> str:
        return str(await self.page.locator(selector).first.inner_text())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE.split())
        yield opened
        await opened.close()


@asynccontextmanager
async def dashboard(
    browser: Any, tmp_path: Path, profile: str = "development", *, width: int = 1280, scheme: str = "light"
) -> AsyncIterator[Opened]:
    async with port(tmp_path, profile) as (world, client):
        await world.course.turn()
        context = await browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=str(client.make_url("/"))
        )
        page = await context.new_page()
        page.set_default_timeout(8000)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto("/")
        if profile == "development":
            await page.locator("#pulse.on").wait_for()
        yield Opened(world, client, page, said)
        await context.close()


async def traffic(world: World) -> None:
    """Some of everything that the views show."""
    for path in ("/api/jobs", "/api/jobs/77", "/api/secrets/s1", "/api/countries"):
        await world.keep(path, tenant="org_a")
    for number in range(12):
        world.seen("GET", f"/api/jobs/{number}", HIT if number % 3 else MISS)
        world.clock.advance(2.0)
        await world.course.turn()
    world.seen("POST", "/api/other/7", Outcome(Reason.UNMATCHED_WRITE, forward=Forward.METHOD))
    world.purges.note("PUT /api/jobs/{job-id}", {"org_a": ("jobs:77",)}, accepted=True)
    world.audit.record("purge", Actor("otto", None), tenant="org_a", target={"tags": ["jobs:77"]}, reason="INC-42")
    assert world.bypasses.on("feed", "org_a", 900.0, "otto", "INC-42") is not None


async def serious(page: Any) -> list[str]:
    """What axe-core finds that keeps somebody out."""
    from axe_playwright_python.async_playwright import Axe

    found = await Axe().run(page)
    return [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes']][:3]}"
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
@pytest.mark.timeout(120)
async def test_every_view_under_its_policy_for_everybody(browser, tmp_path, width, scheme):
    """No word on the console (a refused script or style would be one), nothing serious by axe, nothing cut off."""
    async with dashboard(browser, tmp_path, width=width, scheme=scheme) as opened:
        await traffic(opened.world)
        for view in VIEWS:
            await opened.go(view)
            await opened.page.locator("main h1").wait_for()
            assert await serious(opened.page) == [], view
            assert await opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        for button in ("Purge …", "Bypass …"):
            await opened.page.get_by_role("button", name=button).click()
            await opened.page.locator("dialog[open]").wait_for()
            assert await serious(opened.page) == [], button
            await opened.page.keyboard.press("Escape")
        assert opened.said == []


async def test_a_request_appears_as_it_comes_and_the_verdict_follows(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        await opened.turn()
        assert await opened.text(".verdict h1") == "All well, and nothing is being asked."
        for _ in range(3):
            opened.world.seen("GET", "/api/jobs", HIT)
        await opened.turn()
        await opened.page.get_by_role("heading", name="Serving from memory.").wait_for()
        assert "3 of 3 in the last minute" in await opened.text(".tiles")
        await opened.go("requests")
        opened.world.seen("GET", "/api/jobs/78", MISS)
        await opened.turn()
        row = opened.page.get_by_role("row").filter(has_text="GET /api/jobs/78")
        await row.wait_for()
        cells = (await row.inner_text()).split("\t")
        assert [cells[place].strip() for place in (2, 3, 4, 5, 6)] == ["missed", "cold", "200", "jobs", "org_a"]
        assert opened.said == []


@pytest.mark.parametrize(
    ("break_", "sentence"),
    [
        ("store", "Store down"), ("rules", "The rules file is refused"), ("bypass", "Caching is switched off for jobs"),
        ("upstream", "The portal API behind us fails"), ("draining", "Stopping"),
    ],
)  # fmt: skip
async def test_what_is_the_matter_is_said_in_a_sentence(browser, tmp_path, break_, sentence):
    async with dashboard(browser, tmp_path) as opened:
        world = opened.world
        match str(break_):
            case "store":
                world.store.down, world.store_up = {"ping"}, False
            case "rules":
                world.rules.file.write_text("version: 1\nfeatures: {jobs: {tll: 15m}}\n")
                await world.rules.reload()
            case "bypass":
                world.bypasses.on("jobs", None, 900.0, "otto", None)
            case "upstream":
                world.seen("GET", "/api/jobs", Outcome(Reason.UPSTREAM_FAILED, forward=Forward.MISS, feature="jobs"))
            case "draining":
                world.health.draining = True
        await opened.turn()
        await opened.page.locator(".verdict h1").filter(has_text=sentence).wait_for()


async def test_a_purge_is_shown_first_and_confirmed_before_anything_goes(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        world, page = opened.world, opened.page
        await world.keep("/api/jobs/77")
        button = page.get_by_role("button", name="Purge …")
        await button.click()
        dialog = page.get_by_role("dialog", name="Purge")
        await dialog.get_by_label("Kind").select_option("feature")
        await dialog.get_by_label("What").fill("jobs")
        await dialog.get_by_label("Tenant").fill("org_a")
        await dialog.get_by_label("Reason").fill("INC-42 <b>")
        await page.keyboard.press("Enter")
        await dialog.get_by_text("1 entries in the first tier").wait_for()
        assert await world.is_kept("/api/jobs/77")
        go = dialog.get_by_role("button", name="Purge")
        assert await go.is_disabled()
        await page.keyboard.type("jobs")  # the field to confirm in has the focus
        await page.keyboard.press("Enter")
        await page.get_by_role("status").get_by_text("Purged").wait_for()
        assert not await world.is_kept("/api/jobs/77")
        (line,) = world.audited("purge")
        assert (line["actor"]["name"], line["target"]["tags"], line["reason"]) == ("local", ["jobs"], "INC-42 <b>")
        assert await button.evaluate("node => node === document.activeElement")  # the focus is where it was
        await opened.go("audit")
        await page.get_by_role("row").filter(has_text="INC-42 <b>").wait_for()
        assert opened.said == []


async def test_what_cannot_be_purged_says_why_and_stays_open(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        await opened.page.get_by_role("button", name="Purge …").click()
        dialog = opened.page.get_by_role("dialog", name="Purge")
        await dialog.get_by_label("What").fill("jbos:77")
        await dialog.get_by_label("Tenant").fill("org_a")
        await opened.page.keyboard.press("Enter")
        alert = dialog.get_by_role("alert")
        await alert.wait_for()
        assert "did you mean jobs?" in await alert.inner_text()


async def test_a_bypass_is_switched_on_and_off(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        page, world = opened.page, opened.world
        await page.get_by_role("button", name="Bypass …").click()
        dialog = page.get_by_role("dialog", name="Bypass the cache")
        await dialog.get_by_label("Feature").fill("jobs")
        await dialog.get_by_role("button", name="Bypass").click()
        assert world.bypasses.active() == ()  # that the portal API can take it was not said yet
        await dialog.get_by_label("The portal API can take the load").check()
        await dialog.get_by_role("button", name="Bypass").click()
        await page.get_by_role("status").get_by_text("is off").wait_for()
        (bypass,) = world.bypasses.active()
        assert (bypass.feature, bypass.tenant, bypass.by) == ("jobs", None, "local")
        await opened.turn()
        await page.get_by_role("heading", name="Caching is switched off for jobs.").wait_for()
        await page.get_by_role("button", name="Bypass …").click()
        await page.get_by_role("button", name="Cache jobs again").click()
        await page.get_by_text("Caching is on everywhere").wait_for()
        assert world.bypasses.active() == ()


async def test_a_click_explains_a_request(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        await opened.world.keep("/api/jobs/77")
        await opened.go("requests")
        opened.world.seen("GET", "/api/jobs/77", MISS)
        await opened.turn()
        await opened.page.get_by_role("button", name="GET /api/jobs/77").click()
        await opened.page.get_by_text("The same now: served fresh").wait_for()
        told = await opened.text("main")
        assert "sidecache; fwd=uri-miss; stored" in told
        assert "tenant:org_a:jobs:77" in told
        assert await opened.page.get_by_label("Tenant").input_value() == "org_a"
        await opened.page.get_by_label("Request").fill("GET /api/nothing")
        await opened.page.keyboard.press("Enter")
        await opened.page.get_by_text("The same now: forwarded, not looked up: no-rule").wait_for()
        assert opened.said == []


async def test_markup_in_names_stays_a_text(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        world, page = opened.world, opened.page
        world.seen("GET", f"/api/{MARKUP}", Outcome(Reason.NO_RULE, forward=Forward.BYPASS, tenant=MARKUP))
        world.purges.note(MARKUP, {MARKUP: (MARKUP,)}, accepted=True)
        world.audit.record(
            MARKUP, Actor(MARKUP, None, None, MARKUP), tenant=MARKUP, target={"x": MARKUP}, reason=MARKUP
        )
        world.bypasses.on(MARKUP, MARKUP, 900.0, MARKUP, MARKUP)
        world.rules.file.write_text(f'version: 1\nfeatures: {{"{MARKUP}": {{ttl: 15m}}}}\n')
        await world.rules.reload()
        for view in VIEWS:
            await opened.go(view)
            if view in ("overview", "requests", "rules", "audit"):
                await page.locator("main").get_by_text("<img/src=x").first.wait_for()
        await page.get_by_role("button", name="Bypass …").click()
        await page.locator("dialog").get_by_text("<img/src=x").first.wait_for()
        assert await page.locator("img").count() == 0
        assert "owned" not in await page.title()
        assert opened.said == []


async def test_ten_thousand_keys_are_pages(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        world, page = opened.world, opened.page
        names = [f"tenant:org_a:jobs:{number:05}" for number in range(10_000)]
        world.cache.keys = lambda: names  # type: ignore[method-assign]
        await opened.go("keys")
        await page.get_by_role("button", name="tenant:org_a:jobs:00000", exact=True).wait_for()
        assert await page.locator("tbody tr").count() == 100
        for first in ("00100", "00200"):
            await page.get_by_role("button", name="Next page").click()
            await page.get_by_role("button", name=f"tenant:org_a:jobs:{first}", exact=True).wait_for()
        assert await page.locator("tbody tr").count() == 100
        assert "page 3: 100 keys, and there are more" in await opened.text("main")
        await page.get_by_label("Begins with").fill("tenant:org_a:jobs:0999")
        await page.keyboard.press("Enter")
        await page.get_by_text("page 1: 10 keys;").wait_for()
        assert await page.get_by_role("button", name="Next page").is_disabled()


async def test_an_entry_is_shown_by_its_key(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        await opened.world.keep("/api/secrets/s1")
        await opened.go("keys")
        await opened.page.locator("tbody button").click()
        dialog = opened.page.get_by_role("dialog", name="Entry")
        await dialog.get_by_text("accesses are audited").wait_for()
        assert "(sensitive)" in await dialog.inner_text()
        assert len(opened.world.audited("sensitive-entry")) == 1
        await dialog.get_by_role("button", name="Purge").click()
        await opened.page.get_by_role("dialog", name="Purge").wait_for()


async def log_in(page: Any, who: str) -> None:
    await page.get_by_label("Token").fill(TOKENS[who].token)
    await page.get_by_role("button", name="Log in").click()
    await page.locator("#pulse.on").wait_for()


async def test_a_token_logs_in_and_its_role_decides_what_is_there(browser, tmp_path):
    async with dashboard(browser, tmp_path, "staging") as opened:
        page = opened.page
        assert opened.world.audited("denied") == []  # to look at the page is no offence
        assert await serious(page) == []
        await page.get_by_label("Token").fill("sidecache_wrong")
        await page.keyboard.press("Enter")
        await page.get_by_role("alert").get_by_text("not known here").wait_for()
        await log_in(page, "viewer")
        links = await page.locator("#views a").all_inner_texts()
        assert [name.lower() for name in links] == [view for view in VIEWS if view not in ("keys", "audit")]
        assert await page.get_by_role("button", name="Purge …").count() == 0
        assert TOKENS["viewer"].token not in await page.evaluate(
            "JSON.stringify([localStorage, location, document.cookie])"
        )
        await page.reload()
        await page.locator("#pulse.on").wait_for()
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_label("Token").wait_for()
        await log_in(page, "inspector")
        assert len(await page.locator("#views a").all()) == len(VIEWS)
        await page.get_by_role("button", name="Purge …").click()
        await page.locator("dialog[open]").wait_for()
        # the browser itself tells of each refused answer; the page has nothing to add
        assert all("status of 401" in each for each in opened.said)


async def test_a_session_that_ends_asks_again(browser, tmp_path):
    async with dashboard(browser, tmp_path, "staging") as opened:
        await log_in(opened.page, "viewer")
        opened.world.clock.advance(9 * 3600.0)
        await opened.turn()
        await opened.page.get_by_text("Your session has ended").wait_for()


async def test_a_token_of_one_tenant_sees_that_one(browser, tmp_path):
    async with dashboard(browser, tmp_path, "staging") as opened:
        await log_in(opened.page, "inspector-a")
        await traffic(opened.world)
        opened.world.seen(
            "GET", "/api/jobs", Outcome(Reason.COLD, forward=Forward.MISS, feature="jobs", tenant="org_b")
        )
        for view in VIEWS:
            await opened.go(view)
            assert "org_b" not in await opened.text("body"), view
        assert opened.said == []


async def test_a_sidecar_that_ends_or_is_gone_is_said_and_what_was_known_stays(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        opened.world.seen("GET", "/api/jobs", HIT)
        await opened.turn()
        await opened.page.get_by_role("heading", name="Serving from memory.").wait_for()
        opened.world.course.close()
        await opened.page.locator("#pulse.lost").wait_for()
        assert "trying again" in await opened.text("#pulse")
        assert "1 of 1" in await opened.text(".tiles")


async def test_all_of_it_by_keyboard(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        page = opened.page

        async def focused() -> str:
            return str(
                await page.evaluate("document.activeElement.textContent.slice(0, 40) || document.activeElement.id")
            )

        await page.keyboard.press("Tab")
        assert await focused() == "Skip to the content"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.keyboard.press("Shift+Tab")
        assert await focused() == "Audit"
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Audit").wait_for()
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.get_by_role("button", name="Theme: system").focus()
        for theme in ("light", "dark"):
            await page.keyboard.press("Enter")
            assert await page.evaluate("document.documentElement.dataset.theme") == theme
        await page.reload()
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"


async def test_a_page_that_is_open_twice_is_made_once(browser, tmp_path):
    async with dashboard(browser, tmp_path) as opened:
        second = await opened.page.context.new_page()
        await second.goto("/")
        await second.locator("#pulse.on").wait_for()
        made = 0
        details = opened.world.health.details

        async def counted() -> dict[str, object]:
            nonlocal made
            made += 1
            return await details()

        opened.world.health.details = counted  # type: ignore[method-assign]
        opened.world.seen("GET", "/api/jobs", HIT)
        await opened.turn()
        for page in (opened.page, second):
            await page.get_by_text("1 of 1 in the last minute").wait_for()
        assert made == 1
        await asyncio.sleep(0)
