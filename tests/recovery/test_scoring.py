"""A worker dies while it scores: the job runs again as a whole, and only the scorer's number ranks, once."""

import secrets
import signal

import pytest

from recovery.site import living, wait_for

pytestmark = pytest.mark.slow
RUN = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
(out / "predictions").mkdir()
(out / "predictions" / "predictions.csv").write_text("id,label\\n")
(out / "metrics.json").write_text(json.dumps({"params": {}, "metrics": {"image_auc": 1.0}}))
"""
SCORER = """
import os, pathlib, sys
code = "import json, pathlib, sys, time; time.sleep(4); " + (
    "pathlib.Path(sys.argv[1], 'metrics.json').write_text(json.dumps({'params': {}, 'metrics': {'image_auc': 0.25}}))"
)
out = sys.argv[sys.argv.index("--output") + 1]
os.execv(sys.executable, [sys.executable, "-c", code, out, MARKER])
"""


@pytest.fixture
def scored(site):
    """The default leaderboard with a scorer that takes seconds; the marker of its process."""
    marker = f"scorer-{secrets.token_hex(6)}"
    (site.folder / "ground_truth_root" / "labels").mkdir(parents=True, exist_ok=True)
    scorer = site.folder / "scorer_root" / marker
    scorer.mkdir(parents=True)
    (scorer / "main.py").write_text(f"MARKER = {marker!r}\n{SCORER}")
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
