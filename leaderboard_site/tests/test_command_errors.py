"""What goes wrong with a command is said in a sentence that says what to do next; a trace is for those who wrote it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, ProgrammingError
from redis.exceptions import ConnectionError as RedisAway

from accounts.commands import TaughtCommand
from accounts.refusals import Unavailable
from leaderboard_site.tests.test_command_help import COMMANDS

NOBODY = "00000000-0000-0000-0000-000000000001"
# A port that nobody listens on, and a password that nothing may show.
AWAY = {
    "DATABASE_URL": "postgresql://site:hidden-word@127.0.0.1:9/site", "REDIS_URL": "redis://127.0.0.1:9/0",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "localhost",
    "SITE_URL": "http://localhost:9", "SIGN_UP": "invitation", "TLS": "0",
}  # fmt: skip
# Each command as it is called in earnest; those that need no database, or wait for it, apart.
NEED_DATABASE = {
    "allow_login": ["allow_login", "ada"],
    "backup": ["backup", "{folder}/site.zip"],
    "create_leaderboard": ["create_leaderboard", "x", "--metric", "auc"],
    "create_token": ["create_token", "ada"],
    "invite": ["invite"],
    "set_quota": ["set_quota", "ada"],
    "jobs": ["jobs", "show", NOBODY],
    "leaderboard": ["leaderboard", "x"],
    "prune_jobs": ["prune_jobs", "--dry-run"],
    "quickstart": ["quickstart", "--url", "http://127.0.0.1:9"],
    "reconcile": ["reconcile", "--once"],
    "worker": ["worker", "--drain"],
}
NEED_NONE = {"check_sandbox", "doctor", "hide_labels", "restore", "rewrite_dataset", "submit"}
# All in one process, which costs one start of Django.
ONE_BY_ONE = """
import json, sys
from django.core.management import ManagementUtility
for argv in json.loads(sys.argv[1]):
    try:
        ManagementUtility(["manage.py", *argv]).execute()
        code = 0
    except SystemExit as ended:
        code = ended.code
    print(f"{argv[0]} ended with {code}", file=sys.stderr)
"""


def environment(**changes):
    """This process's without what belongs to the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    return {**own, "DJANGO_SETTINGS_MODULE": "leaderboard_site.settings", **changes}


def python(*arguments, **changes):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments], cwd=settings.BASE_DIR, env=environment(**changes),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_every_command_is_called_here():
    assert {name for _, name in COMMANDS} == set(NEED_DATABASE) | NEED_NONE


@pytest.mark.slow
def test_a_database_that_is_away_is_said_in_a_sentence(tmp_path):
    calls = [[word.format(folder=tmp_path) for word in call] for call in NEED_DATABASE.values()]
    # The interpreter of runs is there, whatever it is; data sets made by quickstart would be written below the repository.
    places = {
        name: str(tmp_path / name) for name in ("DATASET_ROOT", "GROUND_TRUTH_ROOT", "UPLOAD_ROOT", "ARTIFACT_ROOT")
    }
    done = python("-c", ONE_BY_ONE, json.dumps(calls), **AWAY, **places)
    told = done.stderr
    assert done.returncode == 0, told
    assert "Traceback" not in told + done.stdout
    assert "hidden-word" not in told + done.stdout
    assert [f"{call[0]} ended with 1" in told for call in calls] == [True] * len(calls), told
    assert told.count("The database does not answer: ") == len(calls), told
    assert told.count("`manage.py doctor --only postgresql` says more") == len(calls)
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HEARTBEAT_SECONDS": "soon"}, 'Settings: Environment variable "HEARTBEAT_SECONDS" invalid: Not a valid number.'),
        ({"DATABASE_URL": "nonsense"}, "Settings: Scheme"),
    ],
)  # fmt: skip
def test_a_setting_that_is_wrong_is_named_without_a_trace(changes, said):
    done = python("manage.py", "jobs", "list", **{**AWAY, **changes})
    assert done.returncode == 1
    assert done.stderr.startswith(said), done.stderr
    assert "docs/configuration.md" in done.stderr
    assert "Traceback" not in done.stderr


