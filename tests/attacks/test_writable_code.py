"""A run's own copy of the code folder: it takes what a program writes next to itself, and nothing of it stays."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.execution.client import Supervisor
from jobs.execution.spec import MIB

from .conftest import LIMITS, Outcome, artifact_names, build, run, said

Submit = Callable[..., Outcome]
everywhere = pytest.mark.parametrize("executor", ["bubblewrap", "container", "unsafe-local"], scope="session")
WRITES = """
import json, os, pathlib, sys
from attack import leave_metrics
here = pathlib.Path(__file__).parent
assert pathlib.Path.cwd() == here, pathlib.Path.cwd()
pathlib.Path("results/run0").mkdir(parents=True)
pathlib.Path("results/run0/model.ckpt").write_text("weights")
(here / "main.py").write_text("changed")
(here / "attack.py").unlink()
os.rename("package/inner.py", "package/moved.py")
leave_metrics(score=1.0)
print(json.dumps(sorted(os.listdir(here))))
"""


@everywhere
def test_program_writes_into_its_own_copy_of_the_code(sandbox: None, executor: str, tmp_path: Path) -> None:
    spec = build(tmp_path / "run", WRITES, executor, has_writable_code=True)
    package = Path(spec.code_dir, "package")
    package.mkdir()
    (package / "inner.py").write_text("pass")
    before = {path: path.read_bytes() for path in Path(spec.code_dir).rglob("*.py")}
    outcome = run(spec)
    assert outcome.result.succeeded, (outcome.result, outcome.log)
    assert said(outcome) == ["main.py", "package", "results"]
    # The unpacked submission is as it was, and what lies outside the output folder is no artifact.
    assert {path: path.read_bytes() for path in Path(spec.code_dir).rglob("*") if path.is_file()} == before
    assert artifact_names(outcome) == []
    assert outcome.result.limits_applied["code"] == ("watchdog" if executor == "unsafe-local" else "tmpfs")


def test_code_folder_is_read_only_without_the_option(submit: Submit) -> None:
    outcome = submit("from attack import attempt\nattempt('write', lambda: open('x', 'w'))\n")
    outcome.assert_held()
    assert "code" not in outcome.result.limits_applied


def test_full_code_folder_is_the_disk_limit(submit: Submit) -> None:
    outcome = submit(
        """
with open("checkpoint", "wb") as file:
    for _ in range(64):
        file.write(b"x" * (1 << 20))
""",
        Supervisor.start, has_writable_code=True, limits=replace(LIMITS, tmp_bytes=4 * MIB),
    )  # fmt: skip
    assert outcome.result.reason == "disk_limit", (outcome.result, outcome.log)
    assert "code folder was full: a run may add 4 MiB" in outcome.result.detail


def test_copy_is_no_way_to_more(submit: Submit) -> None:
    """No device, no file of another's rights, no path of the host; and the limit counts what is added alone."""
    outcome = submit(
        """
import os, stat
from attack import attempt
here = os.getcwd()
attempt("device", lambda: os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3)))
with open("shell", "w") as file:
    file.write("x")
os.chmod("shell", 0o6755)
flags = os.statvfs(here).f_flag
attempt("setuid", lambda: not flags & os.ST_NOSUID)
attempt("devices", lambda: not flags & os.ST_NODEV)
attempt("others", lambda: any(os.stat(name).st_uid != os.getuid() for name in os.listdir(here)))
lines = [line for line in open("/proc/self/mountinfo") if " /sandbox/code " in line]
attempt("host path", lambda: any("/run" in line.split()[3] or "/home" in line.split()[3] for line in lines))
""",
        Supervisor.start, has_writable_code=True,
    )  # fmt: skip
    outcome.assert_held()
    assert outcome.result.exit_code == 0, outcome.log


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_set_user_id_of_a_file_is_not_copied(sandbox: None, tmp_path: Path) -> None:
    spec = build(tmp_path / "run", "import os; print(oct(os.stat('tool.py').st_mode))", has_writable_code=True)
    tool = Path(spec.code_dir, "tool.py")
    tool.write_text("")
    os.chmod(tool, 0o6711)
    os.symlink("/etc/passwd", Path(spec.code_dir, "link"))
    outcome = run(spec)
    assert "0o100755" in outcome.log, (outcome.result, outcome.log)
