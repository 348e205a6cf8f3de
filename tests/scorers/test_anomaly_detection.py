"""The scorer of anomaly detection measures what the examples measure of themselves, level by level, and refuses what is no map."""

import json
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from leaderboards.scoring import BUILT_IN, declared_metrics

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    root = Path(settings.BASE_DIR)
    program, example = HERE / "anomaly_checks.py", root / "examples" / "patch_gaussian"
    done = subprocess.run(
        [settings.RUNNER_PYTHON, "-B", str(program), str(root / "scorers"), str(example), str(tmp_path_factory.mktemp("a"))],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_it_measures_what_the_examples_do(answer):
    assert set(answer["scorer"]) == {"means", "brick", "grass"}
    for name, scores in answer["scorer"].items():
        assert scores == pytest.approx(answer["example"][name], abs=1e-9)
    means = answer["scorer"]["means"]
    assert 0.5 < means["pixel_auc"] < 1 and 0 < means["pixel_pro"] < 1


def test_it_gives_the_metrics_that_it_declares(answer):
    names = [metric.name for metric in BUILT_IN["anomaly_detection"].metrics]
    assert all(sorted(measured) == sorted(names) for measured in answer["scorer"].values())
    declared = declared_metrics("anomaly_detection")
    assert all(declared.named(f"{category}_{name}") for category in ("brick", "grass") for name in names)


def test_maps_are_only_wanted_for_pixel_metrics(answer):
    assert answer["images alone"] == ["image_auc", "image_f1"]


def test_what_is_no_map_is_refused_before_it_is_decoded(answer):
    place = "'maps/brick/test/0001.png'"
    assert answer["refusals"] == {
        "missing": "'predictions/maps/brick/test/0001.png' is missing: this leaderboard measures pixels",
        "colour": f"{place} must be a grey PNG of 8 or 16 bits",
        "no picture": f"{place} must be a grey PNG of 8 or 16 bits",
        "cut": answer["refusals"]["cut"],
        "huge": f"{place} must have at most 1024 pixels a side",
        "large for nothing": f"{place} must have at most 1024 pixels a side",
        "as large as any": "none",
        "another size": "none",
    }
    # OpenCV shows as much of a cut picture as there is, or refuses it; either is an answer.
    assert answer["refusals"]["cut"] in ("none", f"{place} cannot be read as a grey PNG")
