"""Jobs on a leaderboard with a scorer, through the real worker's code: hidden labels stay hidden, and nobody but the scorer
says how good a run was. In both executors; the runs are hostile where the test says so."""

import json
import os
from typing import Any

import pytest
from django.core.files.storage import storages

from jobs import running, scoring
from jobs.models import Job
from jobs.running import Runner
from jobs.services import jobs_this_hour
from jobs.workspace import Workspace
from leaderboards.models import Entry, Leaderboard, Metric
from tests.attacks.playing import GOOD, SECRET, Play, in_one_executor

from .conftest import processes_with

pytestmark = pytest.mark.django_db


def stored(name: str) -> str:
    with storages["artifacts"].open(name) as file:
        return file.read().decode()


def test_scorers_numbers_rank_and_the_runs_own_never_do(play: Play) -> None:
    job = play.run(GOOD + "leave_metrics(accuracy=1.0, seconds=3.0)")
    assert (job.status, job.error_message) == ("completed", "")
    assert (job.metrics, job.score) == ({"accuracy": 0.75}, 0.75)
    assert (job.self_reported, job.scorer) == ({"accuracy": 1.0, "seconds": 3.0}, "classification")
    assert Entry.objects.get(job=job).score == 0.75
    assert job.scoring_started_at is not None and job.scoring_seconds and job.scoring_seconds > 0
    assert [item["path"] for item in job.artifacts] == ["predictions/predictions.csv"]
    assert json.loads(stored(job.scorer_log_name).splitlines()[-1])["metrics"]["accuracy"] == 0.75


def hunt(play: Play) -> str:
    """The log of a run that looks through everything that it can see, and asks by the paths that there are."""
    truth = play.truth / "pets"
    job = play.run(
        f"""
from attack import *
hidden = "-".join(["hidden", "label", "of", "the", "platform"])
def search(root):
    for folder, folders, files in os.walk(root):
        if folder.startswith(("/proc", "/sys", "/usr", "/lib", "/root", "/opt", "/var/lib")) and "sandbox" not in folder:
            folders.clear()
            continue
        for name in files:
            try:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and os.stat(path).st_size < 1000 and hidden in open(path, errors="replace").read():
                    return path
            except OSError:
                pass
attempt("search", lambda: search("/"))
for path in {[str(truth / "note"), str(play.truth), "/sandbox/ground_truth", "/sandbox/dataset/../ground_truth/note"]!r}:
    attempt(path, lambda: os.stat(path))
    attempt("up from one's own root to " + path, lambda: os.stat("/proc/self/root/../" + path))
    attempt("by pid 1 to " + path, lambda: os.stat("/proc/1/root" + path))
attempt("mounts", lambda: {str(truth)!r} in open("/proc/self/mountinfo").read())
attempt("environment", lambda: [name for name in os.environ if "TRUTH" in name or "SCOR" in name])
os.symlink({str(truth)!r}, OUTPUT + "/link")
print(sorted(os.listdir("/sandbox")), flush=True)
"""
        + GOOD
    )
    assert job.status == "completed", job.error_message
    return stored(job.log_name)


def test_run_finds_no_labels_by_any_path(play: Play) -> None:
    log = hunt(play)
    assert "held search" in log and "OPEN" not in log, log
    assert "ground_truth" not in log.splitlines()[-1]


@pytest.fixture
def shown_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with a hole: the labels are among what the run sees."""
    spec = Runner._spec

    def weak(self: Runner, place: Workspace, job: Job) -> Any:
        found = spec(self, place, job)
        return running.replace(found, folders={"ground_truth": str(scoring.scoring_of(job.leaderboard).labels)})

    monkeypatch.setattr(Runner, "_spec", weak)


@in_one_executor
def test_weakened_worker_is_caught_by_the_same_attack(play: Play, shown_to_the_run: None) -> None:
    log = hunt(play)
    assert "OPEN search" in log and "OPEN /sandbox/ground_truth" in log


def test_scorer_gets_nothing_of_the_run_but_its_predictions(play: Play) -> None:
    play.own_scorer("""
print("ENV", sorted(os.environ), flush=True)
print("CONFIG", open(sys.argv[sys.argv.index("--config") + 1]).read(), flush=True)
print("FILES", sorted(os.listdir("/sandbox")), sorted(os.listdir("/tmp")), sorted(os.listdir(OUTPUT)), flush=True)
print("SHM", sorted(os.listdir("/dev/shm")), flush=True)
import socket
attempt("network", lambda: socket.create_connection(("127.0.0.1", 80), 1))
attempt("write the labels", lambda: open(os.environ["GROUND_TRUTH_DIR"] + "/labels.csv", "a"))
attempt("write the predictions", lambda: open(os.environ["PREDICTIONS_DIR"] + "/predictions.csv", "a"))
attempt("change itself", lambda: open("/sandbox/code/main.py", "a"))
leave_metrics(accuracy=0.5)
""")
    job = play.run(
        GOOD
        + """
