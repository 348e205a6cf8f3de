"""Look every pinned package up among the known vulnerabilities: `make audit`, and the end of `make check`.

The advisories are asked for over the network by pip-audit, or read from a copy: --advisories PATH (or OSV_ADVISORIES) names
OSV's export for PyPI, https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip or the folder unpacked from it.

Exit code 0: no vulnerability is known; 1: some are, and each is named; 2: the copy cannot be read. If packages could not be
looked up (no network, a mirror of PyPI without advisories, a copy that is too old), nothing is known about them: a framed
warning says so, and with --strict the exit code is 3.

Vulnerabilities that do not concern this project stand in ACCEPTED, with the reason.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

HERE = Path(__file__).resolve().parent
FILES = sorted(path for path in HERE.glob("*.txt") if path.stem != "worker-cpu")  # its torch+cpu is not PyPI's
# id -> why it does not concern us
ACCEPTED: dict[str, str] = {}
MOST_DAYS = 30
FRAME_WIDTH = 100

Pin = tuple[str, str]


class BadCopy(ValueError):
    """The copy of the advisories cannot be read; the message names the path and the rule."""


def pins(files: list[Path]) -> set[Pin]:
    """(name, version) of every package in any of the files."""
    return {pair for path in files for pair in re.findall(r"^([\w.-]+)==([\w.+!-]+)", path.read_text(), re.MULTILINE)}


# --- Over the network ----------------------------------------------------------------------------------------------
def in_rounds(pinned: set[Pin]) -> Iterator[list[Pin]]:
    """pip-audit takes one version of a package at a time; two files may pin two."""
    versions: dict[str, list[str]] = {}
    for name, version in sorted(pinned):
        versions.setdefault(name, []).append(version)
    for number in range(max(map(len, versions.values()), default=0)):
        yield [(name, found[number]) for name, found in versions.items() if len(found) > number]


def run_pip_audit(pinned: list[Pin]) -> tuple[list[dict[str, Any]], str]:
    """Return each package with its vulnerabilities; an empty list and the reason if that fails."""
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


# --- From a copy of OSV's export -----------------------------------------------------------------------------------
def records(copy: Path) -> Iterator[dict[str, Any]]:
    """Yield every advisory of the copy. Raises BadCopy."""
    if copy.is_dir():
        files = ((path.name, path.read_bytes) for path in sorted(copy.glob("**/*.json")))
        yield from (_record(copy, name, read()) for name, read in files)
        return
    try:
        with zipfile.ZipFile(copy) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    yield _record(copy, name, archive.read(name))
    except FileNotFoundError:
        raise BadCopy(f"{copy}: there is no such file or folder") from None
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise BadCopy(f"{copy}: must be OSV's all.zip, or the folder unpacked from it ({error})") from error


def _record(copy: Path, name: str, raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw)
        if not (isinstance(record, dict) and isinstance(record["id"], str) and isinstance(record["modified"], str)):
            raise ValueError("it has no id or no time of its last change")
        return record
    except (ValueError, KeyError, RecursionError) as error:
        raise BadCopy(f"{copy}: {name} is not an OSV record ({error})") from error


def look_up(copy: Path, pinned: set[Pin], now: datetime) -> tuple[list[dict[str, Any]], int]:
    """Return each package with its vulnerabilities, in pip-audit's form, and the days since the newest advisory changed.

    The copy's age is that of its content, because a file's time changes when it is copied. Raises BadCopy.
    """
    versions: dict[str, list[dict[str, Any]]] = {}
    for name, version in sorted(pinned):
        package = {"name": name, "version": version, "vulns": []}
        versions.setdefault(canonicalize_name(name), []).append(package)
    newest, count = "", 0
    for record in records(copy):
        count, newest = count + 1, max(newest, record["modified"])
        if record.get("withdrawn"):
            continue
        try:
            _match(record, versions)
        except (AttributeError, TypeError) as error:
            raise BadCopy(f"{copy}: {record['id']} is not an OSV record ({error})") from error
    if not count:
        raise BadCopy(f"{copy}: holds no advisory (no .json file)")
    try:
        changed = datetime.fromisoformat(newest)
    except ValueError as error:
        raise BadCopy(f"{copy}: {newest!r} is not the time of a change") from error
    age = now - (changed if changed.tzinfo else changed.replace(tzinfo=UTC))
    return [package for found in versions.values() for package in found], age.days


def _match(record: dict[str, Any], versions: dict[str, list[dict[str, Any]]]) -> None:
    """Add the advisory to each package that it affects."""
    for affected in record.get("affected", []):
        about = affected.get("package", {})
        if str(about.get("ecosystem", "")).partition(":")[0] != "PyPI":
            continue
        events = [event for part in affected.get("ranges", []) for event in _events(part)]
        fixed = [event["fixed"] for event in events if "fixed" in event]
        found = {"id": record["id"], "aliases": record.get("aliases", []), "fix_versions": fixed}
        for package in versions.get(canonicalize_name(str(about.get("name", ""))), []):
            if is_affected(package["version"], affected):
                package["vulns"].append(found)


def _events(part: dict[str, Any]) -> list[dict[str, str]]:
    """Return a range's events; none for a range of git commits, which tells nothing about releases."""
    return part.get("events", []) if part.get("type") == "ECOSYSTEM" else []


