"""Staff get what they are given and no more, also on pages that are not the console's."""

import pytest
from django.urls import reverse

from accounts.models import OperatorAction
from accounts.tests.factories import UserFactory
from jobs.models import Job, Status
from jobs.tests.factories import JobFactory
from leaderboard_site.tests.operating import (
    recorded,
    signed_in,
)

pytestmark = pytest.mark.django_db


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