os.environ["PYTHONPATH"] = OUTPUT
leave("sitecustomize.py", "raise SystemExit(3)")
leave("predictions/main.py", "raise SystemExit(3)")
leave("predictions/sitecustomize.py", "raise SystemExit(3)")
for folder in ("/tmp", "/dev/shm"):
    open(folder + "/from-the-run", "w").close()
leave_metrics(accuracy=1.0)
"""
    )
    log = stored(job.scorer_log_name)
    assert (job.status, job.metrics) == ("completed", {"accuracy": 0.5}), log
    assert "\nheld " in log and "\nOPEN " not in log, log
    assert "from-the-run" not in log and "the submission" not in log
    assert "PYTHONPATH" not in log and "DATASET_DIR" not in log


def test_no_sandbox_with_labels_is_made_ahead(play: Play) -> None:
    runner = Runner(play.pulse)
    play.run(GOOD, runner=runner)
    assert runner._staging._like.folders == {}


def test_daemon_of_the_run_is_dead_before_the_scorer_begins(play: Play) -> None:
    marker = f"daemon-of-scoring-{os.getpid()}-{play.executor}"
    play.own_scorer("leave_metrics(accuracy=0.5)")
    seen: list[list[int]] = []
    found = running.scoring_spec

    def look(*arguments: Any, **more: Any) -> Any:
        seen.append(processes_with(marker))
        return found(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "scoring_spec", look)
        job = play.run(
            GOOD
            + f"""
if os.fork() == 0:
    os.setsid()
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c",
        "import time\\nwhile True: open('/sandbox/output/predictions/predictions.csv', 'a').write('x'); time.sleep(0.001)", {marker!r}])
while os.stat(OUTPUT + "/predictions/predictions.csv").st_size < 60:
    pass
"""
        )
    assert (job.status, seen) == ("completed", [[]])


@in_one_executor
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("pass", "left no folder predictions/"),
        ("leave_metrics(accuracy=1.0)", "left no folder predictions/"),
        ("os.symlink('/sandbox/code', P)", "predictions/: not a folder."),
        (
            "os.mkdir(P); os.symlink('/etc/passwd', P + '/predictions.csv')",
            "predictions.csv was left out: not a regular",
        ),
        (
            "table(b'id,label'); os.mkfifo(P + '/a'); os.rename(P + '/predictions.csv', P + '/b'); os.mkfifo(P + '/predictions.csv')",
            "is missing (predictions/predictions.csv was left out: not a regular file.)",
        ),
        ("os.mkdir(P); leave('predictions/x.csv', 'id,label')", "predictions/predictions.csv is missing"),
        ("table(b'')", "the first line must name the column id once; it is ''"),
        ("table(b'id,label\\n1,cat\\n')", "3 of 4 rows are missing: '2', '3', '4'"),
        (
            "table(b'id,label\\n1,cat\\n1,cat\\n')",
            "no id may be given twice, but these are: '1' (line 3); predictions.csv: 3 of 4 rows are missing",
        ),
        ("table(b'id,label\\n9\\xff,cat\\n')", "line 2 is not UTF-8"),
        ("table(b'id,label\\n1,' + b'x' * 2000)", "cells may have at most 1000 characters, more are in line 2"),
        ("table(b'id,label\\n1,c,d\\n')", "each row must have 2 cells like the first line, but line 2 has 3"),
        (
            "table(b'id,label\\n1,a\\n2,a\\n3,a\\n4,a\\n\\xe2\\x80\\xae5,a\\n')",
            "id must be one of the 4 of this leaderboard, not '\\u202e5' (line 6)",
        ),
    ],
)
def test_bad_predictions_are_the_submissions_fault(play: Play, code: str, told: str) -> None:
    table = "def table(raw):\n    os.mkdir(P)\n    open(P + '/predictions.csv', 'wb').write(raw)\n"
    job = play.run(f"from attack import *\nP = OUTPUT + '/predictions'\n{table}{code}")
    assert (job.status, job.error_code) == ("failed", "bad_predictions")
    assert told in job.error_message
    assert job.error_message.isascii() and len(job.error_message) < 300
    assert not job.is_platform_fault and job.score is None
    assert jobs_this_hour(job.user).used() == 1


@in_one_executor
def test_pickle_is_never_opened(play: Play) -> None:
    """A table that is a pickle is a broken table; what it would do is not done."""
    job = play.run("""
