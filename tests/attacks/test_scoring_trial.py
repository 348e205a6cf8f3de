"""`doctor --only scoring` runs each scorer as the first job would, in both executors, and names what would fail."""

import csv
import io
from pathlib import Path

import pytest
from django.core.management import call_command
from PIL import Image

from jobs.scoring import scoring_of
from jobs.scoring_trial import what_would_fail
from leaderboard_site.doctor import scoring as doctor_scoring
from leaderboard_site.doctor.findings import Found
from leaderboard_site.doctor.scoring import scoring
from leaderboard_site.management.commands import doctor
from leaderboards.models import Metric
from tests.attacks.playing import Play, in_one_executor

pytestmark = pytest.mark.django_db


def tried(play: Play) -> str:
    scored = scoring_of(play.board)
    assert scored is not None
    return what_would_fail(play.board, scored)


def images(truth: Path, *, size: tuple[int, int] = (12, 10)) -> Path:
    """Labels of two good and two defective images in place of the classes."""
    (truth / "masks").mkdir()
    mask = Image.new("L", size, 0)
    mask.putpixel((3, 3), 255)
    rows = [["image", "kind", "defect", "mask", "height", "width"]]
    for number, kind in enumerate(["good", "crack", "good", "crack"], 1):
        name = f"masks/{number:04}.png" if kind == "crack" else ""
        if name:
            mask.save(truth / name)
        rows.append([f"bottle/test/{number:04}.png", kind, str(int(bool(name))), name, "10", "12"])
    with (truth / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return truth


def of_pixels(play: Play) -> Path:
    play.board.scorer = "anomaly_detection"
    play.board.save(update_fields=["scorer"])
    Metric.objects.filter(leaderboard=play.board).update(name="pixel_auc")
    play.board.read_metrics()
    return images(play.truth / "pets")


def test_a_scorer_that_works_is_no_finding(play: Play) -> None:
    assert tried(play) == ""


@in_one_executor
def test_values_are_tried_too(play: Play) -> None:
    (play.truth / "pets" / "labels.csv").write_text("id,value\n1,2.5\n2,3.5\n")
    play.board.scorer = "regression"
    Metric.objects.filter(leaderboard=play.board).update(name="rmse")
    play.board.save(update_fields=["scorer"])
    assert tried(play) == ""


@in_one_executor
def test_every_mask_is_opened(play: Play) -> None:
    truth = of_pixels(play)
    assert tried(play) == ""
    (truth / "masks" / "0004.png").write_bytes(b"no picture")
    assert tried(play) == (
        "ValueError: the mask masks/0004.png cannot be read or has another size than its image (exit code 1)"
    )


@in_one_executor
def test_masks_of_0_and_1_would_fail_every_job(play: Play) -> None:
    truth = of_pixels(play)
    for path in (truth / "masks").iterdir():
        Image.open(path).point(lambda value: value // 255).save(path)
    assert tried(play) == "ValueError: the masks of a category have one kind of pixels only (exit code 1)"


@in_one_executor
@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ("", "ValueError: labels.csv: is empty"),
        ("id,kind\n1,cat\n", "labels.csv cannot be read: KeyError: 'label'"),
    ],
)
def test_labels_of_another_form_are_told(play: Play, labels: str, why: str) -> None:
    (play.truth / "pets" / "labels.csv").write_text(labels)
    assert why in tried(play)


@in_one_executor
def test_an_own_scorer_that_refuses_an_empty_folder_works(play: Play) -> None:
    play.own_scorer("leave('metrics.json', json.dumps({'rejected': 'predictions.csv is missing'}))")
    assert tried(play) == ""


@in_one_executor
def test_an_own_scorer_that_breaks_is_told(play: Play) -> None:
    play.own_scorer("import nowhere_to_be_found")
    assert tried(play) == "ModuleNotFoundError: No module named 'nowhere_to_be_found' (exit code 1)"


@in_one_executor
def test_doctor_names_the_leaderboard_and_the_cause(play: Play) -> None:
    play.own_scorer("raise SystemExit('no model here')")
    found = Found("scoring")
    scoring(found)
    assert not [one for one in found.findings if "tried" in one.what]
    scoring(found, is_trying=True)
    (finding,) = [one for one in found.findings if "tried" in one.what]
    assert finding.state == "wrong"
    assert finding.what.startswith(f"{play.board.slug}: tried on predictions that say nothing, own/ours fails")
    assert "no model here" in finding.what


@pytest.mark.parametrize(("options", "tries"), [(["--only", "scoring"], True), ([], False)])
def test_scorers_run_only_when_their_check_is_named(
    options: list[str], tries: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def note(found: Found, *, is_trying: bool = False) -> None:
        asked.append(is_trying)

    monkeypatch.setattr(doctor_scoring, "scoring", note)
    monkeypatch.setattr(doctor, "CHECKS", {"scoring": note})
    call_command("doctor", *options, stdout=io.StringIO())
    assert asked == [tries]
