"""The alerts and the dashboard speak of metrics that there are, with labels they have, in PromQL that parses."""

import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from proxy import auditing, figures
from proxy.cache.record import Rejection
from proxy.cache.seal import Sealer
from proxy.counting import Counting
from proxy.event_parts import EventParts
from proxy.identity.sources import IdentityResolver
from proxy.policy.outcome import Outcome, Reason
from proxy.settings import load
from proxy.stores.breaker import Guarded
from proxy.stores.memory import MemoryStore
from proxy.telemetry.exposition import exposition
from proxy.telemetry.loop_lag import LoopLag
from proxy.telemetry.metrics import EVENTS
from proxy.telemetry.together import together
from proxy.workers.supervisor import samples
from tests.admin.world import World
from tests.builders import KEYS
from tests.telemetry.naming import complaints

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = YAML(typ="safe", pure=True).load(FOLDER / "prometheus-rules.yaml")
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())

SCRAPED = {"instance", "job", "namespace", "pod"}  # labels that Prometheus adds, the last two where Kubernetes is asked
# Of kube-state-metrics, as its docs/metrics/workload/pod-metrics.md lists them: native sidecars are init containers.
KUBERNETES = {
    "kube_pod_init_container_status_restarts_total": {"namespace", "pod", "uid", "container"},
    "kube_pod_init_container_resource_limits": {"namespace", "pod", "uid", "container", "node", "resource", "unit"},
}
VALUES = {
    "result": {"hit", "miss", "pass"},
    "event": set(EVENTS),
}
OF_METRIC = {
    "sidecache_events_published_total": {"result": {"stored", "repeated", "refused", "lost"}},
    "sidecache_event_entries_total": {"what": {"restored", "gaps", "rejected"}},
    "sidecache_event_streams_refused_total": {"limit": {"process", "tenant", "user"}},
    "sidecache_event_streams_ended_total": {"why": {"left", "overflow", "unavailable"}},
    "sidecache_count_additions_total": {"fate": {"added", "unanswered", "lost"}},
}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Alert(Strict):
    alert: str = Field(pattern=r"^Sidecache[A-Z][A-Za-z]+$")
    expr: str
    for_: str | None = Field(alias="for", default=None, pattern=r"^[1-9][0-9]*[smhd]$")
    labels: dict[str, str]
    annotations: dict[str, str]


class Record(Strict):
    record: str = Field(pattern=r"^sidecache:[a-z_]+:[a-z0-9]+$")
    expr: str


class Group(Strict):
    name: str
    interval: str | None = None
    rules: list[Alert | Record]


class File(Strict):
    groups: list[Group]


