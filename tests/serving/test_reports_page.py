"""proxy.serving.reports_page: what was counted, for the caller's own tenant; every wrong request has its answer."""

import csv
import io
import json

import pytest

from proxy.policy.message import Request
from proxy.serving.reserved import Reserved
from tests import wire
from tests.analytics.scene import HOST, RULES, asked, bearer, scene

REPORTS = "/.sidecache/reports"


async def ask(port: int, path: str = REPORTS, *headers: str, token: str | None = None, **more) -> wire.Message:
    return await wire.fetch(port, path, token if token is not None else bearer(), *headers, host=HOST, **more)


def problem(answer: wire.Message) -> dict:
    assert answer.get("content-type") == "application/problem+json"
    assert answer.get("cache-control") == "no-store"
    said = json.loads(answer.body)
    assert said["status"] == answer.status
    return said


async def test_the_list_of_reports_is_that_of_the_rules(tmp_path):
    async with scene(tmp_path) as made:
        answer = await ask(made.port)
        assert answer.status == 200
        listed = {each["name"]: each for each in json.loads(answer.body)["reports"]}
        assert list(listed) == ["job-views", "applications", "guarded", "uncached", "pages", "strict"]
        assert listed["job-views"] == {
            "name": "job-views", "by": "job-id", "unique": True, "counts": ["GET /api/jobs/{job-id}"],
        }  # fmt: skip
        assert answer.get("cache-control") == "private, max-age=10"
        assert answer.get("vary") == "Authorization, Accept"
        assert (await ask(made.port, f"{REPORTS}/")).body == answer.body


async def test_a_report_says_what_was_counted_until_when(tmp_path):
    async with scene(tmp_path) as made:
        await asked(made.port, "/api/jobs/77", bearer(), times=3)
        await made.reaches(3)
        report = await made.report("job-views", "?by=job-id")
        assert report["rows"] == [{"value": "77", "count": 3, "unique": 1}]
        assert report["unique"]["count"] == 1
        assert report["unique"]["error"] == 0.0081
        assert (report["exact"], report["error"], report["partial"]) == (True, 0.0, True)
        assert report["as_of"].endswith("Z")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("text/csv, application/json;q=0.9", "text/csv"),
        ("application/json;q=0.1, TEXT/CSV;q=0.2", "text/csv"),
        ("application/json, text/csv;q=0.9", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=x", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("", "application/json"),
    ],
)
async def test_csv_is_for_those_who_ask_for_it(tmp_path, accept, kind):
    async with scene(tmp_path) as made:
        await asked(made.port, "/api/jobs/%3D1%2B1", bearer())
        await made.reaches(1)
        for path in (REPORTS, f"{REPORTS}/job-views?by=job-id"):
            answer = await ask(made.port, path, f"Accept: {accept}")
            assert (answer.get("content-type") or "").startswith(kind)
            assert answer.get("x-content-type-options") == "nosniff"
        if kind == "text/csv":
            assert answer.get("content-disposition") == 'attachment; filename="job-views.csv"'
            lines = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
            assert lines == [["job-id", "count", "unique"], ["'=1+1", "1", "1"]]


@pytest.mark.parametrize(
    ("path", "status", "detail", "field"),
    [
        # realistic
        ("/nothing", 404, "No report has this name: /.sidecache/reports lists them.", None),
        ("/job-view", 404, "No report has this name (did you mean 'job-views'?): /.sidecache/reports lists", None),
        ("/job-views/77", 404, "No report has this name", None),
        ("/job-views?by=id", 400, "by: 'id' is not what this report is counted by: write by=job-id.", "by"),
        ("/job-views?from=monday", 400, "from: is a date such as", "from"),
        ("/job-views?to=2999-01-01", 400, "to: lies in the future.", "to"),
        ("/job-views?bucket=week", 400, "bucket: is minute, hour or day.", "bucket"),
        ("/job-views?tenant=org_b", 400, "tenant: is not known here", "tenant"),
        ("?x=1", 400, "The list of reports takes no parameters.", None),
        # pathological
        ("/%2e%2e", 404, "No report has this name", None),
        ("//job-views", 404, "No report has this name", None),
        ("/job-views%00", 404, "No report has this name", None),
        ("/" + "x" * 3000, 404, "No report has this name: ", None),
        ("/job-views?" + "a=1&" * 500, 400, "a: is given more than once.", "a"),
        ("/job-views?by=%3Cscript%3E", 400, "by: '<script>' is not what", "by"),
    ],
)
async def test_what_is_wrong_is_said_with_what_to_do(tmp_path, path, status, detail, field):
    async with scene(tmp_path) as made:
        answer = await ask(made.port, REPORTS + path)
        assert answer.status == status
        said = problem(answer)
        assert said["detail"].startswith(detail)
        assert said.get("field") == field
        assert made.upstream.requests == []


