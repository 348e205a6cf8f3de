"""What stands ready before a job comes, from the worker's side; tests/attacks/test_staged.py has the sandbox's."""

import sys
from dataclasses import replace

import pytest

from jobs.gpus import HeldGpus
from jobs.staging import Staging, usual_spec
from jobs.workspace import make_folder, workspace
from submissions.tests.factories import SubmissionFactory


@pytest.fixture
def staging(settings, tmp_path):
    settings.WORK_ROOT, settings.RUNNER_PYTHON = tmp_path, sys.executable
    staging = Staging(usual_spec("bubblewrap", HeldGpus([], [])))
    yield staging
    staging.close()
    assert list(tmp_path.iterdir()) == [], "it removes what was not taken"


def run(staging, folder, **changes):
    """The result of a program in the folder, and whether its sandbox had been made before."""
    (folder / "code" / "main.py").write_text("print('it ran')")
    spec = usual_spec("bubblewrap", HeldGpus([], []))
    spec = replace(spec, code_dir=str(folder / "code"), config_path=str(folder / "config.yaml"), **changes)
    spec = replace(spec, run_id="one", run_dir=str(folder / "run"))
    with staging.take(spec) as supervisor:
        was_staged = supervisor.spec is not None
        supervisor.run(spec)
        result = supervisor.wait(40)
    if result.reason == "sandbox_error" and "namespaces are not available" in result.detail:
        pytest.skip("no sandbox on this machine")
    assert result.succeeded, result
    assert (folder / "run" / "log").read_text() == "it ran\n"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return was_staged


def test_usual_run_finds_its_sandbox_made(staging):
    for _ in range(2):
        staging.prepare()
        assert run(staging, staging.take_folder())


def test_run_of_another_kind_gets_a_sandbox_of_its_own(staging):
    staging.prepare()
    limits = replace(usual_spec("bubblewrap", HeldGpus([], [])).limits, processes=17)
    assert not run(staging, staging.take_folder(), limits=limits)


def test_run_with_writable_code_is_never_made_ahead(staging):
    staging.prepare()
    assert not run(staging, staging.take_folder(), has_writable_code=True)
    staging.prepare()
    assert run(staging, staging.take_folder()), "the next one has read-only code again"


def test_run_in_other_folders_leaves_the_staged_one_for_the_next(staging):
    staging.prepare()
    assert not run(staging, make_folder("other"))
    assert run(staging, staging.take_folder())


@pytest.mark.django_db
def test_folder_that_wraps_an_archive_does_not_move_the_code(settings, tmp_path, monkeypatch):
    """The sandbox shows the folder that it was made with."""
    settings.WORK_ROOT = tmp_path

    def unpack(file, *, kind, destination):
        inner = destination / "wrap" / "deep"
        inner.mkdir(parents=True)
        (inner / "main.py").write_text("1")
        (inner / "package").mkdir()

    monkeypatch.setattr("jobs.workspace._fetch", lambda submission, target: None)
    monkeypatch.setattr("jobs.workspace.extract_archive", unpack)
    folder = make_folder("one")
    job = type("Job", (), {"submission": SubmissionFactory(root_folder="wrap/deep"), "config": {}})
    with workspace(job, folder) as place:
        assert place.code == folder / "code"
        assert sorted(path.name for path in place.code.iterdir()) == ["main.py", "package"]
    assert not folder.exists()
