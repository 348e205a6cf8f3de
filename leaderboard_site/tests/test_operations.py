"""Operators' actions: planned, looked at, given a reason, done and recorded; by those who may and nobody else."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts import operations
from accounts.models import ApiToken, Operation, OperatorAction, User
from accounts.services import create_token
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs import transitions
from jobs.models import Job, Status, Worker
from jobs.services import enqueue_job
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboards.models import Disqualification, Entry, Leaderboard, Pause
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db


def signed_in(*permissions, **fields):
    """(client, user) of staff with these permissions alone."""
    user = UserFactory(**{"is_staff": True, **fields})
    for name in permissions:
        app, _, codename = name.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client, user


@pytest.fixture
def operator():
    return signed_in(is_superuser=True)


def chosen_in_list(client, obj, code, *more):
    """The list's action on the objects: where it leads."""
    label = obj._meta.label_lower.replace(".", "_")
    ids = [str(one.pk) for one in (obj, *more)]
    return client.post(reverse(f"admin:{label}_changelist"), {"action": code, "_selected_action": ids})


def carry_out(client, obj, code, *more, reason="Because.", **parameters):
    """From the list over the preview to the end; the operation as it is then."""
    preview = chosen_in_list(client, obj, code, *more)
    assert preview.status_code == 302, preview.content.decode()[:500]
    assert "operations" in preview["Location"], preview["Location"]
    page = client.get(preview["Location"])
    assert page.status_code == 200
    assert client.post(preview["Location"], {"reason": reason, **parameters}).status_code == 302
    assert client.get(preview["Location"]).status_code == 200
    return Operation.objects.get(pk=preview["Location"].rstrip("/").rpartition("/")[2])


def recorded():
    return list(OperatorAction.objects.order_by("id").values_list("username", "action", "kind", "object_id", "reason"))


def subject(code):
    """An object that the action can be done to."""
    board = LeaderboardFactory()
    if code in ("disqualify_entry", "mark_baseline", "unmark_baseline"):
        return EntryFactory(leaderboard=board)
    if code == "reinstate_job":
        job = JobFactory(status="completed", score=0.5)
        return Disqualification.objects.create(job=job, reason="x")
    if code == "resume_leaderboard":
        Pause.objects.create(leaderboard=board, reason="x")
    if code == "enable_worker":
        return WorkerFactory(disabled_at="2026-01-01T00:00:00Z")
    kind = operations.ACTIONS[code].model
    return {
        "jobs.job": lambda: JobFactory(status="pending" if code == "cancel_job" else "completed"),
        "accounts.user": lambda: UserFactory(is_active=code != "unban_user"),
        "accounts.apitoken": ApiTokenFactory,
        "jobs.worker": WorkerFactory,
        "leaderboards.leaderboard": lambda: board,
    }[kind]()


CODES = sorted(operations.ACTIONS)


