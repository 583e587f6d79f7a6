"""Search and analytics: what is computed over all rows."""

import pytest


async def read(portal, path, headers, status=200):
    async with portal.get(path, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_every_hit_holds_a_word_and_belongs_to_the_caller(portal, acme):
    found = await read(portal, "/api/search?q=FORKLIFT&per_page=100", acme)
    assert 0 < found["total"] == len(found["items"])
    assert {item["org_id"] for item in found["items"]} == {"org_acme"}
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


async def test_a_search_by_body_equals_the_search_by_query(portal, acme):
    wanted = {"q": "night planner", "location": "Berlin", "sort": "salary", "page": 1}
    by_query = await read(portal, "/api/search?q=night+planner&location=Berlin&sort=salary&utm_source=x", acme)
    async with portal.post("/api/search", headers=acme, json=wanted) as response:
        assert (response.status, await response.json()) == (200, by_query)


async def test_sorting_and_an_empty_query(portal, acme):
    found = await read(portal, "/api/search?sort=salary&per_page=100", acme)
    salaries = [item["salary_max"] for item in found["items"]]
    assert (found["total"], salaries) == (40, sorted(salaries, reverse=True))


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("q=%25", 0),  # pathological: no wildcard
        ("q=%27%20OR%201--", None),  # pathological: no SQL
        ("q=" + "a+" * 90, None),  # pathological: only the first words count
        ("q=zzzz", 0),  # realistic
    ],
)
async def test_words_are_words(portal, acme, query, total):
    found = await read(portal, f"/api/search?{query}", acme)
    assert total is None or found["total"] == total


@pytest.mark.parametrize(("query", "field"), [("sort=price", "sort"), ("q=" + "a" * 201, "q"), ("page=-1", "page")])
async def test_a_wrong_parameter_is_named(portal, acme, query, field):
    problem = await read(portal, f"/api/search?{query}", acme, status=400)
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_the_figures_add_up_over_both_organisations(portal, acme, globex):
    ours, theirs = [await read(portal, "/api/analytics/summary", who) for who in (acme, globex)]
    assert ours["applications"] + theirs["applications"] == 400
    assert [sum(row["jobs"] for row in figures["jobs"]) for figures in (ours, theirs)] == [40, 20]
    funnel = await read(portal, "/api/analytics/funnel", acme)
    assert sum(sum(item["stages"].values()) for item in funnel["departments"]) == ours["applications"]
    top = await read(portal, "/api/analytics/top-jobs", acme)
    counts = [item["applications"] for item in top["items"]]
    assert (len(counts), counts) == (10, sorted(counts, reverse=True))


async def test_a_write_shows_in_search_and_analytics_at_once(portal, acme):
    before = await read(portal, "/api/analytics/summary", acme)
    draft = {"title": "Zeppelin pilot", "status": "open"}
    async with portal.post("/api/jobs", headers=acme, json=draft) as response:
        job = response.headers["Location"]
    async with portal.post(
        f"{job}/applications", headers=acme, json={"candidate": "Kim Doe", "email": "kim@mail.example"}
    ) as response:
        assert response.status == 201
    assert (await read(portal, "/api/search?q=zeppelin", acme))["total"] == 1
    assert (await read(portal, "/api/analytics/summary", acme))["applications"] == before["applications"] + 1
