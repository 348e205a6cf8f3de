"""Operators' actions: planned, looked at, given a reason, done and recorded; by those who may and nobody else."""

import pytest
from django.test import Client
from django.urls import reverse

from accounts import operations
from accounts.models import Operation, OperatorAction
from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboard_site.tests.operating import (
    carry_out,
    chosen_in_list,
    completed,
    recorded,
    signed_in,
    subject,
)
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db

CODES = sorted(operations.ACTIONS)


def test_the_actions_that_operators_need_are_there():
    assert CODES == [
        "adopt_digests", "ban_user", "begin_score_version", "cancel_job", "change_quota", "copy_leaderboard", "disable_worker", "disqualify_entry",
        "disqualify_job", "drain_worker", "enable_worker", "mark_baseline", "pause_leaderboard", "publish_leaderboard",
        "rebuild_entries", "reinstate_job", "rerun_job", "resume_leaderboard", "revoke_token", "stop_worker", "unban_user",
        "unmark_baseline", "unpublish_leaderboard", "use_score_version",
    ]  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_every_action_is_done_and_recorded_for_who_has_its_permission(code):
    target, action = subject(code), operations.ACTIONS[code]
    view = action.model.replace(".", ".view_")
    client, user = signed_in(action.permission, view)
    done = carry_out(client, target, code, reason="A good reason.")
    assert (done.state, done.done, done.refused, done.refusals) == ("done", 1, 0, [])
    rows = recorded()
    assert rows
    assert {(row[0], row[4]) for row in rows} == {(user.username, "A good reason.")}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("who", ["staff with view alone", "staff with nothing", "participant", "nobody"])
def test_no_action_is_done_for_who_has_not(code, who):
    target, action = subject(code), operations.ACTIONS[code]
    view = action.model.replace(".", ".view_")
    client = {
        "staff with view alone": lambda: signed_in(view)[0],
        "staff with nothing": lambda: signed_in()[0],
        "participant": lambda: signed_in(is_staff=False)[0],
        "nobody": Client,
    }[who]()
    in_list = chosen_in_list(client, target, code)
    planned = client.post(reverse("admin:operation_plan"), {"action": code, "object": target.pk})
    assert in_list.status_code in {200, 302, 403}
    assert planned.status_code == (302 if who in ("participant", "nobody") else 403)
    assert (Operation.objects.count(), OperatorAction.objects.count()) == (0, 0)


@pytest.mark.parametrize("code", CODES)
def test_a_plan_is_not_carried_out_without_what_its_form_requires_nor_by_another(code):
    action = operations.ACTIONS[code]
    target, (client, user) = subject(code), signed_in(action.permission)
    ids = [str(getattr(target, action.chosen_field))]
    made = operations.plan(code, ids, by=user)
    address = reverse("admin:operation", args=[made.pk])
    if code != "publish_leaderboard":  # its reason may stay empty
        assert client.post(address, {"reason": "  "}).status_code == 400
    other, _ = signed_in(action.permission)
    assert (other.get(address).status_code, other.post(address, {"reason": "x"}).status_code) == (404, 404)
    made.refresh_from_db()
    assert (made.state, OperatorAction.objects.count()) == ("planned", 0)


def test_a_right_that_was_taken_back_ends_what_is_under_way():
    _client, user = signed_in("jobs.change_job", "jobs.view_job")
    jobs = JobFactory.create_batch(2)
    made = operations.plan("cancel_job", [job.pk for job in jobs], by=user)
    Operation.objects.filter(pk=made.pk).update(state="running", reason="x")
    user.user_permissions.clear()
    while operations.step(made.pk):
        pass
    made.refresh_from_db()
    assert (made.done, made.refused) == (0, 2)
    assert Job.objects.filter(status="pending").count() == 2


def test_the_preview_names_what_it_touches(operator):
    client, _ = operator
    job, running = JobFactory(), JobFactory(status="running")
    page = client.get(chosen_in_list(client, job, "cancel_job", running)["Location"]).content.decode()
    assert "It touches 2 objects" in page
    assert "1 wait and end at once; 1 run and end within about 15 seconds; 0 have ended" in page
    assert str(job.pk) in page


