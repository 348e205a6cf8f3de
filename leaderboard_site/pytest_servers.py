"""A pytest plugin (see pytest.ini): real PostgreSQL, Valkey and MLflow, started once for all of pytest's processes.

A plugin and not a conftest.py, because pytest-django reads the settings before any conftest.py is loaded.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from leaderboard_site.embedded.testing import ask_for_mlflow, start_for_tests, stop_for_tests, wait_for_mlflow

FOLDER = "LEADERSBOARD_TEST_FOLDER"


def _own_folders() -> None:
    """Each of xdist's processes has its own Redis database, files and MLflow experiments."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = Path(os.environ[FOLDER]) / f"process-{number}"
    roots = (
        "UPLOAD_ROOT",
        "ARTIFACT_ROOT",
        "WORK_ROOT",
        "DATASET_ROOT",
        "GROUND_TRUTH_ROOT",
        "SCORER_ROOT",
        "STATIC_ROOT",
    )
    for name in roots:
        os.environ[name] = str(own / name.lower())
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
    os.environ.update(
        {
            "REDIS_URL": f"{os.environ['REDIS_URL'].partition('?')[0]}?db={number}",
            "MLFLOW_EXPERIMENT_PREFIX": f"test-{number}/",
            "STATIC_MANIFEST": "0",
            "SECRET_KEY": "for-tests-only-" + "0" * 50,
            "UPLOAD_TEMP_DIR": str(own / "upload_root" / "incoming"),
        }
    )


# A suite that a shell started in the background ignores SIGINT, and so would every program whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="lb-test-")
    os.environ.update(start_for_tests(os.environ[FOLDER]))
_own_folders()


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        stop_for_tests(os.environ[FOLDER])
        shutil.rmtree(os.environ[FOLDER], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that commit begin with the rows that migrations made (the default leaderboard), whoever flushed them before."""
    for item in items:
        mark = item.get_closest_marker("django_db")
        given = dict(mark.kwargs) if mark else {}
        fixtures = getattr(item, "fixturenames", ())
        if given.get("transaction") or "transactional_db" in fixtures or "live_server" in fixtures:
            whole = pytest.mark.django_db(**(given | {"transaction": True, "serialized_rollback": True}))
            item.add_marker(whole, append=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """MLflow's own tables take ten seconds of a core: made beside the first tests, and not where no test wants it."""
    if any("mlflow_url" in getattr(item, "fixturenames", ()) for item in session.items):
        ask_for_mlflow(os.environ[FOLDER])


@pytest.fixture(autouse=True)
def no_language_left_over() -> None:
    """A request leaves its language active in the thread; the next test must not speak it."""
    from django.utils import translation

    translation.deactivate()


@pytest.fixture(scope="session")
def mlflow_url() -> str:
    """The address of a real MLflow server; waits until it is up."""
    ask_for_mlflow(os.environ[FOLDER])
    return wait_for_mlflow()
