"""The demonstration data: complete, the same each time, and never at the cost of someone's files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import EXAMPLES

PROGRAM = EXAMPLES / "dataset" / "make_texture_dataset.py"
SMALL = ["--category", "brick", "--size", "32", "--train", "3", "--test-good", "2", "--per-defect", "1"]

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(runner: str) -> Make:
    def call(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [runner, str(PROGRAM), str(out), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return call


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_it_has_the_layout_of_the_field(dataset: Path) -> None:
    for category in ("brick", "grass", "gravel"):
        root = dataset / category
        assert len(list(root.glob("train/good/*.png"))) == 60
        assert len(list(root.glob("test/good/*.png"))) == 10
        for kind in ("scratch", "blob", "cutpaste"):
            images = sorted(path.stem for path in root.glob(f"test/{kind}/*.png"))
            masks = sorted(path.stem for path in root.glob(f"ground_truth/{kind}/*.png"))
            assert [f"{image}_mask" for image in images] == masks
            assert len(masks) == 10


def test_it_says_what_it_is(dataset: Path) -> None:
    assert json.loads((dataset / "dataset.json").read_text())["title"] == "Textures: real textures, synthetic defects"


def test_another_user_may_read_it(dataset: Path) -> None:
    assert dataset.stat().st_mode & 0o055 == 0o055 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_same_arguments_give_the_same_bytes(make: Make, tmp_path: Path) -> None:
    one, two = make(tmp_path / "one", *SMALL), make(tmp_path / "two", *SMALL)
    assert one.returncode == 0, one.stderr
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert one.stdout == two.stdout
    (line,) = map(json.loads, one.stdout.splitlines())
    assert (line["category"], line["images"]) == ("brick", 3 + 2 + 3 * 2)


def test_another_seed_gives_other_images(make: Make, tmp_path: Path) -> None:
    lines = [make(tmp_path / seed, *SMALL, "--seed", seed).stdout for seed in ("0", "1")]
    assert lines[0] != lines[1]


def test_a_complete_set_is_left_alone(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "set"
    first, before = make(out, *SMALL), times(out)
    again = make(out, *SMALL)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert times(out) == before


@pytest.mark.parametrize("damage", ["missing", "changed", "extra", "manifest"])
def test_a_damaged_set_is_made_again(make: Make, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "set"
    make(out, *SMALL)
    whole, image = content(out), out / "brick/train/good/000.png"
    if damage == "missing":
        image.unlink()
    elif damage == "changed":
        image.write_bytes(image.read_bytes()[:-20])
    elif damage == "extra":
        image.with_name("999.png").write_bytes(image.read_bytes())
    else:
        manifest = json.loads((out / "dataset.json").read_text())
        (out / "dataset.json").write_text(json.dumps(manifest | {"made_by": "make_texture_dataset.py 0"}))
    assert make(out, *SMALL).returncode == 0
    assert content(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # nothing left aside


def test_a_folder_of_someone_else_is_refused(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    done = make(out, *SMALL)
    assert done.returncode == 1
    assert "holds files that this program did not make" in done.stderr
    assert content(out) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize("before", ["nothing", "another seed"])
def test_several_at_once_give_one_whole_set(before: str, make: Make, runner: str, tmp_path: Path) -> None:
    out = tmp_path / "set"
    if before == "another seed":
        assert make(out, *SMALL, "--seed", "1").returncode == 0
    command = [runner, str(PROGRAM), str(out), *SMALL]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ended = [(process.communicate(timeout=60), process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0, 0, 0], ended
    assert len({outcome[0] for outcome, _ in ended}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
