"""Leaderboards as files in the console: out, looked at, taken in and recorded; by those who may."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from accounts.models import OperatorAction
from leaderboard_site.tests.operating import signed_in
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import EntryFactory
from leaderboards.yaml_file import export_leaderboard

pytestmark = pytest.mark.django_db
TAKE_IN = "/admin/leaderboard-file/"


def test_a_leaderboard_goes_out_and_comes_in_under_another_name(operator, board):
    client, user = operator
    page = client.get(reverse("admin:leaderboards_leaderboard_change", args=[board.pk])).content.decode()
    address = reverse("admin:leaderboard_export", args=[board.pk])
    assert address in page
    out = client.get(address)
    assert out.content.decode() == export_leaderboard(board)
    assert out["Content-Disposition"] == f'attachment; filename="{board.slug}.yaml"'
    assert TAKE_IN in client.get(reverse("admin:leaderboards_leaderboard_changelist")).content.decode()
    file = SimpleUploadedFile("x.yaml", out.content)
    look = client.post(TAKE_IN, {"file": file, "slug": "another"})
    assert look.status_code == 200
    assert "It makes another" in look.content.decode() and "+slug: another" in look.content.decode()
    assert not Leaderboard.objects.filter(slug="another").exists()
    assert client.post(TAKE_IN, {"text": out.content.decode(), "slug": "another", "reason": ""}).status_code == 200
    assert not Leaderboard.objects.filter(slug="another").exists(), "it was taken in without a reason"
    done = client.post(TAKE_IN, {"text": out.content.decode(), "slug": "another", "reason": "A second round."})
    made = Leaderboard.objects.get(slug="another")
    assert done["Location"] == reverse("admin:leaderboards_leaderboard_change", args=[made.pk])
    assert export_leaderboard(made) == export_leaderboard(board).replace(f"slug: {board.slug}", "slug: another")
    told = OperatorAction.objects.values_list("username", "action", "object_id", "reason")
    assert list(told) == [(user.username, "import_leaderboard", str(made.pk), "A second round.")]


def test_replacing_shows_what_becomes_of_the_rows(operator, board):
    client, _ = operator
    for score in (0.9, 0.8):
        EntryFactory(leaderboard=board, score=score)
    text = export_leaderboard(board).replace("direction: higher", "direction: lower")
    look = client.post(TAKE_IN, {"text": text, "replace": "on"}).content.decode()
    assert "2 of 2 rows would change places, because a lower image_auc would be better." in look
    assert board.metrics.first().direction == "higher"


def test_replacing_shows_what_differs_and_must_be_asked_for(operator, board):
    client, _ = operator
    text = export_leaderboard(board).replace(f"title: {board.title}", "title: Renamed")
    refused = client.post(TAKE_IN, {"text": text})
    assert refused.status_code == 400
    assert f"there is {board.slug} already" in refused.content.decode()
    look = client.post(TAKE_IN, {"text": text, "replace": "on"}).content.decode()
    assert f"-title: {board.title}" in look and "+title: Renamed" in look
    board.refresh_from_db()
    assert board.title != "Renamed"
    client.post(TAKE_IN, {"text": text, "replace": "on", "reason": "A better name."})
    board.refresh_from_db()
    assert board.title == "Renamed"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text": ""}, "Choose a file"),
        ({"file": b"\xff\xfe"}, "not UTF-8"),
        ({"text": "a: 1"}, "must be a mapping that begins with"),
        ({"text": "leadersboard: 1\nslug: x\ntitle: 5\ncolour: red\n"}, "colour"),
        ({"text": "leadersboard: !!int ''\n"}, "not valid YAML"),
        ({"text": "a: &a [1]\nb: *a\n"}, "aliases"),
    ],
    ids=["nothing", "no-text", "another-file", "mistakes", "no-int", "alias"],
)
def test_a_wrong_file_is_refused_in_words(operator, given, said):
    client, _ = operator
    if "file" in given:
        given = {"file": SimpleUploadedFile("x.yaml", given["file"])}
    answer = client.post(TAKE_IN, given)
    assert answer.status_code == 400
    assert said in answer.content.decode()


def test_a_wrong_file_is_refused_in_the_readers_words_and_the_files_names(operator):
    client, _ = operator
    for text, said in (
        ("a: 1", "file: `leadersboard: 1` で始まる、名前と値の組にしてください。"),
        ("leadersboard: 1\nslug: x\n", "title: 必須です。"),
        ("leadersboard: 1\nslug: x\ntitle: 5\n", "title: 文字列にしてください（5 でした）。"),
        ("leadersboard: 1\nslug: [x\n", "file: YAMLとして読めません（3 行目：「,」か「]」が必要ですが、"),
        (
            "leadersboard: 1\nslug: x\ntitle: x\nmetrics: [{name: a, minimum: .nan}]\n",
            "metrics[0].minimum: 有限の数値にしてください（nan でした）。",
        ),
        (
            "leadersboard: 1\nslug: x\ntitle: x\nopens_at: 2027-01-02T00:00:00Z\ncloses_at: 2027-01-01T00:00:00Z\n",
            "（2027-01-01T00:00:00+00:00 でした）",
        ),
    ):
        answer = client.post(TAKE_IN, {"text": text}, headers={"Accept-Language": "ja"})
        assert said in answer.content.decode()


def test_files_are_for_those_who_may(board):
    address = reverse("admin:leaderboard_export", args=[board.pk])
    text = export_leaderboard(board)
    for permissions, out, take, replace in (
        ((), 403, 403, 403),
        (("leaderboards.view_leaderboard",), 200, 403, 403),
        (("leaderboards.add_leaderboard",), 403, 200, 403),
        (("leaderboards.add_leaderboard", "leaderboards.change_leaderboard"), 403, 200, 200),
    ):
        client, _ = signed_in(*permissions)
        assert client.get(address).status_code == out
        assert client.post(TAKE_IN, {"text": text, "slug": "another"}).status_code == take
        assert client.post(TAKE_IN, {"text": text, "replace": "on"}).status_code == replace
