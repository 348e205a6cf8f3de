"""What the console's lists and its status page cost with a million rows over ten thousand: beside a site that runs.

`python -m benchmarks.console` fills two databases on the embedded PostgreSQL of `make run`, measures each page through
Django in a process of its own, prints a table and drops them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median

import psycopg
from psycopg import sql

from benchmarks.fixture import fill
from leaderboard_site.embedded.locations import Locations

SIZES = (10_000, 1_000_000)
REPEATS = 7
PAGES = {
    "status page": "/admin/status/",
    "jobs": "/admin/jobs/job/",
    "jobs, page 200": "/admin/jobs/job/?p=200",
    "jobs, one status": "/admin/jobs/job/?status__exact=cancelled",
    "jobs, a rare status": "/admin/jobs/job/?status__exact=running",
    "jobs, one error": "/admin/jobs/job/?error_code__exact=exit_nonzero",
    "jobs, an error nobody had": "/admin/jobs/job/?error_code__exact=disk_limit",
    "jobs, one leaderboard": "/admin/jobs/job/?leaderboard={board}",
    "jobs, found by id": "/admin/jobs/job/?q={job}",
    "jobs, found by user": "/admin/jobs/job/?q=person77",
    "jobs, found by error": "/admin/jobs/job/?q=exit_nonzero",
    "jobs, found nowhere": "/admin/jobs/job/?q=nobody-at-all",
    "submissions": "/admin/submissions/submission/",
    "submissions, one leaderboard": "/admin/submissions/submission/?leaderboard={board}",
    "submissions, found by user": "/admin/submissions/submission/?q=person77",
    "attempts": "/admin/jobs/jobattempt/",
    "attempts, one outcome": "/admin/jobs/jobattempt/?outcome__exact=failed",
    "attempts, an outcome nobody had": "/admin/jobs/jobattempt/?outcome__exact=lost",
    "attempts, found by job": "/admin/jobs/jobattempt/?q={job}",
    "users": "/admin/accounts/user/",
    "users, staff": "/admin/accounts/user/?is_staff__exact=1",
    "users, banned": "/admin/accounts/user/?is_active__exact=0",
    "users, found by name": "/admin/accounts/user/?q=person77",
    "leaderboards": "/admin/leaderboards/leaderboard/",
    "leaderboards, found by title": "/admin/leaderboards/leaderboard/?q=Board+7",
    "tokens": "/admin/accounts/apitoken/",
    "tokens, found by user": "/admin/accounts/apitoken/?q=person77",
    "entries": "/admin/leaderboards/entry/",
    "entries, one leaderboard": "/admin/leaderboards/entry/?leaderboard={board}",
    "who did what": "/admin/accounts/operatoraction/",
    "a job's page": "/admin/jobs/job/{job}/change/",
}
# fill() has a hundred jobs a person and ten leaderboards: here those grow with the jobs, too.
_MORE = """
INSERT INTO accounts_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active, date_joined)
SELECT 'other' || n, '!', '', '', 'other' || n || '@example.org', false, false, true, now() FROM generate_series(1, {rows}) n;
INSERT INTO leaderboards_leaderboard (slug, title, description, rules, dataset, visibility, takes_submissions, requires_score)
SELECT 'more' || n, 'More ' || n, '', '', '', 'hidden', false, true FROM generate_series(1, {rows}) n;
INSERT INTO accounts_apitoken (user_id, name, digest, created_at)
SELECT (SELECT min(id) FROM accounts_user), 'laptop', md5(n::text) || md5((-n)::text), now() - n * interval '1 s'
FROM generate_series(1, {rows}) n;
INSERT INTO leaderboards_entry (leaderboard_id, user_id, job_id, score, submitted_at)
SELECT board.id, job.user_id, job.id, job.score, job.created_at FROM (
    SELECT id, row_number() OVER (ORDER BY id) AS place FROM leaderboards_leaderboard WHERE slug LIKE 'more%'
) board JOIN (
    SELECT job.*, row_number() OVER (ORDER BY job.id) AS place FROM jobs_job job
    WHERE status = 'completed' AND NOT EXISTS (SELECT FROM leaderboards_entry entry WHERE entry.job_id = job.id)
) job ON job.place = board.place;
INSERT INTO accounts_operatoraction (username, action, reason, kind, object_id, object_name, details)
SELECT 'operator', 'cancel_job', 'x', 'jobs.job', n::text, n::text, '{{}}' FROM generate_series(1, {rows}) n;
"""


def environment(database_url: str) -> dict[str, str]:
    return {
        **os.environ, "DATABASE_URL": database_url, "SECRET_KEY": "x" * 50, "TLS": "0", "SECURE_SSL_REDIRECT": "0",
        "DJANGO_SETTINGS_MODULE": "leaderboard_site.settings", "STATIC_MANIFEST": "0",
    }  # fmt: skip


def make(name: str, jobs: int) -> None:
    places = Locations()
    with psycopg.connect(places.database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, env=environment(places.database_url(name)), check=True)
    fill(places.database_url(name), jobs)
    with psycopg.connect(places.database_url(name), autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(_MORE.format(rows=jobs))  # type: ignore[arg-type]
        connection.execute("VACUUM (ANALYZE)")


def measure() -> dict[str, float]:
    """Milliseconds of each page, of the database that DATABASE_URL names; the median of REPEATS, after one."""
    import django

    django.setup()
    from django.test import Client

    from accounts.models import User
    from jobs.models import Job
    from leaderboards.models import Leaderboard

    operator, _ = User.objects.get_or_create(username="console-bench", is_staff=True, is_superuser=True)
    client = Client(headers={"Host": "localhost"})
    client.force_login(operator, backend="accounts.backends.ThrottledBackend")
    given = {
        "job": Job.objects.filter(status="completed").order_by("-created_at").values_list("pk", flat=True)[0],
        "board": Leaderboard.objects.get(slug="board1").pk,
    }
    found: dict[str, float] = {}
    for name, address in PAGES.items():
        times = []
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            answer = client.get(address.format(**given))
            assert answer.status_code == 200, (address, answer.status_code)
            times.append((time.perf_counter() - began) * 1000)
        found[name] = round(median(times[1:]), 1)
    return found


def main() -> None:
    places, results = Locations(), []
    try:
        for size in SIZES:
            name = f"console{size}"
            began = time.monotonic()
            make(name, size)
            print(f"{size} rows of each made in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "benchmarks.console", "--measure"]
            results.append(
                json.loads(
                    subprocess.check_output(command, env=environment(places.database_url(name))).splitlines()[-1]
                )
            )
        print(f"| Page | {SIZES[0]:,} rows | {SIZES[1]:,} rows | ratio |\n| --- | ---: | ---: | ---: |")
        for name in PAGES:
            small, large = (result[name] for result in results)
            print(f"| {name} | {small} ms | {large} ms | {large / small:.2f} |")
    finally:
        with psycopg.connect(places.database_url("postgres"), autocommit=True) as connection:
            for size in SIZES:
                target = sql.Identifier(f"console{size}")
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(target))


if __name__ == "__main__":
    print(json.dumps(measure())) if "--measure" in sys.argv else main()
