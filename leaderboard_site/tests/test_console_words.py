"""The console speaks Japanese to who reads Japanese: every label of every list, form and page."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import translation

from accounts.models import Invitation, Operation, OperatorAction
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.execution.limit_table import LABELS, MECHANISMS
from jobs.execution.preflight import ATTEMPTS
from jobs.execution.told import Told, kept
from jobs.models import TrackingOutbox, Worker
from jobs.tests.factories import JobAttemptFactory, WorkerFactory
from leaderboard_site.tests.labels import english
from leaderboards.models import Baseline, Disqualification, Leaderboard, Pause
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory, ScoreVersionFactory

pytestmark = pytest.mark.django_db
# Proper names and signs that a Japanese page writes as they are.
ALLOWED = re.compile(
    r"LeadersBoard|MLflow|SHA-256|YAML|JSON|GPU|CPU|URL|UUID|API|\bID\b|English|zip|tar\.gz"
    r"|[0-9a-f]{8}-[0-9a-f-]{27}"  # a row's own id
    r"|\bUTC\b|CSV|SIGN_UP"
)
MODELS = list(admin.site._registry)


@pytest.fixture
def operator(client):
    """A Japanese superuser, in whose site every model has a row with names that are no English."""
    user = UserFactory(username="運営者", is_staff=True, is_superuser=True)
    Leaderboard.objects.update(title="既定")
    board = LeaderboardFactory(title="外観検査", slug="1", metrics=[{"name": "1", "label": "精度"}])
    entry = EntryFactory(leaderboard=board, job__user__username="花子")
    Baseline.objects.create(leaderboard=board, user=entry.user)
    Disqualification.objects.create(job=entry.job, reason="誤り", by=user)
    Pause.objects.create(leaderboard=board, reason="点検", by=user)
    ScoreVersionFactory(leaderboard=board, scorer="own/1", ground_truth="1", reason="訂正", by=user)
    JobAttemptFactory(job=entry.job, worker_name="機械一")
    limits = {name: list(MECHANISMS)[number % len(MECHANISMS)] for number, name in enumerate(LABELS)}
    report = [{"what": what, "contained": True, "how": "1"} for what in ATTEMPTS.values()]
    WorkerFactory(name="機械一", hostname="機械", sandbox_report=report, limits=limits)
    TrackingOutbox.objects.create(job=entry.job)
    ApiTokenFactory(user=user, name="手元")
    Group.objects.create(name="当番")
    Invitation.objects.create(digest="0", note="太郎さん", created_by=user, expires_at="2030-01-01T00:00Z")
    Operation.objects.create(action="ban_user", user=user, total=1, object_ids=[str(entry.user.pk)])
    OperatorAction.objects.create(
        username="運営者", action="ban_user", kind="accounts.user", object_id="1", object_name="花子"
    )
    client.force_login(user)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "ja"
    return user


def said_in_english(client, address):
    answer = client.get(address)
    assert answer.status_code == 200, address
    html = answer.content.decode()
    assert '<html lang="ja"' in html
    return sorted(english(html, ALLOWED))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
def test_every_list_and_form_is_japanese(client, operator, model):
    names = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    row = model.objects.order_by("-pk").first()
    addresses = {
        "list": reverse(f"{names}_changelist"),
        "form": reverse(f"{names}_change", args=[row.pk]),
        "history": reverse(f"{names}_history", args=[row.pk]),
    }
    answer = client.get(reverse(f"{names}_add"))
    if answer.status_code == 200:
        addresses["new"] = reverse(f"{names}_add")
    if client.get(reverse(f"{names}_delete", args=[row.pk])).status_code == 200:
        addresses["delete"] = reverse(f"{names}_delete", args=[row.pk])
    found = {name: said_in_english(client, address) for name, address in addresses.items()}
    assert {name: texts for name, texts in found.items() if texts} == {}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
def test_every_choice_is_japanese(model):
    with translation.override("ja"):
        labels = [
            str(label)
            for field in model._meta.fields
            for value, label in field.flatchoices
            if value not in ("zip", "tar.gz")
        ]
    assert [label for label in labels if label.isascii()] == []


@pytest.mark.parametrize("name", ["index", "status", "queue_switch", "leaderboard_import"])
def test_every_page_of_the_console_is_japanese(client, operator, name):
    assert said_in_english(client, reverse(f"admin:{name}")) == []


@pytest.mark.parametrize("app", ["accounts", "auth", "jobs", "leaderboards", "submissions"])
def test_every_apps_page_is_japanese(client, operator, app):
    assert said_in_english(client, reverse("admin:app_list", args=[app])) == []


def test_rights_to_choose_are_japanese(client, operator):
    html = client.get(reverse("admin:auth_group_add")).content.decode()
    options = re.findall(
        r"<option[^>]*>([^<]*)</option>", html.partition('name="permissions"')[2].partition("</select>")[0]
    )
    assert "ジョブ | ジョブ | 変更" in options
    assert [one for one in options if "Can " in one] == []


def test_why_a_job_ended_is_said_in_japanese(client, operator):
    told = Told("Cancelled while it ran.")
    attempt = JobAttemptFactory(
        job__status="cancelled", job__error_message=told, job__error_told=kept(told), outcome="cancelled", detail=told,
        detail_told=kept(told), ended_at="2026-01-01T00:00Z",
    )  # fmt: skip
    for address in (
        reverse("admin:jobs_job_change", args=[attempt.job_id]),
        reverse("admin:jobs_jobattempt_change", args=[attempt.pk]),
    ):
        html = client.get(address).content.decode()
        assert "実行中にキャンセルされました。" in html


def test_what_a_worker_tried_in_its_sandbox_is_japanese(client, operator):
    html = client.get(reverse("admin:jobs_worker_change", args=[Worker.objects.get().pk])).content.decode()
    assert "ファイルシステムをマウントする" in html
    tried = re.findall(r"✓ <strong>([^<]*)</strong>", html)
    assert len(tried) == len(ATTEMPTS) and [one for one in tried if one.isascii()] == []


def test_a_row_of_the_machines_has_nothing_to_save(client, operator):
    page = client.get(reverse("admin:jobs_worker_change", args=[Worker.objects.get().pk]))
    html = page.content.decode()
    assert 'name="_save"' not in html and 'name="_continue"' not in html
    assert page.context["title"] == "ワーカー を表示"


def test_an_action_is_told_in_japanese(client, operator):
    for model in ("operation", "operatoraction"):
        row = {"operation": Operation, "operatoraction": OperatorAction}[model].objects.get()
        html = client.get(reverse(f"admin:accounts_{model}_change", args=[row.pk])).content.decode()
        assert "利用停止" in html and "ban_user" not in html
