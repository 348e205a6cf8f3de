"""A worker waits for weeks: what it never needs is not loaded."""

import json
import os
import subprocess
import sys

from django.conf import settings

from jobs.management.commands.worker import Command

_LOADED = """
import json, sys, django
django.setup()
import jobs.management.commands.worker
print(json.dumps(sorted(name for name in sys.modules if "." not in name or name.endswith((".urls", ".views", ".api")))))
"""


def test_worker_loads_neither_pages_nor_the_library_for_s3():
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "leaderboard_site.settings"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LOADED],
        capture_output=True,
        text=True,
        env=environment,
        cwd=settings.BASE_DIR,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "django" in loaded
    unwanted = {"boto3", "botocore", "mlflow", "jobs.api", "jobs.urls", "jobs.views", "leaderboard_site.urls"}
    assert unwanted & set(loaded) == set()


def test_worker_skips_the_checks_that_would_load_them():
    assert Command.requires_system_checks == []
