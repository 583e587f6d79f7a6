"""Who applied for a job? Contact data only for those who may see it, so two roles get different bodies."""

import sqlite3
import time
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field

from proxy.demo.access import Caller, authorize
from proxy.demo.database import Row, query, transaction
from proxy.demo.jobs import find_job
from proxy.demo.live import HUB
from proxy.demo.replies import Paging, Problem, answer, from_query, number_in_path, read_object, validated

routes = web.RouteTableDef()

_COLUMNS = """
    'app_' || number AS id, org_id, 'job_' || job AS job_id, candidate, email, status, note,
    strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch') AS created_at
"""


class ApplicationDraft(BaseModel, extra="forbid", str_strip_whitespace=True):
    candidate: Annotated[str, Field(min_length=2, max_length=120)]
    email: Annotated[str, Field(max_length=200, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
    note: Annotated[str, Field(max_length=4000)] = ""


@routes.get("/api/jobs/{job_id}/applications")
async def list_applications(request: web.Request) -> web.Response:
    """Newest first."""
    caller = authorize(request, "read:applications")
    number = number_in_path(request, "job_id", "job")
    wanted = from_query(Paging, request)

    def read(connection: sqlite3.Connection) -> tuple[int, list[Row]]:
        job, _ = find_job(connection, caller, number)
        items = connection.execute(
            f"SELECT {_COLUMNS} FROM applications WHERE job = :job "
            "ORDER BY created_at DESC, number DESC LIMIT :limit OFFSET :offset",
            {"job": number, **wanted.window},
        ).fetchall()
        return sum(job["applications"].values()), [_visible(caller, item) for item in items]

    total, items = await query(request, read)
    page = {"org_id": caller.org, "job_id": f"job_{number}", "total": total}
    return answer(request, {**page, "page": wanted.page, "per_page": wanted.per_page, "items": items})


@routes.post("/api/jobs/{job_id}/applications")
async def apply(request: web.Request) -> web.Response:
    caller = authorize(request, "write:applications")
    number = number_in_path(request, "job_id", "job")
    draft = validated(ApplicationDraft, await read_object(request))
    values = draft.model_dump() | {"org": caller.org, "job": number, "now": int(time.time())}

    def write(connection: sqlite3.Connection) -> Row:
        with transaction(connection):
            job, _ = find_job(connection, caller, number)
            if job["status"] != "open":
                raise Problem(409, f"the job is {job['status']} and takes no applications")
            inserted = connection.execute(
                "INSERT INTO applications VALUES (NULL, :org, :job, :candidate, :email, 'submitted', :note, :now) "
                f"RETURNING {_COLUMNS}",
                values,
            ).fetchone()
            return _visible(caller, inserted)

    made = await query(request, write)
    request.app[HUB].publish(caller.org, {"type": "application.submitted", "id": made["id"], "job_id": made["job_id"]})
    return answer(request, made, status=201, headers={"Location": request.path})


def _visible(caller: Caller, application: Row) -> Row:
    if "read:contacts" in caller.permissions:
        return application
    return {**application, "candidate": application["id"].replace("app_", "Candidate "), "email": None}
