"""A banned person is told so after the right password, and nothing after a wrong one."""

import pytest
from django.contrib.auth import SESSION_KEY
from django.test import Client

from accounts.models import ApiToken, LoginCounter
from accounts.tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
TOLD = "The operators have banned this account."
PAGES = ["/login/", "/admin/login/"]


def sign_in(where, username, password):
    return Client().post(where, {"username": username, "password": password})


@pytest.mark.parametrize("where", PAGES)
def test_a_page_says_that_the_account_is_banned(where):
    UserFactory(username="ada", is_staff=True, is_active=False)
    answer = sign_in(where, "ada", PASSWORD)
    assert (answer.status_code, SESSION_KEY in answer.client.session) == (403, False)
    assert TOLD in answer.content.decode()
    # It counts as a failed login, as before: the right password of a banned account opens nothing.
    assert LoginCounter.objects.exists()


@pytest.mark.parametrize("where", PAGES)
def test_with_a_wrong_password_nobody_learns_of_the_ban(where):
    UserFactory(username="ada", is_active=False)
    answers = [sign_in(where, name, "wrong") for name in ("ada", "nobody")]
    assert [TOLD in answer.content.decode() for answer in answers] == [False, False]
    assert answers[0].status_code == answers[1].status_code == 200


def test_the_api_says_it_too():
    UserFactory(username="ada", is_active=False)
    known, unknown = (
        Client().post("/api/auth/login", {"username": "ada", "password": password}, "application/json")
        for password in (PASSWORD, "wrong")
    )
    assert (known.status_code, known.json()["code"], unknown.status_code) == (403, "banned", 401)
    assert not ApiToken.objects.exists()


def test_a_session_of_before_ends(client):
    user = UserFactory()
    client.force_login(user)
    assert client.get("/account/").status_code == 200
    type(user).objects.update(is_active=False)
    assert client.get("/account/").status_code == 302
