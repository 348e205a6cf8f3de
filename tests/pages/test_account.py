"""Signing in and out, tokens and languages."""

import pytest

from accounts.models import ApiToken
from accounts.tests.factories import PASSWORD, ApiTokenFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_sign_in_and_out(client):
    user = UserFactory()
    assert client.post("/login/", {"username": user.username, "password": "wrong"}).status_code == 200
    response = client.post("/login/", {"username": user.username, "password": PASSWORD, "next": "/jobs/"})
    assert response["Location"] == "/jobs/"
    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/"
    assert client.get("/jobs/").status_code == 302


def test_sign_in_leads_to_no_other_host(client):
    user = UserFactory()
    data = {"username": user.username, "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post("/login/", data)["Location"] == "/"


def test_a_tokens_secret_is_shown_once_and_works(client):
    client.force_login(UserFactory())
    response = client.post("/account/tokens/", {"name": "laptop"})
    secret = response.context["secret"]
    assert secret in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    page = client.get("/account/").content.decode()
    assert "laptop" in page and secret not in page
    client.logout()
    assert client.get("/api/jobs", headers={"Authorization": f"Bearer {secret}"}).status_code == 200


def test_a_token_needs_a_name(client):
    client.force_login(UserFactory())
    response = client.post("/account/tokens/", {"name": ""})
    assert (response.status_code, ApiToken.objects.count()) == (400, 0)
    assert 'id="id_name_error"' in response.content.decode()


def test_only_ones_own_token_can_be_revoked(client):
    mine, foreign = ApiTokenFactory(), ApiTokenFactory()
    client.force_login(mine.user)
    assert client.post(f"/account/tokens/{foreign.pk}/revoke/").status_code == 404
    assert client.post(f"/account/tokens/{mine.pk}/revoke/")["Location"] == "/account/"
    assert list(ApiToken.objects.active()) == [foreign]


def test_the_language_can_be_switched(client):
    assert 'lang="en"' in client.get("/").content.decode()
    assert client.post("/language/", {"language": "ja", "next": "/"})["Location"] == "/"
    page = client.get("/").content.decode()
    assert '<html lang="ja">' in page and "リーダーボード" in page


def test_the_browsers_language_is_taken(client):
    page = client.get("/login/", headers={"Accept-Language": "ja,en;q=0.5"}).content.decode()
    assert '<html lang="ja">' in page and "ログイン" in page


@pytest.mark.parametrize("count", [1, 30])
def test_the_account_costs_the_same_number_of_queries(client, django_assert_num_queries, count):
    user = UserFactory()
    client.force_login(user)
    for _ in range(count):
        ApiTokenFactory(user=user)
    # Session, user, tokens, and five counts of the quotas: of what counts, of all that was sent, and of active jobs.
    with django_assert_num_queries(6):
        client.get("/account/")
