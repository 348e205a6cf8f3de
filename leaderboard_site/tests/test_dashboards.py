"""The dashboard and the alert rules ask for metrics and labels that /metrics has."""

import json
import re
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from jobs.tally import tally_endings
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.metrics import site

FOLDER = Path(settings.BASE_DIR) / "deploy" / "observability"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
PANELS = [
    panel for panel in json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"] if panel["type"] != "row"
]
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
}


@pytest.fixture
def known(db, monkeypatch):
    """{sample: its labels' names} of a site where everything occurs."""
    monkeypatch.setattr(site, "KEPT_SECONDS", 0.0)
    card = {"index": 0, "name": "H200", "utilization": 0.5, "memory_used_bytes": 1, "memory_total_bytes": 2}
    WorkerFactory(state="idle", resource_classes=["small"], heartbeat_at=timezone.now(), gpus=[card])
    JobFactory(status="completed")
    JobFactory(status="failed", error_code="scorer_failed")
    tally_endings(settled_seconds=-60)
    client = Client()
    client.get("/healthz")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_there_are_rules_and_panels():
    assert (len(RULES) >= 10, len(PANELS) >= 15) == (True, True)
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_every_expression_asks_for_what_there_is(known):
    for where, expression in EXPRESSIONS.items():
        assert expression.count("(") == expression.count(")"), where
        names = set(re.findall(r"\bleadersboard_[a-z_]+", expression))
        assert names or where == "LeadersBoardDown", where
        assert names <= set(known), (where, names - set(known))
        labels = set().union(*(known[name] for name in names)) | {"job"}
        selectors = "".join(re.findall(r"\{([^}]*)\}", expression))
        grouped = ",".join(re.findall(r"(?:by|on) \(([^)]*)\)", expression))
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selectors)) | {
            name.strip() for name in grouped.split(",") if name
        }
        assert asked <= labels, (where, asked - labels)


def test_every_rule_says_how_bad_it_is_and_what_to_do():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "action"}


def test_the_page_about_metrics_names_each_and_no_other(known):
    page = (Path(settings.BASE_DIR) / "docs" / "observability.md").read_text()
    told = set(re.findall(r"`(leadersboard_[a-z_]+)`", page))
    ours = {name for name in known if name.startswith("leadersboard_") and not name.endswith("_created")}
    assert told == {re.sub("_(bucket|count|sum)$", "", name) for name in ours}
