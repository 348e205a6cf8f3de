"""The network of the drill: hosts with addresses, names and disks of their own, whose links can be cut and slowed."""

import os
import subprocess
import sys
import time

import pytest

from leaderboard_site.embedded.locations import REPOSITORY

WALK = """
import subprocess, sys
from pathlib import Path
from tests.multihost.network import Host, enter_own_network
enter_own_network()
shared = Path(sys.argv[1])
one, two = Host("one", 31, shared), Host("two", 32, shared)
def inside(host, *words):
    return subprocess.run([*host.within(), *words], capture_output=True, text=True, timeout=30)
def reaches():
    code = f"import socket; socket.create_connection(('{two.address}', 9), 2)"
    return "refused" in inside(one, sys.executable, "-c", code).stderr
(one.folder / "own").write_text("x")
print(inside(one, "hostname").stdout.strip(), inside(two, "hostname").stdout.strip())
print(inside(one, "ls", str(one.folder)).stdout.strip(), inside(two, "ls", str(shared)).stdout.strip())
print(reaches()); two.cut(); print(reaches()); two.mend(); print(reaches())
print("kbit" in two.slow(kilobits=256, delay_ms=100)); print(reaches()); two.unslow()
one.stop(); two.stop()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_hosts_have_addresses_names_and_disks_of_their_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WALK, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    told = done.stdout.splitlines()
    assert told == ["one two", "own two", "True", "False", "True", "True", "True"], done.stdout + done.stderr
    assert "bridge0" not in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="stepping down to an ordinary user needs root")
def test_the_drill_says_that_it_needs_root(tmp_path):
    began = time.monotonic()
    code = (
        "import os, sys; from tests.multihost import drill\n"
        "os.setgid(65534); os.setuid(65534); sys.argv = ['multihost']; drill.tempfile.tempdir = '/tmp'\n"
        "sys.exit(drill.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "need root" in done.stderr) == (2, True), done.stderr
    assert time.monotonic() - began < 50
