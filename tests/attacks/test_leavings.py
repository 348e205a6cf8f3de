"""What a run leaves in its output folder is read as written by an enemy."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.execution import collect
from jobs.execution.metrics import parse_metrics

from .conftest import Outcome, artifact_names

Submit = Callable[..., Outcome]
# The reading is the same for every executor: a container shows once each that its output folder is read as hostile too.
in_one_executor = pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")


def test_metrics_and_artifacts_are_staged(submit: Submit) -> None:
    outcome = submit("""
from attack import *
leave_metrics(score=0.5)
os.makedirs(OUTPUT + "/plots/deep")
leave("plots/deep/図 1.txt", "picture")
os.chmod(OUTPUT + "/plots/deep/図 1.txt", 0o4777)
os.chmod(OUTPUT + "/plots/deep", 0)
""")
    assert outcome.result.metrics_error is None
    assert parse_metrics((outcome.run_dir / "metrics.json").read_bytes()).metrics == {"score": 0.5}
    digest = hashlib.sha256(b"picture").hexdigest()
    assert outcome.result.artifacts == [{"path": "plots/deep/図 1.txt", "bytes": 7, "sha256": digest}]
    staged = outcome.run_dir / "artifacts/plots/deep/図 1.txt"
    assert staged.read_text() == "picture"
    assert staged.stat().st_mode & 0o7777 == 0o600


@in_one_executor
@pytest.mark.parametrize(
    ("making", "error"),
    [
        ("pass", "missing"),
        ("os.symlink('/etc/passwd', METRICS)", "not a regular file"),
        ("os.symlink('/proc/self/environ', METRICS)", "not a regular file"),
        ("leave('other', '{}'); os.link(OUTPUT + '/other', METRICS)", "a file with several names"),
        ("os.mkfifo(METRICS)", "not a regular file"),
        ("os.mkdir(METRICS)", "not a regular file"),
        ("import socket; socket.socket(socket.AF_UNIX).bind(METRICS)", "not a regular file"),
        ("open(METRICS, 'w').write('x' * (1 << 20) + 'x')", "too large"),
        ("open(METRICS, 'w').truncate(60 << 20)", "too large"),
    ],
)
def test_metrics_file_must_be_a_plain_small_file(making: str, error: str, submit: Submit) -> None:
    outcome = submit(f"from attack import *\nMETRICS = OUTPUT + '/metrics.json'\n{making}")
    assert outcome.result.metrics_error == error
    assert not (outcome.run_dir / "metrics.json").exists()


def test_links_and_special_files_are_no_artifacts(submit: Submit) -> None:
    outcome = submit("""
from attack import *
leave("good.txt", "good")
os.symlink("/etc/shadow", OUTPUT + "/link")
os.symlink("..", OUTPUT + "/folder")
os.mkfifo(OUTPUT + "/fifo")
leave("one", "x"); os.link(OUTPUT + "/one", OUTPUT + "/two")
""")
    assert artifact_names(outcome) == ["good.txt"]
    assert outcome.result.artifacts_dropped["count"] == 5
    assert sorted(path.name for path in (outcome.run_dir / "artifacts").rglob("*")) == ["good.txt"]


@in_one_executor
def test_names_that_would_do_harm_elsewhere_are_dropped(submit: Submit) -> None:
    outcome = submit(r"""
from attack import *
for name in ["-rf", ".hidden", "=cmd()", "@x", "a\nb", "a\x1b[31m", "\u202egpj.exe", "<script>", "a'b", 'a"b', "a;b", "a\\b", "x" * 101]:
    leave(name, "x")
open(os.fsencode(OUTPUT) + b"/\xff\xfe", "w").close()
leave("good-1.0 (a).txt", "x")
""")
    assert artifact_names(outcome) == ["good-1.0 (a).txt"]
    assert outcome.result.artifacts_dropped["count"] == 14
    assert all(reason.isascii() and reason.isprintable() for reason in outcome.result.artifacts_dropped["reasons"])


@in_one_executor
def test_sparse_files_cost_nothing(submit: Submit) -> None:
    outcome = submit("""
from attack import *
for index in range(50):
    open(f"{OUTPUT}/sparse{index}", "w").truncate(60 << 20)
""")
    assert artifact_names(outcome) == []
    assert outcome.result.artifacts_dropped["reasons"][0] == "sparse0: too large"


@in_one_executor
def test_deep_folders_are_left_alone(submit: Submit) -> None:
    outcome = submit("""
from attack import *
leave("top.txt", "x")
os.chdir(OUTPUT)
try:
    for _ in range(180):
        os.mkdir("d" * 90)
        os.chdir("d" * 90)
finally:
    open("bottom.txt", "w").close()
""")
    assert artifact_names(outcome) == ["top.txt"]
    assert outcome.result.artifacts_dropped["count"] == 1


def test_nothing_of_a_killed_run_is_half_read(submit: Submit) -> None:
    outcome = submit("""
from attack import *
import threading
def swap():
    while True:
        leave_metrics(score=1.0)
        os.unlink(OUTPUT + "/metrics.json")
        os.symlink("/etc/passwd", OUTPUT + "/metrics.json")
        os.unlink(OUTPUT + "/metrics.json")
for _ in range(4):
    if os.fork() == 0:
        swap()
import time
time.sleep(0.3)
""")
    staged = outcome.run_dir / "metrics.json"
    assert not staged.is_symlink()
    assert outcome.result.metrics_error is not None or staged.is_file()


def test_collect_stops_at_its_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "MAX_ARTIFACTS", 3)
    monkeypatch.setattr(collect, "MAX_ENTRIES", 5)
    output, target = tmp_path / "output", tmp_path / "target"
    output.mkdir()
    target.mkdir()
    for index in range(10):
        (output / f"{index}.txt").write_text("x")
    descriptors = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in (output, target)]
    found = collect.collect(*descriptors, max_bytes=100)
    for descriptor in descriptors:
        os.close(descriptor)
    assert [item["path"] for item in found.artifacts] == ["0.txt", "1.txt", "2.txt"]
    assert found.reasons == [
        "3.txt: more than 3 files",
        "4.txt: more than 3 files",
        "5.txt: more than 5 entries",
    ]
