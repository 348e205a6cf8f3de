"""Staff get what they are given and no more, also on pages that are not the console's."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import reverse

from accounts.models import OperatorAction, User
from accounts.services import create_token
from accounts.tests.factories import UserFactory
from jobs.models import Job, Status
from jobs.tests.factories import JobFactory
from leaderboard_site.tests.operating import recorded, signed_in
from tests.routes import routes

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


@pytest.mark.parametrize(
    "loss", ["is_staff", "is_active", "permission", "group"], ids=["staff", "active", "permission", "group"]
)
def test_a_token_and_a_session_lose_rights_in_the_same_moment_as_their_person(loss):
    client, user = signed_in(*["jobs.view_job"] * (loss != "group"))
    if loss == "group":
        group = Group.objects.create(name="g")
        group.permissions.add(Permission.objects.get(codename="view_job"))
        user.groups.add(group)
    job = JobFactory()
    caller = Client(headers={"Authorization": f"Bearer {create_token(user, name='t')[1]}"})

    def statuses():
        api, page = caller.get(f"/api/jobs/{job.pk}/status"), client.get(job.get_absolute_url())
        return api.status_code, page.status_code, client.get("/admin/jobs/job/").status_code

    assert statuses() == (200, 200, 200)
    if loss in ("is_staff", "is_active"):
        User.objects.filter(pk=user.pk).update(**{loss: False})
    user.user_permissions.clear() if loss == "permission" else user.groups.clear()
    expected = {"is_staff": (404, 404, 302), "is_active": (401, 302, 302)}
    assert statuses() == expected.get(loss, (404, 404, 403))


# What every member of staff may open: their own password, the way out, words for scripts, a page without contents.
OPEN_TO_STAFF = {"index", "login", "logout", "password_change", "password_change_done", "jsi18n"}


def _console_routes():
    """(name, path) of every route of the console, with something in each of its places."""
    for route, name in routes(admin.site.get_urls()):
        filled = re.sub(r"<(\w+):\w+>", lambda found: PLACES.get(found[1], "1"), route)
        yield name, "/admin/" + re.sub(r"<\w+>", "1", filled)


@pytest.mark.parametrize(
    ("permissions", "is_staff", "is_offered"),
    [
        (["accounts.view_user"], False, False),
        (["accounts.view_user", "accounts.change_user"], False, True),
        (["accounts.view_user", "accounts.change_user"], True, False),
    ],
)
def test_a_new_password_is_offered_to_those_who_may_set_it(permissions, is_staff, is_offered):
    client, _ = signed_in(*permissions)
    person = UserFactory(is_staff=is_staff)
    page = client.get(reverse("admin:accounts_user_change", args=[person.pk]))
    assert (page.status_code, "../password/" in page.text) == (200, is_offered)
    assert (person.username in page.text, "argon2" in page.text) == (True, is_offered)


PLACES = {"uuid": "00000000-0000-4000-8000-000000000000", "path": "1", "str": "1", "slug": "a", "int": "1"}


def test_staff_without_rights_get_nothing_by_any_route_of_the_console():
    """Walks the URL configuration, so that a new page or action cannot forget to ask."""
    client, _ = signed_in()
    client.raise_request_exception = False
    before = [model.objects.count() for model in (Job, OperatorAction)]
    opened = {}
    count = 0
    for name, path in _console_routes():
        if name in OPEN_TO_STAFF or "(?P" in path:
            continue
        count += 1
        posted = client.post(path, {"action": "delete_selected", "_selected_action": "1"})
        for method, answer in (("GET", client.get(path)), ("POST", posted)):
            # To the index, because there is no such row; or to the row's form, which is among the routes itself.
            is_away = answer.status_code == 302 and answer["Location"] in ("/admin/", f"{path}change/")
            if answer.status_code not in (403, 404, 405) and not is_away:
                opened[method, path] = answer.status_code, answer.headers.get("Location")
    assert count > 50
    assert opened == {}
    assert [model.objects.count() for model in (Job, OperatorAction)] == before


def test_the_way_to_an_objects_page_is_for_who_may_see_it():
    job = JobFactory()
    address = reverse(
        "admin:view_on_site", kwargs={"content_type_id": ContentType.objects.get_for_model(Job).pk, "object_id": job.pk}
    )
    assert signed_in()[0].get(address).status_code == 404
    answer = signed_in("jobs.view_job")[0].get(address)
    assert (answer.status_code, answer["Location"].endswith(job.get_absolute_url())) == (302, True)
    for kind in (0, 10**20):
        assert signed_in("jobs.view_job")[0].get(f"/admin/r/{kind}/{job.pk}/").status_code == 404
