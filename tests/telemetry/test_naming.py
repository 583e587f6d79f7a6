"""The check of metric names, against names that it must complain of."""

import pytest

from tests.telemetry.naming import complaints

GOOD = [
    "# HELP sidecache_requests_total Requests.\n# TYPE sidecache_requests_total counter\nsidecache_requests_total 1\n",
    "# HELP sidecache_l1_bytes Bytes.\n# TYPE sidecache_l1_bytes gauge\nsidecache_l1_bytes 1\n",
]
BAD = [
    ("sidecache_l1_bytes", "counter", "", "A counter.", "is no counter by its name"),
    ("sidecache_l1_total", "gauge", "", "A gauge.", "a counter ends with _total, and nothing else does"),
    ("sidecache_wait_milliseconds", "gauge", "", "Time.", "uses milliseconds: the base unit is seconds"),
    ("sidecache_wait_seconds_longest", "gauge", "", "Time.", "its unit is not at its end"),
    ("sidecache_wait_gauge", "gauge", "", "A gauge.", "its name contains the type gauge"),
    ("sidecache_things_count", "gauge", "", "A gauge.", "ends like a part of a histogram"),
    ("sidecacheThings", "gauge", "", "A gauge.", "is not sidecache_ and words in snake_case"),
    ("sidecache_things", "gauge", "", "", "has no help"),
    ("sidecache_things", "gauge", "", "no sentence", "its help is no sentence"),
    ("sidecache_things", "gauge", '{Feature="a"}', "A gauge.", "label Feature is not snake_case"),
    ("sidecache_things", "gauge", '{le="1"}', "A gauge.", "label le is for histograms"),
    ("sidecache_feature_things", "gauge", '{feature="a"}', "A gauge.", "its name contains the label feature"),
]


@pytest.mark.parametrize("text", GOOD)
def test_good_names_are_none_of_its_business(text):
    assert list(complaints(text)) == []


@pytest.mark.parametrize(("name", "kind", "labels", "help_", "complaint"), BAD)
def test_a_bad_name_is_told(name, kind, labels, help_, complaint):
    text = f"# HELP {name} {help_}\n# TYPE {name} {kind}\n{name}{labels} 1\n"
    if kind == "counter":
        # the text format of a counter without _total is read as one of another name
        text = text.replace(" counter", " untyped")
        complaint = "has no type"
    assert any(complaint in each for each in complaints(text)), list(complaints(text))


def test_a_series_that_is_there_twice_is_told():
    text = GOOD[1] + "sidecache_l1_bytes 2\n"
    assert list(complaints(text)) == ["sidecache_l1_bytes: ('sidecache_l1_bytes', ()) is there twice"]
