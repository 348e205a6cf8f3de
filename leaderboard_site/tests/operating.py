"""What tests of operators' actions share: staff, the way from a list over the preview, what was recorded."""

from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts import operations
from accounts.models import Operation, OperatorAction
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboards.models import Disqualification, Entry, Pause, ScoreVersion
from leaderboards.score_contents import fit
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory


def signed_in(*permissions, **fields):
    """(client, user) of staff with these permissions alone."""
    user = UserFactory(**{"is_staff": True, **fields})
    for name in permissions:
        app, _, codename = name.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client = Client()
    client.force_login(user)
    return client, user


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
    board = LeaderboardFactory(is_draft=code == "publish_leaderboard")
    if code in ("disqualify_entry", "mark_baseline", "unmark_baseline"):
        return EntryFactory(leaderboard=board)
    if code == "reinstate_job":
        job = JobFactory(status="completed", score=0.5)
        return Disqualification.objects.create(job=job, reason="x")
    if code == "resume_leaderboard":
        Pause.objects.create(leaderboard=board, reason="x")
    if code == "enable_worker":
        return WorkerFactory(disabled_at="2026-01-01T00:00:00Z")
    if code in ("adopt_digests", "begin_score_version", "use_score_version"):
        board = LeaderboardFactory(scorer="regression", ground_truth="labels", metrics=[{"name": "r2"}])
        version = fit(board)
        WorkerFactory(state="idle", inventory={"ground_truths": {"labels": "d" * 64}, "scorers": {"regression": [1]}})
        if code != "use_score_version":
            return board
        return ScoreVersion.objects.create(
            leaderboard=board, number=version.number + 1, scorer="regression", scorer_version=1, ground_truth="labels"
        )
    kind = operations.ACTIONS[code].model
    return {
        "jobs.job": lambda: JobFactory(status="pending" if code == "cancel_job" else "completed"),
        "accounts.user": lambda: UserFactory(is_active=code != "unban_user"),
        "accounts.apitoken": ApiTokenFactory,
        "jobs.worker": WorkerFactory,
        "leaderboards.leaderboard": lambda: board,
    }[kind]()


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
