"""Folders on disk: bounded like those in memory, hidden from others, and gone after the run."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.execution import disk
from jobs.execution.spec import GIB, MIB

from .conftest import LIMITS, Outcome

Submit = Callable[..., Outcome]
ON_DISK = replace(LIMITS, in_memory_bytes=0, output_bytes=64 * MIB, tmp_bytes=64 * MIB, file_bytes=50 * GIB)
FILL = "    while True:\n        file.write(block)\n"


def test_programs_find_a_folder_like_any_other(submit: Submit) -> None:
    outcome = submit(
        """
import os, stat
from attack import leave_metrics
for place in ("/tmp", "/sandbox/output"):
    os.chdir(place)
    open("a", "w").write("x")
    os.link("a", "b"), os.rename("b", "c"), os.unlink("a")
    os.makedirs("d/e"), os.rename("d", "f"), os.symlink("c", "g")
    os.chmod("c", 0o4755)
    assert sorted(os.listdir(".")) == ["c", "f", "g"], os.listdir(".")
    try:
        os.mknod("device", stat.S_IFBLK | 0o666, os.makedev(8, 0))
        print("OPEN: a device")
    except PermissionError:
        pass
try:
    os.link("/tmp/c", "/sandbox/output/h")
    print("OPEN: a link between folders")
except OSError:
    pass
flags = {line.split()[4]: line for line in open("/proc/self/mountinfo")}
for place in ("/tmp", "/sandbox/output"):
    line = flags[place]
    assert "nosuid" in line and "nodev" in line, line
    print("OPEN: " + line if "/run/disk-" in line else "held")
leave_metrics()
""",
        limits=ON_DISK,
    )
    outcome.assert_held()
    assert outcome.result.succeeded, outcome
    applied = outcome.result.limits_applied
    assert {applied["output"], applied["tmp"]} <= {"watchdog", "project-quota"}


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("/tmp", "file = open('/tmp/a', 'wb', 0)\nblock = b'x' * (1 << 20)\ntry:\n" + FILL + "except OSError:\n    exit(3)"),
        (
            "the output folder",
            "import os\nfile = open('/sandbox/output/a', 'wb', 0)\nos.unlink(file.name)\nblock = b'x' * (1 << 20)\n"
            "try:\n" + FILL + "except OSError:\n    exit(3)",
        ),
        ("/tmp", "import os\nos.chdir('/tmp')\nfor _ in range(3000):\n    os.mkdir('d'), os.chdir('d')\nimport time; time.sleep(9)"),
        (
            "the output folder",
            "import os\nopen('/sandbox/output/a', 'w').close()\n"
            "for number in range(6000): os.link('/sandbox/output/a', f'/sandbox/output/{number}')\nimport time; time.sleep(9)",
        ),
        (
            "/tmp",
            "import mmap, os\nfile = open('/tmp/a', 'w+b')\nfile.truncate(100 << 20)\nheld = mmap.mmap(file.fileno(), 0)\n"
            "os.unlink('/tmp/a'), file.close()\nheld[::4096] = b'x' * len(held[::4096])\nimport time; time.sleep(9)",
        ),
        (
            "the output folder",
            "for number in range(6000):\n    open(f'/sandbox/output/{number}', 'w').close()\nimport time; time.sleep(9)",
        ),
    ],
    ids=["file", "deleted file", "deep tree", "many names", "deleted and mapped", "many files"],
)  # fmt: skip
@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_a_full_folder_on_disk_is_the_disk_limit(submit: Submit, place: str, code: str) -> None:
    outcome = submit(code, limits=ON_DISK)
    for folder in outcome.run_dir.glob("disk-*"):
        disk.remove(folder)  # pytest's own way to remove it is recursive
    assert outcome.result.reason == "disk_limit", outcome
    assert str(outcome.result.detail).startswith(f"{place} was full: its limit is 64 MiB or ")


def test_a_full_tmp_in_memory_is_the_disk_limit_too(submit: Submit) -> None:
    outcome = submit("open('/tmp/a', 'wb').write(b'x' * (40 << 20))", limits=replace(LIMITS, tmp_bytes=16 * MIB))
    assert outcome.result.reason == "disk_limit", outcome
    assert str(outcome.result.detail) == "/tmp was full: its limit is 16 MiB or 50000 files"


def test_files_on_disk_do_not_count_as_memory(submit: Submit) -> None:
    limits = replace(ON_DISK, memory_bytes=128 * MIB, tmp_bytes=GIB)
    outcome = submit(
        "from attack import leave_metrics\nwith open('/tmp/a', 'wb') as file:\n    for _ in range(300): file.write(b'x' * (1 << 20))\nleave_metrics()",
        limits=limits,
    )
    assert outcome.result.succeeded, outcome


def test_deleted_files_count_in_their_own_folder_alone(submit: Submit) -> None:
    outcome = submit(
        """
import os, time
from attack import leave_metrics
held = []
for place in ("/tmp/a", "/sandbox/output/a"):
    held.append(open(place, "wb", 0))
    os.unlink(place)
    for _ in range(40):
        held[-1].write(b"x" * (1 << 20))
time.sleep(1.5)
leave_metrics()
""",
        limits=ON_DISK,
    )
    assert outcome.result.succeeded, outcome


def test_no_run_starts_on_a_disk_that_is_nearly_full(
    submit: Submit, weakened: Callable[..., Callable[[], object]]
) -> None:
    outcome = submit(
        "print('ran')", weakened("from jobs.execution import disk\ndisk.RESERVE_BYTES = 1 << 60"), limits=ON_DISK
    )
    assert outcome.result.reason == "sandbox_error" and not outcome.log
    assert "the worker's disk for runs has only" in outcome.result.detail


def test_what_a_run_left_is_removed_however_it_is_locked(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    inner = folder
    inner.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", 0o700, dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (folder / "link").symlink_to(outside)
    (folder / "locked").mkdir(0o700)
    (folder / "locked" / "file").touch()
    (folder / "locked").chmod(0)
    disk.remove(folder)
    assert not folder.exists()
    assert (outside / "kept").exists()
