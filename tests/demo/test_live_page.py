"""The page that shows events and reports: no token is needed to load it, and nothing comes from elsewhere."""

import re

import pytest


async def test_the_page_has_no_script_and_no_style_of_its_own(portal):
    async with portal.get("/_demo/live") as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/html")
        policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in policy
    assert '<script src="/.sidecache/events.js" defer></script>' in text
    assert "http" not in text
    assert re.findall(r"<style|<script>|\son\w+=|\sstyle=", text) == []


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [("live.js", "text/javascript", "sidecacheEvents("), ("live.css", "text/css", "prefers-color-scheme")],
)
async def test_what_it_loads(portal, name, kind, part):
    async with portal.get(f"/_demo/{name}") as response:
        assert (response.status, response.content_type) == (200, kind)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert part in await response.text()
