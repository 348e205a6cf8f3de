"""The examples run for real, on the demonstration data, and leave what the platform reads."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable

import pytest
import yaml

from .conftest import EXAMPLES, Run

LIGHT = ("patch_gaussian", "mean_image")
ANOMALIB = ("anomalib_padim", "anomalib_patchcore")
SHARED = ("ad_harness.py", "ad_metrics.py", "ad_report.py")
SHARED_BY_ANOMALIB = ("anomalib_detector.py",)
CATEGORIES = ("brick", "grass", "gravel")
MAIN_METRICS = ("image_auc", "image_f1", "pixel_auc", "pixel_pro")

# What was measured, with room for another processor's arithmetic; brick is easy, the others are hard.
FLOORS = {
    "patch_gaussian": {"image_auc": 0.70, "pixel_auc": 0.83, "pixel_pro": 0.62, "brick_pixel_auc": 0.96},
    "mean_image": {"image_auc": 0.60, "pixel_auc": 0.65, "pixel_pro": 0.42, "brick_image_auc": 0.80},
    "anomalib_padim": {"image_auc": 0.79, "brick_image_auc": 0.97, "brick_pixel_pro": 0.93},
    "anomalib_patchcore": {
        "image_auc": 0.66,
        "pixel_auc": 0.83,
        "brick_image_auc": 0.98,
        "brick_pixel_pro": 0.91,
    },
}
CEILING = 0.95  # of image_auc over all categories: more would mean that the test images were learned


every_example = pytest.mark.parametrize("name", LIGHT + ANOMALIB)


@pytest.fixture
def ran(name: str, request: pytest.FixtureRequest, run_as_shipped: Callable[[str, str], Run]) -> Run:
    return run_as_shipped(name, request.getfixturevalue("worker" if name in ANOMALIB else "runner"))


@every_example
def test_metrics_are_the_fields_and_within_bounds(ran: Run, name: str) -> None:
    metrics = ran.metrics
    expected = [*MAIN_METRICS, *(f"{category}_{key}" for category in CATEGORIES for key in MAIN_METRICS)]
    assert list(metrics) == [*expected, "fit_seconds", "test_ms_per_image"]
    assert all(math.isfinite(value) for value in metrics.values())
    assert all(0 <= metrics[key] <= 1 for key in expected)
    low = {key: (metrics[key], floor) for key, floor in FLOORS[name].items() if metrics[key] < floor}
    assert not low
    assert metrics["image_auc"] < CEILING


@every_example
def test_main_metrics_are_means_over_the_categories(ran: Run, name: str) -> None:
    metrics = ran.metrics
    for key in MAIN_METRICS:
        mean = sum(metrics[f"{category}_{key}"] for category in CATEGORIES) / len(CATEGORIES)
        assert metrics[key] == pytest.approx(mean, abs=2e-6)


@every_example
def test_params_name_the_method_and_its_settings(ran: Run, name: str) -> None:
    params = ran.params
    assert params["method"] == name
    assert params["categories"] == "brick, grass, gravel"
    assert params["image_size"] == 128
    assert all(isinstance(value, (str, int, float)) for value in params.values())


@every_example
def test_progress_rises_from_0_to_1(ran: Run, name: str) -> None:
    lines = re.findall(r"^::progress (\d\.\d\d) (.+)$", ran.log, re.MULTILINE)
    fractions = [float(fraction) for fraction, _ in lines]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len(fractions) >= 2 * len(CATEGORIES)


@every_example
def test_each_category_is_a_point_of_the_curves(ran: Run, name: str) -> None:
    lines = re.findall(r"^::metric step=(\d+) (.+)$", ran.log, re.MULTILINE)
    assert [int(step) for step, _ in lines] == [0, 1, 2]
    names = [f"category/{key}" for key in (*MAIN_METRICS, "fit_seconds", "test_seconds")]
    assert [[pair.partition("=")[0] for pair in pairs.split()] for _, pairs in lines] == [names] * 3
    values = dict(pair.split("=") for pair in lines[0][1].split())
    assert float(values["category/image_auc"]) == pytest.approx(ran.metrics["brick_image_auc"], abs=1e-5)


@every_example
def test_log_is_short_and_free_of_warnings(ran: Run, name: str) -> None:
    assert len(ran.log.splitlines()) < 40
    assert "Warning" not in ran.log
    assert "\r" not in ran.log


@every_example
def test_artifacts_are_small_and_open(ran: Run, name: str) -> None:
    pictures = {"roc.png", "pro.png", "scores.png", *(f"maps_{category}.png" for category in CATEGORIES)}
    files = {path.name: path for path in ran.output.iterdir()}
    assert set(files) == pictures | {"metrics.json", "curves.json", "scores.csv"}
    assert all(files[picture].read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert sum(path.stat().st_size for path in files.values()) < 3_000_000


@every_example
def test_curves_start_at_0_and_rise(ran: Run, name: str) -> None:
    curves = json.loads((ran.output / "curves.json").read_text())
    assert set(curves) == {"image_roc", "pixel_roc", "pro", "image_scores"}
    for kind, end in (("image_roc", 1.0), ("pixel_roc", 1.0), ("pro", 0.3)):
        assert set(curves[kind]["curves"]) == set(CATEGORIES)
        for curve in curves[kind]["curves"].values():
            assert (curve["x"][0], curve["y"][0], curve["x"][-1]) == (0, 0, end)
            assert curve["x"] == sorted(curve["x"])
            assert curve["y"] == sorted(curve["y"])
            assert len(curve["x"]) == len(curve["y"]) <= 202
    for bars in curves["image_scores"].values():
        assert (sum(bars["good"]), sum(bars["defect"])) == (10, 30)


@every_example
def test_scores_table_gives_the_same_auc(ran: Run, name: str) -> None:
    """The AUC counted from the table of scores, pair by pair, is the one reported."""
    with (ran.output / "scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] == "brick"]
    good = [float(row["score"]) for row in rows if row["kind"] == "good"]
    bad = [float(row["score"]) for row in rows if row["kind"] != "good"]
    wins = sum((b > g) + (b == g) / 2 for b in bad for g in good)
    assert wins / (len(good) * len(bad)) == pytest.approx(ran.metrics["brick_image_auc"], abs=2e-3)


def test_same_run_gives_the_same_metrics(run_example: Callable[..., Run], runner: str) -> None:
    config = "categories: [brick]\nimage_size: 64\n"
    one, two = (run_example("patch_gaussian", runner, config).metrics for _ in range(2))
    seconds = {"fit_seconds", "test_ms_per_image"}
    assert {k: v for k, v in one.items() if k not in seconds} == {k: v for k, v in two.items() if k not in seconds}


def test_a_grid_of_gaussians_works_too(run_example: Callable[..., Run], runner: str) -> None:
    run = run_example("patch_gaussian", runner, "categories: brick\nimage_size: 64\ngrid: 4\n")
    assert run.params["grid"] == 4
    assert run.metrics["brick_pixel_auc"] > 0.8


@pytest.mark.parametrize(
    "config, message",
    [
        ("categories: [brick, wood]\n", "the data set has no wood; it has brick, grass, gravel"),
        ("image_sise: 128\n", "config.yaml: unknown image_sise; known are"),
        ("- brick\n", "config.yaml must hold names and values"),
    ],
)
def test_a_mistake_in_the_config_is_said_in_one_line(
    run_example: Callable[..., Run], runner: str, config: str, message: str
) -> None:
    run = run_example("mean_image", runner, config, expect=1)
    assert run.log.strip().startswith(message)
    assert "Traceback" not in run.log
    assert not (run.output / "metrics.json").exists()


@pytest.mark.parametrize("file", SHARED)
def test_shared_files_are_identical_copies(file: str) -> None:
    original = (EXAMPLES / "patch_gaussian" / file).read_bytes()
    differing = [name for name in LIGHT + ANOMALIB if (EXAMPLES / name / file).read_bytes() != original]
    assert differing == [], f"copy examples/patch_gaussian/{file} there"


@pytest.mark.parametrize("file", SHARED_BY_ANOMALIB)
def test_files_shared_by_the_anomalib_examples_are_identical_copies(file: str) -> None:
    original = (EXAMPLES / "anomalib_padim" / file).read_bytes()
    assert (EXAMPLES / "anomalib_patchcore" / file).read_bytes() == original, f"copy anomalib_padim/{file} there"


def test_every_example_is_tested_and_documented() -> None:
    examples = {path.parent.name for path in EXAMPLES.glob("*/main.py")}
    assert examples == set(LIGHT + ANOMALIB)
    guide = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    for name in examples:
        assert (EXAMPLES / name / "config.yaml").is_file()
        assert (EXAMPLES / name / "README.md").is_file()
        assert f"examples/{name}" in guide


def test_the_config_of_an_example_lists_its_settings() -> None:
    """Its reader sees every setting."""
    common = {"categories", "image_size"}
    for name in LIGHT + ANOMALIB:
        shown = yaml.safe_load((EXAMPLES / name / "config.yaml").read_text())
        source = (EXAMPLES / name / "main.py").read_text()
        settings = source[source.index("SETTINGS") : source.index("\n}", source.index("SETTINGS"))]
        seed = {"seed"} if name in ANOMALIB else set()
        assert set(shown) == common | seed | set(re.findall(r'^    "(\w+)":', settings, re.MULTILINE))
