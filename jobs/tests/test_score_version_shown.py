"""Participants see a score version's number, and never a digest of hidden labels; operators see both in the console."""

from types import SimpleNamespace

import pytest
from django.urls import reverse

from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.models import TrackingOutbox
from jobs.tests.factories import JobFactory, WorkerFactory
from jobs.tracking import _create
from leaderboard_site.tests.operating import recorded, signed_in
from leaderboards.models import Leaderboard, ScoreVersion
from leaderboards.services import create_leaderboard, rebuild_entries

pytestmark = pytest.mark.django_db
TRUTH, SCORER = "d" * 64, "e" * 64


@pytest.fixture
def job():
    inventory = {"ground_truths": {"labels": TRUTH}, "scorers": {"own/x": SCORER}}
    WorkerFactory(state="idle", inventory=inventory)
    board = create_leaderboard(slug="b", title="B", scorer="own/x", ground_truth="labels", metrics=[{"name": "r2"}])
    job = JobFactory(
        leaderboard=board, status="completed", score=0.5, metrics={"r2": 0.5}, scorer="own/x", ground_truth="labels",
        score_version=board.score_version,
    )  # fmt: skip
    rebuild_entries(board)
    return job


def test_participants_see_the_number_alone(client, job):
    board, token = job.leaderboard, "lb_version"
    ApiTokenFactory(user=job.user, secret=token)
    client.force_login(job.user)
    pages = [
        board.get_absolute_url(),
        reverse("leaderboard_history", args=["b"]),
        job.get_absolute_url(),
        "/",
        "/submit/",
    ]
    pages += [f"{job.get_absolute_url()}{part}/" for part in ("log", "artifacts", "state")]
    pages += ["/jobs/", f"/compare/?job={job.pk}&job={job.pk}", f"{board.get_absolute_url()}export.csv", "/api/schema"]
    calls = ["leaderboards", "leaderboards/b", "leaderboards/b/entries", f"jobs/{job.pk}", f"jobs/{job.pk}/results"]
    calls += [f"jobs/{job.pk}/status", f"jobs/{job.pk}/progress", "jobs"]
    answers = {page: client.get(page) for page in pages}
    answers |= {call: client.get(f"/api/{call}", headers={"authorization": f"Bearer {token}"}) for call in calls}
    for address, answer in answers.items():
        text = answer.getvalue().decode() if answer.streaming else answer.content.decode()
        assert answer.status_code == 200, address
        assert TRUTH[:8] not in text and SCORER[:8] not in text and "labels&quot;" not in text, address
    assert "scores of version 1" in answers[board.get_absolute_url()].content.decode()
    assert "Score version 1." in answers[job.get_absolute_url()].content.decode()
    for call in ("leaderboards/b", f"jobs/{job.pk}", f"jobs/{job.pk}/results"):
        assert answers[call].json()["score_version"] == 1, call


def test_mlflow_gets_the_number_alone(job):
    tags = {}
    client = SimpleNamespace(create_run=lambda *_, **fields: tags.update(fields["tags"]))
    _create(client, "1", TrackingOutbox.objects.create(job=job))
    assert tags["leadersboard.score_version"] == "1"
    assert not any(digest in value for value in tags.values() for digest in (TRUTH, SCORER))


def test_panel_shows_operators_what_each_worker_has(job):
    WorkerFactory(
        name="moved", state="idle", inventory={"ground_truths": {"labels": "f" * 64}, "scorers": {"own/x": SCORER}}
    )
    WorkerFactory(name="bare", state="idle", inventory={"datasets": ["x"]})
    client, _ = signed_in("leaderboards.view_leaderboard", "leaderboards.change_leaderboard")
    page = client.get(reverse("admin:leaderboards_leaderboard_change", args=[job.leaderboard_id]))
    states = {row.worker.worker: row.state for row in page.context["score_version"]["workers"]}
    assert [states.pop("moved"), states.pop("bare"), *states.values()] == ["other", "missing", "same"]
    assert TRUTH[:12] in page.content.decode()


def test_operator_adopts_what_workers_have_and_goes_back(job):
    WorkerFactory(name="moved", state="idle", inventory={"ground_truths": {"labels": "f" * 64}})
    client, _ = signed_in(
        "leaderboards.view_leaderboard", "leaderboards.change_leaderboard", "leaderboards.view_scoreversion"
    )
    first = ScoreVersion.objects.get()

    def carried_out(code, target, **parameters):
        page = client.post(reverse("admin:operation_plan"), {"action": code, "object": target.pk})["Location"]
        told = client.get(page).content.decode()
        client.post(page, {"reason": "Corrected.", **parameters})
        return told

    told = carried_out("adopt_digests", job.leaderboard, digests=f"{'f' * 64}:")
    assert "1 of 1 rows would leave the board, because only scores of version 2 would rank" in told
    board = Leaderboard.objects.get(pk=job.leaderboard_id)
    assert (board.score_version.number, board.score_version.ground_truth_digest) == (2, "f" * 64)
    assert (board.score_version.scorer_digest, board.entries.count()) == (SCORER, 0)
    assert "1 row would join." in carried_out("use_score_version", first)
    board.refresh_from_db()
    assert (board.score_version, board.entries.count()) == (first, 1)
    assert [(row[1], row[4]) for row in recorded()] == [
        ("adopt_digests", "Corrected."), ("use_score_version", "Corrected."),
    ]  # fmt: skip


def test_staff_who_see_no_leaderboards_see_no_digest(job):
    client, _ = signed_in("jobs.view_job")
    version = ScoreVersion.objects.get()
    for name, pk in (("leaderboard", job.leaderboard_id), ("scoreversion", version.pk)):
        assert client.get(reverse(f"admin:leaderboards_{name}_change", args=[pk])).status_code == 403
    client.force_login(UserFactory())
    assert client.get(reverse("admin:leaderboards_scoreversion_changelist")).status_code == 302
