import pytest


async def read(portal, path, headers):
    async with portal.get(path, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.json()


@pytest.fixture
async def job(portal, acme):
    async with portal.post("/api/jobs", headers=acme, json={"title": "Welder"}) as response:
        return response.headers["Location"]


async def apply(portal, job, headers, **draft):
    return await portal.post(f"{job}/applications", headers=headers, json=draft)


async def test_an_application_is_counted_and_listed_and_changes_the_job(portal, acme, job):
    async with portal.get(job, headers=acme) as response:
        before = response.headers["ETag"]
    async with await apply(portal, job, acme, candidate="Kim Doe", email="kim@mail.example") as response:
        assert response.status == 201
        made = await response.json()
    listed = await read(portal, f"{job}/applications", acme)
    assert (listed["total"], listed["items"]) == (1, [made])
    assert (made["org_id"], made["status"], made["candidate"]) == ("org_acme", "submitted", "Kim Doe")
    async with portal.get(job, headers=acme) as response:
        assert (await response.json())["applications"] == {"submitted": 1}
        assert response.headers["ETag"] != before


async def test_two_roles_of_one_organisation_see_different_bodies(portal, acme, login):
    for_admin = await read(portal, "/api/jobs/job_1/applications", acme)
    for_interviewer = await read(portal, "/api/jobs/job_1/applications", await login("org_acme", "auth0|ines"))
    assert for_admin["total"] == for_interviewer["total"] > 0
    assert all("@" in item["email"] for item in for_admin["items"])
    assert all(item["email"] is None for item in for_interviewer["items"])
    names = {item["candidate"] for item in for_admin["items"]}
    assert not names & {item["candidate"] for item in for_interviewer["items"]}


async def test_a_job_that_is_not_open_takes_none(portal, acme, job):
    async with portal.patch(job, headers=acme, json={"status": "closed"}) as response:
        assert response.status == 200
    async with await apply(portal, job, acme, candidate="Kim Doe", email="kim@mail.example") as response:
        assert response.status == 409


@pytest.mark.parametrize(
    ("draft", "fields"),
    [
        ({"candidate": "Kim Doe"}, {"email"}),  # realistic
        ({"candidate": "K", "email": "kim"}, {"candidate", "email"}),  # realistic
        ({"candidate": "Kim Doe", "email": "kim@mail.example", "status": "hired"}, {"status"}),  # pathological
    ],
)
async def test_an_application_that_is_not_valid_is_refused(portal, acme, job, draft, fields):
    async with await apply(portal, job, acme, **draft) as response:
        assert response.status == 422
        assert {error["field"] for error in (await response.json())["errors"]} == fields
