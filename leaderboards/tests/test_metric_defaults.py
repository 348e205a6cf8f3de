"""Metrics that scorers declare: defaults, refusals and positions, by command, console and file."""

import io
import os
from importlib import import_module

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.urls import reverse

from accounts.refusals import InvalidInput
from leaderboard_site.doctor.findings import Found
from leaderboard_site.doctor.scoring import scoring as doctor
from leaderboards.declarations import BadDeclaration
from leaderboards.metric_defaults import metric_problems, usual_direction
from leaderboards.models import Leaderboard, Metric
from leaderboards.scoring import BUILT_IN, declared_metrics
from leaderboards.services import create_leaderboard
from leaderboards.tests.factories import LeaderboardFactory
from leaderboards.yaml_file import WrongFile, export_leaderboard, import_leaderboard

pytestmark = pytest.mark.django_db
AUROC = "the scorer anomaly_detection gives image_auc, image_f1, pixel_auc, pixel_pro, not image_auroc; did you mean image_auc?"
OPPOSITE = "the scorer regression declares for rmse: lower is better. The opposite must be chosen explicitly."


def command(*options, scorer="regression"):
    out = io.StringIO()
    scored = ["--scorer", scorer, "--ground-truth", "labels"] if scorer else []
    call_command("create_leaderboard", "b", *scored, *options, stdout=out)
    return Leaderboard.objects.get(slug="b").metrics, out.getvalue()


def columns(metrics):
    return list(metrics.values_list("name", "label", "unit", "direction", "minimum", "maximum", "is_required"))


def yaml_file(metrics, scorer="regression"):
    scored = f"scorer: {scorer}\nground_truth: labels\n" if scorer else ""
    return f"leadersboard: 1\nslug: b\ntitle: B\n{scored}metrics:\n" + "".join(f"  - {one}\n" for one in metrics)


@pytest.fixture
def form(admin_client):
    """Post the console's form of a board with rows of metrics, and return the response."""

    def form(rows, *, board=None, **fields):
        kept = len(board.metrics.all()) if board else 0
        data = {"slug": "b", "title": "B", "visibility": "public", "scorer": "regression", "ground_truth": "labels"}
        data |= {"baselines-TOTAL_FORMS": 0, "baselines-INITIAL_FORMS": 0}
        data |= {"metrics-TOTAL_FORMS": len(rows), "metrics-INITIAL_FORMS": kept, **fields}
        data |= {f"metrics-{index}-{name}": value for index, row in enumerate(rows) for name, value in row.items()}
        page = (
            ["admin:leaderboards_leaderboard_change", [board.pk]] if board else ["admin:leaderboards_leaderboard_add"]
        )
        return admin_client.post(reverse(page[0], args=page[1:][0] if board else []), data)

    return form


def problems(response):
    formset = response.context["inline_admin_formsets"][0].formset
    said = [text for row in formset.errors for texts in row.values() for text in texts]
    return said + list(formset.non_form_errors())


# --- the three ways to make a board ----------------------------------------------------------------------------------
RMSE = ("rmse", "RMSE", "", "lower", 0.0, None, False)


def test_the_command_takes_what_the_scorer_declares():
    metrics, _ = command("--metric", "rmse", "--metric", "r2", "--required-metric", "r2")
    assert columns(metrics) == [RMSE, ("r2", "R²", "", "higher", None, 1.0, True)]


def test_a_file_takes_what_the_scorer_declares_and_keeps_what_it_says():
    board, _ = import_leaderboard(yaml_file(["name: rmse", "{name: mae, label: '', minimum: null, is_required: true}"]))
    assert columns(board.metrics) == [RMSE, ("mae", "", "", "lower", None, None, True)]
    copy, _ = import_leaderboard(export_leaderboard(board), slug="copy")
    assert columns(copy.metrics) == columns(board.metrics)


def test_the_console_takes_what_the_scorer_declares(form):
    assert form([{"name": "rmse"}, {"name": "mae", "label": "Error", "is_required": "on"}]).status_code == 302
    board = Leaderboard.objects.get(slug="b")
    assert columns(board.metrics) == [RMSE, ("mae", "Error", "", "lower", 0.0, None, True)]
    assert list(board.metrics.values_list("position", flat=True)) == [0, 1]
    # A field that is emptied afterwards stays empty.
    rows = [{"id": one.pk, "name": one.name, "direction": one.direction} for one in board.metrics.all()]
    assert form(rows, board=board).status_code == 302
    assert columns(board.metrics)[0] == ("rmse", "", "", "lower", None, None, False)


