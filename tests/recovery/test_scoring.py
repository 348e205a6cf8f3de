"""A worker dies, is told to stop, or its job is cancelled while it scores: the job runs again as a whole or not at all, and
only the scorer's number ranks, once."""

import secrets
import signal

import pytest

from recovery.site import living, wait_for

pytestmark = pytest.mark.slow
ENDED = 90
RUN = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
(out / "predictions").mkdir()
(out / "predictions" / "predictions.csv").write_text("id,label\\n")
(out / "metrics.json").write_text(json.dumps({"params": {}, "metrics": {"image_auc": 1.0}}))
"""
SCORER = """
import os, pathlib, sys
code = "import json, pathlib, sys, time; time.sleep(SECONDS); " + (
    "pathlib.Path(sys.argv[1], 'metrics.json').write_text(json.dumps({'params': {}, 'metrics': {'image_auc': 0.25}}))"
)
out = sys.argv[sys.argv.index("--output") + 1]
os.execv(sys.executable, [sys.executable, "-c", code, out, MARKER])
"""


LONG = pytest.mark.parametrize("scored", [60], indirect=True)


@pytest.fixture
def scored(site, request):
    """The default leaderboard with a scorer that takes 4 seconds, or what a test says; the marker of its process."""
    marker = f"scorer-{secrets.token_hex(6)}"
    (site.folder / "ground_truth_root" / "labels").mkdir(parents=True, exist_ok=True)
    scorer = site.folder / "scorer_root" / marker
    scorer.mkdir(parents=True)
    (scorer / "main.py").write_text(
        f"MARKER = {marker!r}\n{SCORER}".replace("SECONDS", str(getattr(request, "param", 4)))
    )
    board = "UPDATE leaderboards_leaderboard SET scorer = %s, ground_truth = %s WHERE slug = 'default'"
    site.sql(board, f"own/{marker}", "labels")
    yield marker
    site.sql(board, "", "")


def test_kill_of_the_worker_while_it_scores(site, scored):
    first, job = site.ready_worker(), site.submit(code=RUN)
    wait_for(lambda: living(scored), seconds=60, what="the scorer runs")
    old = living(scored)
    site.worker()
    site.end(first, signal.SIGKILL)
    wait_for(lambda: not set(old) & set(living(scored)), seconds=30)
    job.wait_final(seconds=90)
    row = job.row()
    assert (row["status"], row["attempt"], row["losses"], row["score"]) == ("completed", 2, 1, 0.25)
    assert job.effects() == (1, 1, 1)
    assert not living(scored)


def scoring(site, scored):
    """A worker, its job, and the processes of the job's scorer."""
    worker, job = site.ready_worker(), site.submit(code=RUN)
    wait_for(lambda: living(scored), seconds=60, what="the scorer runs")
    return worker, job


@LONG
def test_cancel_while_it_scores_ends_the_scorer(site, scored):
    _, job = scoring(site, scored)
    status, answer = site.call("POST", f"/jobs/{job.id}/cancel", job.user)
    assert status == 202, answer
    job.wait_final(seconds=30)
    assert (job.status, living(scored), job.effects()) == ("cancelled", [], (0, 0, 0))


@LONG
def test_drain_now_while_it_scores_gives_the_job_back(site, scored):
    worker, job = scoring(site, scored)
    assert (site.drain_now().wait(ENDED), worker.wait(ENDED)) == (0, 0)
    row = job.row()
    assert (row["status"], row["losses"], row["releases"], living(scored)) == ("pending", 0, 1, [])
