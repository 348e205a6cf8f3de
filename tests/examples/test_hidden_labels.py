"""The examples on data without labels: what they leave, the platform's scorer measures as they would themselves."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from leaderboards.hiding import hide_labels

from .conftest import REPOSITORY, copy_and_run

METRICS = ["image_auc", "image_f1", "pixel_auc", "pixel_pro"]


@pytest.fixture(scope="module")
def hidden(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("hidden")
    data, labels = folder / "data" / "textures", folder / "truth" / "textures"
    hide_labels(dataset, data, labels, leave_out=["dataset.json"])
    return data, labels


def test_example_on_hidden_labels_gets_the_score_it_has_on_open_ones(hidden, runner, run_as_shipped, tmp_path) -> None:
    data, truth = hidden
    run = copy_and_run("mean_image", runner, tmp_path, data, config=None, expect=0)
    assert "labels are hidden" in run.log and "image_auc" not in run.metrics
    left = run.output / "predictions"
    assert len(list((left / "maps").rglob("*.png"))) == 120
    out = tmp_path / "scored"
    out.mkdir()
    (tmp_path / "scoring.json").write_text(json.dumps({"scorer": "anomaly_detection", "metrics": METRICS}))
    subprocess.run(
        [runner, "-B", "main.py", "--config", str(tmp_path / "scoring.json"), "--output", str(out)],
        cwd=REPOSITORY / "scorers", check=True, timeout=120,
        env={**os.environ, "PREDICTIONS_DIR": str(left), "GROUND_TRUTH_DIR": str(truth)},
    )  # fmt: skip
    scored = json.loads((out / "metrics.json").read_text())["metrics"]
    open_labels = run_as_shipped("mean_image", runner).metrics
    assert {name: scored[name] for name in METRICS} == pytest.approx(
        {name: open_labels[name] for name in METRICS}, abs=1e-3
    )