class Broken(TaughtCommand):
    """A command that ends in the error it is given."""

    requires_system_checks = []
    stealth_options = ("error",)

    def handle(self, **options):
        raise options["error"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OperationalError("connection failed: refused\nIs the server running?"), "refused. `manage.py doctor --only postgresql`"),
        (ProgrammingError('relation "jobs_job" does not exist\nLINE 1: SELECT'), 'not of this version: relation "jobs_job"'),
        (RedisAway("Error 111 connecting to localhost"), "`manage.py doctor --only redis` says more"),
        (Unavailable("storage_unavailable", "The storage does not answer."), "The storage does not answer."),
    ],
)  # fmt: skip
def test_each_part_that_is_away_has_its_sentence(error, said):
    with pytest.raises(CommandError) as refused:
        call_command(Broken(), error=error)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_fault_of_ours_keeps_its_trace():
    with pytest.raises(ProgrammingError):
        call_command(Broken(), error=ProgrammingError("syntax error at or near"))


def test_ctrl_c_ends_as_programs_do():
    with pytest.raises(SystemExit) as ended:
        call_command(Broken(), error=KeyboardInterrupt())
    assert ended.value.code == 130


def test_a_reader_that_has_enough_is_no_error():
    script = "import sys\nfrom leaderboard_site.tests.test_command_errors import Broken\n"
    call = "import django; django.setup(); from django.core.management import call_command\n"
    done = python("-c", call + script + "call_command(Broken(), error=BrokenPipeError())", **AWAY)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("name", ["worker", "check_sandbox"])
def test_a_missing_interpreter_is_not_called_an_open_sandbox(settings, name, tmp_path):
    settings.RUNNER_PYTHON = str(Path(tmp_path) / "bin" / "python")
    with pytest.raises(CommandError, match=r"RUNNER_PYTHON: there is no .*make environments"):
        call_command(name)


@pytest.mark.parametrize("name", ["worker", "check_sandbox"])
def test_an_unfinished_environment_is_not_run_on(settings, name, tmp_path):
    settings.RUNNER_PYTHON = str(tmp_path / "bin" / "python")
    (tmp_path / ".half-made").touch()
    with pytest.raises(CommandError, match=r"is unfinished: .* completes it"):
        call_command(name)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["create_token", "nobody"], "createsuperuser"),
        (["jobs", "show", "not-a-uuid"], "`manage.py jobs list`"),
        (["jobs", "show", NOBODY], "`manage.py jobs list`"),
        (["jobs", "cancel", NOBODY, "--as", "nobody"], "jobs.change_job"),
        (["jobs", "list", "--since", "yesterday"], "90m or 2d"),
        (["jobs", "list", "--user", "nobody"], "there is no user 'nobody'"),
        (["jobs", "list", "--leaderboard", "nowhere"], "`manage.py leaderboard` lists them"),
        (["jobs", "list", "--class", "huge"], "--class: there is no 'huge'; known: small"),
        (["create_leaderboard", "--from-yaml", "x.yaml", "--metric", "a"], "--metric: not with --from-yaml"),
        (["create_leaderboard", "--from-yaml", "x.yaml", "--visibility", "public"], "--visibility: not with --from-yaml"),
        (["leaderboard", "--yaml"], "--yaml: of which leaderboard?"),
        (["leaderboard", "--csv"], "--csv: of which leaderboard?"),
        (["leaderboard", "nowhere"], "`manage.py leaderboard` lists them"),
        (["create_leaderboard", "x"], "--metric: at least one"),
        (["create_leaderboard", "--from-yaml", "/nowhere/x.yaml"], "--from-yaml: /nowhere/x.yaml cannot be read"),
        (["prune_jobs", "--days", "0"], "--days: at least 1"),
        (["backup", "/nowhere/x.zip"], "mkdir -p /nowhere"),
        (["restore", "/nowhere/x.zip"], "/nowhere/x.zip"),
        (["doctor", "--only", "weather"], "known are software"),
        (["hide_labels", "/nowhere", "x"], "/nowhere"),
        (["rewrite_dataset", "../x", "x"], "dataset: A folder's path"),
        (["rewrite_dataset", "nowhere", "x"], "dataset: there is no folder"),
        (["worker", "--classes", "huge"], "known: small"),
    ],
)  # fmt: skip
def test_wrong_input_is_answered_with_what_to_do_next(call, said):
    with pytest.raises(CommandError) as refused:
        call_command(*call)
    assert said in str(refused.value)


@pytest.mark.django_db
def test_a_rule_of_several_fields_is_told_without_an_inner_name():
    with pytest.raises(CommandError) as refused:
        call_command("create_leaderboard", "x", "--metric", "a", "--ground-truth", "x")
    assert str(refused.value) == "A scorer and a ground truth belong together: give both, or neither."