def is_affected(text: str, affected: dict[str, Any]) -> bool:
    """Whether the version is listed, or lies in one of the ranges (https://ossf.github.io/osv-schema/#evaluation)."""
    if text in affected.get("versions", []):
        return True
    try:
        version = Version(text)
        listed = {Version(one) for one in affected.get("versions", []) if _is_version(one)}
        return version in listed or any(_is_in(version, _events(part)) for part in affected.get("ranges", []))
    except InvalidVersion:
        # A range that cannot be read may contain the version: better one warning too many.
        return True


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _is_in(version: Version, events: list[dict[str, str]]) -> bool:
    inside = False
    ordered = sorted((Version(text), kind) for event in events for kind, text in event.items())
    for at, kind in ordered:
        if kind == "introduced" and version >= at:
            inside = True
        elif (kind in ("fixed", "limit") and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside


# --- The verdict ---------------------------------------------------------------------------------------------------
def verdict(packages: list[dict[str, Any]]) -> tuple[list[str], set[str]]:
    """Return (vulnerabilities, a line each; packages that could not be looked up)."""
    known = {
        f"{package['name']} {package['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'no version yet'}"
        for package in packages
        for one in package.get("vulns", [])
        if not {one["id"], *one.get("aliases", [])} & ACCEPTED.keys()
    }
    return sorted(known), {package["name"] for package in packages if "skip_reason" in package}


def framed(looked_up: int, count: int, reason: str) -> str:
    """Return the warning that not every package was looked up, in a frame."""
    sentences = [
        f"WARNING: {looked_up} of {count} packages were looked up among the known vulnerabilities.",
        f"Why: {reason}",
        f"Nothing is known about the other {count - looked_up}. Use a machine that reaches the advisories, or a copy of them: "
        "OSV_ADVISORIES=/path/to/all.zip make audit (docs/operations.md).",
    ]
    width = FRAME_WIDTH - 4
    lines = [line for sentence in sentences for line in textwrap.wrap(sentence, width, break_on_hyphens=False)]
    edge = "#" * FRAME_WIDTH
    return "\n".join([edge, *(f"# {line:{width}} #" for line in lines), edge])


def _audited(pinned: set[Pin], copy: str, most_days: int) -> tuple[list[dict[str, Any]], str, bool]:
    """Return the packages with their vulnerabilities, why some were not looked up, and whether that concerns all."""
    if copy:
        packages, days = look_up(Path(copy), pinned, datetime.now(UTC))
        print(f"Advisories: {copy}, last changed {days} days ago.")
        is_old = days > most_days
        return packages, f"the copy is {days} days old, more than {most_days}" if is_old else "", is_old
    packages, failure = [], ""
    for part in in_rounds(pinned):
        found, failed = run_pip_audit(part)
        packages, failure = packages + found, failure or failed
    return packages, failure, False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true", help="exit with 3 when not every package could be looked up")
    parser.add_argument(
        "--advisories", metavar="PATH", default=os.environ.get("OSV_ADVISORIES", ""), help="a copy of OSV's export"
    )
    parser.add_argument(
        "--most-days", metavar="N", type=int, default=MOST_DAYS, help=f"the greatest age of the copy ({MOST_DAYS})"
    )
    options = parser.parse_args()
    pinned = pins(FILES)
    names = {name for name, _version in pinned}
    try:
        packages, failure, knows_nothing = _audited(pinned, options.advisories, options.most_days)
    except BadCopy as error:
        print(f"ERROR: advisories: {error}.", file=sys.stderr)
        return 2
    known, unknown = verdict(packages)
    for line in known:
        print(f"KNOWN VULNERABILITY  {line}")
    looked_up = 0 if knows_nothing else len({package["name"] for package in packages} & names - unknown)
    print(f"Dependency audit: {looked_up} of {len(names)} packages looked up, {len(known)} known vulnerabilities.")
    if looked_up < len(names):
        reason = failure or f"{len(unknown)} packages have no record there, such as {min(unknown, default='')}"
        sys.stdout.flush()
        print(framed(looked_up, len(names), reason), file=sys.stderr)
    if known:
        return 1
    return 3 if options.strict and looked_up < len(names) else 0


if __name__ == "__main__":
    sys.exit(main())
