"""The whole way, as `make run` goes it: people and data made, a submission over HTTP, its log, its rank, its MLflow run."""

import subprocess
import sys

import pytest

from leaderboard_site.embedded.locations import REPOSITORY
from recovery.site import wait_for

pytestmark = pytest.mark.slow


def manage(site, *arguments):
    command = [sys.executable, str(REPOSITORY / "manage.py"), *arguments]
    return subprocess.run(command, env=site.environment, capture_output=True, text=True, timeout=240, check=False)


def test_quickstart_ends_with_a_rank_and_a_run_in_mlflow(site):
    site.ready_worker()
    first = manage(site, "quickstart", "--url", site.url)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "The job is completed" in first.stdout
    assert "::progress 1.00 done" in first.stdout
    assert "  1. participant" in first.stdout
    ((status, score, isolation),) = site.sql(
        "SELECT j.status, e.score, j.isolation FROM leaderboards_entry e JOIN jobs_job j ON j.id = e.job_id "
        "JOIN leaderboards_leaderboard b ON b.id = e.leaderboard_id WHERE b.slug = 'textures'"
    )
    assert (status, isolation) == ("completed", "bubblewrap")
    assert 0.7 < score < 0.8
    wait_for(lambda: site.sql("SELECT 1 FROM jobs_job WHERE run_id <> ''"), seconds=60, what="the run in MLflow")
    again = manage(site, "quickstart", "--url", site.url)
    assert again.returncode == 0
    assert "has run before" in again.stdout


def test_check_sandbox_says_that_it_is_tight(site):
    answer = manage(site, "check_sandbox")
    assert answer.returncode == 0
    assert "OPEN" not in answer.stdout
