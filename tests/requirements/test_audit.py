"""The dependency audit: what it makes of pip-audit's word."""

import importlib.util
import subprocess
import sys
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


def answers(audit, monkeypatch, packages, *, failure=""):
    monkeypatch.setattr(audit, "run_pip_audit", lambda pinned: (packages, failure))
    monkeypatch.setattr(sys, "argv", ["audit.py", "--strict"])
    return audit.main()


def test_every_pin_is_looked_up(audit):
    pinned = audit.pins(audit.FILES)
    assert {name for name, _ in pinned} > {"django", "mlflow", "torch", "numpy", "pytest"}
    rounds = list(audit.in_rounds(pinned))
    assert {pair for part in rounds for pair in part} == pinned
    assert all(len({name for name, _ in part}) == len(part) for part in rounds)


def test_a_hole_fails(audit, monkeypatch, capsys):
    assert answers(audit, monkeypatch, [{"name": "a", "version": "1.0", "vulns": [HOLE]}]) == 1
    assert "a 1.0: PYSEC-1, mended in 2.0" in capsys.readouterr().out


def test_an_accepted_hole_does_not(audit, monkeypatch):
    monkeypatch.setattr(audit, "ACCEPTED", {"CVE-2026-1": "the part is not used"})
    assert answers(audit, monkeypatch, [{"name": "a", "version": "1.0", "vulns": [HOLE]}]) == 0


@pytest.mark.parametrize(
    ("packages", "failure"),
    [([{"name": "a", "skip_reason": "not found"}], ""), ([], "no route")],
    ids=["mirror", "away"],
)
def test_what_was_not_looked_up_is_told(audit, monkeypatch, capsys, packages, failure):
    assert answers(audit, monkeypatch, packages, failure=failure) == 3
    assert "WARNING: not every package could be looked up" in capsys.readouterr().out


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
