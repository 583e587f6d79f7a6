"""What a write purges: its own feature by itself, others by name."""

import pytest

from proxy.policy.key import purge_tags
from proxy.policy.message import Request
from proxy.rules.compile import RuleSet
from tests.builders import KEYS
from tests.rules.texts import accepted, features, refused


def purged(rules: RuleSet, line: str) -> dict[bool, set[str]]:
    method, _, path = line.partition(" ")
    match = rules.match(method, path)
    assert match is not None
    return {public: set(tags) for public, tags in purge_tags(match, Request(method, path), KEYS).items()}


PORTAL = """
    jobs:
      read: [GET /jobs, 'GET /jobs/{job-id}', 'GET /jobs/{job-id}/stats']
      write:
        - POST /jobs
        - DELETE /jobs/{job-id}
        - POST /jobs/{job-id}/close
        - route: PUT /jobs/{job-id}
          also-purge: 'applications:{job-id}'
      also-purge: search
    applications:
      read: ['GET /jobs/{job-id}/applications', 'GET /jobs/{job-id}/applications/{application-id}']
      write:
        - route: POST /jobs/{job-id}/applications
          also-purge: ['jobs:{job-id}', 'jobs:list', catalogue]
    search:
      read: [GET /search]
    catalogue:
      scope: public
      read: [GET /catalogue/**]
      write: [POST /catalogue]
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("POST /jobs", {False: {"jobs:list", "search"}}),
        ("DELETE /jobs/7", {False: {"jobs:list", "jobs:7", "jobs:job-7", "search"}}),
        # its own identifier is `job-7`, and it changes the job as well
        ("POST /jobs/7/close", {False: {"jobs:list", "jobs:job-7", "jobs:7", "search"}}),
        ("PUT /jobs/7", {False: {"jobs:list", "jobs:7", "jobs:job-7", "search", "applications:job-7"}}),
        (
            "POST /jobs/7/applications",
            {
                False: {"applications:list", "applications:job-7", "jobs:7", "jobs:job-7", "jobs:list"},
                True: {"catalogue"},
            },
        ),
        # nothing that a `**` read keeps can be named
        ("POST /catalogue", {True: {"catalogue:list", "catalogue"}}),
    ],
)
def test_a_write_purges_what_it_can_have_changed(line, expected):
    assert purged(accepted(features(PORTAL)), line) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("serach", "also-purge 'serach': unknown feature (did you mean 'search'?)"),
        ("search:", "also-purge 'search:': is not a tag such as search, jobs:{job-id} or jobs:list"),
        ("search:77", "also-purge 'search:77': is not a tag such as "),
        (
            "items:{jobid}",
            "also-purge 'items:{jobid}': {jobid} is no parameter of /jobs/{job-id} (did you mean 'job-id'?)",
        ),
        ("search:{job-id}", "also-purge 'search:{job-id}': no read of 'search' is identified by {job-id} alone"),
        ("nested:{job-id}", "also-purge 'nested:{job-id}': no read of 'nested' is identified by {job-id} alone"),
        ("items:{org-id}", "also-purge 'items:{org-id}': {org-id} is no parameter of /jobs/{job-id}"),
    ],
)
def test_a_tag_that_names_nothing_is_refused(tag, expected):
    text = f"""
        jobs: {{write: [{{route: 'PUT /jobs/{{job-id}}', also-purge: ['{tag}']}}]}}
        search: {{read: [GET /search]}}
        items: {{read: ['GET /items/{{item-id}}']}}
        nested: {{read: ['GET /x/{{x-id}}/y']}}
    """
    (found,) = refused(features(text))
    assert found.partition(": ")[2].startswith(f"features.jobs.write[0].also-purge[0]: {expected}")


def test_a_parameter_that_names_the_tenant_is_no_item():
    text = """
        org: {read: [GET /org]}
        jobs: {write: [{route: 'PUT /orgs/{org-id}/jobs', also-purge: ['org:{org-id}']}]}
    """
    (found,) = refused(features(text, head="identity: {tenant: [jwt.org_id, path.org-id]}\n"))
    assert "{org-id} names the tenant, whose entries alone are purged anyway" in found


def test_a_feature_that_was_taken_out_for_another_mistake_is_not_missed():
    text = "a: {write: [POST /a], also-purge: [B, c]}\nB: {read: [GET /b]}\nc: 5"
    assert len(refused(features(text))) == 2


def test_a_features_tag_is_told_once_for_all_of_its_writes():
    text = "a: {write: [POST /a, PUT /b], also-purge: ['c:{x}']}\nc: {read: ['GET /c/{x}']}"
    assert len(refused(features(text))) == 1


def test_a_tag_of_a_whole_feature_is_told_once_at_its_own_line():
    text = "a: {write: [POST /a, PUT /a, DELETE /a], also-purge: [b]}"
    assert len(refused(features(text))) == 1
