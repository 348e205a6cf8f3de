"""The dependency audit, by pip-audit's answers and by a copy of OSV's advisories."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)


@pytest.fixture
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / "requirements" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOLE = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"]}


def answers(audit, monkeypatch, packages, *, failure="", arguments=("--strict",)):
    monkeypatch.delenv("OSV_ADVISORIES", raising=False)
    monkeypatch.setattr(audit, "pins", lambda files: {("a", "1.0"), ("b", "1.0")})
    monkeypatch.setattr(audit, "run_pip_audit", lambda pinned: (packages, failure))
    monkeypatch.setattr(sys, "argv", ["audit.py", *arguments])
    return audit.main()


def test_every_pin_is_looked_up(audit):
    pinned = audit.pins(audit.FILES)
    assert {name for name, _ in pinned} > {"django", "mlflow", "torch", "numpy", "pytest"}
    rounds = list(audit.in_rounds(pinned))
    assert {pair for part in rounds for pair in part} == pinned
    assert all(len({name for name, _ in part}) == len(part) for part in rounds)


FINE = {"name": "b", "version": "1.0", "vulns": []}


def test_a_vulnerability_fails(audit, monkeypatch, capsys):
    assert answers(audit, monkeypatch, [{"name": "a", "version": "1.0", "vulns": [HOLE]}, FINE]) == 1
    assert "a 1.0: PYSEC-1, fixed in 2.0" in capsys.readouterr().out


def test_an_accepted_vulnerability_does_not(audit, monkeypatch):
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-2026-1": "the part is not used"})
    assert answers(audit, monkeypatch, [{"name": "a", "version": "1.0", "vulns": [HOLE]}, FINE]) == 0


@pytest.mark.parametrize(
    ("packages", "failure", "looked_up", "why"),
    [
        ([FINE, {"name": "a", "skip_reason": "not found"}], "", 1, "1 packages have no record there, such as a"),
        ([], "no route", 0, "no route"),
    ],
    ids=["mirror", "away"],
)
@pytest.mark.parametrize(("arguments", "code"), [(["--strict"], 3), ([], 0)], ids=["strict", "in make check"])
def test_packages_that_were_not_looked_up_are_told_loudly(
    audit, monkeypatch, capsys, packages, failure, looked_up, why, arguments, code
):
    assert answers(audit, monkeypatch, packages, failure=failure, arguments=arguments) == code
    shown = capsys.readouterr()
    assert f"{looked_up} of 2 packages looked up" in shown.out
    edge, first, second, *_rest, last = shown.err.splitlines()
    assert edge == last == "#" * audit.FRAME_WIDTH
    assert f"WARNING: {looked_up} of 2 packages were looked up" in first and why in second


def test_make_check_ends_with_the_audit_and_make_audit_is_strict():
    recipes = (ROOT / "Makefile").read_text().split("\n\n")
    check, strict = (next(text for text in recipes if text.startswith(name)) for name in ("check:", "audit:"))
    assert check.splitlines()[-1].endswith("requirements/audit.py")
    assert strict.splitlines()[-1].endswith("requirements/audit.py --strict")


def test_pip_audit_itself_answers(audit, tmp_path, monkeypatch):
    """The real tool, without a network: its failure is read as one and is no traceback."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    packages, failure = audit.run_pip_audit([("django", "5.2.19")])
    assert packages == []
    assert failure


def test_help_teaches():
    done = subprocess.run(
        [sys.executable, ROOT / "requirements" / "audit.py", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "--strict" in done.stdout


# --- A copy of OSV's export ----------------------------------------------------------------------------------------
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def record(name, *, events=(), versions=(), modified="2026-11-28T01:02:03.123456Z", ecosystem="PyPI", **fields):
    affected = {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": [
            {"type": "GIT", "events": [{"introduced": "0"}]},
            {"type": "ECOSYSTEM", "events": list(events)},
        ],
        "versions": list(versions),
    }
    return {"id": "PYSEC-7", "modified": modified, "aliases": ["CVE-2026-7"], "affected": [affected], **fields}


def stored(folder, *advisories, kind="zip"):
    """Write the copy as OSV publishes it, or unpacked."""
    texts = {f"ID-{number}.json": json.dumps(one) for number, one in enumerate(advisories)}
    if kind == "folder":
        for name, text in texts.items():
            (folder / name).write_text(text)
        return folder
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return folder / "all.zip"


def ids(audit, copy, *pinned):
    packages, _days = audit.look_up(copy, set(pinned), NOW)
    return {package["version"]: [one["id"] for one in package["vulns"]] for package in packages}


FROM_ONE_TO_TWO = [{"introduced": "1.0"}, {"fixed": "2.0"}]


@pytest.mark.parametrize(
    ("events", "versions", "affected", "free"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], [], ["0.1", "1.10", "2.0rc1"], ["2.0", "2.0.post1", "10"]),
        (FROM_ONE_TO_TWO, [], ["1.0", "1.9.9"], ["0.9", "2.0"]),
        ([{"introduced": "1.0"}, {"last_affected": "2.0"}], [], ["1.0", "2.0", "2.0.0"], ["0.9", "2.0.1"]),
        ([*FROM_ONE_TO_TWO, {"introduced": "3.0"}], [], ["1.5", "3.0", "9"], ["2.5"]),
        ([{"fixed": "2.0"}, {"introduced": "1.0"}], [], ["1.5"], ["2.0"]),
        ([], ["1.0", "odd-version"], ["1.0", "1.0.0"], ["1.0.1"]),
        (FROM_ONE_TO_TWO, ["0.5"], ["0.5", "1.5"], ["0.6"]),
    ],
    ids=["from the first", "fixed", "last affected", "twice", "in any order", "listed", "both"],
)
def test_ranges_and_lists_of_versions_are_compared(audit, tmp_path, events, versions, affected, free):
    copy = stored(tmp_path, record("a", events=events, versions=versions))
    found = ids(audit, copy, *(("a", version) for version in (*affected, *free)))
    assert found == {version: ["PYSEC-7"] for version in affected} | {version: [] for version in free}


