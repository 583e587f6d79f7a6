"""Who belongs to the caller's organisation, and what may they do? Also the way out."""

import sqlite3
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field

from proxy.demo.access import authorize
from proxy.demo.data import ROLES
from proxy.demo.database import Row, query, transaction
from proxy.demo.issuer import find_member
from proxy.demo.replies import answer, missing, read_object, refused_field, validated

routes = web.RouteTableDef()


class Roles(BaseModel, extra="forbid"):
    roles: Annotated[list[str], Field(max_length=len(ROLES))]


@routes.get("/api/organizations/current")
async def current_organization(request: web.Request) -> web.Response:
    caller = authorize(request)
    found = await query(
        request,
        lambda connection: connection.execute(
            "SELECT id, id AS org_id, name, plan, region, "
            "(SELECT count(*) FROM members WHERE org_id = :org) AS members FROM organizations WHERE id = :org",
            {"org": caller.org},
        ).fetchone(),
    )
    return answer(request, found)


@routes.get("/api/me")
async def me(request: web.Request) -> web.Response:
    """The token's own permissions, which stay what they were when it was issued."""
    caller = authorize(request)
    member = await find_member(request, caller.org, caller.subject)
    if member is None:
        raise missing("member")
    personal = {"Cache-Control": "private, max-age=0"}
    return answer(request, {**member, "permissions": sorted(caller.permissions)}, headers=personal)


@routes.get("/api/members")
async def list_members(request: web.Request) -> web.Response:
    caller = authorize(request, "read:members")
    rows: list[Row] = await query(
        request,
        lambda connection: connection.execute(
            "SELECT id, org_id, name, email FROM members WHERE org_id = ? ORDER BY name", (caller.org,)
        ).fetchall(),
    )
    return answer(request, {"org_id": caller.org, "total": len(rows), "items": rows})


@routes.get("/api/members/{user_id}/roles")
async def read_roles(request: web.Request) -> web.Response:
    caller = authorize(request, "read:members")
    member = await find_member(request, caller.org, request.match_info["user_id"])
    if member is None:
        raise missing("member")
    return answer(request, {"user_id": member["id"], "org_id": caller.org, "roles": member["roles"]})


@routes.put("/api/members/{user_id}/roles")
async def replace_roles(request: web.Request) -> web.Response:
    """Changes what new tokens carry; those already issued live on until they expire, as everywhere with JWTs."""
    wanted = set(validated(Roles, await read_object(request)).roles)
    if unknown := wanted - ROLES.keys():
        raise refused_field("roles", f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(ROLES)}")
    member = await _set_roles(request, sorted(wanted))
    return answer(request, {"user_id": member["id"], "org_id": member["org_id"], "roles": sorted(wanted)})


@routes.delete("/api/members/{user_id}/roles")
async def remove_roles(request: web.Request) -> web.Response:
    await _set_roles(request, [])
    return web.Response(status=204)


async def _set_roles(request: web.Request, roles: list[str]) -> Row:
    caller = authorize(request, "write:members")
    member = await find_member(request, caller.org, request.match_info["user_id"])
    if member is None:
        raise missing("member")

    def write(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            connection.execute("DELETE FROM member_roles WHERE member_id = ?", (member["id"],))
            connection.executemany("INSERT INTO member_roles VALUES (?, ?)", [(member["id"], role) for role in roles])

    await query(request, write)
    return member


@routes.get("/auth/logout")
async def logout(request: web.Request) -> web.Response:
    """Ends the browser's session. A token that was copied before still works here: the portal keeps no list."""
    return web.Response(status=302, headers={"Location": "/", "Set-Cookie": "__session=; Path=/; Max-Age=0; HttpOnly"})


@routes.post("/api/logout")
async def api_logout(request: web.Request) -> web.Response:
    authorize(request)
    return web.Response(status=204)
