"""Companies, members, roles and the way out."""

import time

import pytest

from proxy.demo.issuer import Issuer


async def read(portal, path, headers, status=200):
    async with portal.get(path, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_each_caller_sees_their_own_organisation(portal, acme, globex):
    ours = await read(portal, "/api/organizations/current", acme)
    assert (ours["id"], ours["org_id"], ours["name"], ours["plan"]) == (
        "org_acme", "org_acme", "Acme Manufacturing", "enterprise"
    )  # fmt: skip
    assert (await read(portal, "/api/organizations/current", globex))["name"] == "Globex Logistics"


async def test_me_is_personal_and_says_so(portal, login):
    headers = await login("org_acme", "ines@acme.example")
    async with portal.get("/api/me", headers=headers) as response:
        found = await response.json()
        assert "private" in response.headers["Cache-Control"]
    assert (found["id"], found["email"], found["roles"]) == ("auth0|ines", "ines@acme.example", ["interviewer"])
    assert found["permissions"] == ["read:applications", "read:companies", "read:jobs"]


async def test_a_role_change_shows_in_new_tokens_and_not_in_old_ones(portal, acme, login):
    path, old = "/api/members/auth0%7Cvictor/roles", await login("org_acme", "auth0|victor")
    await read(portal, "/api/members", old, status=403)
    async with portal.put(path, headers=acme, json={"roles": ["recruiter", "viewer"]}) as response:
        assert (response.status, (await response.json())["roles"]) == (200, ["recruiter", "viewer"])
    assert (await read(portal, path, acme))["roles"] == ["recruiter", "viewer"]
    await read(portal, "/api/members", old, status=403)
    await read(portal, "/api/members", await login("org_acme", "auth0|victor"))
    async with portal.delete(path, headers=acme) as response:
        assert response.status == 204
    await read(portal, "/api/jobs", await login("org_acme", "auth0|victor"), status=403)


async def test_members_of_the_other_organisation_are_out_of_reach(portal, globex):
    listed = await read(portal, "/api/members", globex)
    assert {member["org_id"] for member in listed["items"]} == {"org_globex"}
    for method in ("GET", "PUT", "DELETE"):
        async with portal.request(
            method, "/api/members/auth0%7Cada/roles", headers=globex, json={"roles": []}
        ) as response:
            assert response.status == 404


@pytest.mark.parametrize("sent", [{"roles": ["king"]}, {"roles": "admin"}, {}, {"roles": [], "x": 1}])
async def test_roles_that_are_not_valid_are_refused(portal, acme, sent):
    async with portal.put("/api/members/auth0%7Cada/roles", headers=acme, json=sent) as response:
        assert response.status == 422


async def test_a_token_for_somebody_who_is_no_member_any_more_has_no_profile(portal, key):
    signed = Issuer("http://portal.test", key).token("auth0|gone", "org_acme", [], now=time.time())
    async with portal.get("/api/me", headers={"Authorization": f"Bearer {signed}"}) as response:
        assert response.status == 404


async def test_logout_redirects_and_takes_the_cookie(portal, acme):
    async with portal.get("/auth/logout", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/")
        assert "Max-Age=0" in response.headers["Set-Cookie"]
    async with portal.post("/api/logout", headers=acme) as response:
        assert response.status == 204


async def test_a_company_can_be_read_and_changed_by_its_organisation_only(portal, acme, globex):
    listed = await read(portal, "/api/companies?per_page=100", acme)
    assert (listed["total"], {company["org_id"] for company in listed["items"]}) == (8, {"org_acme"})
    path = f"/api/companies/{listed['items'][0]['id']}"
    await read(portal, path, globex, status=404)
    async with portal.get(path, headers=acme) as response:
        tag, before = response.headers["ETag"], await response.json()
    async with portal.patch(path, headers={**acme, "If-Match": tag}, json={"city": "Porto"}) as response:
        patched = await response.json()
    assert {name for name in before if before[name] != patched[name]} <= {"city", "updated_at"}
    async with portal.put(path, headers={**acme, "If-Match": tag}, json=patched) as response:
        assert response.status == 412
    async with portal.put(path, headers=acme, json={"name": "New name", "website": "no url"}) as response:
        assert [error["field"] for error in (await response.json())["errors"]] == ["website"]
    assert (await read(portal, path, acme))["city"] == "Porto"
