"""Which jobs does an organisation offer, and who applied? The portal's busiest resources."""

import sqlite3
import time
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from proxy.demo.access import Caller, authorize
from proxy.demo.database import Row, query, transaction
from proxy.demo.live import HUB
from proxy.demo.replies import (
    Paging,
    answer,
    from_query,
    missing,
    number_in_path,
    read_object,
    refused_field,
    require_current,
    validated,
)

routes = web.RouteTableDef()

_COLUMNS = """
    'job_' || number AS id, title, org_id, status, department, location, employment, 'co_' || company AS company_id,
    salary_min, salary_max, description, strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', updated_at, 'unixepoch') AS updated_at
"""
_READ_ONLY = ("id", "org_id", "created_at", "updated_at", "applications")
_MATCHING = "org_id = :org AND (:status IS NULL OR status = :status) AND (:location IS NULL OR location = :location)"

Status = Literal["draft", "open", "paused", "closed"]
Money = Annotated[int, Field(ge=0, le=10_000_000)]


class JobFilter(Paging):
    status: Status | None = None
    location: Annotated[str, Field(max_length=60)] | None = None


class JobDraft(BaseModel, extra="forbid", str_strip_whitespace=True):
    title: Annotated[str, Field(min_length=3, max_length=120)]
    status: Status = "open"
    department: Annotated[str, Field(min_length=2, max_length=60)] = "Production"
    location: Annotated[str, Field(min_length=2, max_length=60)] = "Remote"
    employment: Literal["full-time", "part-time", "contract", "internship"] = "full-time"
    company_id: Annotated[str, Field(pattern=r"^co_[1-9][0-9]{0,14}$")] | None = None
    salary_min: Money = 0
    salary_max: Money | None = None
    description: Annotated[str, Field(max_length=20_000)] = ""

    @model_validator(mode="before")
    @classmethod
    def _ignore_read_only(cls, data: dict[str, Any]) -> dict[str, Any]:
        """What a client has read it may send back."""
        return {name: value for name, value in data.items() if name not in _READ_ONLY}

    @field_validator("salary_max")
    @classmethod
    def _is_a_range(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < info.data.get("salary_min", 0):
            raise ValueError("must not be less than salary_min")
        return value


@routes.get("/api/jobs")
async def list_jobs(request: web.Request) -> web.Response:
    """Newest first. `salary_rank` compares a salary with the organisation's other jobs of the same title."""
    caller = authorize(request, "read:jobs")
    wanted = from_query(JobFilter, request)
    values = {"org": caller.org, "status": wanted.status, "location": wanted.location, **wanted.window}

    def read(connection: sqlite3.Connection) -> tuple[int, list[Row], list[Row]]:
        total = connection.execute(f"SELECT count(*) AS total FROM jobs WHERE {_MATCHING}", values).fetchone()["total"]
        items = connection.execute(
            f"SELECT {_COLUMNS}, salary_rank FROM (SELECT *, round(percent_rank() OVER "
            "(PARTITION BY title ORDER BY salary_min), 3) AS salary_rank FROM jobs WHERE org_id = :org) "
            f"WHERE {_MATCHING} ORDER BY created_at DESC, number DESC LIMIT :limit OFFSET :offset",
            values,
        ).fetchall()
        facets = connection.execute(
            f"SELECT location, status, count(*) AS jobs FROM jobs WHERE {_MATCHING} GROUP BY 1, 2 ORDER BY 1, 2", values
        ).fetchall()
        return total, items, facets

    total, items, facets = await query(request, read)
    page = {"org_id": caller.org, "total": total, "page": wanted.page, "per_page": wanted.per_page}
    return answer(request, {**page, "items": items, "facets": facets})


@routes.post("/api/jobs")
async def create_job(request: web.Request) -> web.Response:
    caller = authorize(request, "write:jobs")
    draft = validated(JobDraft, await read_object(request))

    def write(connection: sqlite3.Connection) -> tuple[Row, int]:
        with transaction(connection):
            return find_job(connection, caller, _save(connection, caller, draft, None))

    job, modified = await query(request, write)
    request.app[HUB].publish(caller.org, {"type": "job.created", "id": job["id"], "title": job["title"]})
    return answer(request, job, modified=modified, status=201, headers={"Location": f"/api/jobs/{job['id']}"})


@routes.get("/api/jobs/{job_id}")
async def read_job(request: web.Request) -> web.Response:
    caller = authorize(request, "read:jobs")
    number = number_in_path(request, "job_id", "job")
    job, modified = await query(request, lambda connection: find_job(connection, caller, number))
    return answer(request, job, modified=modified)


@routes.put("/api/jobs/{job_id}")
@routes.patch("/api/jobs/{job_id}")
async def change_job(request: web.Request) -> web.Response:
    """PUT replaces; PATCH merges (RFC 7396) and the result must be as valid as a new job."""
    caller = authorize(request, "write:jobs")
    number = number_in_path(request, "job_id", "job")
    sent = await read_object(request)

    def write(connection: sqlite3.Connection) -> tuple[Row, int]:
        with transaction(connection):
            job, _ = find_job(connection, caller, number)
            require_current(request.if_match, job)
            draft = validated(JobDraft, {**job, **sent} if request.method == "PATCH" else sent)
            return find_job(connection, caller, _save(connection, caller, draft, number))

    job, modified = await query(request, write)
    request.app[HUB].publish(caller.org, {"type": "job.changed", "id": job["id"], "title": job["title"]})
    return answer(request, job, modified=modified)


@routes.delete("/api/jobs/{job_id}")
async def delete_job(request: web.Request) -> web.Response:
    caller = authorize(request, "write:jobs")
    number = number_in_path(request, "job_id", "job")

    def write(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            job, _ = find_job(connection, caller, number)
            require_current(request.if_match, job)
            connection.execute("DELETE FROM applications WHERE job = ?", (number,))
            connection.execute("DELETE FROM jobs WHERE number = ?", (number,))

    await query(request, write)
    request.app[HUB].publish(caller.org, {"type": "job.deleted", "id": f"job_{number}"})
    return web.Response(status=204)


def find_job(connection: sqlite3.Connection, caller: Caller, number: int) -> tuple[Row, int]:
    """A job of the caller's organisation with its applications by status, and when this changed last."""
    job = connection.execute(
        f"SELECT {_COLUMNS}, updated_at AS modified FROM jobs WHERE number = ? AND org_id = ?", (number, caller.org)
    ).fetchone()
    if job is None:
        raise missing("job")
    modified = job.pop("modified")
    counted = connection.execute(
        "SELECT status, count(*) AS n, max(created_at) AS latest FROM applications WHERE job = ? GROUP BY 1 ORDER BY 1",
        (number,),
    ).fetchall()
    applications = {row["status"]: row["n"] for row in counted}
    return {**job, "applications": applications}, max([modified, *(row["latest"] for row in counted)])


def _save(connection: sqlite3.Connection, caller: Caller, draft: JobDraft, number: int | None) -> int:
    """Insert (number None) or replace; the job's number."""
    company = draft.company_id and int(draft.company_id.removeprefix("co_"))
    found = connection.execute(
        "SELECT number FROM companies WHERE org_id = ? AND number = coalesce(?, number) LIMIT 1", (caller.org, company)
    ).fetchone()
    if found is None:
        raise refused_field("company_id", "no such company in your organisation")
    values = draft.model_dump() | {
        "org": caller.org,
        "company": found["number"],
        "salary_max": draft.salary_min if draft.salary_max is None else draft.salary_max,
        "number": number,
        "now": int(time.time()),
    }
    if number is not None:
        connection.execute(
            "UPDATE jobs SET company = :company, title = :title, department = :department, location = :location, "
            "status = :status, employment = :employment, salary_min = :salary_min, salary_max = :salary_max, "
            "description = :description, updated_at = :now WHERE number = :number",
            values,
        )
        return number
    inserted = connection.execute(
        "INSERT INTO jobs VALUES (NULL, :org, :company, :title, :department, :location, :status, :employment, "
        ":salary_min, :salary_max, :description, :now, :now) RETURNING number",
        values,
    ).fetchone()
    return int(inserted["number"])
