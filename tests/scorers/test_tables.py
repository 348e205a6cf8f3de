"""The platform's scorers of tables, run as the sandbox runs them: a process, two folders, one answer."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from jobs.scorer_faults import SENTENCES, refusal
from leaderboards.scoring import BUILT_IN

SCORERS = Path(settings.BASE_DIR, "scorers")


@pytest.fixture
def score(tmp_path):
    def score(scorer, labels, predictions, *, metrics=(), more=None):
        """The answer of the scorer; `labels` and `predictions` are tables as text."""
        truth, left, out = (tmp_path / name for name in ("truth", "left", "out"))
        for folder in (truth, left, out):
            folder.mkdir()
        (truth / "labels.csv").write_text(labels)
        if more is not None:
            (truth / "scoring.json").write_text(json.dumps(more))
        (left / "predictions.csv").write_bytes(predictions if isinstance(predictions, bytes) else predictions.encode())
        (tmp_path / "config.json").write_text(json.dumps({"scorer": scorer, "metrics": list(metrics)}))
        command = [sys.executable, "main.py", "--config", str(tmp_path / "config.json"), "--output", str(out)]
        environment = {"PREDICTIONS_DIR": str(left), "GROUND_TRUTH_DIR": str(truth), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=SCORERS, env=environment, capture_output=True, text=True, timeout=60)
        answer = out / "metrics.json"
        return json.loads(answer.read_text()) if answer.exists() else f"{done.returncode}: {done.stderr}"

    return score


def said(answer):
    """The faults of a refusal, as a participant reads them."""
    assert list(answer) == ["rejected"]
    return [refusal(fault) for fault in answer["rejected"]]


def test_classification_by_hand(score):
    labels = "id,label\na,cat\nb,cat\nc,cat\nd,dog\n"
    answer = score("classification", labels, "id,label\nd,dog\na,cat\nb,dog\nc,bird\n")["metrics"]
    # cat: 1 of 3 found, called once; dog: 1 of 1 found, called twice; bird has no label.
    assert answer == pytest.approx(
        {"accuracy": 2 / 4, "balanced_accuracy": (1 / 3 + 1) / 2, "macro_f1": (2 / 4 + 2 / 3) / 2}
    )


@pytest.mark.parametrize(
    ("labelled", "predicted"), [("e\u0301", "\u00e9"), ("\u00e9", "e\u0301")], ids=["labels", "table"]
)
def test_ids_are_the_same_however_a_letter_is_composed(score, labelled, predicted):
    answer = score("regression", f"id,value\n{labelled}（１）.png,1\n", f"id,value\n{predicted}（１）.png,1\n")
    assert answer["metrics"]["rmse"] == 0


@pytest.mark.parametrize(
    ("scores", "auc"), [("1234", 1.0), ("4321", 0.0), ("1111", 0.5), ("1324", 0.75), ("1223", 0.875)]
)
def test_auc_by_hand(score, scores, auc):
    """Of two negatives (a, b) and two positives (c, d): the share of pairs in the right order, ties half."""
    rows = "".join(f"{name},{value}\n" for name, value in zip("abcd", scores, strict=True))
    labels = "id,label\na,ok\nb,ok\nc,defect\nd,defect\n"
    answer = score("classification", labels, f"id,score\n{rows}", metrics=["auc"], more={"positive": "defect"})
    assert answer["metrics"] == {"auc": pytest.approx(auc)}


def test_log_loss_by_hand(score):
    labels, more = "id,label\na,no\nb,yes\n", {"positive": "yes"}
    answer = score("classification", labels, "id,score\na,0.5\nb,0.25\n", metrics=["log_loss"], more=more)
    assert answer["metrics"]["log_loss"] == pytest.approx(1.0397207708)  # (ln 2 + ln 4) / 2


def test_log_loss_wants_probabilities(score):
    labels, more = "id,label\na,no\nb,yes\n", {"positive": "yes"}
    answer = score("classification", labels, "id,score\na,0.5\nb,2\n", metrics=["log_loss"], more=more)
    assert said(answer) == ["predictions.csv: score must be from 0 to 1 for log_loss, not '2' ('b')"]


def test_regression_by_hand(score):
    answer = score("regression", "id,value\na,1\nb,2\nc,3\n", "id,value\nc,5\nb,2\na,1\n")["metrics"]
    assert answer == pytest.approx({"rmse": (4 / 3) ** 0.5, "mae": 2 / 3, "r2": 1 - 4 / 2})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e13", "", "x", "0x10", "1_0.0.0"])
def test_only_finite_numbers_are_numbers(score, value):
    answer = score("regression", "id,value\na,1\n", f"id,value\na,{value}\n")
    rule = "predictions.csv: value must be a finite number of at most 1e+12 either way"
    assert said(answer) == [f"{rule}, not '{value}' (line 2)"]


def test_extremes_stay_numbers_that_can_be_stored(score):
    answer = score("regression", "id,value\na,1\nb,2\n", "id,value\na,1e12\nb,-1e12\n")["metrics"]
    assert all(abs(value) <= 1e15 for value in answer.values())


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("", "is empty"),
        ("id,label\na,cat\na,dog\n", "stands twice"),
        ("id,label\na,\n", "has no label"),
        ("x,y\n1,2\n", "no id"),
    ],
)
def test_broken_labels_are_the_scorers_fault(score, labels, told):
    answer = score("classification", labels, "id,label\na,cat\n")
    assert answer.startswith("1: ") and told in answer


@pytest.mark.parametrize(
    "table",
    [
        "id,label\na,x\n",
        "id,label\nz,x\n",
        "id,label\na,x\nb,y\nc,z\n",
        "label\nx\n",
        'id,label\n"a',
        "id,label\n" + "q" * 5000,
    ],
)
def test_what_is_wrong_never_quotes_a_label(score, table):
    answer = score("classification", "id,label\na,secret-class\nb,other-secret\n", table)
    assert list(answer) == ["rejected"] and "secret" not in json.dumps(answer)


def test_registry_and_the_site_name_the_same_scorers():
    listing = "import json, registry; print(json.dumps(sorted(registry.KINDS)))"
    done = subprocess.run([sys.executable, "-c", listing], cwd=SCORERS, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == sorted(BUILT_IN)
    documented = Path(settings.BASE_DIR, "docs", "scoring.md").read_text()
    for scorer in BUILT_IN.values():
        assert f"| `{scorer.name}` |" in documented
        assert all(metric.name in documented for metric in scorer.metrics)


@pytest.mark.parametrize(
    ("scorer", "labels", "predictions"),
    [
        ("classification", "id,label\na,x\nb,y\n", "id,label,score\na,x,1\nb,x,0.5\n"),
        ("regression", "id,value\na,1\nb,2\n", "id,value\na,1\nb,1\n"),
    ],
)
def test_scorers_give_the_metrics_that_they_declare(score, scorer, labels, predictions):
    declared = [metric.name for metric in BUILT_IN[scorer].metrics]
    answer = score(scorer, labels, predictions, metrics=declared, more={"positive": "x"})
    assert sorted(answer["metrics"]) == sorted(declared)


_MEASURE = """
import runpy, sys

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

