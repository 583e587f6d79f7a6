import pytest


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),  # realistic
        ("DELETE", "/api/jobs", 405),  # realistic
        ("GET", "/api/analytics/other", 404),  # realistic
        ("PUT", "/", 405),  # pathological
    ],
)
async def test_what_does_not_exist_is_a_problem_document(portal, method, path, status):
    async with portal.request(method, path) as response:
        problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["status"]) == (status, status)
        assert ("Allow" in response.headers) == (status == 405)


async def test_requests_are_counted_by_method_and_path_without_their_query(portal, acme):
    async with portal.delete("/_demo/requests") as response:
        assert response.status == 204
    for path in ("/api/jobs?page=1", "/api/jobs?page=2", "/api/me", "/nothing", "/api/members/auth0%7Cada/roles"):
        async with portal.get(path, headers=acme):
            pass
    async with portal.get("/_demo/requests") as response:
        assert await response.json() == {
            "total": 5,
            "requests": {
                "GET /api/jobs": 2,
                "GET /api/me": 1,
                "GET /api/members/auth0%7Cada/roles": 1,
                "GET /nothing": 1,
            },
        }


async def test_an_answer_tells_how_long_its_data_took(portal, acme):
    async with portal.get("/api/jobs", headers=acme) as response:
        name, _, duration = response.headers["Server-Timing"].partition(";dur=")
        assert name == "db"
        assert float(duration) > 0
        assert response.headers["Server"] == "demo-portal"
    async with portal.get("/") as response:
        assert "Server-Timing" not in response.headers


async def test_the_page_needs_no_token_and_loads_nothing_from_elsewhere(portal):
    async with portal.get("/") as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, "text/html")
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "src=" not in text
    assert "/api/jobs/{job-id}" in text


async def test_bodies_are_one_line(portal, acme):
    async with portal.get("/api/jobs", headers=acme) as response:
        body = await response.read()
    assert body.startswith(b"{")
    assert body.endswith(b"}\n")
    assert body.count(b"\n") == 1
