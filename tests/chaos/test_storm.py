"""The storm in its shortest form; `make chaos` is the long one."""

import os
import subprocess
import sys

import pytest

from leaderboard_site.embedded.locations import REPOSITORY


@pytest.mark.nightly
def test_a_short_storm_breaks_no_promise():
    # A site of its own: nothing of this session's servers and folders may reach it.
    clean = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "LANG", "LEADERSBOARD_ENVIRONMENTS")
    }
    command = [sys.executable, "-W", "ignore", "-m", "tests.chaos.storm", "--seconds", "40", "--jobs", "25"]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.splitlines()[-1] == "violations: 0", done.stdout + done.stderr[-3000:]
    assert done.returncode == 0