GROUPS = File.model_validate(RULES).groups
ALERTS = [rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert)]
RECORDS = {rule.record: rule for group in GROUPS for rule in group.rules if isinstance(rule, Record)}
QUERIES = [
    *((alert.alert, alert.expr) for alert in ALERTS),
    *((name, record.expr) for name, record in RECORDS.items()),
    *((panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]),
    *((each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"]),
]


class Listening:
    """A listener that answers hits."""

    class hits:
        repeated = chosen = decided = size = 0

    class misses:
        begun = answered = 0

    class forwarding:
        repeated = alike = decided = size = 0

    connections = 0


@pytest.fixture
async def told(tmp_path) -> dict[str, set[str]]:
    """The labels of every series that a sidecar can tell: one of several workers, with a shared store."""
    world = World(tmp_path / "rules.yaml", "production")
    await world.keep()
    for event, reason, feature in (("x", Reason.FRESH, "jobs"), ("y", Reason.NO_RULE, None)):
        world.metrics.note(event)
        world.seen("GET", "/api/jobs", Outcome(reason, hit=feature is not None, feature=feature, tenant="org_a"))
    store = Guarded(MemoryStore(1 << 20, world.clock), timeout=0.1, clock=world.clock, report=lambda *_: None)
    await store.get(["tenant:org_a:jobs:list"])
    sealer, now = Sealer(b"k" * 32), world.clock()
    for read in (
        lambda: figures.of_serving(world.cache, world.epochs, Listening, sealer, world.background, now),
        lambda: figures.of_rules(world.rules),
        lambda: figures.of_traffic(world.traffic),
        lambda: figures.of_store(store),
        lambda: figures.of_loop(LoopLag()),
        lambda: samples(2, 0, 0),
        lambda: auditing.samples(world.audit, world.trail, 0),
    ):
        world.metrics.watch(read)
    async with AsyncExitStack() as stack:
        await told_of_events_and_counts(world, store, sealer, stack)
        return labels_told(world)


async def told_of_events_and_counts(world: World, store: Any, sealer: Sealer, stack: AsyncExitStack) -> None:
    settings = load({"SIDECACHE_UPSTREAM": "http://127.0.0.1:1"}, profile="development")
    parts = EventParts(
        settings, store, sealer, KEYS, world.background, world.clock, lambda *_: None, lambda *_: None
    )  # fmt: skip
    parts.start(stack, world.metrics)
    counting = Counting(
        store, lambda: world.rules.current, IdentityResolver(None), KEYS, world.background, world.clock,
        metrics=world.metrics, failed=world.failures.append, lost=lambda *_: None,
    )  # fmt: skip
    stack.push_async_callback(counting.close)


def labels_told(world: World) -> dict[str, set[str]]:
    text = exposition(together({"0": world.metrics.figures()})).decode()
    assert list(complaints(text)) == []
    families = text_string_to_metric_families(text)
    found = {sample.name: set(sample.labels) for family in families for sample in family.samples}
    return {**found, **KUBERNETES, "up": set()}


def parts(node: Any) -> Iterator[Any]:
    """Every node of a parsed query."""
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "param"):
        if (child := getattr(node, name, None)) is not None and not isinstance(child, str | int | float):
            yield from parts(child)
    for child in getattr(node, "args", None) or ():
        yield from parts(child)


def parsed(query: str) -> Any:
    """With Grafana's own variables as it would fill them in."""
    return promql.parse(query.replace("$__rate_interval", "5m").replace("$instance", ".*"))


def labels_of(name: str, told: dict[str, set[str]]) -> set[str]:
    if name not in RECORDS:
        return told[name] | SCRAPED
    (by,) = [part.modifier for part in parts(parsed(RECORDS[name].expr)) if isinstance(part, promql.AggregateExpr)][:1]
    return set(by.labels)


def wrong(query: str, told: dict[str, set[str]]) -> Iterator[str]:
    for part in parts(parsed(query)):
        if not isinstance(part, promql.VectorSelector):
            continue
        if part.name not in told and part.name not in RECORDS:
            yield f"there is no {part.name}"
            continue
        for matcher in part.matchers.matchers:
            if matcher.name not in labels_of(part.name, told):
                yield f"{part.name} has no label {matcher.name}"
            yield from _unknown_values(part.name, matcher)


def _unknown_values(name: str, matcher: Any) -> Iterator[str]:
    reasons = {each.value for each in (Rejection if "records_rejected" in name else Reason)}
    known = {**VALUES, "reason": reasons, **OF_METRIC.get(name, {})}.get(matcher.name)
    for value in matcher.value.split("|") if known else ():
        if value not in known:
            yield f"{matcher.name} is never {value}"


def grouped(query: str) -> set[str]:
    """The labels by which a query groups, joins or ignores."""
    found: set[str] = set()
    for part in parts(parsed(query)):
        modifier = getattr(part, "modifier", None)
        for holder in (modifier, getattr(modifier, "matching", None)):
            found |= set(getattr(holder, "labels", None) or ())
    return found


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[name for name, _ in QUERIES])
async def test_a_query_parses_and_asks_for_what_there_is(name, query, told):
    assert list(wrong(query, told)) == []
    known = set().union(*told.values(), SCRAPED)
    assert grouped(query) <= known


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("sidecache_request_total", "there is no sidecache_request_total"),
        ("sum by (instance) (rate(sidecache_l1_byte[5m])) > 1", "there is no sidecache_l1_byte"),
        ('sidecache_l1_bytes{feature="a"}', "sidecache_l1_bytes has no label feature"),
        ('up == 1 and increase(sidecache_events_total{event="never"}[5m]) > 0', "event is never never"),
        ('sidecache_requests_total{reason=~"cold|luke-warm"}', "reason is never luke-warm"),
        ('sidecache_records_rejected_total{reason="cold"}', "reason is never cold"),
        ('sidecache_events_published_total{result="hit"}', "result is never hit"),
        ('sidecache_event_streams_ended_total{why="bored"}', "why is never bored"),
        ('sidecache:hit_ratio:rate30m{instance="a"}', "sidecache:hit_ratio:rate30m has no label instance"),
    ],
)
async def test_the_check_sees_what_is_wrong(query, complaint, told):
    assert list(wrong(query, told)) == [complaint]


def test_no_query_that_does_not_parse_passes():
    with pytest.raises(ValueError):
        parsed("sum by (")


def test_alerts_have_names_of_their_own_and_what_people_need():
    assert len({alert.alert for alert in ALERTS}) == len(ALERTS)
    for alert in ALERTS:
        assert alert.labels.keys() == {"severity"}
        assert alert.labels["severity"] in ("critical", "warning", "info")
        assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
        for text in alert.annotations.values():
            assert text.count("{{") == text.count("}}")


async def test_a_value_that_a_query_asks_for_is_told_before_the_first_of_its_kind(tmp_path, told):
    """Else the first one is no increase."""
    for name, labels in OF_METRIC.items():
        assert told[name] == set(labels)


async def test_what_a_text_names_is_a_label_that_is_left(told):
    for alert in ALERTS:
        names = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.annotations.values())))
        selected = [part.name for part in parts(parsed(alert.expr)) if isinstance(part, promql.VectorSelector)]
        available = set().union(*(labels_of(name, told) for name in selected))
        groups = [set(part.modifier.labels) for part in parts(parsed(alert.expr))
                  if isinstance(part, promql.AggregateExpr) and part.modifier is not None]  # fmt: skip
        assert names <= (groups[0] if groups else available), alert.alert


def test_every_alert_has_its_page_in_the_runbook_and_every_page_its_alert():
    headings = re.findall(r"^## (Sidecache\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(alert.alert for alert in ALERTS)
    for alert in ALERTS:
        assert alert.annotations["runbook_url"] == f"docs/runbook.md#{alert.alert.lower()}"


def test_the_dashboard_is_whole():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = {
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }
    assert len(cells) == sum(panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in panels)  # none over another
    assert max(x for x, _ in cells) < 24
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
