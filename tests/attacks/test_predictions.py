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
        ("os.mkdir(P); os.symlink('/etc/passwd', P + '/a.csv')", "a.csv: not a regular file"),
        ("os.mkdir(P); os.symlink('..', P + '/a')", "a: not a regular file"),
        ("os.mkdir(P); os.mkfifo(P + '/a.csv')", "a.csv: not a regular file"),
        ("os.mkdir(P); leave('x', ''); os.link(OUTPUT + '/x', P + '/a.csv')", "a.csv: a file with several names"),
        ("os.mkdir(P); leave('predictions/-rf', '')", "-rf: unsafe name"),
        ("os.mkdir(P); leave('predictions/\\u202egnp', '')", "\\\\u202egnp: unsafe name"),
        ("os.mkdir(P); open(P + '/a.npy', 'w').truncate(60 << 20)", "a.npy: too large"),
        ("os.makedirs(P + '/a/b/c/d/e/f/g/h'); leave('predictions/a/b/c/d/e/f/g/h/x', '')", "deeper than 8 folders"),
    ],
)
def test_predictions_are_taken_whole_or_not_at_all(making: str, error: str, submit: Submit) -> None:
    outcome = submit(f"from attack import *\nP = OUTPUT + '/predictions'\n{making}", takes_predictions=True)
    assert outcome.result.predictions_error is not None
    assert outcome.result.predictions_error.endswith(error.replace("\\\\", "\\"))


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