def test_an_unknown_name_is_refused_with_the_one_that_was_meant(form):
    with pytest.raises(CommandError) as refused:
        command("--metric", "image_auroc", scorer="anomaly_detection")
    assert str(refused.value) == f"--metric: {AUROC}"
    with pytest.raises(WrongFile) as refused:
        import_leaderboard(yaml_file(["name: image_auroc"], "anomaly_detection"))
    assert refused.value.problems == [f"metrics[0].name: {AUROC}"]
    response = form([{"name": "image_auroc"}], scorer="anomaly_detection")
    assert problems(response) == [AUROC[0].upper() + AUROC[1:]]
    assert not Leaderboard.objects.filter(slug="b").exists()


def test_the_opposite_direction_needs_an_explicit_choice(form):
    with pytest.raises(CommandError) as refused:
        command("--metric", "rmse:higher")
    assert str(refused.value) == f"--metric: {OPPOSITE} --force-direction does."
    with pytest.raises(WrongFile) as refused:
        import_leaderboard(yaml_file(["{name: rmse, direction: higher}"]))
    assert refused.value.problems == [f"metrics[0].direction: {OPPOSITE} force_direction: true beside it does."]
    assert problems(form([{"name": "rmse", "direction": "higher"}])) == [OPPOSITE[0].upper() + OPPOSITE[1:]]
    assert not Leaderboard.objects.filter(slug="b").exists()


@pytest.mark.parametrize("way", ["command", "file", "console"])
def test_the_opposite_direction_can_be_chosen(form, way):
    if way == "command":
        command("--metric", "rmse:higher", "--force-direction")
    elif way == "file":
        import_leaderboard(yaml_file(["{name: rmse, direction: higher, force_direction: true}"]))
    else:
        assert form([{"name": "rmse", "direction": "higher"}], force_direction="on").status_code == 302
    board = Leaderboard.objects.get(slug="b")
    assert board.metrics.get().direction == "higher"
    # It is not asked for again: not by the board's file, nor by the console.
    assert "force_direction: true" in export_leaderboard(board)
    import_leaderboard(export_leaderboard(board), slug="copy")
    row = board.metrics.get()
    assert form([{"id": row.pk, "name": "rmse", "direction": "higher", "position": 0}], board=board).status_code == 302


def test_a_category_has_the_metrics_of_its_scorer():
    metrics, _ = command("--metric", "image_auc", "--metric", "metal_nut_pixel_pro", scorer="anomaly_detection")
    assert columns(metrics)[1] == ("metal_nut_pixel_pro", "Pixel PRO (metal_nut)", "", "higher", 0.0, 1.0, False)
    with pytest.raises(InvalidInput, match="not brick_rmse"):
        create_leaderboard(
            slug="c", title="C", scorer="regression", ground_truth="labels", metrics=[{"name": "brick_rmse"}]
        )


def test_the_help_and_the_console_offer_what_scorers_give(admin_client):
    page = admin_client.get(reverse("admin:leaderboards_leaderboard_add"))
    offered = page.context["declared_metrics"]
    assert {name: [one["name"] for one in metrics] for name, metrics in offered.items() if name} == {
        name: [one.name for one in scorer.metrics] for name, scorer in BUILT_IN.items()
    }
    assert 'list="declared-metrics"' in page.content.decode()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--metric", "rmse", "--required-metric", "rsme"],
            "--required-metric: must be one of rmse, not rsme; did you",
        ),
        (["--from-yaml", "x.yaml", "--force-direction"], "--force-direction: not with --from-yaml"),
    ],
)
def test_the_command_refuses(options, told):
    with pytest.raises(CommandError, match=told):
        call_command("create_leaderboard", "b", *options)


def test_a_file_refuses_a_choice_that_is_none():
    with pytest.raises(WrongFile, match=r"metrics\[0\].force_direction: must be true or false, not 'yes'."):
        import_leaderboard(yaml_file(["{name: rmse, force_direction: 'yes'}"]))


# --- boards whose runs report their own metrics ----------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["rmse", "Val_Loss", "test/log_loss", "mean_absolute_error", "wer", "image.FID", "seconds"]
)
def test_errors_and_losses_rank_lowest_first(name):
    assert usual_direction(name) == "lower"


