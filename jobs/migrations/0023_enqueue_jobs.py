"""The quotas and the making of jobs: for the services and for the lane (0023_enqueue_jobs.sql)."""

from importlib import import_module
from pathlib import Path

from django.db import migrations

MAKE = Path(__file__).with_suffix(".sql").read_text()
DROP = """
DROP FUNCTION enqueue_jobs(jsonb, bigint, bigint, boolean);
DROP FUNCTION jobs_at_once(bigint, bigint);
DROP FUNCTION hourly_use(text, bigint, bigint, timestamptz);
"""
BEFORE = import_module("jobs.migrations.0021_runtime_and_quota").MAKE.replace("CREATE", "CREATE OR REPLACE")


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0010_live_token"),
        ("leaderboards", "0014_open_leaderboard"),
        ("submissions", "0006_deletion"),
        ("jobs", "0022_worker_limits"),
    ]
    operations = [migrations.RunSQL(MAKE, DROP + BEFORE)]
