"""What the client packs of a folder, what it leaves out and what it refuses."""

import os
import tarfile

import pytest

from leaderboard_site.client import faults, packing
from leaderboard_site.tests.test_client import code, in_process  # noqa: F401 - a fixture
from submissions.archive.names import is_junk


def members(folder):
    with packing.packed([folder]) as (files, left_out), tarfile.open(files[0]) as archive:
        return {one.name: (one.isreg(), archive.extractfile(one).read()) for one in archive}, left_out


def test_links_are_packed_as_the_files_they_lead_to(code):  # noqa: F811
    (code / "src").mkdir()
    (code / "src" / "a.py").write_text("a = 1\n")
    os.link(code / "src" / "a.py", code / "hard.py")
    (code / "soft.py").symlink_to("src/a.py")
    (code / "lib").symlink_to("src")
    (code / "src" / "around").symlink_to("..")
    found, left_out = members(code)
    linked = dict.fromkeys(("hard.py", "lib/a.py", "soft.py", "src/a.py"), (True, b"a = 1\n"))
    assert found == {**linked, "main.py": (True, b"print('hello')\n")}
    assert left_out == ["lib/around -> ..", "src/around -> .."]


def test_links_out_of_the_folder_and_into_nothing_are_named_and_refused(code):  # noqa: F811
    (code / "out.py").symlink_to("/etc/passwd")
    (code / "lost.py").symlink_to("nowhere")
    (code / "round.py").symlink_to("round.py")
    done, _, err = in_process(code)
    assert done == faults.USAGE
    assert "symbolic links" in err and "lost.py -> nowhere, out.py -> /etc/passwd, round.py -> round.py." in err


def test_the_same_files_make_the_same_bytes(code, tmp_path):  # noqa: F811
    packages = []
    for seconds in (1_000_000_000, 1_600_000_000):
        os.utime(code / "main.py", (seconds, seconds))
        with packing.packed([code]) as (files, _):
            packages.append(files[0].read_bytes())
    assert packages[0] == packages[1]


@pytest.mark.parametrize(
    "name", ["__MACOSX", ".DS_Store", "._main.py", "desktop.ini", "Thumbs.db", "__pycache__", ".git"]
)
def test_what_systems_and_tools_leave_stays_here(name):
    assert packing.is_left_out(name) and not packing.is_left_out("main.py")


def test_all_that_the_site_passes_over_stays_here():
    names = ["__MACOSX", ".DS_Store", "._a", "desktop.ini", "Desktop.ini", "Thumbs.db", ".git", "main.py", "Icon\r"]
    passed_over = [name for name in names if is_junk(name)]
    assert passed_over and [name for name in passed_over if not packing.is_left_out(name)] == []
