"""What each of the operators' actions does, tried from the list to its effect."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import ApiToken, OperatorAction, User
from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs import claiming, transitions
from jobs.models import Worker
from jobs.services import enqueue_job
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboard_site.tests.operating import (
    carry_out,
    chosen_in_list,
    completed,
    recorded,
    signed_in,
    standing,
)
from leaderboards.models import Disqualification, Entry, Leaderboard, Pause
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db


def test_the_next_best_counts_after_a_disqualification_and_survives_a_rebuild(operator, board):
    client, _ = operator
    person = UserFactory()
    best, second = completed(board, person, 0.9), completed(board, person, 0.8)
    rebuild_entries(board)
    entry = Entry.objects.get()
    assert entry.job == best
    carry_out(client, entry, "disqualify_entry", reason="It had seen the answers.")
    assert standing(board) == [(person.pk, second.pk, 0.8)]
    rebuild_entries(board)
    assert standing(board) == [(person.pk, second.pk, 0.8)]
    reader = Client()
    reader.force_login(person)
    assert "It had seen the answers." in reader.get(best.get_absolute_url()).content.decode()
    assert "It had seen" not in reader.get(second.get_absolute_url()).content.decode()
    api = Client(headers={"Authorization": f"Bearer {create_token(person, name='t')[1]}"})
    assert api.get(f"/api/jobs/{best.pk}").json()["disqualified"] == "It had seen the answers."
    carry_out(client, Disqualification.objects.get(), "reinstate_job", reason="It had not.")
    assert standing(board) == [(person.pk, best.pk, 0.9)]
    assert [row[1] for row in recorded()] == ["disqualify_job", "reinstate_job"]


def test_nobody_stands_when_the_only_job_is_disqualified(operator, board):
    client, _ = operator
    job = completed(board, UserFactory(), 0.9)
    rebuild_entries(board)
    carry_out(client, job, "disqualify_job")
    assert standing(board) == []


def test_a_later_better_job_still_counts(operator, board):
    client, _ = operator
    person, worker = UserFactory(), WorkerFactory()
    first = completed(board, person, 0.9)
    rebuild_entries(board)
    carry_out(client, first, "disqualify_job")
    waiting = JobFactory(user=person, leaderboard=board, submission__leaderboard=board, submission__user=person)
    held = claiming.claim(waiting.pk, worker_id=worker.pk, worker_name=worker.name)
    transitions.complete(
        held, attempt=1, params={}, metrics={"image_auc": 0.7}, score=0.7, artifacts=[], evidence=transitions.Evidence()
    )
    assert standing(board) == [(person.pk, waiting.pk, 0.7)]


# --- People --------------------------------------------------------------------------------------------------------
def test_a_ban_shuts_out_everywhere_and_ends_what_they_run(operator):
    client, user = operator
    person = UserFactory()
    _token, secret = create_token(person, name="laptop")
    pending, running = JobFactory(user=person), JobFactory(user=person, status="running")
    session = Client()
    session.force_login(person)
    assert session.get("/jobs/").status_code == 200
    carry_out(client, person, "ban_user", reason="Mining coins.")
    person.refresh_from_db()
    assert person.is_active is False
    assert session.get("/jobs/").status_code == 302
    assert Client(headers={"Authorization": f"Bearer {secret}"}).get("/api/jobs").status_code == 401
    assert ApiToken.objects.active().filter(user=person).count() == 0
    pending.refresh_from_db()
    running.refresh_from_db()
    assert (pending.status, running.status) == ("cancelled", "running")
    assert running.cancel_requested_by == user
    carry_out(client, person, "unban_user")
    person.refresh_from_db()
    assert (person.is_active, ApiToken.objects.active().filter(user=person).count()) == (True, 0)


def test_nobody_bans_themselves_or_a_superuser_above_them():
    client, user = signed_in("accounts.change_user", "accounts.view_user")
    above = UserFactory(is_superuser=True, is_staff=True)
    done = carry_out(client, user, "ban_user", above)
    assert (done.done, done.refused) == (0, 2)
    assert User.objects.filter(is_active=False).count() == 0


def test_a_quota_is_changed_and_given_back_to_the_site(operator):
    client, _ = operator
    person = UserFactory()
    carry_out(client, person, "change_quota", submissions_per_hour="3", concurrent_jobs="1")
    person.refresh_from_db()
    assert (person.submissions_per_hour, person.concurrent_jobs) == (3, 1)
    carry_out(client, person, "change_quota", submissions_per_hour="", concurrent_jobs="")
    person.refresh_from_db()
    assert (person.submissions_per_hour, person.concurrent_jobs) == (None, None)
    details = list(OperatorAction.objects.order_by("id").values_list("details", flat=True))
    assert details[0] == {
        "from": {"submissions_per_hour": None, "concurrent_jobs": None},
        "to": {"submissions_per_hour": 3, "concurrent_jobs": 1},
    }


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "100001"])
def test_a_quota_that_is_no_number_is_refused_beside_its_field(operator, value):
    client, _ = operator
    person = UserFactory()
    address = chosen_in_list(client, person, "change_quota")["Location"]
    answer = client.post(address, {"reason": "x", "submissions_per_hour": value})
    assert answer.status_code == 400
    assert "errorlist" in answer.content.decode()


# --- Pauses --------------------------------------------------------------------------------------------------------
def test_a_paused_leaderboard_takes_nothing_and_starts_nothing(operator, board):
    client, _ = operator
    person, worker = UserFactory(), WorkerFactory(resource_classes=["small"])
    waiting = JobFactory(user=person, leaderboard=board, submission__leaderboard=board, submission__user=person)
    other = JobFactory(user=person)
    carry_out(client, board, "pause_leaderboard", reason="The truth is wrong.")
    names = {"worker_id": worker.pk, "worker_name": worker.name}
    assert claiming.claim(waiting.pk, **names) is None
    assert claiming.claim_next(**names, resource_classes=["small"]).pk == other.pk
    assert claiming.claim_next(**names, resource_classes=["small"]) is None
    api = Client(headers={"Authorization": f"Bearer {create_token(person, name='t')[1]}"})
    answer = api.post("/api/jobs", {"submission_id": str(waiting.submission_id)}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (409, "leaderboard_paused")
    assert "The truth is wrong." in answer.json()["message"]
    why = api.get(f"/api/jobs/{waiting.pk}/status").json()["waiting"]["reason"]
    assert why == "Its leaderboard is paused: The truth is wrong."
    assert "The truth is wrong." in Client().get(board.get_absolute_url()).content.decode()
    carry_out(client, board, "resume_leaderboard")
    assert claiming.claim(waiting.pk, **names) is not None
    assert enqueue_job(person, waiting.submission_id)[1]


def test_a_paused_queue_takes_jobs_and_starts_none(operator):
    client, user = operator
    worker, job = WorkerFactory(resource_classes=["small"]), JobFactory()
    names = {"worker_id": worker.pk, "worker_name": worker.name}
    address = reverse("admin:queue_switch")
    assert client.post(address, {"wanted": "pause", "reason": ""}).status_code == 400
    client.post(address, {"wanted": "pause", "reason": "New disks."})
    client.post(address, {"wanted": "pause", "reason": "Again."})
    assert Pause.objects.get().reason == "New disks."
    assert claiming.claim_next(**names, resource_classes=["small"]) is None
    assert claiming.claim(job.pk, **names) is None
    _, is_new = enqueue_job(job.user, job.submission_id)
    assert is_new
    reader = Client()
    reader.force_login(job.user)
    assert "New disks." in reader.get(job.get_absolute_url()).content.decode()
    client.post(address, {"wanted": "resume", "reason": "They are in."})
    assert claiming.claim_next(**names, resource_classes=["small"]) is not None
    assert [row[:2] + row[4:] for row in recorded()] == [
        (user.username, "pause_queue", "New disks."),
        (user.username, "resume_queue", "They are in."),
    ]


def test_the_queue_is_paused_by_those_who_may():
    client, _ = signed_in("jobs.view_job", "jobs.change_job")
    assert client.post(reverse("admin:queue_switch"), {"wanted": "pause", "reason": "x"}).status_code == 403
    assert Pause.objects.count() == 0


# --- Workers -------------------------------------------------------------------------------------------------------
def test_a_disabled_worker_claims_nothing_until_it_is_enabled(operator):
    client, _ = operator
    worker, job = WorkerFactory(resource_classes=["small"]), JobFactory()
    names = {"worker_id": worker.pk, "worker_name": worker.name}
    carry_out(client, worker, "disable_worker")
    assert claiming.claim_next(**names, resource_classes=["small"]) is None
    assert claiming.claim(job.pk, **names) is None
    carry_out(client, worker, "enable_worker")
    assert claiming.claim_next(**names, resource_classes=["small"]).pk == job.pk


@pytest.mark.parametrize("code", ["drain_worker", "stop_worker"])
def test_a_worker_is_told_to_end(operator, code):
    client, _ = operator
    worker = WorkerFactory()
    carry_out(client, worker, code)
    worker = Worker.objects.get()
    assert worker.drain_requested_at is not None
    assert (worker.stop_requested_at is not None) == (code == "stop_worker")


def test_a_worker_that_was_told_is_not_offered_to_be_told_again(operator):
    client, _ = operator
    worker = WorkerFactory()
    page = reverse("admin:jobs_worker_change", args=[worker.pk])
    offered = [{one.code for one in client.get(page).context["operations"]}]
    for code in ("drain_worker", "stop_worker"):
        carry_out(client, worker, code)
        offered.append({one.code for one in client.get(page).context["operations"]})
    assert offered == [
        {"drain_worker", "stop_worker", "disable_worker"},
        {"stop_worker", "disable_worker"},
        {"disable_worker"},
    ]


# --- Leaderboards --------------------------------------------------------------------------------------------------
def test_a_copy_measures_the_same_and_is_a_draft(operator, board):
    client, _ = operator
    EntryFactory(leaderboard=board)
    for _ in range(2):
        carry_out(client, board, "copy_leaderboard")
    copies = list(Leaderboard.objects.filter(slug__startswith=f"{board.slug}-").order_by("slug"))
    assert [one.slug for one in copies] == [f"{board.slug}-2", f"{board.slug}-3"]
    for one in copies:
        assert (one.is_draft, one.visibility, one.entries.count()) == (True, board.visibility, 0)
        fields = ["name", "label", "unit", "direction", "minimum", "maximum", "position"]
        assert list(one.metrics.values_list(*fields)) == list(board.metrics.values_list(*fields))


def test_an_entrys_page_offers_the_baseline_that_fits(operator, board):
    client, _ = operator
    entry = EntryFactory(leaderboard=board)
    page = reverse("admin:leaderboards_entry_change", args=[entry.pk])
    offered = []
    for code in ("mark_baseline", "unmark_baseline"):
        offered.append([one.code for one in client.get(page).context["operations"]])
        carry_out(client, entry, code)
    assert offered == [["mark_baseline"], ["unmark_baseline"]]


@pytest.mark.parametrize(
    ("changed", "score"),
    [({"metrics-0-direction": "lower"}, 0.1), ({"metrics-0-position": 5}, 2.0), ({"title": "New"}, 0.9)],
)
def test_form_shows_what_it_does_to_the_ranking_before_it_saves(operator, changed, score):
    client, _ = operator
    board = LeaderboardFactory()
    entry = EntryFactory(leaderboard=board, score=0.9)
    JobFactory(leaderboard=board, user=entry.user, status="completed", metrics={"image_auc": 0.1, "seconds": 2.0})
    form = {"slug": board.slug, "title": board.title, "visibility": "public", "requires_score": "on"}
    form |= {
        "baselines-TOTAL_FORMS": 0,
        "baselines-INITIAL_FORMS": 0,
        "metrics-TOTAL_FORMS": 2,
        "metrics-INITIAL_FORMS": 2,
    }
    for number, metric in enumerate(board.metrics.all()):
        for name in ("id", "name", "direction", "position"):
            form[f"metrics-{number}-{name}"] = getattr(metric, name)
    page = reverse("admin:leaderboards_leaderboard_change", args=[board.pk])
    answer = client.post(page, form | changed)
    if score != 0.9:
        assert answer.status_code == 200 and "Nothing is saved yet" in answer.content.decode()
        assert Entry.objects.get().score == 0.9 and board.metrics.first().direction == "higher"
        answer = client.post(page, dict(answer.context["sent"]))
    assert answer.status_code == 302
    assert Entry.objects.get().score == score


def test_editing_a_leaderboard_is_recorded(operator):
    client, user = operator
    page = reverse("admin:leaderboards_leaderboard_add")
    empty = {f"{name}-{kind}_FORMS": 0 for name in ("metrics", "baselines") for kind in ("TOTAL", "INITIAL")}
    fields = {"slug": "new", "title": "New", "visibility": "public", "requires_score": "on"}
    answer = client.post(page, {**fields, **empty})
    assert answer.status_code == 302, answer.content.decode()[:3000]
    made = Leaderboard.objects.get(slug="new")
    assert recorded() == [(user.username, "add", "leaderboards.leaderboard", str(made.pk), "")]
    history = client.get(reverse("admin:leaderboards_leaderboard_history", args=[made.pk])).content.decode()
    assert user.username in history
