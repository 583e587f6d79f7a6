"""The edit that answers a reason, and that there is none where none helps."""

import pytest

from proxy.policy.outcome import Reason
from proxy.rules.advice import advise


@pytest.mark.parametrize(
    ("reason", "route", "feature", "edit"),
    [
        (Reason.NO_RULE, "GET /api/x", "", 'features.NAME.read: ["GET /api/x"]   # if it may be cached'),
        (Reason.NO_RULE, "OPTIONS /api/x", "", None),
        (Reason.UNMATCHED_WRITE, "POST /api/x", "", 'features.NAME.write: ["POST /api/x"]'),
        (Reason.UNMATCHED_WRITE, "POST /api/jobs", "jobs", 'features.jobs.write: ["POST /api/jobs"]'),
        (Reason.PRIVATE, "GET /api/jobs", "jobs", "features.jobs.scope: user"),
        (Reason.STATUS, "GET /api/jobs", "jobs", "features.jobs.negative: {404: 30s}"),
        (Reason.COLD, "GET /api/jobs", "jobs", None), (Reason.TOKEN_EXPIRED, "GET /api/jobs", "jobs", None),
    ],
)  # fmt: skip
def test_an_edit_names_the_feature_and_the_route(reason, route, feature, edit):
    assert advise(reason, route, feature) == edit


def test_every_reason_can_be_asked_about():
    for reason in Reason:
        edit = advise(reason, "GET /api/jobs", "jobs")
        assert edit is None or "{feature}" not in edit
