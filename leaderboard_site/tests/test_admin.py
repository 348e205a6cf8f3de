"""Every list and form of the admin opens, and operators' actions do what they say and are recorded."""

import pytest
from django.contrib import admin
from django.urls import reverse

from accounts.admin_base import MOST_ROWS
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.models import JobAttempt, Status
from jobs.tests.factories import JobAttemptFactory, JobFactory, WorkerFactory
from leaderboards.tests.factories import LeaderboardFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client):
    user = UserFactory(is_staff=True, is_superuser=True)
    client.force_login(user)
    return user


OURS = ["accounts", "leaderboards", "submissions", "jobs", "admin"]
MODELS = [model for model in admin.site._registry if model._meta.app_label in OURS]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.model_name)
def test_every_list_and_form_opens(client, operator, model):
    JobAttemptFactory()
    ApiTokenFactory()
    WorkerFactory()
    names = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    assert client.get(reverse(f"{names}_changelist"), {"q": "x"}).status_code == 200
    assert client.get(reverse(f"{names}_changelist")).status_code == 200
    row = model.objects.first()
    if row is not None:
        assert client.get(reverse(f"{names}_change", args=[row.pk])).status_code == 200


def test_job_form_changes_nothing(client, operator):
    job = JobFactory(status=Status.COMPLETED, score=0.5)
    address = reverse("admin:jobs_job_change", args=[job.pk])
    client.post(address, {"score": "0.99", "status": "failed", "attempts-TOTAL_FORMS": 0, "attempts-INITIAL_FORMS": 0})
    job.refresh_from_db()
    assert (job.score, job.status) == (0.5, Status.COMPLETED)


@pytest.mark.parametrize("table", ["metrics", "baselines"])
def test_a_form_makes_only_so_many_rows_however_many_are_announced(client, operator, table):
    board = LeaderboardFactory()
    counts = {f"{name}-{kind}_FORMS": 0 for name in ("metrics", "baselines") for kind in ("TOTAL", "INITIAL")}
    address = reverse("admin:leaderboards_leaderboard_change", args=[board.pk])
    answer = client.post(address, counts | {f"{table}-TOTAL_FORMS": 100_000})
    formsets = {one.formset.prefix: one.formset for one in answer.context["inline_admin_formsets"]}
    assert len(formsets[table].forms) == MOST_ROWS


def test_staff_without_permissions_sees_nothing(client):
    client.force_login(UserFactory(is_staff=True))
    assert client.get(reverse("admin:jobs_job_changelist")).status_code == 403


def test_rq_pages_are_not_there(client, operator):
    assert client.get("/admin/django_rq/queue/").status_code == 404
    assert not any(model._meta.app_label == "django_rq" for model in admin.site._registry)


@pytest.mark.parametrize("rows", [1, 30])
def test_job_list_costs_the_same_at_any_length(client, operator, rows, django_assert_max_num_queries):
    JobFactory.create_batch(rows)
    with django_assert_max_num_queries(8):
        assert client.get(reverse("admin:jobs_job_changelist")).status_code == 200


def test_attempts_are_shown_with_their_job(client, operator):
    attempt: JobAttempt = JobAttemptFactory(worker_name="gpu-7")
    answer = client.get(reverse("admin:jobs_job_change", args=[attempt.job_id]))
    assert b"gpu-7" in answer.content
