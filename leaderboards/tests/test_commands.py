"""`leaderboard` and `create_leaderboard`: their output for people and programs, and what they refuse."""

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import OperatorAction
from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db


def call(*arguments):
    out = io.StringIO()
    call_command(*map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.fixture
def board():
    board = LeaderboardFactory(slug="textures")
    for name, score in (("ada", 0.9), ("bob\x1b[2J", 0.8), ("eve", 0.7)):
        user = UserFactory(username=name)
        job = JobFactory(user=user, leaderboard=board, status="completed", score=score)
        EntryFactory(job=job, leaderboard=board, score=score)
    return board


def test_the_table_shows_who_stands_where_and_no_escape_sequence(board):
    lines = call("leaderboard", "textures").splitlines()
    assert lines[0].split() == ["rank", "person", "image_auc", "seconds", "job", "submitted"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["1", "ada", "0.9"],
        ["2", "bob?[2J", "0.8"],
        ["3", "eve", "0.7"],
    ]
    assert len(call("leaderboard", "textures", "--limit", 2).splitlines()) == 3


@pytest.mark.parametrize(("form", "query"), [("--csv", "format=csv&limit=1000"), ("--json", "limit=1000")])
def test_files_are_what_the_api_gives(board, form, query):
    operator = create_token(UserFactory(is_staff=True, is_superuser=True), name="test")[1]
    given = (
        Client(headers={"Authorization": f"Bearer {operator}"})
        .get(f"/api/leaderboards/textures/entries?{query}")
        .content.decode()
    )
    told = call("leaderboard", "textures", "--all", form)
    assert (json.loads(told) == json.loads(given)) if form == "--json" else (told == given)


def test_by_another_metric(board):
    lines = call("leaderboard", "textures", "--metric", "seconds").splitlines()
    assert lines[0].split()[2:4] == ["seconds", "image_auc"]


def test_without_a_slug_it_lists_the_boards(board):
    assert "textures" in call("leaderboard")
    assert {"slug", "title", "is_draft", "visibility", "takes_submissions"} == set(
        json.loads(call("leaderboard", "--json"))[0]
    )
    LeaderboardFactory(slug="empty")
    assert call("leaderboard", "empty") == "Nobody stands on empty yet.\n"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere"], "no leaderboard 'nowhere'"),
        (["textures", "--metric", "nope"], "--metric: must be one of image_auc, seconds"),
        (["textures", "--limit", "0"], "--limit: at least 1"),
        (["textures", "--csv", "--json"], "not allowed with"),
    ],
)
def test_leaderboard_refuses(board, arguments, word):
    with pytest.raises(CommandError, match=word):
        call("leaderboard", *arguments)


def test_a_leaderboard_from_options():
    told = json.loads(
        call(
            "create_leaderboard",
            "b",
            "--metric",
            "m/a:b",
            "--metric",
            "seconds:lower:s",
            "--metric",
            "x:higher",
            "--json",
        )
    )
    assert told == {"slug": "b", "title": "b", "created": True, "is_draft": False, "metrics": ["m/a:b", "seconds", "x"]}
    board = Leaderboard.objects.get(slug="b")
    assert [(one.name, one.direction, one.unit) for one in board.metrics.all()] == [
        ("m/a:b", "higher", ""),
        ("seconds", "lower", "s"),
        ("x", "higher", ""),
    ]
    assert OperatorAction.objects.get().action == "create_leaderboard"


def test_replacing_stops_before_it_reorders_a_board(board, tmp_path):
    file = tmp_path / "board.yaml"
    file.write_text(call("leaderboard", "textures", "--yaml").replace("direction: higher", "direction: lower"))
    replace = ("create_leaderboard", "--from-yaml", file, "--replace")
    with pytest.raises(CommandError, match="2 of 3 rows would change places, because a lower image_auc"):
        call(*replace)
    assert board.metrics.first().direction == "higher"
    assert "is changed" in call(*replace, "--yes")
    assert board.metrics.first().direction == "lower"


def test_yaml_there_and_back_and_a_copy(board, tmp_path):
    file = tmp_path / "board.yaml"
    file.write_text(call("leaderboard", "textures", "--yaml"))
    assert "is changed" in call("create_leaderboard", "--from-yaml", file, "--replace")
    assert "/leaderboards/copy/" in call("create_leaderboard", "copy", "--from-yaml", file)
    assert call("leaderboard", "copy", "--yaml") == file.read_text().replace("slug: textures", "slug: copy")


def test_create_leaderboard_tells_that_the_data_set_is_not_here(settings, tmp_path, capsys):
    settings.DATASET_ROOT = tmp_path
    (tmp_path / "here").mkdir()
    for name in ("here", "nowhere"):
        call_command("create_leaderboard", name, "--dataset", name, "--metric", "score")
    assert (
        capsys.readouterr().err
        == f"dataset: there is no {tmp_path}/nowhere on this machine; each machine with a worker needs it.\n"
    )


def test_create_leaderboard_gives_runs_writable_code(db):
    for slug, given in (("plain", []), ("own", ["--writable-code"])):
        call("create_leaderboard", slug, "--metric", "score", *given)
    assert dict(Leaderboard.objects.filter(slug__in=["plain", "own"]).values_list("slug", "has_writable_code")) == {
        "plain": False, "own": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "slug: give"),
        (["b"], "--metric: at least one"),
        (["b", "--metric", "a "], "name: 1 to 100 printable"),
        (["b", "--metric", "a:lowers"], "--metric: NAME"),
        (["a b", "--metric", "m"], "slug: "),
        (["textures", "--metric", "m"], "slug: .*already exists"),
        (["b", "--metric", "m", "--replace"], "--replace"),
        (["--from-yaml", "/nowhere.yaml"], "cannot be read"),
        (["--from-yaml", "{file}"], "title: is missing"),
        (["--from-yaml", "{file}", "--writable-code"], "--writable-code: not with --from-yaml"),
    ],
    ids=range(10),
)
def test_create_leaderboard_refuses_and_makes_nothing(board, tmp_path, arguments, word):
    (tmp_path / "file.yaml").write_text("leadersboard: 1\nslug: c\n")
    before = Leaderboard.objects.count()
    with pytest.raises(CommandError, match=word):
        call("create_leaderboard", *[text.format(file=tmp_path / "file.yaml") for text in arguments])
    assert (Leaderboard.objects.count(), OperatorAction.objects.count()) == (before, 0)
