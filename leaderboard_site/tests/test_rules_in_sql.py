"""Rules that raw SQL needs stand in the database's views and functions (ADR 49), and in no other SQL."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|WHERE|JOIN)\b")
# What the rules look at: a token that is valid, a board that is open, quotas, the lock on a person.
RULES = re.compile(
    r"\b(revoked_at|expires_at|takes_submissions|opens_at|closes_at|is_by_operator|costs_quota|submissions_per_hour"
    r"|concurrent_jobs|accounts_user\b.*\bFOR (NO KEY )?UPDATE)\b",
    re.DOTALL,
)
# Lists what a person's row is read for after the lock.
ALLOWED = {("accounts/services.py", "submissions_per_hour"), ("accounts/services.py", "concurrent_jobs")}
FUNCTIONS = {
    "lock_people": "v", "hourly_use": "s", "jobs_at_once": "s", "submission_costs_quota": "s", "enqueue_jobs": "v",
}  # fmt: skip


def texts(path):
    """The strings of a module, those of an f-string as one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def restated(paths):
    return {
        (str(path.relative_to(settings.BASE_DIR)), rule[0])
        for path in paths
        for text in texts(path)
        if SQL.search(text)
        for rule in RULES.finditer(text)
    }


def test_no_other_sql_restates_a_rule():
    apps = ("core", "accounts", "leaderboards", "submissions", "jobs", "leaderboard_site")
    paths = [
        path
        for app in apps
        for path in Path(settings.BASE_DIR, app).rglob("*.py")
        if not {"tests", "migrations"} & set(path.parts)
    ]
    assert len(paths) > 200
    assert restated(paths) == ALLOWED


def test_the_check_sees_a_rule_that_is_restated():
    path = Path(settings.BASE_DIR, "jobs/migrations/0021_runtime_and_quota.py")
    assert ("jobs/migrations/0021_runtime_and_quota.py", "costs_quota") in restated([path])


@pytest.mark.django_db
def test_functions_are_as_volatile_as_they_are_and_need_no_search_path():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname, provolatile, prosqlbody IS NOT NULL OR 'search_path=public, pg_temp' = ANY (proconfig) "
            "FROM pg_proc WHERE proname = ANY (%s)",
            [list(FUNCTIONS)],
        )
        assert {name: (kind, is_safe) for name, kind, is_safe in cursor.fetchall()} == {
            name: (kind, True) for name, kind in FUNCTIONS.items()
        }


@pytest.mark.django_db
def test_their_migrations_can_be_taken_back():
    names = ["accounts.migrations.0010_live_token", "leaderboards.migrations.0014_open_leaderboard"]
    names.append("jobs.migrations.0023_enqueue_jobs")
    steps = [import_module(name).Migration.operations[0] for name in names]
    made = "SELECT count(*) FROM pg_class WHERE relname IN ('live_token', 'open_leaderboard')"
    with connection.cursor() as cursor:
        for step in reversed(steps):
            cursor.execute(step.reverse_sql)
        cursor.execute(made)
        assert cursor.fetchone() == (0,)
        for step in steps:
            cursor.execute(step.sql)
        cursor.execute(made)
        assert cursor.fetchone() == (2,)
