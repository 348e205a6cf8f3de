"""Each version of a platform scorer gives the scores that it gave when it was released.

If a test fails here, a change of a scorer changes scores, and boards would rank old and new ones together. Put the change
into a new version instead (scorers/registry.py, leaderboards/scoring.py), add its scores here, and keep the version before.
"""

import json
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from leaderboards.scoring import BUILT_IN

GOLDEN = {
    "anomaly_detection 1": {
        "image_auc": 0.5833333333333334,
        "image_f1": 0.7058823529411765,
        "pixel_auc": 0.7697760834825469,
        "pixel_pro": 0.4738771015571688,
        "a_image_auc": 0.5833333333333334,
        "a_image_f1": 0.7058823529411765,
        "a_pixel_auc": 0.7697760834825469,
        "a_pixel_pro": 0.4738771015571688,
    },
    "classification 1": {
        "accuracy": 0.5833333333333334,
        "balanced_accuracy": 0.5,
        "macro_f1": 0.4957983193277311,
        "auc": 0.625,
        "log_loss": 0.7618708147882293,
    },
    "regression 1": {"rmse": 1.9581071659818283, "mae": 1.7380952380952381, "r2": 0.8790352869636757},
}


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    program, scorers = Path(__file__).parent / "golden_scores.py", Path(settings.BASE_DIR, "scorers")
    command = [settings.RUNNER_PYTHON, "-B", str(program), str(scorers), str(tmp_path_factory.mktemp("golden"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("scorer", GOLDEN)
def test_scores_of_a_version_stay_as_they_were(scores, scorer):
    assert scores[scorer] == pytest.approx(GOLDEN[scorer], rel=1e-12)


def test_every_version_has_golden_scores(scores):
    declared = {f"{scorer.name} {version}" for scorer in BUILT_IN.values() for version in scorer.versions}
    assert set(scores) == set(GOLDEN) == declared


def test_a_release_ships_the_version_before_the_latest_too():
    for scorer in BUILT_IN.values():
        latest = scorer.versions[-1]
        assert list(scorer.versions) == sorted(set(scorer.versions))
        assert latest == 1 or latest - 1 in scorer.versions, scorer.name
