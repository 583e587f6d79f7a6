"""Which jobs fit these words? A scan with term frequencies: what a portal has before it has a search engine."""

import sqlite3
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from proxy.demo.access import authorize
from proxy.demo.database import Row, query
from proxy.demo.replies import Paging, answer, from_query, read_object, validated

routes = web.RouteTableDef()

_MOST_TERMS = 4
_ORDER = {
    "relevance": "score DESC, number DESC",
    "newest": "created_at DESC, number DESC",
    "salary": "salary_max DESC, number DESC",
}


class Search(Paging, extra="ignore"):
    q: Annotated[str, Field(max_length=200)] = ""
    sort: Literal["relevance", "newest", "salary"] = "relevance"
    location: Annotated[str, Field(max_length=60)] | None = None


@routes.get("/api/search")
async def search(request: web.Request) -> web.Response:
    return await _results(request, from_query(Search, request))


@routes.post("/api/search")
async def search_by_body(request: web.Request) -> web.Response:
    """The same as GET, with the words in a JSON object: it changes nothing."""
    return await _results(request, validated(Search, await read_object(request)))


async def _results(request: web.Request, wanted: Search) -> web.Response:
    caller = authorize(request, "read:jobs")
    terms = wanted.q.lower().split()[:_MOST_TERMS]
    values: dict[str, object] = {"org": caller.org, "location": wanted.location, **wanted.window}
    values |= {f"t{number}": term for number, term in enumerate(terms)}
    table = _scored([f":t{number}" for number in range(len(terms))])

    def read(connection: sqlite3.Connection) -> tuple[int, list[Row]]:
        total = connection.execute(f"SELECT count(*) AS n FROM ({table}) WHERE score > 0", values).fetchone()["n"]
        items = connection.execute(
            "SELECT 'job_' || number AS id, title, org_id, status, department, location, salary_min, salary_max, "
            f"score, substr(description, 1, 120) AS snippet FROM ({table}) WHERE score > 0 "
            f"ORDER BY {_ORDER[wanted.sort]} LIMIT :limit OFFSET :offset",
            values,
        ).fetchall()
        return total, items

    total, items = await query(request, read)
    page = {"org_id": caller.org, "q": wanted.q, "total": total, "page": wanted.page, "per_page": wanted.per_page}
    return answer(request, {**page, "items": items})


def _scored(terms: list[str]) -> str:
    """The organisation's jobs with a score: five for a word in the title, one for each place in the description."""
    scores = [
        f"5 * (instr(lower(title), {term}) > 0) + 2 * (instr(lower(department), {term}) > 0) "
        f"+ (length(description) - length(replace(lower(description), {term}, ''))) / length({term})"
        for term in terms
    ]
    score = " + ".join(scores) or "1"
    return f"SELECT *, {score} AS score FROM jobs WHERE org_id = :org AND (:location IS NULL OR location = :location)"