from attack import *
import pickle
class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/exploded; cat $GROUND_TRUTH_DIR/labels.csv",)
os.makedirs(OUTPUT + "/predictions")
for name in ("predictions.csv", "predictions.npy", "predictions.pkl"):
    with open(OUTPUT + "/predictions/" + name, "wb") as file:
        pickle.dump(Bomb(), file)
""")
    assert (job.status, job.error_code) == ("failed", "bad_predictions")
    assert "cat" not in job.error_message and "dog" not in stored(job.scorer_log_name)


FAULTS = {
    "an error": f"raise ValueError('{SECRET}')",
    "an exit code": f"print('{SECRET}'); sys.exit(7)",
    "nothing left": "pass",
    "NaN": 'leave(\'metrics.json\', \'{"params": {}, "metrics": {"accuracy": NaN}}\')',
    "another metric": f"leave_metrics(**{{'{SECRET}': 1.0}})",
    "no JSON": f"leave('metrics.json', '{SECRET}')",
    "an unknown fault": 'leave(\'metrics.json\', \'{"metrics": {"accuracy": 1}, "rejected": [{"id": "none"}]}\')',
    "an empty rejection": "leave('metrics.json', '{\"rejected\": \"\"}')",
    "a link": "os.symlink(os.environ['GROUND_TRUTH_DIR'] + '/labels.csv', OUTPUT + '/metrics.json')",
    "too much time": "import time; time.sleep(60)",
    "too much memory": "x = [bytes(8 << 20) for _ in range(100)]",
    "too much log": f"\nwhile True: print('{SECRET}' * 100)",
    "too many files": "\nfor n in range(10 ** 6): leave(str(n), 'x' * 100000)",
}


@in_one_executor
@pytest.mark.parametrize("fault", FAULTS)
def test_scorer_that_breaks_is_the_platforms_fault_and_tells_nothing(play: Play, fault: str, settings: Any) -> None:
    settings.SCORING_LIMITS = settings.SCORING_LIMITS | {"wall_seconds": 4, "memory_bytes": 200 * 1024**2}
    play.own_scorer(FAULTS[fault])
    job = play.run(GOOD + "leave_metrics(accuracy=1.0)")
    assert (job.status, job.error_code, job.is_platform_fault) == ("failed", "scorer_failed", True)
    attempt = job.attempts.get()
    assert SECRET not in job.error_message + attempt.detail_in_words
    assert attempt.cause  # for operators
    assert job.score is None and not Entry.objects.filter(user=job.user).exists()
    assert jobs_this_hour(job.user).used() == 0
    assert job.scorer_log_name and SECRET not in stored(job.log_name)
    if fault == "another metric":
        note = f"[leadersboard] the leaderboard requires accuracy, but the scorer {play.board.scorer} gives {SECRET}, not accuracy."
        assert stored(job.scorer_log_name).splitlines()[-1] == note


def test_scorer_that_breaks_in_each_executor(play: Play) -> None:
    play.own_scorer("raise ValueError('broken')")
    job = play.run(GOOD)
    assert (job.status, job.error_code) == ("failed", "scorer_failed")
    assert "ValueError: broken" in stored(job.scorer_log_name)
    assert job.attempts.get().cause == "ValueError: broken (exit code 1)"


@in_one_executor
def test_scorers_refusal_is_one_plain_bounded_line(play: Play) -> None:
    play.own_scorer("leave('metrics.json', json.dumps({'rejected': 'too\\nmany\\x1b[31m \\u202e' + 'x' * 10000}))")
    job = play.run(GOOD)
    assert (job.error_code, len(job.error_message)) == ("bad_predictions", 200)
    assert job.error_message.startswith("too many [31m xxx") and job.error_message.isprintable()


@in_one_executor
def test_only_the_boards_metrics_are_kept_and_rounded(play: Play) -> None:
    play.own_scorer("leave_metrics(accuracy=0.123456789, label_of_17=3.0)")
    assert play.run(GOOD).metrics == {"accuracy": 0.1235}


@in_one_executor
@pytest.mark.parametrize("missing", ["labels", "scorer", "overlap", "climbing"])
def test_worker_that_cannot_score_gives_the_job_back_before_the_run(play: Play, missing: str) -> None:
    if missing == "labels":
        (play.truth / "pets").rename(play.truth / "moved")
    elif missing == "scorer":
        play.board.scorer = "own/nowhere"
    elif missing == "overlap":
        (play.data / "pets" / "images").unlink()
        (play.data / "pets").rmdir()
        (play.data / "pets").symlink_to(play.truth / "pets")
    else:
        play.board.ground_truth = "../data/pets"
    play.board.save()
    job = play.run("raise SystemExit(9)")
    assert (job.status, job.releases, job.started_at is not None) == ("pending", 1, True)
    assert str(play.folder) not in job.attempts.get().detail_in_words


@in_one_executor
@pytest.mark.parametrize("when", ["before the run", "during the run", "while it is scored"])
def test_labels_that_change_give_the_job_back_and_never_score(play: Play, when: str) -> None:
    play.own_scorer("leave_metrics(accuracy=0.5)")
    play.settle()
    labels = play.truth / "pets" / "labels.csv"

    def correct(*arguments: Any, **more: Any) -> Any:
        labels.write_text("id,label\n1,dog\n2,dog\n3,cat\n4,dog\n")
        return scoring.scoring_spec(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        if when == "before the run":
            labels.write_text("id,label\n")
        elif when == "during the run":
            patch.setattr(running, "scoring_spec", correct)
        else:
            supervise = Runner._supervise

            def changed(self: Runner, spec: Any, held: Any, *shippers: Any, **more: Any) -> Any:
                result = supervise(self, spec, held, *shippers, **more)
                if spec.folders:  # the scorer's
                    labels.write_text(labels.read_text() + "5,cat\n")
                return result

            patch.setattr(Runner, "_supervise", changed)
        job = play.run(GOOD)
    releases = 0 if when == "before the run" else 1  # only a run that was wasted counts
    assert (job.status, job.releases, job.metrics, job.score_version) == ("pending", releases, {}, None)
    assert "not those of the leaderboard's score version" in job.attempts.get().detail_in_words
    assert str(play.folder) not in job.attempts.get().detail_in_words


@in_one_executor
def test_score_records_the_version_that_was_claimed_with(play: Play) -> None:
    job = play.run(GOOD)
    assert (job.status, job.score_version) == ("completed", play.board.score_version)


@in_one_executor
def test_runs_of_a_board_without_a_scorer_are_as_before(play: Play) -> None:
    play.board.scorer = play.board.ground_truth = ""
    play.board.save()
    job = play.run(GOOD + "leave_metrics(accuracy=0.9)")
    assert (job.status, job.metrics, job.score) == ("completed", {"accuracy": 0.9}, 0.9)
    assert (job.scorer, job.self_reported, job.scoring_started_at, job.scorer_log_name) == ("", {}, None, "")
    assert [item["path"] for item in job.artifacts] == ["predictions/predictions.csv"]


def test_scorer_sees_no_path_of_the_host(play: Play) -> None:
    play.own_scorer(f"""