sys.argv = ["main.py", *sys.argv[1:]]
before = peak()
runpy.run_path("main.py", run_name="__main__")
print("peak", peak() - before)
"""


@pytest.mark.parametrize(
    ("scorer", "head", "cells", "metrics"),
    [("classification", "id,label,score", ",x,1", ["auc", "accuracy"]), ("regression", "id,value", ",1", ["rmse"])],
)
def test_memory_is_a_small_multiple_of_the_table(tmp_path, scorer, head, cells, metrics):
    """Short rows take the most memory for a table's size. A row takes as much in a table of 64 MiB."""
    rows = 300_000
    table = head + "\n" + "".join(f"{number:x}{cells}\n" for number in range(rows))
    table += "last,y,0\n" if "label" in head else "last,0\n"  # another class, another value
    for name in ("labels.csv", "predictions.csv"):
        (tmp_path / name).write_text(table)
    (tmp_path / "scoring.json").write_text('{"positive": "x"}')
    (tmp_path / "config.json").write_text(json.dumps({"scorer": scorer, "metrics": metrics}))
    command = [sys.executable, "-c", _MEASURE, "--config", str(tmp_path / "config.json"), "--output", str(tmp_path)]
    environment = {"PREDICTIONS_DIR": str(tmp_path), "GROUND_TRUTH_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=SCORERS, env=environment, capture_output=True, text=True, timeout=120)
    assert "metrics" in json.loads((tmp_path / "metrics.json").read_text()), done.stderr
    assert int(done.stdout.split("peak ")[1]) < 28 * len(table)


def test_all_faults_of_a_table_are_told_at_once(score):
    rows = [
        "検査,猫,0.5",
        "b,x,2",
        "b,x,1",
        "b,x",
        "z,x,1",
        *(f"図{number}.png,x,1" for number in range(37)),
        "c,x,nan",
    ]
    labels = "id,label\n検査,猫\nb,x\nc,x\nd,x\ne,x\n"
    table = "\n".join(["id,label,score", *rows, f"d,{'x' * 2000},1", '"e"e,x,1', ""])
    answer = score("classification", labels, table, metrics=["log_loss", "accuracy"], more={"positive": "x"})
    assert said(answer) == [
        "predictions.csv: no id may be given twice, but these are: 'b' (line 4)",
        "predictions.csv: each row must have 3 cells like the first line, but line 5 has 2",
        "predictions.csv: id must be one of the 5 of this leaderboard, "
        "not 'z' (line 6), '図0.png' (line 7), '図1.png' (line 8), and 35 more",
        "predictions.csv: score must be a finite number of at most 1e+12 either way, not 'nan' (line 44)",
        "predictions.csv: cells may have at most 1000 characters, more are in line 45",
        "predictions.csv: a quotation mark is not closed, or stands inside a cell: line 46",
        "predictions.csv: 2 of 5 rows are missing: 'd', 'e'",
        "predictions.csv: score must be from 0 to 1 for log_loss, not '2' ('b')",
    ]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", ["the first line must name the column id once; it is ''", "the first line must name the column value once; it is ''"]),
        ("ID,value,value\n", ["the first line must name the column id once; it is 'ID, value, value'",
                              "the first line must name the column value once; it is 'ID, value, value'"]),
        (b"id,value\na,1\n" + b"\n" * 100_000 + b"\xff\n", ["line 100003 is not UTF-8"]),
        ("id,value\na,1\n" + "x\n" * 20_000, [
            "each row must have 2 cells like the first line, but line 3 has 1, line 4 has 1, line 5 has 1, and 9997 more",
            None,
        ]),
    ],
)  # fmt: skip
def test_table_that_cannot_be_read_to_its_end(score, table, told):
    told = [f"predictions.csv: {sentence}" if sentence else "predictions.csv was read to line 10002 only, after 10000 faults"
            for sentence in told]  # fmt: skip
    assert said(score("regression", "id,value\na,1\nb,1\n", table)) == told


def test_missing_ids_are_counted(score):
    answer = score("regression", "id,value\na,1\nb,1\nc,1\n", "id,value\na,1\n")
    assert said(answer) == ["predictions.csv: 2 of 3 rows are missing: 'b', 'c'"]


def test_every_fault_that_a_scorer_reports_has_a_sentence():
    given = set()
    for path in SCORERS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("add", "add_missing") and node.args:
                given |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    assert given == set(SENTENCES)
