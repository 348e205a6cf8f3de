"""The predictions that a run leaves for a scorer, and the scorer's sandbox: what each can see and change of the other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Outcome, artifact_names

Submit = Callable[..., Outcome]
in_one_executor = pytest.mark.parametrize("executor", ["bubblewrap"], scope="session")

LEAVE = """
from attack import *
os.makedirs(OUTPUT + "/predictions/maps")
leave("predictions/predictions.csv", "id,score\\n1,0.5\\n")
leave("predictions/maps/1.png", "map")
leave("note.txt", "note")
"""


def staged(outcome: Outcome) -> list[str]:
    folder = outcome.run_dir / "predictions"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_predictions_are_staged_by_themselves_and_their_table_is_kept(submit: Submit) -> None:
    outcome = submit(LEAVE, takes_predictions=True)
    assert outcome.result.predictions_error is None
    assert staged(outcome) == ["maps/1.png", "predictions.csv"]
    assert artifact_names(outcome) == ["predictions/predictions.csv", "note.txt"]
    assert (outcome.run_dir / "artifacts/predictions/predictions.csv").read_text() == "id,score\n1,0.5\n"


@in_one_executor
def test_predictions_are_artifacts_where_nobody_asks_for_them(submit: Submit) -> None:
    outcome = submit(LEAVE)
    assert artifact_names(outcome) == ["note.txt", "predictions/maps/1.png", "predictions/predictions.csv"]
    assert not (outcome.run_dir / "predictions").exists()


@in_one_executor
@pytest.mark.parametrize(
    ("making", "error"),
    [
        ("pass", "missing"),
        ("os.mkdir(P)", "empty"),
        ("os.symlink('/etc', P)", "not a folder"),
        ("leave('predictions', 'x')", "not a folder"),
        ("os.mkfifo(P)", "not a folder"),
        (
            "os.mkdir(P); os.symlink('/etc/passwd', P + '/a.csv')",
            "nothing in it could be taken over (predictions/a.csv was left out: not a regular file.)",
        ),
    ],
)
def test_predictions_must_be_a_folder_with_something_in_it(making: str, error: str, submit: Submit) -> None:
    outcome = submit(f"from attack import *\nP = OUTPUT + '/predictions'\n{making}", takes_predictions=True)
    assert outcome.result.predictions_error == error


@in_one_executor
def test_predictions_that_cannot_be_taken_do_not_cost_the_others(submit: Submit) -> None:
    outcome = submit(
        LEAVE
        + r"""
P = OUTPUT + "/predictions/"
for name in ["図（１）.png", ".DS_Store", "maps/my map #1.png", "maps/e\u0301.png", "\u202egnp"]:
    leave("predictions/" + name, "x")
os.symlink("/etc/passwd", P + "a.csv")
os.symlink("..", P + "up")
os.mkfifo(P + "maps/pipe")
os.link(P + "maps/1.png", P + "maps/2.png")
open(P + "a.npy", "w").truncate(60 << 20)
""",
        takes_predictions=True,
    )
    assert outcome.result.predictions_error is None
    assert staged(outcome) == [
        ".DS_Store", "maps/1.png", "maps/2.png", "maps/my map #1.png", "maps/\u00e9.png", "predictions.csv", "図（１）.png",
    ]  # fmt: skip
    assert artifact_names(outcome)[:3] == [
        f"predictions/{name}" for name in (".DS_Store", "predictions.csv", "図（１）.png")
    ]
    odd = "a control, invisible or private-use character in its name"
    assert outcome.result.left_out == [
        "predictions/a.csv was left out: not a regular file.",
        "predictions/a.npy was left out: too large.",
        "predictions/maps/pipe was left out: not a regular file.",
        "predictions/up was left out: not a regular file.",
        f"predictions/\\u202egnp was left out: {odd} (U+202E).",
    ]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Ground truth and predictions as a scorer gets them, below folders that only the worker may enter."""
    made = {}
    for name in ("ground_truth", "predictions"):
        folder = tmp_path / "closed" / name
        folder.mkdir(parents=True)
        folder.parent.chmod(0o700)
        (folder / "labels.csv").write_text(f"the {name}")
        made[name] = str(folder)
    return made


def test_scorer_sees_both_folders_and_can_change_neither(submit: Submit, folders: dict[str, str]) -> None:
    outcome = submit(
        """
from attack import *
for name in ("GROUND_TRUTH_DIR", "PREDICTIONS_DIR"):
    folder = os.environ[name]
    print(open(folder + "/labels.csv").read(), flush=True)
    attempt("write " + name, lambda: open(folder + "/labels.csv", "w"))
    attempt("make " + name, lambda: open(folder + "/new", "w"))
    attempt("remove " + name, lambda: os.remove(folder + "/labels.csv") or True)
    attempt("chmod " + name, lambda: os.chmod(folder, 0o777) or True)
leave_metrics(score=0.25)
""",
        folders=folders,
    )
    assert outcome.result.succeeded
    assert "the ground_truth" in outcome.log and "the predictions" in outcome.log
    outcome.assert_held()
    assert {path.name for path in Path(folders["ground_truth"]).iterdir()} == {"labels.csv"}
