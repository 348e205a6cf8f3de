"""A site's history in minutes: people, submissions, jobs, attempts and entries by generate_series, through every constraint
(tests/performance/test_fixture.py keeps it in step with the schema).

Ten leaderboards; a hundred jobs a person, spread over 90 days, of which 96 % completed, 2 % failed, 1 % were cancelled; at
most a hundred wait and four run, however many there are, as on a site that keeps up.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

BOARDS = 10
JOBS_A_PERSON = 100
_LIVE = 104
_BATCH = 100_000

_PEOPLE = """
INSERT INTO accounts_user (username, password, first_name, last_name, email, is_superuser, is_staff, is_active, date_joined)
SELECT 'person' || n, '!', '', '', '', false, false, true, now() FROM generate_series(1, %(people)s) n
"""
_BOARDS = """
WITH boards AS (
    INSERT INTO leaderboards_leaderboard (slug, title, description, rules, dataset, visibility, takes_submissions, requires_score)
    SELECT 'board' || n, 'Board ' || n, '', '', '', 'public', true, true FROM generate_series(1, %(boards)s) n RETURNING id
)
INSERT INTO leaderboards_metric (leaderboard_id, name, label, unit, direction, position)
SELECT id, 'image_auc', '', '', 'higher', 0 FROM boards
"""
# Numbered rows, from which submissions, jobs, attempts and entries are all made.
_NUMBERED = """
CREATE UNLOGGED TABLE numbered AS
WITH people AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM accounts_user WHERE username LIKE 'person%%'),
     boards AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM leaderboards_leaderboard WHERE slug LIKE 'board%%')
SELECT n, gen_random_uuid() AS job, gen_random_uuid() AS submission, people.id AS person, boards.id AS board,
       now() - make_interval(secs => 90 * 86400.0 * (%(jobs)s - n + 1) / %(jobs)s) AS at, random() AS score,
       CASE WHEN n > %(jobs)s - 4 THEN 'running' WHEN n > %(jobs)s - %(live)s THEN 'pending'
            WHEN n %% 50 = 0 THEN 'failed' WHEN n %% 100 = 51 THEN 'cancelled' ELSE 'completed' END AS status
FROM generate_series(1, %(jobs)s) n
JOIN people ON people.place = n %% %(people)s
JOIN boards ON boards.place = (n / %(people)s) %% %(boards)s
"""
_SUBMISSIONS = """
INSERT INTO submissions_submission (id, user_id, leaderboard_id, entrypoint, config_file, metadata, kind, object_name,
    size_bytes, sha256, root_folder, manifest, created_at)
SELECT submission, person, board, 'main.py', 'config.yaml', '{}', 'tar', submission || '.tar', 20480,
    md5(submission::text) || md5(job::text), '', '[{"path": "main.py", "bytes": 20480}]', at
FROM numbered WHERE n BETWEEN %(first)s AND %(last)s
"""
_JOBS = """
INSERT INTO jobs_job (id, submission_id, user_id, leaderboard_id, status, config, resource_class, request_digest, priority,
    attempt, lease_until, heartbeat_at, available_at, pushed_at, losses, releases, created_at, updated_at, started_at, finished_at,
    exit_code, error_code, error_message, params, metrics, score, wall_seconds, cpu_seconds, peak_memory_bytes, isolation,
    limits_applied, log_name, log_bytes, artifacts, run_id, experiment_id)
SELECT job, submission, person, board, status, '{}', 'small', '', 0, (status <> 'pending')::int,
    CASE WHEN status = 'running' THEN now() + interval '1 hour' END, CASE WHEN status <> 'pending' THEN at END, at, at, 0, 0, at, at,
    CASE WHEN status <> 'pending' THEN at + interval '1 s' END,
    CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN at + interval '11 s' END,
    CASE status WHEN 'completed' THEN 0 WHEN 'failed' THEN 1 END,
    CASE status WHEN 'failed' THEN 'exit_nonzero' WHEN 'cancelled' THEN 'cancelled' ELSE '' END, '',
    '{"model": "padim", "layers": 3}',
    CASE WHEN status = 'completed' THEN jsonb_build_object('image_auc', score, 'pixel_auc', score) ELSE '{}' END,
    CASE WHEN status = 'completed' THEN score END, 10, 9.5, 314572800, 'bubblewrap', '{"memory": "cgroup-v2"}',
    'results/' || job || '/1/log.txt', 2048, '[]', replace(job::text, '-', ''), '1'
FROM numbered WHERE n BETWEEN %(first)s AND %(last)s
"""
_ATTEMPTS = """
INSERT INTO jobs_jobattempt (job_id, number, worker_name, outcome, detail, started_at, ended_at)
SELECT job, 1, 'worker-1', status, '', at + interval '1 s', CASE WHEN status <> 'running' THEN at + interval '11 s' END
FROM numbered WHERE status <> 'pending' AND n BETWEEN %(first)s AND %(last)s
"""
_ENTRIES = """
INSERT INTO leaderboards_entry (leaderboard_id, user_id, job_id, score, submitted_at)
SELECT DISTINCT ON (board, person) board, person, job, score, at FROM numbered WHERE status = 'completed'
ORDER BY board, person, score DESC, at
"""
# Who leads has led since: of each entry's history the open period, which the pages of a board read.
_STANDINGS = """
INSERT INTO leaderboards_standing (leaderboard_id, user_id, job_id, score, submitted_at, metrics, wall_seconds,
    peak_memory_bytes, began_at)
SELECT entry.leaderboard_id, entry.user_id, entry.job_id, entry.score, entry.submitted_at, job.metrics, job.wall_seconds,
    job.peak_memory_bytes, job.finished_at
FROM leaderboards_entry entry JOIN jobs_job job ON job.id = entry.job_id
"""


def fill(database_url: str, jobs: int) -> None:
    """Give a migrated, empty site so many jobs."""
    with psycopg.connect(database_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        # A power cut may take the last of it: it is made in minutes.
        connection.execute("SET synchronous_commit = off")
        fill_rows(connection.cursor(), jobs)
        connection.execute("VACUUM (ANALYZE)")


def fill_rows(cursor: Any, jobs: int) -> None:
    """The rows alone, by any cursor of psycopg or Django. Columns with a database default are left to it."""
    values = {"jobs": jobs, "people": max(1, jobs // JOBS_A_PERSON), "boards": BOARDS, "live": min(_LIVE, jobs // 2)}
    for statement in (_PEOPLE, _BOARDS, _NUMBERED):
        cursor.execute(statement, values)
    cursor.execute("CREATE INDEX ON numbered (n)")
    for first in range(1, jobs + 1, _BATCH):
        part = {"first": first, "last": min(jobs, first + _BATCH - 1)}
        for statement in (_SUBMISSIONS, _JOBS, _ATTEMPTS):
            cursor.execute(statement, part)
    cursor.execute(_ENTRIES)
    cursor.execute(_STANDINGS)
    cursor.execute("DROP TABLE numbered")


def copy_database(server_url: str, source: str, target: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(target), sql.Identifier(source)
            )
        )
