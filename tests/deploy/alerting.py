"""What promtool says of the shipped rules: series go in, the alerts that fire come out."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "monitoring" / "prometheus-rules.yaml"
LIMIT = 60.0
_ALL = [rule for group in YAML(typ="safe", pure=True).load(RULES)["groups"] for rule in group["rules"]]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in _ALL if "alert" in rule}

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (make test as root installs it with Debian's prometheus)"
)

Series = dict[str, str]  # a series, and its values each minute from minute 0 as promtool writes them


@dataclass(frozen=True)
class Fires:
    """`labels`: of the alert, beside its severity; `value`: as its text says it."""

    series: Series
    at: str
    labels: dict[str, str]
    value: str = ""


@dataclass(frozen=True)
class Silent:
    series: Series
    at: str


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=LIMIT)


def unmet(folder: Path, alert: str, *cases: Fires | Silent) -> str:
    """What promtool complains of; nothing: the alert does what the cases say."""
    rules, file = folder / "rules.yaml", folder / "cases.yaml"
    # not the other alerts: evaluating them too, each minute of a day, is most of the time that it would take
    needed = [{"name": "needed", "rules": [*(rule for rule in _ALL if "record" in rule), ALERTS[alert]]}]
    tests = [
        {
            "name": f"case {number}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "alert_rule_test": [{"eval_time": case.at, "alertname": alert, "exp_alerts": _expected(alert, case)}],
        }
        for number, case in enumerate(cases)
    ]
    yaml = YAML(typ="safe", pure=True)
    yaml.dump({"groups": needed}, rules)
    yaml.dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}, file)
    done = promtool("test", "rules", str(file))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _expected(alert: str, case: Fires | Silent) -> list[dict[str, Any]]:
    if isinstance(case, Silent):
        return []
    rule = ALERTS[alert]
    said = {name: _filled(text, case) for name, text in rule["annotations"].items()}
    return [{"exp_labels": rule["labels"] | case.labels, "exp_annotations": said}]


def _filled(text: str, case: Fires) -> str:
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", case.value, text)
