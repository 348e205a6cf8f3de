"""Drafts: made in the console, seen by operators alone, published after a look at what workers lack."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Operation
from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.tests.operating import carry_out, chosen_in_list, signed_in
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import LeaderboardFactory
from leaderboards.yaml_file import WrongFile, export_leaderboard, import_leaderboard
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db
METRICS = {
    "metrics-TOTAL_FORMS": "1", "metrics-INITIAL_FORMS": "0", "metrics-0-name": "image_auc", "baselines-TOTAL_FORMS": "0",
    "baselines-INITIAL_FORMS": "0",
}  # fmt: skip


def test_a_board_made_in_the_console_is_a_draft_until_it_is_published(operator):
    client, _ = operator
    add = reverse("admin:leaderboards_leaderboard_add")
    sent = {"title": "New", "slug": "new", "visibility": "public", "takes_submissions": "on", "dataset": "nowhere"}
    answer = client.post(add, {**sent, **METRICS})
    made = Leaderboard.objects.get(slug="new")
    own_page = reverse("admin:leaderboards_leaderboard_change", args=[made.pk])
    assert (made.is_draft, answer["Location"]) == (True, own_page)
    assert Client().get(made.get_absolute_url()).status_code == 404
    assert client.get(made.get_absolute_url()).status_code == 200
    carry_out(client, made, "publish_leaderboard", is_accepted="on")
    assert Client().get(made.get_absolute_url()).status_code == 200


def test_publishing_asks_when_no_worker_has_the_data_set(operator):
    client, _ = operator
    board = LeaderboardFactory(is_draft=True, dataset="bottles")
    WorkerFactory(state="idle", inventory={"datasets": ["others"]})
    need = "No running worker has the data set bottles"
    assert need in client.get(reverse("admin:leaderboards_leaderboard_change", args=[board.pk])).content.decode()
    preview = chosen_in_list(client, board, "publish_leaderboard")["Location"]
    assert need in client.get(preview).content.decode()
    assert client.post(preview, {"reason": "Go."}).status_code == 400
    assert Leaderboard.objects.get(pk=board.pk).is_draft
    assert client.post(preview, {"reason": "Go.", "is_accepted": "on"}).status_code == 302
    assert not Leaderboard.objects.get(pk=board.pk).is_draft
    assert Operation.objects.get().state == "done"


def test_publishing_needs_no_reason(operator):
    client, _ = operator
    board = LeaderboardFactory(is_draft=True)
    preview = chosen_in_list(client, board, "publish_leaderboard")["Location"]
    assert client.post(preview, {"reason": ""}).status_code == 302
    assert not Leaderboard.objects.get(pk=board.pk).is_draft


def test_publishing_does_not_ask_when_a_worker_has_it_all(operator):
    board = LeaderboardFactory(is_draft=True, dataset="bottles")
    WorkerFactory(state="idle", inventory={"datasets": ["bottles"]})
    assert carry_out(operator[0], board, "publish_leaderboard").done == 1


def test_a_draft_in_a_file():
    board = LeaderboardFactory(is_draft=True)
    text = export_leaderboard(board)
    assert "\ndraft: true\n" in text
    assert import_leaderboard(text, slug="copy")[0].is_draft
    assert not import_leaderboard(text.replace("draft: true\n", ""), slug="another")[0].is_draft
    published = LeaderboardFactory()
    SubmissionFactory(leaderboard=published)
    changed = export_leaderboard(published).replace("draft: false", "draft: true")
    with pytest.raises(WrongFile, match="draft: It has submissions"):
        import_leaderboard(changed, replace=True)


@pytest.mark.parametrize("address", ["", "history/", "badge.svg", "export.csv"])
def test_no_page_of_a_draft_is_there_for_others(address):
    draft, job = LeaderboardFactory(is_draft=True), JobFactory()
    reader = Client()
    reader.force_login(job.user)
    assert reader.get(f"/leaderboards/{draft.slug}/{address}").status_code == 404
    assert draft.title not in reader.get("/").content.decode() + reader.get("/submit/").content.decode()
    api = Client()
    assert api.get(f"/api/leaderboards/{draft.slug}/entries").status_code == 404
    assert draft.slug not in api.get("/api/leaderboards").content.decode()


def test_the_action_needs_the_permission_to_change_boards():
    client, _ = signed_in("leaderboards.view_leaderboard")
    board = LeaderboardFactory(is_draft=True)
    page = client.get(reverse("admin:leaderboards_leaderboard_change", args=[board.pk])).content.decode()
    assert "publish_leaderboard" not in page
    plain = Client()
    plain.force_login(UserFactory())
    assert (
        plain.post(reverse("admin:operation_plan"), {"action": "publish_leaderboard", "object": board.pk}).status_code
        != 200
    )
    assert Leaderboard.objects.get(pk=board.pk).is_draft
