"""The page that shows events: no token is needed to load it, and nothing comes from elsewhere."""


async def test_the_page_and_its_script(portal):
    async with portal.get("/_demo/live") as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/html")
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert '<script src="/.sidecache/events.js"></script>' in text
    assert "http" not in text
    async with portal.get("/_demo/live.js") as response:
        assert (response.status, response.content_type) == (200, "text/javascript")
        assert "sidecacheEvents(" in await response.text()
