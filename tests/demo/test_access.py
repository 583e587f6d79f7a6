import time

import jwt

from proxy.demo.data import PERMISSIONS
from proxy.demo.issuer import AUDIENCE, Issuer

READS = (
    "/api/jobs /api/jobs/job_1 /api/jobs/job_1/applications /api/companies /api/companies/co_1 /api/search "
    "/api/analytics/summary /api/analytics/funnel /api/analytics/top-jobs /api/organizations/current /api/me "
    "/api/members /api/members/auth0%7Cada/roles /api/live /api/stream"
).split()

NEEDED = (
    ("GET", "/api/jobs", "read:jobs"),
    ("GET", "/api/jobs/job_1", "read:jobs"),
    ("POST", "/api/jobs", "write:jobs"),
    ("PUT", "/api/jobs/job_1", "write:jobs"),
    ("PATCH", "/api/jobs/job_1", "write:jobs"),
    ("DELETE", "/api/jobs/job_1", "write:jobs"),
    ("GET", "/api/jobs/job_1/applications", "read:applications"),
    ("POST", "/api/jobs/job_1/applications", "write:applications"),
    ("GET", "/api/companies", "read:companies"),
    ("GET", "/api/companies/co_1", "read:companies"),
    ("PUT", "/api/companies/co_1", "write:companies"),
    ("PATCH", "/api/companies/co_1", "write:companies"),
    ("GET", "/api/search", "read:jobs"),
    ("GET", "/api/analytics/summary", "read:analytics"),
    ("GET", "/api/members", "read:members"),
    ("GET", "/api/members/auth0%7Cada/roles", "read:members"),
    ("PUT", "/api/members/auth0%7Cada/roles", "write:members"),
    ("DELETE", "/api/members/auth0%7Cada/roles", "write:members"),
)


async def test_every_route_wants_a_token(portal):
    for path in READS:
        async with portal.get(path) as response:
            assert response.status == 401, path
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="portal"'
            assert response.content_type == "application/problem+json"


async def test_tokens_that_are_not_good_are_refused(portal, key):
    good = {
        "iss": "http://portal.test/",
        "aud": AUDIENCE,
        "sub": "auth0|ada",
        "org_id": "org_acme",
        "permissions": ["read:jobs"],
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
    }
    stranger = Issuer("http://portal.test").token("auth0|ada", "org_acme", ["read:jobs"], now=time.time())
    cases = {
        jwt.encode(good, key, algorithm="RS256"): 200,
        jwt.encode({**good, "exp": 1}, key, algorithm="RS256"): 401,  # realistic
        jwt.encode({**good, "aud": "https://other.example"}, key, algorithm="RS256"): 401,  # realistic
        jwt.encode({**good, "iss": "http://other.test/"}, key, algorithm="RS256"): 401,  # realistic
        jwt.encode({k: v for k, v in good.items() if k != "org_id"}, key, algorithm="RS256"): 401,  # realistic
        stranger: 401,  # pathological
        jwt.encode(good, None, algorithm="none"): 401,  # pathological
        "nonsense": 401,  # pathological
    }
    for token, status in cases.items():
        async with portal.get("/api/jobs", headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == status, token
            assert status == 200 or 'error="invalid_token"' in response.headers["WWW-Authenticate"]


async def test_a_route_names_the_permission_it_needs(portal, login):
    for method, path, permission in NEEDED:
        headers = await login("org_acme", permissions=[name for name in PERMISSIONS if name != permission])
        async with portal.request(method, path, headers=headers, json={"roles": []}) as response:
            assert response.status == 403, (method, path)
            assert f'scope="{permission}"' in response.headers["WWW-Authenticate"]