def test_one_that_refuses_stops_no_other(operator):
    client, user = operator
    job, ended = JobFactory(), JobFactory(status="completed")
    done = carry_out(client, job, "cancel_job", ended)
    assert (done.done, done.refused) == (1, 1)
    assert "already ended" in done.refusals[0]
    job.refresh_from_db()
    assert (job.status, job.cancel_requested_by) == ("cancelled", user)


def test_confirming_twice_does_it_once(operator):
    client, _ = operator
    job = JobFactory(status="failed")
    address = chosen_in_list(client, job, "rerun_job")["Location"]
    for _ in range(2):
        client.post(address, {"reason": "x"})
    again = Job.objects.get(rerun_of=job)
    assert (again.status, again.priority, again.user) == ("pending", 1, job.user)


def test_a_large_set_is_done_in_the_background_in_chunks(operator):
    client, _ = operator
    person, board = UserFactory(), LeaderboardFactory()
    submission = SubmissionFactory(user=person, leaderboard=board)
    same = {"user": person, "leaderboard": board, "submission": submission}
    jobs = JobFactory.create_batch(130, status="failed", **same)
    label = reverse("admin:jobs_job_changelist")
    chosen = {"action": "rerun_job", "select_across": "1", "_selected_action": [str(jobs[0].pk)]}
    address = client.post(f"{label}?status__exact=failed", chosen)["Location"]
    client.post(address, {"reason": "The dataset was mended."})
    assert Job.objects.filter(rerun_of__isnull=False).count() == 0
    progress = []
    while operations.run_due():
        progress.append(Operation.objects.get().position)
    made = Operation.objects.get()
    assert (progress, made.state, made.done) == ([50, 100], "done", 130)
    assert Job.objects.filter(rerun_of__in=jobs, priority=1).count() == 130
    assert OperatorAction.objects.filter(action="rerun_job").count() == 130


def test_a_crash_in_a_chunk_repeats_and_forgets_nothing(operator, monkeypatch):
    _, user = operator
    jobs = JobFactory.create_batch(3, status="failed")
    made = operations.plan("rerun_job", [job.pk for job in jobs], by=user)
    Operation.objects.filter(pk=made.pk).update(state="running", reason="x")
    calls, true_apply = [], operations.ACTIONS["rerun_job"].apply

    def crashing(obj, **options):
        calls.append(obj.pk)
        if len(calls) == 2:
            raise MemoryError
        true_apply(obj, **options)

    monkeypatch.setattr(operations.ACTIONS["rerun_job"], "apply", crashing)
    with pytest.raises(MemoryError):
        operations.step(made.pk)
    assert Job.objects.filter(rerun_of__isnull=False).count() == 0
    operations.step(made.pk)
    assert sorted(Job.objects.filter(rerun_of__isnull=False).values_list("rerun_of", flat=True)) == sorted(
        job.pk for job in jobs
    )


def test_too_many_and_none_are_refused(operator):
    _, user = operator
    for ids, code in (([], "nothing_chosen"), (range(operations.MOST + 1), "too_many_chosen")):
        with pytest.raises(operations.RequestRefused) as refused:
            operations.plan("cancel_job", list(ids), by=user)
        assert refused.value.code == code


@pytest.mark.parametrize(
    "code", ["disqualify_job", "pause_leaderboard", "resume_leaderboard", "disable_worker", "enable_worker"]
)
def test_what_holds_already_is_refused_in_words(operator, code):
    client, _ = operator
    target = completed(LeaderboardFactory(), UserFactory(), 0.5) if code == "disqualify_job" else subject(code)
    first, second = carry_out(client, target, code), carry_out(client, target, code)
    assert (first.done, second.done, second.refused) == (1, 0, 1)
    assert "already" in second.refusals[0] or "not" in second.refusals[0]
