"""Sandboxes with a hole made on purpose: the preflight must find each. A test that finds nothing here proves nothing elsewhere."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from jobs.execution import janitor, preflight
from jobs.execution.client import Supervisor
from jobs.execution.spec import Container

from .conftest import container, processes_with

_WITHOUT = """
whole = bubblewrap._arguments
def arguments(*given):
    found = whole(*given)
    for flag in {flags!r}:
        found.remove(flag)
    return {added!r} + found
bubblewrap._arguments = arguments
"""
_SHARED = ["--unshare-user", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"]
_BUBBLEWRAP_HOLES = {
    "shared network": (
        _WITHOUT.format(flags=["--unshare-all"], added=[*_SHARED, "--unshare-pid"]),
        {"loopback", "abstract_socket"},
    ),
    "folder of the host": (
        (
            "import os\nwhole = bubblewrap._binds\n"
            "def binds(spec, stage):\n"
            "    host = os.path.dirname(spec.code_dir)\n"
            "    return [*whole(spec, stage), '--ro-bind', stage.add(host), host]\n"
            "bubblewrap._binds = binds\n"
        ),
        {"host_file", "other_users_file"},
    ),
    "no seccomp filter, no bounding": (
        "bubblewrap.seccomp.build_filter = lambda **_: bytes([6, 0, 0, 0, 0, 0, 255, 127])\n"
        + _WITHOUT.format(flags=["--disable-userns"], added=[]),
        {"user_namespace", "file_address"},
    ),
    "output without quota": (
        (
            "small = bubblewrap.Stage.volume\n"
            "def volume(self, name, size, *rest):\n"
            "    return small(self, name, size * 100 if name == 'output' else size, *rest)\n"
            "bubblewrap.Stage.volume = volume\n"
        ),
        {"output_quota"},
    ),
    "daemons survive": (
        _WITHOUT.format(flags=["--die-with-parent"], added=[])
        + "launch.kill_everything = lambda prepared, group, statuses: (launch.reap(statuses), True)[1]\n"
        "cgroup.Group.remove = lambda self: None\n",
        {"daemon"},
    ),
    "no limit on memory and processes": (
        (
            "cgroup.create = lambda run_id, limits: cgroup.Group()\n"
            "launch._set_limits = lambda limits, group: None\n"
            "launch.linux.lower_limit = lambda *arguments: None\n"
            "supervisor.watchdog.memory_in_use = lambda *arguments: 0\n"
        ),
        {"memory", "processes"},
    ),
    "leaked descriptor": (
        (
            "import os\nkeep = launch.keep_only\n"
            "def leak(wanted):\n"
            "    keep(wanted)\n"
            "    os.dup2(os.open('/', os.O_RDONLY), 200, inheritable=True)\n"
            "launch.keep_only = leak\n"
        ),
        {"leaked_descriptor"},
    ),
    "host's part of /proc": ("bubblewrap.procfs.hidden = lambda **_: ([], [])", {"host_state"}),
    "worker's environment": (
        (
            "import os\nclean = bubblewrap.environment\n"
            "bubblewrap.environment = lambda spec: clean(spec) | {'SECRET': 'secret-' + "
            "__import__('json').loads(spec.environment['LEADERSBOARD_PROBE_TARGETS'])['marker']}\n"
        ),
        {"environment"},
    ),
}
_CONTAINER_OPTIONS = """
whole = container._options
def options(*given):
    found = whole(*given)
    {change}
    return found
container._options = options
"""
_CONTAINER_HOLES = {
    "host's network": (
        _CONTAINER_OPTIONS.format(change="found[found.index('--network') + 1] = 'host'"),
        {"loopback", "abstract_socket"},
    ),
    "root with all capabilities": (
        _CONTAINER_OPTIONS.format(
            change="found[found.index('--cap-drop')] = '--cap-add'; found[found.index('--user') + 1] = '0:0'"
        ),
        {"privileges"},
    ),
    "no filter": (
        "import json\ncontainer.seccomp.build_filter = lambda: bytes([6, 0, 0, 0, 0, 0, 255, 127])\n"
        "container.seccomp.engine_profile = lambda: json.dumps({'defaultAction': 'SCMP_ACT_ALLOW'})",
        {"user_namespace", "file_address"},
    ),
    "host's part of /proc": (
        "container.procfs.hidden = lambda **_: (['/proc/keys'], [])\n",
        {"host_state"},
    ),
    "container outside of the groups": (
        _CONTAINER_OPTIONS.format(change="found[found.index('--cgroup-parent') + 1] = '/leadersboard-run-1-1-weak'"),
        {"memory", "processes"},
    ),
}
_HOLES = {"bubblewrap": _BUBBLEWRAP_HOLES, "container": _CONTAINER_HOLES}


def _clear_survivors() -> None:
    janitor.clear_stale(container=container() if os.geteuid() == 0 and shutil.which(container().engine) else None)
    for pid in processes_with("daemon-leadersboard-preflight-"):
        os.kill(pid, signal.SIGKILL)


def _container(executor: str) -> Container | None:
    return container() if executor == "container" else None


@pytest.mark.parametrize(
    ("executor", "hole"), [(executor, hole) for executor, holes in _HOLES.items() for hole in holes], scope="session"
)
def test_preflight_finds_the_hole(
    executor: str, hole: str, sandbox: None, weakened: Callable[[str], Callable[[], Supervisor]]
) -> None:
    patch, names = _HOLES[executor][hole]
    try:
        found = preflight.probe(executor, sys.executable, container=_container(executor), start=weakened(patch))
    finally:
        _clear_survivors()
    assert {one.name for one in found if not one.contained} >= names, found
    # The hole was found where it is, and not because nothing ran.
    assert not any("no answer" in one.how for one in found), found
    assert not preflight.is_tight(found)


def test_preflight_holds_in_the_sandbox_as_it_is(sandbox: None, executor: str) -> None:
    found = preflight.probe(executor, sys.executable, container=_container(executor))
    assert [one for one in found if not one.contained] == []
    assert len(found) == len(preflight.ATTEMPTS)
    assert preflight.is_tight(found)


@pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")
def test_preflight_finds_the_unsafe_executor_open(sandbox: None) -> None:
    found = preflight.probe("unsafe-local", sys.executable)
    assert {"host_file", "loopback", "output_quota"} <= {one.name for one in found if not one.contained}


def test_preflight_fails_closed_when_nothing_runs(sandbox: None, executor: str) -> None:
    broken = replace(container(), image="localhost/there-is-no-such-image") if executor == "container" else None
    found = preflight.probe(executor, sys.executable, bwrap="/nonexistent/bwrap", container=broken)
    assert not any(one.contained for one in found)
