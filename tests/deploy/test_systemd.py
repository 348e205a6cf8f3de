"""The systemd units: verified by systemd itself where it is installed, and the promises that it does not know."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from docs.test_docs import settings_read

from .conftest import ROOT

FOLDER = ROOT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
# Each of these would take from the sandbox what it makes its namespaces with (measured, or by systemd's own description).
BREAK_THE_SANDBOX = (
    "RestrictNamespaces", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset", "ProtectHostname",
    "PrivateDevices", "ProtectClock", "PrivateUsers", "SystemCallFilter", "MemoryDenyWriteExecute",
)  # fmt: skip


def unit(name: str) -> list[tuple[str, str]]:
    lines = (FOLDER / name).read_text().splitlines()
    return [(key, value) for key, _, value in (line.partition("=") for line in lines if re.match(r"[A-Z]\w+=", line))]


def test_units_are_valid_for_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed: apt-get install systemd")
    # A root of its own, in which the programs that the units name are there.
    places = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(FOLDER, places)
    for path in FOLDER.glob("*.service"):
        for program in re.findall(r"^Exec\w+=(\S+)", path.read_text(), re.MULTILINE):
            place = tmp_path / program.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("#!/bin/sh\n")
            place.chmod(0o755)
    (places / "leadersboard-worker@0.service").symlink_to("leadersboard-worker@.service")
    for name in ("sysinit", "basic", "network-online", "shutdown", "multi-user"):
        (places / f"{name}.target").write_text(f"[Unit]\nDescription={name}\nDefaultDependencies=no\n")
    (places / "system.slice").write_text("[Unit]\nDescription=system\n")
    units = [name.replace("@.", "@0.") for name in SERVICES] + ["leadersboard-workers.target"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--root", str(tmp_path), "--man=no", *units],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "leadersboard" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_is_root_and_nothing_is_gained(name):
    found = dict(unit(name))
    assert found["User"].startswith("leadersboard")
    assert (found["NoNewPrivileges"], found["CapabilityBoundingSet"], found["ProtectSystem"]) == ("yes", "", "strict")
    assert found["Restart"] == "always"
    assert found["KillMode"] == "mixed"


def test_worker_keeps_what_the_sandbox_needs_and_the_others_give_it_up():
    worker = {key for key, _ in unit("leadersboard-worker@.service")}
    assert sorted(set(BREAK_THE_SANDBOX) & worker) == []
    web = {key for key, _ in unit("leadersboard-web.service")}
    assert sorted(set(BREAK_THE_SANDBOX) - web) == []


def test_worker_may_finish_its_job_and_has_groups_of_its_own(settings):
    found = dict(unit("leadersboard-worker@.service"))
    longest = max(limits["wall_seconds"] for limits in settings.RESOURCE_CLASSES.values())
    assert int(found["TimeoutStopSec"].removesuffix("min")) * 60 >= longest + 900
    assert set(found["Delegate"].split()) == {"memory", "pids", "cpu"}


def test_each_secret_is_a_credential_and_the_worker_signs_with_its_own():
    for name in SERVICES:
        loaded = {value.split(":")[0]: value.split(":")[1] for key, value in unit(name) if key == "LoadCredential"}
        used = re.findall(r"(\w+_FILE)=%d/(\w+)", (FOLDER / name).read_text())
        assert {file for _, file in used} == set(loaded), name
        assert {setting.removesuffix("_FILE") for setting, _ in used} <= settings_read()
    worker = dict(value.split(":") for key, value in unit("leadersboard-worker@.service") if key == "LoadCredential")
    assert worker["secret_key"].endswith("/worker_secret_key")
