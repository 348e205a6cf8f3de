"""What is asked for again and again: a tag over the answer, and 304 without a body for who has it."""

import pytest
from django.db.models.functions import Now
from django.test import Client

from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db


def test_a_job_and_the_entries_have_tags_and_lists_have_none(api, user):
    job = JobFactory(user=user, status="running")
    board = LeaderboardFactory()
    for path in (f"/api/jobs/{job.pk}", f"/api/leaderboards/{board.slug}/entries"):
        first = api.get(path)
        assert first.headers["Cache-Control"] == "private, no-cache"
        again = api.get(path, If_None_Match=first.headers["ETag"])
        assert (again.status_code, again.content, "Content-Length" in again.headers) == (304, b"", False)
        assert {"Accept-Language", "Authorization", "Origin"} <= set(again.headers["Vary"].split(", "))
    EntryFactory(leaderboard=board)
    assert api.get(path, If_None_Match=first.headers["ETag"]).status_code == 200
    for other in ("/api/jobs", f"/api/leaderboards/{board.slug}/entries?format=csv", f"/api/jobs/{job.pk}/logs"):
        answer = api.get(other)
        assert ("ETag" in answer.headers, answer.headers["Cache-Control"]) == (False, "no-store")


def test_refusals_have_no_tag_and_are_not_kept(api):
    answer = api.get("/api/jobs/6c4a3c9e-0000-4000-8000-000000000000", If_None_Match="*")
    assert (answer.status_code, answer.headers["Cache-Control"], "ETag" in answer.headers) == (404, "no-store", False)


def asked(client, path, tag=""):
    return client.get(path, headers={"HX-Request": "true"} | ({"If-None-Match": tag} if tag else {}))


@pytest.mark.parametrize("place", ["/jobs/{job}/state/", "/jobs/", "/submissions/", "/", "/leaderboards/{board}/"])
def test_a_part_of_a_page_that_has_not_changed_is_not_sent_again(user, place):
    job = JobFactory(user=user, status="running")
    path = place.format(job=job.pk, board=job.leaderboard.slug)
    client = Client()
    client.force_login(user)
    first = asked(client, path)
    assert (first.status_code, first.headers["Cache-Control"]) == (200, "private, no-cache")
    assert {"Cookie", "HX-Request"} <= set(first.headers["Vary"].split(", "))
    # The form's token is written in another mask each time.
    tag = asked(client, path).headers["ETag"]
    again = asked(client, path, tag)
    assert (again.status_code, again.content, "Content-Length" in again.headers) == (304, b"", False)
    # The page itself is another answer, and is not kept.
    whole = client.get(path, headers={"If-None-Match": tag})
    assert (whole.status_code, "ETag" in whole.headers) == (200, False)


def test_the_end_of_a_job_is_told_whatever_the_tag_and_polling_ends_with_it(user):
    job = JobFactory(user=user, status="running")
    client = Client()
    client.force_login(user)
    path = f"/jobs/{job.pk}/state/"
    first = asked(client, path)
    tag = asked(client, path).headers["ETag"]
    assert b"hx-trigger" in first.content
    Job.objects.filter(pk=job.pk).update(
        status="cancelled", error_code="cancelled", finished_at=Now(), lease_until=None
    )
    ended = asked(client, path, tag)
    assert ended.status_code == 200
    assert b'hx-trigger="every' not in ended.content


def test_another_persons_or_sessions_part_is_another_answer(user):
    """What is kept in a browser holds forms; after signing in anew their tokens are worth nothing."""
    job = JobFactory(user=user, status="failed")
    path = f"/jobs/{job.pk}/state/"
    client = Client()
    client.force_login(user)
    asked(client, path)
    tag = asked(client, path).headers["ETag"]
    del client.cookies["csrftoken"]
    asked(client, path)
    assert asked(client, path, tag).status_code == 200
    other = Client()
    other.force_login(UserFactory())
    assert asked(other, path, tag).status_code == 404
