"""What is in the demo portal? The schema, the roles, and two organisations with some months of invented business."""

import random
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from proxy.demo.database import transaction

DAY = 86400

# Deliberately without secondary indexes: the queries of a young portal, which is what a cache is bought for.
SCHEMA = """
CREATE TABLE organizations (id TEXT PRIMARY KEY, name TEXT, plan TEXT, region TEXT, created_at INTEGER);
CREATE TABLE members (id TEXT PRIMARY KEY, org_id TEXT, name TEXT, email TEXT, created_at INTEGER);
CREATE TABLE member_roles (member_id TEXT, role TEXT, PRIMARY KEY (member_id, role)) WITHOUT ROWID;
CREATE TABLE companies (
    number INTEGER PRIMARY KEY, org_id TEXT, name TEXT, industry TEXT, city TEXT, website TEXT, about TEXT,
    created_at INTEGER, updated_at INTEGER);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, org_id TEXT, company INTEGER, title TEXT, department TEXT, location TEXT,
    status TEXT, employment TEXT, salary_min INTEGER, salary_max INTEGER, description TEXT,
    created_at INTEGER, updated_at INTEGER);
CREATE TABLE applications (
    number INTEGER PRIMARY KEY AUTOINCREMENT, org_id TEXT, job INTEGER, candidate TEXT, email TEXT, status TEXT,
    note TEXT, created_at INTEGER);
"""

PERMISSIONS = tuple(
    """
    read:jobs write:jobs read:companies write:companies read:applications write:applications read:contacts
    read:analytics read:members write:members
    """.split()
)

# `read:contacts` shows who an applicant is: two roles of one organisation get different bodies for the same URL.
ROLES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "admin": frozenset(PERMISSIONS),
        "recruiter": frozenset(PERMISSIONS) - {"write:companies", "write:members"},
        "interviewer": frozenset({"read:jobs", "read:companies", "read:applications"}),
        "viewer": frozenset({"read:jobs", "read:companies", "read:analytics"}),
    }
)

JOB_STATUSES = ("draft", "open", "paused", "closed")
EMPLOYMENTS = ("full-time", "part-time", "contract", "internship")
APPLICATION_STATUSES = ("submitted", "screening", "interview", "offer", "hired", "rejected")

ORGANIZATIONS = (
    ("org_acme", "Acme Manufacturing", "enterprise", "eu-west-1"),
    ("org_globex", "Globex Logistics", "growth", "us-east-1"),
)
# The first member of an organisation is who the demo's own tokens speak for.
MEMBERS = (
    ("auth0|ada", "org_acme", "Ada Moreau", "ada@acme.example", ("admin",)),
    ("auth0|bruno", "org_acme", "Bruno Keller", "bruno@acme.example", ("recruiter",)),
    ("auth0|ines", "org_acme", "Ines Duarte", "ines@acme.example", ("interviewer",)),
    ("auth0|victor", "org_acme", "Victor Lind", "victor@acme.example", ("viewer",)),
    ("auth0|gus", "org_globex", "Gus Ferreira", "gus@globex.example", ("admin",)),
    ("auth0|rita", "org_globex", "Rita Olsen", "rita@globex.example", ("recruiter",)),
    ("auth0|imran", "org_globex", "Imran Shah", "imran@globex.example", ("interviewer",)),
    ("auth0|wanda", "org_globex", "Wanda Petit", "wanda@globex.example", ("viewer",)),
)

DEPARTMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Production": ("Welder", "CNC Operator", "Shift Lead", "Assembly Technician"),
        "Logistics": ("Forklift Driver", "Warehouse Planner", "Dispatcher", "Fleet Coordinator"),
        "Engineering": ("Software Engineer", "Electrical Engineer", "Data Engineer", "Automation Engineer"),
        "Office": ("Accountant", "Payroll Specialist", "Buyer", "Recruiting Partner"),
        "Care": ("Nurse", "Site Medic", "Safety Officer", "Trainer"),
    }
)
LOCATIONS = ("Berlin", "Lisbon", "Lyon", "Leeds", "Porto", "Chicago", "Austin", "Toronto", "Remote")
_LEVELS = ("Junior", "Senior", "Lead", "Night-shift", "Apprentice")
_INDUSTRIES = ("Automotive", "Food", "Chemicals", "Retail", "Energy", "Aerospace")
_COMPANY_WORDS = ("Northern", "Harbour", "Blue", "Granite", "Summit", "River", "Cobalt", "Meadow", "Union", "Delta")
_COMPANY_FORMS = ("Works", "Foods", "Freight", "Systems", "Mills", "Energy", "Motors", "Labs")
_FIRST = tuple("Amina Bela Carlos Dana Emil Fatou Goran Hana Ivo Jana Kofi Lena Marta Nils Olga Pavel Rosa".split())
_LAST = tuple("Adler Bauer Costa Diaz Evans Fischer Garcia Haas Ito Jensen Kowalski Lopez Meyer Novak Okafor".split())
_SENTENCES = (
    "You plan the week with the shift leads and keep the line supplied.",
    "The role reports to the site manager and works across two halls.",
    "We offer a permanent contract, paid training and a bicycle lease.",
    "Experience with SAP or another planning system helps you settle in.",
    "You read technical drawings and document every change.",
    "A forklift licence is welcome; we pay for it if you do not have one.",
    "Safety comes first: you stop the line when something looks wrong.",
    "The team speaks English; German or Portuguese lessons are on us.",
    "You write Python services that feed the planning board.",
    "Early and late shifts alternate weekly, nights are voluntary.",
    "You look after suppliers, compare offers and negotiate prices.",
    "A first conversation takes twenty minutes and needs no cover letter.",
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is invented, over both organisations."""

    companies: int = 160
    jobs: int = 5000
    applications: int = 24000


def fill(connection: sqlite3.Connection, size: Size, *, now: float, seed: int = 1) -> None:
    """Create the tables and their rows: the same ones for the same size, seed and `now`."""
    rng = random.Random(seed)
    today = int(now)
    jobs = list(_jobs(rng, size, today))
    rows: Mapping[str, Iterable[tuple[object, ...]]] = {
        "organizations": [(*row, today - 900 * DAY) for row in ORGANIZATIONS],
        "members": [(*row[:4], today - 400 * DAY) for row in MEMBERS],
        "member_roles": [(row[0], role) for row in MEMBERS for role in row[4]],
        "companies": _companies(rng, size.companies, today),
        "jobs": jobs,
        "applications": _applications(rng, size.applications, jobs, today),
    }
    connection.executescript(SCHEMA)
    with transaction(connection):
        for table, values in rows.items():
            insert(connection, table, values)


def insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    columns = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)


def _owner(number: int) -> str:
    """Rows of the two organisations lie side by side, two thirds of them Acme's."""
    return ORGANIZATIONS[number % 3 == 0][0]


def _companies(rng: random.Random, count: int, today: int) -> Iterator[tuple[object, ...]]:
    for number in range(1, count + 1):
        name = f"{rng.choice(_COMPANY_WORDS)} {rng.choice(_COMPANY_FORMS)} {number}"
        site = f"https://{name.lower().replace(' ', '-')}.example"
        about = " ".join(rng.sample(_SENTENCES, 3))
        created = today - rng.randrange(200, 800) * DAY
        industry, city = rng.choice(_INDUSTRIES), rng.choice(LOCATIONS[:-1])
        yield number, _owner(number), name, industry, city, site, about, created, created


def _jobs(rng: random.Random, size: Size, today: int) -> Iterator[tuple[object, ...]]:
    """Oldest first, over the last 180 days: a job created today is the newest of its organisation."""
    departments = list(DEPARTMENTS)
    statuses = rng.choices(JOB_STATUSES, (5, 70, 5, 20), k=size.jobs)
    employments = rng.choices(EMPLOYMENTS, (70, 15, 10, 5), k=size.jobs)
    owned = {row[0]: [n for n in range(1, size.companies + 1) if _owner(n) == row[0]] for row in ORGANIZATIONS}
    for number, (status, employment) in enumerate(zip(statuses, employments, strict=True), 1):
        org = _owner(number)
        department = departments[int(rng.random() * len(departments))]
        roles = DEPARTMENTS[department]
        title = f"{_pick(rng, _LEVELS)} {_pick(rng, roles)}"
        salary = 28000 + 500 * int(rng.random() * 90)
        created = today - 180 * DAY + int((number - 1) / size.jobs * 180 * DAY)
        text = " ".join(_pick(rng, _SENTENCES) for _ in range(5))
        company = owned[org][int(rng.random() * len(owned[org]))]
        location = _pick(rng, LOCATIONS)
        numbers = (salary, salary + 8000)
        yield (
            number, org, company, title, department, location, status, employment, *numbers, text, created, created
        )  # fmt: skip


def _applications(
    rng: random.Random, count: int, jobs: Sequence[tuple[object, ...]], today: int
) -> Iterator[tuple[object, ...]]:
    """Oldest first; a few jobs get most of them, as everywhere."""
    statuses = rng.choices(APPLICATION_STATUSES, (30, 20, 15, 5, 5, 25), k=count)
    for number, status in enumerate(statuses, 1):
        job = jobs[int(len(jobs) * rng.random() ** 3)]
        first, last = _pick(rng, _FIRST), _pick(rng, _LAST)
        email = f"{first}.{last}{number}@mail.example".lower()
        created = today - int((count - number + 1) / count * 90 * DAY)
        yield number, job[1], job[0], f"{first} {last}", email, status, _pick(rng, _SENTENCES), created


def _pick(rng: random.Random, values: Sequence[str]) -> str:
    return values[int(rng.random() * len(values))]  # a fifth of the time of rng.choice
