"""A job's page says why it ranks or not; its owner withdraws it there; lists and the board show trials and withdrawals."""

import pytest
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboards.models import Entry
from leaderboards.services import rebuild_entries
from leaderboards.tests.factories import LeaderboardFactory
from submissions.tests.factories import SubmissionFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(client):
    user = UserFactory()
    client.force_login(user)
    return user


@pytest.fixture
def board():
    return LeaderboardFactory()


def completed(board, user, score, **fields):
    return JobFactory(user=user, leaderboard=board, status="completed", score=score, **fields)


def text_of(client, job):
    response = client.get(job if isinstance(job, str) else job.get_absolute_url())
    assert response.status_code == 200
    return response.content.decode()


def test_a_run_is_withdrawn_and_counts_again(client, owner, board):
    first, best = completed(board, owner, 0.5), completed(board, owner, 0.9)
    rebuild_entries(board)
    page = text_of(client, best)
    assert "On the board, rank 1." in page and 'id="withdraw"' in page
    assert f'<a href="{best.get_absolute_url()}">Show that run</a>' in text_of(client, first)
    assert "The run is withdrawn." in client.post(f"{best.get_absolute_url()}withdraw/", follow=True).content.decode()
    assert Entry.objects.get().job == first
    page = text_of(client, best)
    assert "withdrawn by its owner" in page and 'id="restore"' in page and 'id="withdraw"' not in page
    assert ">withdrawn</span>" in text_of(client, "/jobs/")
    assert "1 withdrawn" in text_of(client, board.get_absolute_url())
    answer = client.post(f"{best.get_absolute_url()}withdraw/", {"restore": ""}, follow=True)
    assert "The run counts again." in answer.content.decode()
    assert Entry.objects.get().job == best


def test_operators_see_it_and_are_offered_nothing(client, board):
    job = completed(board, UserFactory(), 0.9, withdrawn_at=timezone.now())
    job.withdrawals.create()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    page = text_of(client, job)
    assert "withdrawn by its owner" in page and 'id="restore"' not in page
    assert "Withdrawn by its owner" in text_of(client, f"/admin/jobs/job/{job.pk}/change/")
    answer = client.post(f"{job.get_absolute_url()}withdraw/", {"restore": ""}, follow=True)
    assert "Only its owner can withdraw" in answer.content.decode()


def test_a_trial_says_so_and_runs_again_as_a_trial_or_to_rank(client, owner, board):
    trial = completed(board, owner, 0.9, trial=True)
    page = text_of(client, trial)
    assert "this is a trial run" in page and 'id="run-ranked"' in page and 'id="withdraw"' not in page
    for address in ("/jobs/", "/submissions/", "/compare/", trial.submission.get_absolute_url()):
        assert ">trial</span>" in text_of(client, address)
    again = client.post(f"{trial.get_absolute_url()}again/", {"key": "a"})
    ranked = client.post(f"{trial.get_absolute_url()}again/", {"key": "b", "ranked": ""})
    made = [Job.objects.get(pk=answer["Location"].rstrip("/").rpartition("/")[2]) for answer in (again, ranked)]
    assert [job.trial for job in made] == [True, False]
    assert text_of(client, board.get_absolute_url()).count("Nobody stands here yet") == 1


def test_a_submission_is_run_as_a_trial(client, owner):
    submission = SubmissionFactory(user=owner)
    address = f"/submissions/{submission.pk}/run/"
    client.post(address, {"resource_class": "small", "trial": "on"})
    client.post(address, {"resource_class": "small"})
    assert list(Job.objects.order_by("created_at").values_list("trial", flat=True)) == [True, False]


def test_people_with_very_many_runs_have_a_plus(client, board, monkeypatch):
    monkeypatch.setattr("leaderboards.run_counts.MOST_RUNS", 2)
    user = UserFactory()
    for _ in range(3):
        completed(board, user, 0.5)
    rebuild_entries(board)
    assert 'data-label="Runs">2+</td>' in text_of(client, board.get_absolute_url())
