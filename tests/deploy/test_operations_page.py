"""docs/operations.md says what to do for every alert, with commands and files that exist."""

import re

import pytest
import yaml
from django.core.management import get_commands

from .conftest import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_every_alert_has_its_row_and_no_other():
    rules = yaml.safe_load((ROOT / "deploy" / "observability" / "alerts.yml").read_text())
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
    assert re.findall(r"^\| `(LeadersBoard\w+)`", PAGE, re.MULTILINE) == alerts


def test_commands_of_the_page_exist():
    known = get_commands()
    told = set(re.findall(r"(?:run --rm (?:-T )?manage|^ +leadersboard) ([a-z_]+)", PAGE, re.MULTILINE))
    assert {"backup", "doctor", "restore", "migrate"} <= told
    assert sorted(name for name in told if name not in known) == []


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?<![\w./])(?:deploy|docker)/[\w./-]*\w", PAGE)) - {"deploy/web"})
)
def test_files_of_the_page_exist(path):
    assert (ROOT / path).exists()


def test_services_of_the_page_are_in_the_compose_file():
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    told = set(re.findall(r"docker compose (?:stop|logs|exec|restart|kill -s TERM|up -d) ([a-z]+)", PAGE))
    assert told - services == set()


def test_secrets_of_the_page_are_made_by_the_script():
    made = set(
        re.findall(r"^\s*(?:keep|ask) ([a-z_0-9]+)", (ROOT / "deploy" / "make-secrets").read_text(), re.MULTILINE)
    )
    table = PAGE.partition("\n## Secrets")[2].partition("\n## ")[0]
    told = {
        name
        for row in re.findall(r"^\| [^|]+ \| ([^|]*`[^|]+) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert told == made - {"postgres_password"}
