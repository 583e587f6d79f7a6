"""Which employers does an organisation hire for?"""

import sqlite3
import time
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field, model_validator

from proxy.demo.access import Caller, authorize
from proxy.demo.database import Row, query, transaction
from proxy.demo.replies import (
    Paging,
    answer,
    from_query,
    missing,
    number_in_path,
    read_object,
    require_current,
    validated,
)

routes = web.RouteTableDef()

_COLUMNS = """
    'co_' || number AS id, name, org_id, industry, city, website, about,
    strftime('%Y-%m-%dT%H:%M:%SZ', created_at, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', updated_at, 'unixepoch') AS updated_at
"""
_READ_ONLY = ("id", "org_id", "created_at", "updated_at")


class CompanyProfile(BaseModel, extra="forbid", str_strip_whitespace=True):
    name: Annotated[str, Field(min_length=2, max_length=120)]
    industry: Annotated[str, Field(max_length=60)] = ""
    city: Annotated[str, Field(max_length=60)] = ""
    website: Annotated[str, Field(max_length=200, pattern=r"^(https?://\S+)?$")] = ""
    about: Annotated[str, Field(max_length=20_000)] = ""

    @model_validator(mode="before")
    @classmethod
    def _ignore_read_only(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in data.items() if name not in _READ_ONLY}


@routes.get("/api/companies")
async def list_companies(request: web.Request) -> web.Response:
    caller = authorize(request, "read:companies")
    wanted = from_query(Paging, request)
    values = {"org": caller.org, **wanted.window}

    def read(connection: sqlite3.Connection) -> tuple[int, list[Row]]:
        total = connection.execute("SELECT count(*) AS n FROM companies WHERE org_id = :org", values).fetchone()["n"]
        items = connection.execute(
            f"SELECT {_COLUMNS} FROM companies WHERE org_id = :org ORDER BY name, number LIMIT :limit OFFSET :offset",
            values,
        ).fetchall()
        return total, items

    total, items = await query(request, read)
    page = {"org_id": caller.org, "total": total, "page": wanted.page, "per_page": wanted.per_page}
    return answer(request, {**page, "items": items})


@routes.get("/api/companies/{company_id}")
async def read_company(request: web.Request) -> web.Response:
    caller = authorize(request, "read:companies")
    number = number_in_path(request, "company_id", "co")
    company, modified = await query(request, lambda connection: _find(connection, caller, number))
    return answer(request, company, modified=modified)


@routes.put("/api/companies/{company_id}")
@routes.patch("/api/companies/{company_id}")
async def change_company(request: web.Request) -> web.Response:
    caller = authorize(request, "write:companies")
    number = number_in_path(request, "company_id", "co")
    sent = await read_object(request)

    def write(connection: sqlite3.Connection) -> tuple[Row, int]:
        with transaction(connection):
            company, _ = _find(connection, caller, number)
            require_current(request.if_match, company)
            profile = validated(CompanyProfile, {**company, **sent} if request.method == "PATCH" else sent)
            connection.execute(
                "UPDATE companies SET name = :name, industry = :industry, city = :city, website = :website, "
                "about = :about, updated_at = :now WHERE number = :number",
                profile.model_dump() | {"now": int(time.time()), "number": number},
            )
            return _find(connection, caller, number)

    company, modified = await query(request, write)
    return answer(request, company, modified=modified)


def _find(connection: sqlite3.Connection, caller: Caller, number: int) -> tuple[Row, int]:
    company = connection.execute(
        f"SELECT {_COLUMNS}, updated_at AS modified FROM companies WHERE number = ? AND org_id = ?",
        (number, caller.org),
    ).fetchone()
    if company is None:
        raise missing("company")
    return company, company.pop("modified")
