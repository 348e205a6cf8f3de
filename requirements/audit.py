"""Looks every pinned package up among the known holes: `make audit`, and a part of `make check`.

Exit code 0: none is known; 1: some are, each is named; 0 with a warning: the advisories could not be read (no network, or a
mirror of PyPI without them), so nothing is known either way. With --strict that is 3.

What is known and does not touch us stands in `accepted`, with its reason.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FILES = sorted(path for path in HERE.glob("*.txt") if path.stem != "worker-cpu")  # its torch+cpu is not PyPI's
# id -> why it does not touch us
ACCEPTED: dict[str, str] = {}


def pins(files: list[Path]) -> set[tuple[str, str]]:
    """(name, version) of every package in any of the files."""
    return {pair for path in files for pair in re.findall(r"^([\w.-]+)==([\w.+!-]+)", path.read_text(), re.MULTILINE)}


def in_rounds(pinned: set[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """pip-audit takes one version of a package at a time; two files may pin two."""
    versions: dict[str, list[str]] = {}
    for name, version in sorted(pinned):
        versions.setdefault(name, []).append(version)
    for number in range(max(map(len, versions.values()), default=0)):
        yield [(name, found[number]) for name, found in versions.items() if len(found) > number]


def run_pip_audit(pinned: list[tuple[str, str]]) -> tuple[list[dict[str, Any]], str]:
    """Every package with its holes, or none and why."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in pinned)
        file.flush()
        command += ["--disable-pip", "--no-deps", "-r", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]


def verdict(packages: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """(holes, a line each; packages that could not be looked up)."""
    holes = {
        f"{package['name']} {package['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'nothing yet'}"
        for package in packages
        for hole in package.get("vulns", [])
        if not {hole["id"], *hole.get("aliases", [])} & ACCEPTED.keys()
    }
    return sorted(holes), sorted({package["name"] for package in packages if "skip_reason" in package})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true", help="exit with 3 when not every package could be looked up")
    strict = parser.parse_args().strict
    packages, failure = [], ""
    for part in in_rounds(pins(FILES)):
        found, failed = run_pip_audit(part)
        packages, failure = packages + found, failure or failed
    holes, unknown = verdict(packages)
    for hole in holes:
        print(f"KNOWN HOLE  {hole}")
    looked_up = len({package["name"] for package in packages}) - len(unknown)
    if failure or unknown:
        reason = failure or f"{len(unknown)} packages have no record there, such as {unknown[0]}"
        print(f"WARNING: not every package could be looked up: {reason}")
    print(f"Dependency audit: {looked_up} packages looked up, {len(holes)} known holes.")
    if holes:
        return 1
    return 3 if strict and (failure or unknown) else 0


if __name__ == "__main__":
    sys.exit(main())