@pytest.mark.parametrize("name", ["Some_Package", "some.package", "SOME-PACKAGE"])
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_names_are_compared_as_pypi_does(audit, tmp_path, name, kind):
    copy = stored(tmp_path, record(name, events=FROM_ONE_TO_TWO), kind=kind)
    assert ids(audit, copy, ("some-package", "1.5")) == {"1.5": ["PYSEC-7"]}


@pytest.mark.parametrize(
    "advisory",
    [
        record("a", events=FROM_ONE_TO_TWO, withdrawn="2026-01-01T00:00:00Z"),
        record("a", events=FROM_ONE_TO_TWO, ecosystem="npm"),
        record("b", events=FROM_ONE_TO_TWO),
        {"id": "X", "modified": "2026-11-28T00:00:00Z"},
    ],
    ids=["withdrawn", "another ecosystem", "another package", "about nothing"],
)
def test_advisories_about_something_else_are_passed_over(audit, tmp_path, advisory):
    assert ids(audit, stored(tmp_path, advisory), ("a", "1.5")) == {"1.5": []}


def test_a_range_that_cannot_be_read_counts(audit, tmp_path):
    copy = stored(tmp_path, record("a", events=[{"introduced": "?"}]))
    assert ids(audit, copy, ("a", "1.0")) == {"1.0": ["PYSEC-7"]}


def audited(audit, monkeypatch, copy, *arguments):
    return answers(audit, monkeypatch, None, arguments=["--advisories", str(copy), *arguments])


def fresh(name, **fields):
    return record(name, modified=(datetime.now(UTC) - timedelta(days=2)).isoformat(), **fields)


def test_a_copy_needs_no_network_and_tells_its_age(audit, tmp_path, monkeypatch, capsys):
    copy = stored(tmp_path, fresh("a", events=FROM_ONE_TO_TWO))
    assert audited(audit, monkeypatch, copy, "--strict") == 1
    shown = capsys.readouterr()
    assert "last changed 2 days ago" in shown.out and "2 of 2 packages looked up" in shown.out and shown.err == ""
    assert "KNOWN VULNERABILITY  a 1.0: PYSEC-7, fixed in 2.0" in shown.out
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-2026-7": "the part is not used"})
    assert audited(audit, monkeypatch, copy, "--strict") == 0


def test_a_copy_that_is_too_old_says_nothing_for_sure(audit, tmp_path, monkeypatch, capsys):
    copy = stored(tmp_path, fresh("c"))
    assert audited(audit, monkeypatch, copy, "--strict", "--most-days", "1") == 3
    assert "the copy is 2 days old, more than 1" in capsys.readouterr().err
    assert audited(audit, monkeypatch, copy, "--most-days", "1") == 0
    assert audited(audit, monkeypatch, copy, "--strict", "--most-days", "2") == 0


def test_the_copy_can_be_named_in_the_environment(tmp_path):
    script, copy = ROOT / "requirements" / "audit.py", stored(tmp_path, fresh("c"))
    done = subprocess.run(
        [sys.executable, script, "--strict"], capture_output=True, text=True, env={"OSV_ADVISORIES": str(copy)}
    )
    assert (done.returncode, done.stderr) == (0, "")


def broken(folder, kind):
    if kind == "missing":
        return folder / "missing.zip"
    if kind == "empty folder":
        return folder
    path = folder / "all.zip"
    if kind == "no zip":
        path.write_bytes(b"<html>not found</html>")
    elif kind == "cut":
        whole = stored(folder, *[record("a", events=FROM_ONE_TO_TWO)] * 50).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty zip":
        stored(folder)
    elif kind == "not JSON":
        (folder / "a.json").write_text("{")
        return folder
    elif kind == "no record":
        (folder / "a.json").write_text("[1]")
        return folder
    elif kind == "wrong parts":
        stored(folder, {"id": "X", "modified": "2026-11-28T00:00:00Z", "affected": [1]})
    elif kind == "no time":
        stored(folder, {"id": "X", "modified": "lately"})
    return path


@pytest.mark.parametrize(
    "kind",
    ["missing", "empty folder", "empty zip", "no zip", "cut", "not JSON", "no record", "wrong parts", "no time"],
)
def test_a_copy_that_cannot_be_read_is_refused(audit, tmp_path, monkeypatch, capsys, kind):
    assert audited(audit, monkeypatch, broken(tmp_path, kind)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ERROR: advisories: {tmp_path}") and error.count("\n") == 1
