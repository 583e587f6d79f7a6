from io import BytesIO

import pytest


async def read(portal, path, headers, status=200):
    async with portal.get(path, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def post(portal, headers, **draft):
    async with portal.post("/api/jobs", headers=headers, json=draft) as response:
        assert response.status == 201, await response.text()
        return response.headers["Location"], await response.json()


async def test_each_organisation_lists_its_own_jobs_newest_first(portal, acme, globex):
    ours, theirs = await read(portal, "/api/jobs", acme), await read(portal, "/api/jobs", globex)
    assert (ours["total"], theirs["total"]) == (40, 20)
    assert {job["org_id"] for job in ours["items"]} == {"org_acme"} == {ours["org_id"]}
    assert {job["org_id"] for job in theirs["items"]} == {"org_globex"}
    dates = [job["created_at"] for job in ours["items"]]
    assert dates == sorted(dates, reverse=True)


async def test_pages_follow_each_other_without_gap_or_overlap(portal, acme):
    pages = [await read(portal, f"/api/jobs?per_page=15&page={number}", acme) for number in (1, 2, 3, 4)]
    assert [len(page["items"]) for page in pages] == [15, 15, 10, 0]
    assert len({job["id"] for page in pages for job in page["items"]}) == 40


async def test_filters_narrow_items_total_and_facets(portal, acme):
    found = await read(portal, "/api/jobs?status=open&location=Berlin&per_page=100", acme)
    assert 0 < found["total"] == len(found["items"]) < 40
    assert {(job["status"], job["location"]) for job in found["items"]} == {("open", "Berlin")}
    assert found["facets"] == [{"location": "Berlin", "status": "open", "jobs": found["total"]}]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),  # realistic
        ("page=two", "page"),  # realistic
        ("per_page=101", "per_page"),  # realistic
        ("status=opened", "status"),  # realistic
        ("page=" + "9" * 400, "page"),  # pathological
    ],
)
async def test_a_wrong_parameter_is_named(portal, acme, query, field):
    problem = await read(portal, f"/api/jobs?{query}", acme, status=400)
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_a_posted_job_is_found_at_its_location_and_first_in_the_list(portal, acme):
    location, made = await post(portal, acme, title="Night-shift welder", salary_min=30000)
    assert location == f"/api/jobs/{made['id']}"
    assert await read(portal, location, acme) == made
    assert (made["org_id"], made["status"], made["salary_max"]) == ("org_acme", "open", 30000)
    listed = await read(portal, "/api/jobs", acme)
    assert (listed["items"][0]["id"], listed["total"]) == (made["id"], 41)


async def test_another_organisations_job_is_as_unknown_as_none(portal, acme, globex):
    location, _ = await post(portal, acme, title="Secret project lead")
    for path in (location, f"{location}/applications", "/api/jobs/job_99999", "/api/jobs/77", "/api/jobs/job_0x1"):
        problem = await read(portal, path, globex, status=404)
        assert problem["detail"] == "there is no such job in your organisation"
    for method in ("PUT", "PATCH", "DELETE"):
        async with portal.request(method, location, headers=globex, json={"title": "Taken over"}) as response:
            assert response.status == 404
    assert (await read(portal, location, acme))["title"] == "Secret project lead"


@pytest.mark.parametrize(
    ("draft", "fields"),
    [
        ({}, {"title"}),  # realistic
        ({"title": "ab"}, {"title"}),  # realistic
        ({"title": "Welder", "salary_min": 5, "salary_max": 4}, {"salary_max"}),  # realistic
        ({"title": "Welder", "status": "gone", "wage": 1}, {"status", "wage"}),  # realistic
        ({"title": "Welder", "company_id": "co_3"}, {"company_id"}),  # realistic: the other organisation's
        ({"title": "Welder", "company_id": "co_1 OR 1"}, {"company_id"}),  # pathological
        ({"title": "   a   "}, {"title"}),  # pathological
        ({"title": None}, {"title"}),  # pathological
        ({"title": "Welder", "salary_min": 10**30}, {"salary_min"}),  # pathological
    ],
)
async def test_a_draft_that_is_not_valid_is_refused_with_the_names_of_its_fields(portal, acme, draft, fields):
    async with portal.post("/api/jobs", headers=acme, json=draft) as response:
        assert response.status == 422
        assert {error["field"] for error in (await response.json())["errors"]} == fields


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"title=Welder", "application/x-www-form-urlencoded", 415),  # realistic
        (b"{", "application/json", 400),  # realistic
        (b"[]", "application/json", 400),  # pathological
        (b"\xff", "application/json", 400),  # pathological
        (b"[" * 100_000, "application/json", 400),  # pathological
        (b" " * 2_000_000, "application/json", 413),  # pathological
    ],
)
async def test_a_body_that_is_no_json_object_is_a_problem(portal, acme, body, content_type, status):
    async with portal.post("/api/jobs", headers={**acme, "Content-Type": content_type}, data=BytesIO(body)) as response:
        assert (response.status, response.content_type) == (status, "application/problem+json")


