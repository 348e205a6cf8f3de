"""Built-in scorers by version: the same files get the same numbers for as long as a version lasts."""

import ast
import dataclasses
import json
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from django.conf import settings

from jobs.board_needs import boards_with_needs, missing
from jobs.inventory import Inventory
from jobs.tests.factories import WorkerFactory
from leaderboards import scoring
from leaderboards.models import Leaderboard, ScoreVersion
from leaderboards.scoring import BUILT_IN
from leaderboards.tests.factories import LeaderboardFactory
from leaderboards.versioning import settle

SCORERS = Path(settings.BASE_DIR, "scorers")


def png(rows, bits=8):
    """A grey PNG of the rows' numbers."""
    lines = b"".join(b"\0" + b"".join(number.to_bytes(bits // 8, "big") for number in row) for row in rows)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def grey(height, width, of, bits=8):
    return png([[of(row, column) for column in range(width)] for row in range(height)], bits)


def in_square(row, column):
    return 2 <= row < 5 and 3 <= column < 6


# {path below truth/ or predictions/: content}
FILES = {
    "regression": {
        "truth/labels.csv": "id,value\na,1\nb,2.5\nc,-3\nd,0.25\n",
        "predictions/predictions.csv": "id,value\nd,0.5\nc,-2\nb,2\na,1.5\n",
    },
    "classification": {
        "truth/labels.csv": "id,label\na,cat\nb,dog\nc,cat\nd,dog\ne,cat\n",
        "truth/scoring.json": '{"positive": "dog"}',
        "predictions/predictions.csv": "id,label,score\na,cat,0.2\nb,dog,0.7\nc,dog,0.6\nd,cat,0.6\ne,cat,0\n",
    },
    "anomaly_detection": {
        "truth/labels.csv": "image,defect,mask,height,width\n"
        "brick/test/1.png,0,,8,10\nbrick/test/2.png,1,m/2.png,8,10\ngrass/test/1.png,1,m/3.png,8,10\ngrass/test/2.png,0,,8,10\n",
        "truth/m/2.png": grey(8, 10, lambda row, column: 255 * in_square(row, column)),
        "truth/m/3.png": grey(8, 10, lambda row, column: 255 * (in_square(row, column) or row == 7)),
        "predictions/predictions.csv": "image,score\nbrick/test/1.png,1\nbrick/test/2.png,3\ngrass/test/1.png,2\ngrass/test/2.png,2\n",
        "predictions/maps/brick/test/1.png": grey(8, 10, lambda row, column: 7 * row + column),
        "predictions/maps/brick/test/2.png": grey(8, 10, lambda row, column: 90 * in_square(row, column + 1) + 5 * column),
        "predictions/maps/grass/test/1.png": grey(4, 5, lambda row, column: 5000 * row + 900 * column, bits=16),
        "predictions/maps/grass/test/2.png": grey(8, 10, lambda row, column: 1500 * column + row, bits=16),
    },
}  # fmt: skip
GOLDEN = {
    ("regression", 1): {"rmse": 0.625, "mae": 0.5625, "r2": 0.9033816425120773},
    ("classification", 1): {
        "accuracy": 0.6, "balanced_accuracy": 0.5833333333333333, "macro_f1": 0.5833333333333333,
        "auc": 0.9166666666666666, "log_loss": 0.4013869701786176,
    },
    ("anomaly_detection", 1): {
        "image_auc": 0.75, "image_f1": 0.8333333333333333, "pixel_auc": 0.7932336124233368, "pixel_pro": 0.5694772786971368,
        "brick_image_auc": 1.0, "brick_image_f1": 1.0, "brick_pixel_auc": 0.8167770419426047,
        "brick_pixel_pro": 0.6666666666666666, "grass_image_auc": 0.5, "grass_image_f1": 0.6666666666666666,
        "grass_pixel_auc": 0.7696901829040688, "grass_pixel_pro": 0.472287890727607,
    },
}  # fmt: skip


def score(folder, name, version, scorers=SCORERS):
    """Return the numbers that the scorer's program leaves, a category's own as CATEGORY_METRIC."""
    for path, content in FILES[name].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    config = {"scorer": name, "version": version, "metrics": list(GOLDEN[name, 1])}
    (folder / "scoring.json").write_text(json.dumps(config))
    done = subprocess.run(
        [settings.RUNNER_PYTHON, "-B", "main.py", "--config", str(folder / "scoring.json"), "--output", str(folder)],
        cwd=scorers, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PREDICTIONS_DIR": str(folder / "predictions"), "GROUND_TRUTH_DIR": str(folder / "truth")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = json.loads((folder / "metrics.json").read_text())
    categories = left.get("categories", {})
    return left["metrics"] | {
        f"{category}_{name}": value for category in categories for name, value in categories[category].items()
    }


@pytest.mark.parametrize(
    ("name", "version"), [(name, version) for name, scorer in BUILT_IN.items() for version in scorer.versions]
)
def test_scores_of_a_version_stay_what_they_are(tmp_path, name, version):
    assert score(tmp_path, name, version) == pytest.approx(GOLDEN[name, version], rel=1e-9), (
        f"The scores of {name} changed. Raise the version: keep the earlier code under its number in scorers/registry.py, "
        "add the new number there and in leaderboards/scoring.py, and add its numbers here; scorers/README.md says how."
    )


def test_registry_and_site_know_the_same_versions():
    tree = ast.parse((SCORERS / "registry.py").read_text())
    kinds = next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert {name: tuple(versions) for name, versions in kinds.items()} == {
        name: scorer.versions for name, scorer in BUILT_IN.items()
    }


@pytest.fixture
def with_a_second_version(monkeypatch, tmp_path):
    """A release that brings regression 2, which scores otherwise; the folder of its scorers."""
    folder = tmp_path / "scorers"
    shutil.copytree(SCORERS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "regression.py").rename(folder / "regression_1.py")
    (folder / "regression.py").write_text(
        "from base import Scores\n"
        "from regression_1 import Regression as Earlier\n"
        "class Regression(Earlier):\n"
        "    def score(self, predictions, truth):\n"
        "        earlier = super().score(predictions, truth).metrics\n"
        "        return Scores({name: 2 * value for name, value in earlier.items()})\n"
    )
    registry = (folder / "registry.py").read_text()
    one = '{1: ("regression", "Regression")}'
    assert one in registry
    both = '{1: ("regression_1", "Regression"), 2: ("regression", "Regression")}'
    (folder / "registry.py").write_text(registry.replace(one, both))
    second = dataclasses.replace(BUILT_IN["regression"], versions=(1, 2))
    monkeypatch.setitem(scoring.BUILT_IN, "regression", second)
    return folder


def test_both_versions_of_a_scorer_score(with_a_second_version, tmp_path):
    first, second, newest = (score(tmp_path, "regression", number, with_a_second_version) for number in (1, 2, None))
    assert first == pytest.approx(GOLDEN["regression", 1])
    assert second == newest == {name: 2 * value for name, value in first.items()}


@pytest.mark.django_db
def test_board_stays_on_its_version_until_its_organizer_changes_it(with_a_second_version, settings, tmp_path):
    settings.GROUND_TRUTH_ROOT, settings.WORK_ROOT = tmp_path / "truths", tmp_path / "work"
    (tmp_path / "truths" / "numbers").mkdir(parents=True)
    (tmp_path / "truths" / "numbers" / "labels.csv").write_text("id,value\n1,2\n")
    earlier, later = (LeaderboardFactory(scorer="regression", ground_truth="numbers") for _ in range(2))
    version = ScoreVersion.objects.create(
        leaderboard=earlier, number=1, scorer="regression", scorer_version=1, ground_truth="numbers"
    )
    Leaderboard.objects.filter(pk=earlier.pk).update(score_version=version)
    row = WorkerFactory(state="idle")
    inventory = Inventory(row.pk)
    inventory.refresh()
    row.refresh_from_db()
    assert row.inventory["scorers"]["regression"] == [1, 2]
    settle()
    boards = {board.pk: board for board in boards_with_needs()}
    assert [boards[board.pk].score_version.scorer_version for board in (earlier, later)] == [1, 2]
    assert {earlier.pk, later.pk} <= inventory.boards.keys()
    # The release after that no longer brings the first.
    without = {**row.inventory, "scorers": {"regression": [2, 3]}}
    assert missing(boards[earlier.pk], without) == ["other_scorer"]
    assert missing(boards[later.pk], without) == []
