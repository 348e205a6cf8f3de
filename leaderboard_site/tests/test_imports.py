"""Imports go one way: core <- accounts <- leaderboards <- submissions <- jobs, and nothing imports leaderboard_site."""

import ast
import sys
from pathlib import Path

import pytest
from django.conf import settings

APPS = ["accounts", "leaderboards", "submissions", "jobs"]


def imported(path):
    """The first words of what a file imports, wherever in the file that stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def sources(app):
    """The app's own code; factories and tests may look upward."""
    return [path for path in Path(settings.BASE_DIR, app).rglob("*.py") if "tests" not in path.parts]


@pytest.mark.parametrize("app", APPS)
def test_an_app_imports_nothing_to_its_right_and_never_the_site(app):
    forbidden = {*APPS[APPS.index(app) + 1 :], "leaderboard_site"}
    assert len(sources(app)) > 5
    wrong = {str(path): both for path in sources(app) if (both := imported(path) & forbidden)}
    assert wrong == {}


def test_the_core_imports_no_app_and_no_framework():
    allowed = {*sys.stdlib_module_names, "yaml", "core"}
    assert {str(path): both for path in sources("core") if (both := imported(path) - allowed)} == {}


def test_the_check_sees_an_import_within_a_function(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from jobs.models import Job\n    import leaderboard_site.settings as s\n")
    assert imported(path) == {"jobs", "leaderboard_site"}