async def test_put_replaces_and_patch_merges(portal, acme):
    location, made = await post(portal, acme, title="Welder", location="Lyon", salary_min=1000)
    async with portal.patch(location, headers=acme, json={"salary_max": 2000}) as response:
        patched = await response.json()
    assert (patched["title"], patched["location"], patched["salary_max"]) == ("Welder", "Lyon", 2000)
    async with portal.put(location, headers=acme, json={**made, "title": "Lead welder"}) as response:
        assert (response.status, (await response.json())["salary_max"]) == (200, 1000)
    async with portal.put(location, headers=acme, json={"title": "Lead welder"}) as response:
        replaced = await response.json()
    assert (replaced["location"], replaced["salary_min"]) == ("Remote", 0)
    assert (await read(portal, location, acme)) == replaced
    async with portal.patch(location, headers=acme, json={"title": ""}) as response:
        assert response.status == 422


async def test_a_deleted_job_is_gone_with_its_applications_and_its_number_is_not_used_again(portal, acme):
    location, made = await post(portal, acme, title="Welder")
    async with portal.delete(location, headers=acme) as response:
        assert (response.status, await response.read()) == (204, b"")
    await read(portal, location, acme, status=404)
    await read(portal, f"{location}/applications", acme, status=404)
    _, another = await post(portal, acme, title="Welder")
    assert another["id"] != made["id"]


async def test_validators_answer_304_until_the_job_changes(portal, acme):
    async with portal.get("/api/jobs/job_1", headers=acme) as response:
        tag, date = response.headers["ETag"], response.headers["Last-Modified"]
    for condition in ({"If-None-Match": tag}, {"If-None-Match": f'"x", W/{tag}'}, {"If-Modified-Since": date}):
        async with portal.get("/api/jobs/job_1", headers={**acme, **condition}) as response:
            assert (response.status, response.headers["ETag"], await response.read()) == (304, tag, b"")
    async with portal.get(
        "/api/jobs/job_1", headers={**acme, "If-None-Match": '"x"', "If-Modified-Since": date}
    ) as response:
        assert response.status == 200  # RFC 9110 13.1.3: If-None-Match decides alone
    async with portal.patch("/api/jobs/job_1", headers=acme, json={"status": "paused"}) as response:
        assert response.status == 200
    for condition in ({"If-None-Match": tag}, {"If-Modified-Since": date}):
        async with portal.get("/api/jobs/job_1", headers={**acme, **condition}) as response:
            assert response.status == 200


async def test_a_write_that_means_an_older_version_is_refused(portal, acme):
    async with portal.get("/api/jobs/job_1", headers=acme) as response:
        tag = response.headers["ETag"]
    current, older = {**acme, "If-Match": tag}, {**acme, "If-Match": '"older"'}
    async with portal.delete("/api/jobs/job_1", headers=older) as response:
        assert response.status == 412
    async with portal.patch("/api/jobs/job_1", headers=current, json={"location": "Porto"}) as response:
        assert response.status == 200
    async with portal.patch("/api/jobs/job_1", headers=current, json={"location": "Lyon"}) as response:
        assert response.status == 412
    async with portal.delete("/api/jobs/job_1", headers={**acme, "If-Match": "*"}) as response:
        assert response.status == 204


async def test_head_is_get_without_the_body(portal, acme):
    async with portal.get("/api/jobs/job_1", headers=acme) as response:
        expected = response.headers["ETag"], response.headers["Content-Length"]
    async with portal.head("/api/jobs/job_1", headers=acme) as response:
        assert (response.headers["ETag"], response.headers["Content-Length"]) == expected
        assert await response.read() == b""