@pytest.mark.parametrize("name", ["image_auc", "neg_mean_squared_error", "lossless", "maee", "r2", "fidelity", "損失"])
def test_other_names_say_nothing(name):
    assert usual_direction(name) is None


def test_a_direction_that_follows_from_the_name_is_told(form):
    metrics, told = command("--metric", "val_loss", "--metric", "auc", "--metric", "rmse:higher", scorer="")
    assert [one.direction for one in metrics.all()] == ["lower", "higher", "higher"]
    assert told.splitlines()[:-1] == [
        "val_loss: lower is better, by its name; --metric val_loss:higher says otherwise."
    ]
    board, _ = import_leaderboard(yaml_file(["name: mae"], "").replace("slug: b", "slug: c"))
    assert board.metrics.get().direction == "lower"
    assert form([{"name": "mae"}], slug="d", scorer="", ground_truth="").status_code == 302
    assert Leaderboard.objects.get(slug="d").metrics.get().direction == "lower"


# --- scorers of organizers -------------------------------------------------------------------------------------------
@pytest.fixture
def own(settings, tmp_path):
    settings.SCORER_ROOT = tmp_path
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.yaml", "metrics: [{name: dist, direction: lower, minimum: 0, unit: px}]\nper_category: true\n"),
        (
            "metrics.json",
            '{"metrics": [{"name": "dist", "direction": "lower", "minimum": 0, "unit": "px"}], "per_category": true}',
        ),
    ],
)
def test_an_own_scorer_declares_by_a_file(own, name, text):
    (own / name).write_text(text)
    metrics, _ = command("--metric", "dist", "--metric", "a_dist", scorer="own/mine")
    assert [(one.direction, one.unit, one.minimum) for one in metrics.all()] == [("lower", "px", 0.0)] * 2
    with pytest.raises(WrongFile, match="the scorer own/mine gives dist, not disst; did you mean dist"):
        import_leaderboard(yaml_file(["name: disst"], "own/mine"), slug="c")


@pytest.mark.parametrize("name", ["mine", "elsewhere"])
def test_without_a_declaration_any_name_is_accepted(own, name):
    metrics, _ = command("--metric", "anything", scorer=f"own/{name}")
    assert columns(metrics) == [("anything", "", "", "higher", None, None, False)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "own/mine/metrics.yaml: "),
        ("metrics: {}", "metrics must be a list of 1 to 100 mappings, not {}."),
        ("metrics: []", "metrics must be a list of 1 to 100 mappings, not []."),
        ("names: []", "must be a mapping with metrics, and per_category if wanted, not {'names': []}."),
        ("metrics: [{name: a}]", "metrics[0] must have name and direction"),
        ("metrics: [{name: a, direction: up}]", "metrics[0].direction must be higher or lower, not 'up'."),
        ("metrics: [{name: 7, direction: lower}]", "metrics[0].name must be text of at most 100 characters, not 7."),
        (
            "metrics: [{name: a, direction: lower, minimum: .inf}]",
            "metrics[0].minimum must be a finite number, not inf.",
        ),
        (
            "metrics: [{name: a, direction: lower, minimum: 2, maximum: 1}]",
            "metrics[0].minimum must be at most its max",
        ),
        ("metrics: [{name: a, direction: lower}, {name: a, direction: lower}]", "must be metrics of different names"),
        ("metrics: [{name: a, direction: lower}]\nper_category: 1", "per_category must be true or false, not 1."),
        ("#" * 70_000, "it has"),
    ],
)
def test_a_wrong_declaration_is_named(own, form, text, told):
    (own / "metrics.yaml").write_text(text)
    with pytest.raises(BadDeclaration) as refused:
        declared_metrics("own/mine")
    assert told in refused.value.message
    for make in (
        lambda: command("--metric", "a", scorer="own/mine"),
        lambda: import_leaderboard(yaml_file(["name: a"], "own/mine")),
    ):
        with pytest.raises((CommandError, WrongFile), match=r"own/mine/metrics\.yaml"):
            make()
    assert problems(form([{"name": "a"}], scorer="own/mine"))[0].startswith("own/mine/metrics.yaml")


def test_a_declaration_that_is_no_file_holds_nothing_up(own):
    os.mkfifo(own / "metrics.yaml")
    with pytest.raises(BadDeclaration, match="must be a regular file"):
        declared_metrics("own/mine")


