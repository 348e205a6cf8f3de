"""What a run leaves in its output folder is read as written by an enemy."""

import errno
import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator
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
attempt("link from outside", lambda: os.link("/etc/passwd", OUTPUT + "/outside") or True)
os.link(OUTPUT + "/good.txt", OUTPUT + "/again.txt"); os.link(OUTPUT + "/good.txt", OUTPUT + "/metrics.json")
os.mkdir(OUTPUT + "/deep"); os.link(OUTPUT + "/good.txt", OUTPUT + "/deep/third.txt")
""")
    outcome.assert_held()
    assert outcome.result.metrics_error is None
    assert artifact_names(outcome) == ["again.txt", "deep/third.txt", "good.txt"]
    assert outcome.result.left_out == [
        f"{name} was left out: not a regular file." for name in ("fifo", "folder", "link")
    ]
    assert not any(path.is_symlink() for path in (outcome.run_dir / "artifacts").rglob("*"))


AWKWARD = [
    "結果（最終）.png", "学習・曲線.csv", "loss curve #1.png", "top-1%.txt", "100%25.txt", "patient's map.txt", "a&b=c?d;e.txt",
    "🚀 run.txt", ".hidden", "-rf", "=cmd()", "@x", "<script>", 'a"b', "...", " ", "trailing. ", "CON", "全角　空白.txt",
    "re\u0301sume\u0301.txt", "图" * 85,
]  # fmt: skip


@in_one_executor
def test_names_are_data(submit: Submit) -> None:
    outcome = submit(f"from attack import *\nfor name in {AWKWARD!r}: leave(name, 'x')")
    assert artifact_names(outcome) == sorted(unicodedata.normalize("NFC", name) for name in AWKWARD)
    assert outcome.result.left_out == []


@in_one_executor
def test_names_that_hide_what_they_say_are_left_out_and_told(submit: Submit) -> None:
    outcome = submit(r"""
from attack import *
for name in ["a\nb", "a\x1b[31m", "\u202egpj.exe", "a\u200bb", "\ue000", "a\\b", "図 1.txt"]:
    leave(name, "x")
open(os.fsencode(OUTPUT) + b"/\xff\xfe", "w").close()
os.makedirs(OUTPUT + "/" + "/".join(["d" * 200] * 5))
leave("/".join(["d" * 200] * 5) + "/x", "")
""")
    odd = "a control, invisible or private-use character in its name"
    assert artifact_names(outcome) == ["図 1.txt"]
    assert outcome.result.left_out == [
        f"a\\nb was left out: {odd} (U+000A).",
        f"a\\x1b[31m was left out: {odd} (U+001B).",
        "a\\b was left out: a backslash in its name.",
        f"a\\u200bb was left out: {odd} (U+200B).",
        f"{'d' * 200}… was left out: a path of more than 900 bytes.",
        f"\\u202egpj.exe was left out: {odd} (U+202E).",
        "\\xff\\xfe was left out: its name is not UTF-8.",
        f"\\ue000 was left out: {odd} (U+E000).",
    ]


@in_one_executor
def test_of_two_spellings_of_a_name_the_composed_one_is_kept(submit: Submit) -> None:
    outcome = submit(r"""
from attack import *
leave("cafe\u0301.txt", "decomposed"); leave("caf\u00e9.txt", "composed")
os.mkdir(OUTPUT + "/e\u0301"); leave("e\u0301/one.txt", "")
""")
    assert artifact_names(outcome) == ["caf\u00e9.txt", "\u00e9/one.txt"]
    assert (outcome.run_dir / "artifacts/caf\u00e9.txt").read_text() == "composed"
    assert outcome.result.left_out == ["cafe\u0301.txt was left out: another spelling of its name was kept."]


@in_one_executor
def test_sparse_files_cost_nothing(submit: Submit) -> None:
    outcome = submit("""
from attack import *
for index in range(50):
    open(f"{OUTPUT}/sparse{index}", "w").truncate(60 << 20)
""")
    assert artifact_names(outcome) == []
    assert outcome.result.left_out[0] == "sparse0 was left out: too large."
    assert outcome.result.left_out[collect.MOST_TOLD :] == ["30 more were left out."]


@in_one_executor
def test_folders_are_taken_over_to_a_depth(submit: Submit) -> None:
    outcome = submit("""
from attack import *
leave("top.txt", "x")
os.chdir(OUTPUT)
for level in range(190):
    os.mkdir("d")
    os.chdir("d")
    if level + 1 in (31, 32):
        open(f"{level + 1}.txt", "w").close()
""")
    assert artifact_names(outcome) == [f"{'d/' * 31}31.txt", "top.txt"]
    assert outcome.result.left_out == [f"{'d/' * 32} was left out: deeper than 32 folders."]


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


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, list[int]]]:
    """The output folder, and the descriptors that `collect` takes."""
    paths = [tmp_path / "output", tmp_path / "target"]
    for path in paths:
        path.mkdir()
    descriptors = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
    yield paths[0], descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_collect_stops_at_its_caps(folders: tuple[Path, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "MAX_ARTIFACTS", 3)
    monkeypatch.setattr(collect, "MAX_ENTRIES", 5)
    output, descriptors = folders
    for index in range(10):
        (output / f"{index}.txt").write_text("x")
    found = collect.collect(*descriptors, max_bytes=100)
    assert [item["path"] for item in found.artifacts] == ["0.txt", "1.txt", "2.txt"]
    assert found.left_out.sentences == [
        "3.txt was left out: more than 3 files.",
        "4.txt was left out: more than 3 files.",
        "5.txt was left out: this and all that follows: more than 5 entries.",
    ]


def test_collect_leaves_files_that_have_a_name_elsewhere(folders: tuple[Path, list[int]], tmp_path: Path) -> None:
    output, descriptors = folders
    (tmp_path / "outside").write_text("secret")
    os.link(tmp_path / "outside", output / "metrics.json")
    os.link(tmp_path / "outside", output / "one")
    found = collect.collect(*descriptors, max_bytes=100)
    assert found.metrics_error == "a file with another name outside the output folder"
    assert (found.artifacts, len(found.left_out.sentences)) == ([], 1)


def test_collect_does_not_blame_the_run_for_a_full_disk(
    folders: tuple[Path, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    (folders[0] / "one").write_text("x")
    monkeypatch.setattr(collect.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        collect.collect(*folders[1], max_bytes=100)