def test_the_actions_that_operators_need_are_there():
    assert CODES == [
        "ban_user", "cancel_job", "change_quota", "copy_leaderboard", "disable_worker", "disqualify_entry",
        "disqualify_job", "drain_worker", "enable_worker", "mark_baseline", "pause_leaderboard", "rebuild_entries", "reinstate_job",
        "rerun_job", "resume_leaderboard", "revoke_token", "stop_worker", "unban_user", "unmark_baseline",
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
def test_a_plan_is_not_carried_out_without_a_reason_nor_by_another(code):
    action = operations.ACTIONS[code]
    target, (client, user) = subject(code), signed_in(action.permission)
    ids = [str(getattr(target, action.chosen_field))]
    made = operations.plan(code, ids, by=user)
    address = reverse("admin:operation", args=[made.pk])
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


# --- Disqualifying -------------------------------------------------------------------------------------------------
@pytest.fixture
def board():
    return LeaderboardFactory()


def completed(board, user, score):
    return JobFactory(
        user=user,
        leaderboard=board,
        submission__leaderboard=board,
        submission__user=user,
        status="completed",
        score=score,
    )


def standing(board):
    return list(Entry.objects.filter(leaderboard=board).order_by("user").values_list("user", "job", "score"))


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
    held = transitions.claim(waiting.pk, worker_id=worker.pk, worker_name=worker.name)
    transitions.complete(
        held, attempt=1, params={}, metrics={}, score=0.7, artifacts=[], evidence=transitions.Evidence()
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
    assert transitions.claim(waiting.pk, **names) is None
    assert transitions.claim_next(**names, resource_classes=["small"]).pk == other.pk
    assert transitions.claim_next(**names, resource_classes=["small"]) is None
    api = Client(headers={"Authorization": f"Bearer {create_token(person, name='t')[1]}"})
    answer = api.post("/api/jobs", {"submission_id": str(waiting.submission_id)}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (409, "leaderboard_paused")
    assert "The truth is wrong." in answer.json()["message"]
    why = api.get(f"/api/jobs/{waiting.pk}/status").json()["waiting"]["reason"]
    assert why == "Its leaderboard is paused: The truth is wrong."
    assert "The truth is wrong." in Client().get(board.get_absolute_url()).content.decode()
    carry_out(client, board, "resume_leaderboard")
    assert transitions.claim(waiting.pk, **names) is not None
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
    assert transitions.claim_next(**names, resource_classes=["small"]) is None
    assert transitions.claim(job.pk, **names) is None
    _, is_new = enqueue_job(job.user, job.submission_id)
    assert is_new
    reader = Client()
    reader.force_login(job.user)
    assert "New disks." in reader.get(job.get_absolute_url()).content.decode()
    client.post(address, {"wanted": "resume", "reason": "They are in."})
    assert transitions.claim_next(**names, resource_classes=["small"]) is not None
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
    assert transitions.claim_next(**names, resource_classes=["small"]) is None
    assert transitions.claim(job.pk, **names) is None
    carry_out(client, worker, "enable_worker")
    assert transitions.claim_next(**names, resource_classes=["small"]).pk == job.pk


@pytest.mark.parametrize("code", ["drain_worker", "stop_worker"])
def test_a_worker_is_told_to_end(operator, code):
    client, _ = operator
    worker = WorkerFactory()
    carry_out(client, worker, code)
    worker = Worker.objects.get()
    assert worker.drain_requested_at is not None
    assert (worker.stop_requested_at is not None) == (code == "stop_worker")


# --- Leaderboards --------------------------------------------------------------------------------------------------
def test_a_copy_measures_the_same_and_is_hidden(operator, board):
    client, _ = operator
    EntryFactory(leaderboard=board)
    for _ in range(2):
        carry_out(client, board, "copy_leaderboard")
    copies = list(Leaderboard.objects.filter(slug__startswith=f"{board.slug}-").order_by("slug"))
    assert [one.slug for one in copies] == [f"{board.slug}-2", f"{board.slug}-3"]
    for one in copies:
        assert (one.visibility, one.takes_submissions, one.entries.count()) == ("hidden", False, 0)
        fields = ["name", "label", "unit", "direction", "minimum", "maximum", "position"]
        assert list(one.metrics.values_list(*fields)) == list(board.metrics.values_list(*fields))


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


# --- Staff get what they are given ---------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["", "log.txt"])
def test_staff_without_the_right_see_no_job_of_others(path):
    client, _ = signed_in()
    assert client.get(f"{JobFactory().get_absolute_url()}{path}").status_code == 404


def test_staff_who_may_look_may_not_steer():
    client, _ = signed_in("jobs.view_job")
    job, ended = JobFactory(), JobFactory(status=Status.FAILED)
    assert client.get(job.get_absolute_url()).status_code == 200
    client.post(f"{job.get_absolute_url()}cancel/")
    client.post(f"{ended.get_absolute_url()}again/")
    job.refresh_from_db()
    assert (job.status, Job.objects.count(), OperatorAction.objects.count()) == ("pending", 2, 0)


def test_staff_who_may_steer_are_recorded_on_pages_too():
    client, user = signed_in("jobs.view_job", "jobs.change_job")
    job = JobFactory()
    client.post(f"{job.get_absolute_url()}cancel/")
    assert recorded() == [(user.username, "cancel_job", "jobs.job", str(job.pk), "")]


def test_staff_who_may_change_people_cannot_raise_themselves():
    client, user = signed_in("accounts.change_user", "accounts.view_user")
    address = reverse("admin:accounts_user_change", args=[user.pk])
    client.post(address, {"username": user.username, "is_superuser": "on", "is_staff": "on"})
    user.refresh_from_db()
    assert (user.is_superuser, user.username) == (False, user.username)
    above = UserFactory(is_superuser=True)
    answer = client.post(reverse("admin:accounts_user_change", args=[above.pk]), {"username": "mine"})
    above.refresh_from_db()
    assert (answer.status_code, above.username != "mine") == (403, True)
    password = reverse("admin:auth_user_password_change", args=[above.pk])
    assert client.post(password, {"password1": "a-new-password-1", "password2": "a-new-password-1"}).status_code == 403


@pytest.mark.parametrize(
    "code", ["disqualify_job", "pause_leaderboard", "resume_leaderboard", "disable_worker", "enable_worker"]
)
def test_what_holds_already_is_refused_in_words(operator, code):
    client, _ = operator
    target = completed(LeaderboardFactory(), UserFactory(), 0.5) if code == "disqualify_job" else subject(code)
    first, second = carry_out(client, target, code), carry_out(client, target, code)
    assert (first.done, second.done, second.refused) == (1, 0, 1)
    assert "already" in second.refusals[0] or "not" in second.refusals[0]
