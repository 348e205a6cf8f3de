"""The scorer of anomaly detection measures what the examples measure of themselves, level by level, and refuses what is no map."""

import json
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

from jobs.scorer_faults import refusal
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
    said = {name: [refusal(fault) for fault in faults] for name, faults in answer["refusals"].items()}
    place = "'maps/brick/test/0001.png'"
    missing = "'predictions/maps/brick/test/%s.png'"
    many = ", ".join(missing % number for number in ("0002", "0003", "0004"))
    assert said == {
        "missing": [f"1 of 24 maps are missing, and this leaderboard measures pixels: {missing % '0001'}"],
        "colour": [f"maps must be grey PNGs of 8 or 16 bits, unlike {place}"],
        "no picture": [f"maps must be grey PNGs of 8 or 16 bits, unlike {place}"],
        "cut": said["cut"],
        "huge": [f"maps have too many pixels a side: {place} has {2**30}, at most 1024"],
        "large for nothing": [f"maps have too many pixels a side: {place} has 1025, at most 1024"],
        "as large as any": [],
        "another size": [],
        "many": [
            "predictions.csv: image must be one of the 24 of this leaderboard, not 'brick/test/図.png' (line 24)",
            "predictions.csv: score must be a finite number of at most 1e+12 either way, not '-inf' (line 25)",
            "predictions.csv: 1 of 24 rows are missing: 'grass/test/0010.png'",
            f"maps have too many pixels a side: 'maps/brick/test/0000.png' has {2**30}, at most 1024",
            f"maps must be grey PNGs of 8 or 16 bits, unlike {place}",
            f"7 of 24 maps are missing, and this leaderboard measures pixels: {many}, and 4 more",
        ],
    }
    # OpenCV shows as much of a cut picture as there is, or refuses it; either is an answer.
    assert said["cut"] in ([], [f"maps cannot be decoded as grey PNGs: {place}"])