told = [open("/proc/" + name).read() for name in ("self/mountinfo", "1/cmdline")]
attempt("find the host's paths", lambda: [text for text in told if {str(play.folder)!r} in text])
leave_metrics(accuracy=0.5)
""")
    job = play.run(GOOD)
    assert stored(job.scorer_log_name) == "held find the host's paths\n"


@in_one_executor
def test_partial_run_never_ranks_where_each_category_is_required(play: Play) -> None:
    """From a run to the board: the scorer measures one of two categories, as a debug run leaves it."""
    for position, name in enumerate(["cats_accuracy", "犬_accuracy"], 1):
        Metric.objects.create(leaderboard=play.board, name=name, is_required=True, position=position)
    Leaderboard.objects.filter(pk=play.board.pk).update(requires_score=False)
    play.board.refresh_from_db()
    play.own_scorer("""
rows = open(os.environ["PREDICTIONS_DIR"] + "/predictions.csv").read()
categories = {"cats": {"accuracy": 1}} | ({"犬": {"accuracy": 0.25}} if "dog" in rows else {})
answer = {"metrics": {"accuracy": 1.00000012, "image 1": 0.5}, "categories": categories}
leave("metrics.json", json.dumps(answer))
""")
    job = play.run(GOOD.replace("2,dog\\n", "") + "leave('metrics.json', 'no JSON')")
    assert (job.status, job.metrics) == ("completed", {"accuracy": 1.0, "cats_accuracy": 1.0}), job.error_message
    assert job.detail_metrics == {"categories": {"cats": {"accuracy": 1.0}}, "other": {"image 1": 0.5}}
    assert job.notes_in_words == [
        "metrics.json was not read: it is not JSON: Expecting value (line 1, column 1).",
        "It does not rank: it lacks 犬_accuracy, required by this leaderboard.",
    ]
    assert not Entry.objects.exists()
    whole = play.run(GOOD)
    assert (whole.metrics["犬_accuracy"], whole.notes) == (0.25, [])
    assert Entry.objects.get().job_id == whole.pk
