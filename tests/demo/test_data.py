import sqlite3

from proxy.demo.data import MEMBERS, ROLES, Size, fill
from proxy.demo.database import Database


def rows(size: Size, seed: int = 1) -> dict[str, list]:
    tables = ("organizations", "members", "member_roles", "companies", "jobs", "applications")
    database = Database(lambda connection: fill(connection, size, now=1_700_000_000.0, seed=seed))
    try:
        return {name: database.work(lambda connection, name=name: read_all(connection, name)) for name in tables}
    finally:
        database.close()


def read_all(connection: sqlite3.Connection, table: str) -> list:
    return connection.execute(f"SELECT * FROM {table}").fetchall()


def test_the_same_seed_invents_the_same_rows_and_another_seed_others():
    size = Size(companies=9, jobs=30, applications=50)
    assert rows(size) == rows(size)
    assert rows(size)["jobs"] != rows(size, seed=2)["jobs"]


def test_every_row_belongs_to_one_of_two_organisations_and_refers_to_its_own():
    data = rows(Size(companies=20, jobs=200, applications=300))
    assert [len(data[name]) for name in ("companies", "jobs", "applications")] == [20, 200, 300]
    companies = {row["number"]: row["org_id"] for row in data["companies"]}
    jobs = {row["number"]: row["org_id"] for row in data["jobs"]}
    assert all(companies[row["company"]] == row["org_id"] for row in data["jobs"])
    assert all(jobs[row["job"]] == row["org_id"] for row in data["applications"])
    assert set(jobs.values()) == {"org_acme", "org_globex"}


def test_nothing_was_created_after_now():
    data = rows(Size(companies=9, jobs=30, applications=50))
    created = [row["created_at"] for table in ("companies", "jobs", "applications") for row in data[table]]
    assert max(created) < 1_700_000_000


def test_the_first_member_of_each_organisation_is_an_administrator():
    first = {org: roles for _, org, _, _, roles in reversed(MEMBERS)}
    assert first == {"org_acme": ("admin",), "org_globex": ("admin",)}
    assert all(permissions <= ROLES["admin"] for permissions in ROLES.values())