# --- boards of earlier versions --------------------------------------------------------------------------------------
@pytest.fixture
def old(own):
    return LeaderboardFactory(
        slug="old", scorer="regression", ground_truth="labels",
        metrics=[{"name": "maee", "direction": "lower"}, {"name": "rmse", "direction": "higher"}],
    )  # fmt: skip


def test_boards_of_earlier_versions_are_named_and_can_still_be_changed(old, form, admin_client):
    said = ["the scorer regression gives rmse, mae, r2, not maee; did you mean mae?", OPPOSITE]
    assert metric_problems(old.scorer, old.metrics.all()) == said
    report = Found("scoring")
    doctor(report)
    assert [one.what for one in report.findings if one.what.startswith("old: the scorer")] == [
        f"old: {one}" for one in said
    ]
    page = admin_client.get(reverse("admin:leaderboards_leaderboard_change", args=[old.pk])).content.decode()
    assert all(one[0].upper() + one[1:] in page for one in said)
    rows = [
        {"id": one.pk, "name": one.name, "direction": one.direction, "position": one.position}
        for one in old.metrics.all()
    ]
    assert form(rows, board=old, title="New", slug="old").status_code == 302
    import_leaderboard(export_leaderboard(Leaderboard.objects.get(pk=old.pk)), replace=True)
    with pytest.raises(WrongFile, match="not maee"):
        import_leaderboard(export_leaderboard(old), slug="copy")
    # Under another scorer, they are refused as new ones are.
    assert "not maee" in problems(form(rows, board=old, slug="old", scorer="classification"))[0]


# --- positions -------------------------------------------------------------------------------------------------------
@pytest.fixture
def three():
    return LeaderboardFactory(slug="b", metrics=[{"name": name} for name in ("x", "y", "z")])


def rows_of(board, *positions):
    metrics = board.metrics.all()
    return [
        {"id": one.pk, "name": one.name, "direction": "higher", "position": position}
        for one, position in zip(metrics, positions, strict=False)
    ]


@pytest.mark.parametrize(
    ("positions", "order"), [((1, 0, 2), "yxzn"), ((2, 0, 1), "yzxn"), (("", 1, 2), "yzxn"), ((5, 6, 7), "xyzn")]
)
def test_the_console_swaps_positions_and_puts_new_rows_last(form, three, positions, order):
    rows = [*rows_of(three, *positions), {"name": "n"}]
    response = form(rows, board=three, scorer="", ground_truth="")
    assert response.status_code == 302, problems(response)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert "".join(three.metrics.values_list("name", flat=True)) == order


@pytest.mark.parametrize(
    ("positions", "told"),
    [
        ((0, 0, 2), "x and y have the same position, 0: give each its own."),
        ((0, 1, 99999), "Ensure this value is less than or equal to 32767."),
        ((0, 1, -1), "Ensure this value is greater than or equal to 0."),
    ],
)
def test_the_console_refuses_positions(form, three, positions, told):
    assert problems(form(rows_of(three, *positions), board=three, scorer="", ground_truth="")) == [told]


def test_the_console_sees_a_metric_that_was_added_meanwhile(form, three):
    rows = [*rows_of(three, 0, 1), {"name": "n", "position": 2}]
    told = problems(form(rows, board=three, scorer="", ground_truth="", **{"metrics-INITIAL_FORMS": 2}))
    assert told == ["z and n have the same position, 2: give each its own."]


def test_two_metrics_share_no_position(three):
    with pytest.raises(IntegrityError, match="metric_position_once"), transaction.atomic():
        Metric.objects.create(leaderboard=three, name="n", position=1)
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_the_upgrade_numbers_metrics_as_they_were_shown(three):
    [constraint] = [one for one in Metric._meta.constraints if one.name == "metric_position_once"]
    other = LeaderboardFactory(metrics=[{"name": "a", "position": 3}, {"name": "b", "position": 7}])
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with connection.schema_editor() as editor:
        editor.remove_constraint(Metric, constraint)
    three.metrics.filter(name__in="xz").update(position=4)
    with connection.cursor() as cursor:
        cursor.execute(import_module("leaderboards.migrations.0011_metric_positions").RENUMBER)
    with connection.schema_editor() as editor:
        editor.add_constraint(Metric, constraint)
    assert list(three.metrics.values_list("name", "position")) == [("y", 0), ("x", 1), ("z", 2)]
    assert list(other.metrics.values_list("position", flat=True)) == [3, 7]
