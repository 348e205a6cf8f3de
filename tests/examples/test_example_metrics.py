"""The examples' own metric functions are right: by plain counting, and by the field's libraries."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import EXAMPLES

CHECKS = Path(__file__).with_name("metric_checks.py")
NAMES = re.findall(r"^def check_(\w+)", CHECKS.read_text(), re.MULTILINE)
WITH_LIBRARIES = [name for name in NAMES if "agree" in name]
PLAIN = [name for name in NAMES if name not in WITH_LIBRARIES]


def run_checks(python: str, folder: str, names: list[str]) -> dict[str, str | None]:
    """All at once, in an environment that has numpy and OpenCV; pytest's own has neither."""
    done = subprocess.run(
        [python, "-W", "ignore", "-B", str(CHECKS), str(EXAMPLES / folder), *names],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def plain_outcomes(runner: str) -> dict[str, str | None]:
    return run_checks(runner, "patch_gaussian", PLAIN)


@pytest.fixture(scope="module")
def library_outcomes(worker: str) -> dict[str, str | None]:
    return run_checks(worker, "anomalib_padim", WITH_LIBRARIES)


@pytest.mark.parametrize("name", PLAIN)
def test_metrics_match_their_definition(plain_outcomes: dict[str, str | None], name: str) -> None:
    assert plain_outcomes[name] is None, plain_outcomes[name]


@pytest.mark.parametrize("name", WITH_LIBRARIES)
def test_metrics_match_the_libraries(library_outcomes: dict[str, str | None], name: str) -> None:
    assert library_outcomes[name] is None, library_outcomes[name]


def test_torchvision_imports_beside_the_workers_torch(worker: str) -> None:
    """And non-maximum suppression, whose compiled body may be missing, keeps what it should."""
    program = (
        "import importlib.util, torch\n"
        "importlib.util.find_spec('torchvision')\n"
        "import torchvision\n"
        "boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 9, 10]])\n"
        "scores = torch.tensor([0.9, 0.95, 0.5, 0.2])\n"
        "nms = torchvision.ops.nms\n"
        "print(nms(boxes, scores, 0.5).tolist(), nms(boxes[:0], scores[:0], 0.5).tolist())\n"
        "from torchvision.transforms import v2\n"
        "print(v2.Resize((4, 4))(torch.zeros(3, 8, 8)).shape[-1])\n"
    )
    done = subprocess.run(
        [worker, "-B", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[1, 2] []", "4"]