@pytest.mark.parametrize("path", [REPORTS, f"{REPORTS}/job-views", f"{REPORTS}/nothing", f"{REPORTS}/job-views?by=x"])
@pytest.mark.parametrize(
    ("token", "status", "challenge"),
    [
        ("", 401, "Bearer"),
        ("Authorization: Bearer x.y.z", 401, 'Bearer error="invalid_token"'),
        (bearer(exp=1), 401, 'Bearer error="invalid_token"'),
        ("X-Org-Id: org_a", 401, "Bearer"),
        ("Authorization: Basic b3JnX2E6eA==", 401, "Bearer"),
        (bearer(org=None), 403, None),
        (bearer(org="org a"), 403, None),
    ],
)
async def test_who_is_not_known_hears_nothing(tmp_path, path, token, status, challenge):
    async with scene(tmp_path) as made:
        await asked(made.port, "/api/jobs/77", bearer())
        answer = await wire.fetch(made.port, path, *filter(None, [token]), host=HOST)
        assert answer.status == status
        assert answer.get("www-authenticate") == challenge
        problem(answer)


CONFLICTS = RULES.replace("{tenant: jwt.org_id,", "{tenant: [jwt.org_id, header.x-org-id],")


async def test_whose_numbers_they_are_says_the_token_and_nothing_else(tmp_path):
    async with scene(tmp_path, rules=CONFLICTS) as made:
        await asked(made.port, "/api/jobs/77", bearer(), times=3)
        await made.reaches(3)
        other = bearer("org_b", "u1")
        for query in ("", "?by=job-id", "?job-id=77", "?bucket=day"):
            report = await made.report("job-views", query, token=other)
            assert (report["count"], report["unique"]["count"]) == (0, 0)
            assert report.get("rows", []) == []
        assert (await ask(made.port, REPORTS, "X-Org-Id: org_a", token=other)).status == 403
        for header in ("X-Tenant-Id: org_a", "Cookie: org_id=org_a", "X-Forwarded-User: u1"):
            answer = await ask(made.port, f"{REPORTS}/job-views", header, token=other)
            assert json.loads(answer.body)["count"] == 0


async def test_rules_may_ask_for_a_permission(tmp_path):
    rules = RULES + "reports: {require: [read:analytics]}\n"
    async with scene(tmp_path, rules=rules) as made:
        answer = await ask(made.port, f"{REPORTS}/job-views")
        assert answer.status == 403
        assert problem(answer)["detail"] == "Reports take the permission read:analytics."
        assert (await ask(made.port, REPORTS, token=bearer(permissions=None))).status == 403
        assert (await ask(made.port, REPORTS, token=bearer(permissions=["read:analytics"]))).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_reports_are_read_and_nothing_else(tmp_path, method):
    async with scene(tmp_path) as made:
        answer = await ask(made.port, REPORTS, method=method, body=b"{}")
        assert answer.status == 405
        assert answer.get("allow") == "GET, HEAD, OPTIONS"
        assert made.upstream.requests == []


async def test_head_is_get_without_its_body(tmp_path):
    async with scene(tmp_path) as made:
        answer, head = await ask(made.port), await ask(made.port, method="HEAD")
        assert head.status == 200
        assert head.get("content-length") == str(len(answer.body))


async def test_a_store_that_does_not_answer_is_said(tmp_path):
    environ = {"REDIS_PROVIDER": "redis", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1"}
    async with scene(tmp_path, environ) as made:
        answer = await ask(made.port, f"{REPORTS}/job-views")
        assert answer.status == 503
        assert answer.get("retry-after") == "5"
        assert problem(answer)["detail"] == "The store does not answer."
        assert (await ask(made.port)).status == 200  # the list is that of the rules


async def test_without_a_prefix_there_are_no_reports(tmp_path):
    async with scene(tmp_path, {"SIDECACHE_PREFIX": "off"}) as made:
        await ask(made.port)
        assert len(made.upstream.requests) == 1


def test_a_name_with_a_slash_stands_for_all_below_it():
    async def page(request: Request, body: object):
        raise AssertionError("only named here")

    reserved = Reserved("/own", lambda: "ready", lambda: True, {"reports": page, "reports/": page})
    for path in ("/own/reports", "/own/reports/", "/own/reports/a/b"):
        assert reserved.page(path) is page
        assert reserved(path) is not None
    for path in ("/own/report", "/own/reportsx", "/own/x/reports"):
        assert reserved.page(path) is None
