"""How is hiring going? Figures computed over all rows of the organisation, each time they are asked for."""

import sqlite3
from collections.abc import Callable

from aiohttp import web

from proxy.demo.access import authorize
from proxy.demo.data import APPLICATION_STATUSES
from proxy.demo.database import Row, query
from proxy.demo.replies import answer

routes = web.RouteTableDef()


@routes.get("/api/analytics/summary")
async def summary(request: web.Request) -> web.Response:
    return await _computed(request, _summary)


@routes.get("/api/analytics/funnel")
async def funnel(request: web.Request) -> web.Response:
    return await _computed(request, _funnel)


@routes.get("/api/analytics/top-jobs")
async def top_jobs(request: web.Request) -> web.Response:
    return await _computed(request, _top_jobs)


async def _computed(request: web.Request, compute: Callable[[sqlite3.Connection, str], Row]) -> web.Response:
    caller = authorize(request, "read:analytics")
    figures = await query(request, lambda connection: compute(connection, caller.org))
    return answer(request, {"org_id": caller.org, **figures})


def _summary(connection: sqlite3.Connection, org: str) -> Row:
    jobs = connection.execute(
        "SELECT status, count(*) AS jobs, round(avg((salary_min + salary_max) / 2.0)) AS average_salary "
        "FROM jobs WHERE org_id = ? GROUP BY status ORDER BY status",
        (org,),
    ).fetchall()
    weeks = connection.execute(
        "SELECT strftime('%Y-%W', created_at, 'unixepoch') AS week, count(*) AS applications, "
        "count(DISTINCT lower(candidate)) AS candidates FROM applications WHERE org_id = ? "
        "GROUP BY week ORDER BY week DESC LIMIT 12",
        (org,),
    ).fetchall()
    total = connection.execute("SELECT count(*) AS n FROM applications WHERE org_id = ?", (org,)).fetchone()["n"]
    return {"jobs": jobs, "applications": total, "weeks": weeks}


def _funnel(connection: sqlite3.Connection, org: str) -> Row:
    counted = connection.execute(
        "SELECT department, applications.status, count(*) AS n FROM applications "
        "JOIN jobs ON jobs.number = applications.job WHERE applications.org_id = ? GROUP BY 1, 2 ORDER BY 1",
        (org,),
    ).fetchall()
    departments: dict[str, dict[str, int]] = {}
    for row in counted:
        stages = departments.setdefault(row["department"], dict.fromkeys(APPLICATION_STATUSES, 0))
        stages[row["status"]] = row["n"]
    items = [
        {"department": name, "stages": stages, "hire_rate": _hire_rate(stages)} for name, stages in departments.items()
    ]
    return {"departments": items}


def _hire_rate(stages: dict[str, int]) -> float:
    return round(stages["hired"] / sum(stages.values()), 4)


def _top_jobs(connection: sqlite3.Connection, org: str) -> Row:
    items = connection.execute(
        "SELECT 'job_' || jobs.number AS id, title, location, count(applications.number) AS applications, "
        "coalesce(sum(applications.status = 'hired'), 0) AS hired "
        "FROM jobs LEFT JOIN applications ON applications.job = jobs.number "
        "WHERE jobs.org_id = ? GROUP BY jobs.number ORDER BY 4 DESC, jobs.number LIMIT 10",
        (org,),
    ).fetchall()
    return {"items": items}
