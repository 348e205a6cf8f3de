"""Tokens and logins: what is given and what is refused."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, LoginCounter, token_digest
from accounts.tests.factories import PASSWORD, ApiTokenFactory
from tests.api.conftest import Api, refusal

WRONG = (401, {"code": "not_authenticated", "message": "The username or the password is wrong."})
pytestmark = pytest.mark.django_db


def login(username, password=PASSWORD, **extra):
    return Client().post(
        "/api/auth/login", {"username": username, "password": password}, content_type="application/json", **extra
    )


def told(response):
    return response.status_code, response.json()


# --- Tokens --------------------------------------------------------------------------------------------------------


def test_a_login_gives_a_token_that_works_until_logout(user, settings):
    answer = login(user.username)
    token = ApiToken.objects.get()
    expires = token.expires_at.isoformat().replace("+00:00", "Z")
    secret = answer.json()["token"]
    assert told(answer) == (200, {"token": secret, "user_id": user.username, "expires_at": expires})
    assert (secret.startswith("lb_"), token.digest) == (True, token_digest(secret))
    lifetime = token.expires_at - timezone.now()
    assert timedelta(days=settings.TOKEN_DAYS - 1) < lifetime <= timedelta(days=settings.TOKEN_DAYS)
    caller = Client(headers={"Authorization": f"Bearer {secret}"})
    assert caller.get("/api/jobs").status_code == 200
    assert caller.post("/api/auth/logout").status_code == 204
    assert refusal(caller.get("/api/jobs")) == (401, "not_authenticated")
    assert refusal(caller.post("/api/auth/logout")) == (401, "not_authenticated")


@pytest.mark.parametrize(
    "header",
    ["Bearer x", "bearer lb_nope", "Bearer", "Bearer ", "Basic YTpi", "x", b"Bearer \xff\xfe".decode("latin-1"),
     "Bearer ト", "Bearer a b", "Bearer " + "x" * 8_000],
)  # fmt: skip
def test_a_bad_token_is_401(db, header):
    answer = Client(headers={"Authorization": header}).get("/api/jobs")
    assert refusal(answer) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    # A bad token is told also where none is needed.
    assert Client(headers={"Authorization": header}).get("/api/leaderboards").status_code == 401


def test_no_token_is_401(nobody):
    answer = nobody.get("/api/jobs")
    assert (refusal(answer), answer.headers["WWW-Authenticate"]) == ((401, "not_authenticated"), "Bearer")


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"revoked_at": timezone.now()},
        {"user__is_active": False},
    ],
)
def test_a_token_that_is_over_is_401(db, fields):
    ApiTokenFactory(secret="lb_known", **fields)
    assert refusal(Client(headers={"Authorization": "Bearer lb_known"}).get("/api/jobs")) == (401, "not_authenticated")


def test_the_api_knows_no_session(client, user):
    client.force_login(user)
    assert refusal(client.get("/api/jobs")) == (401, "not_authenticated")
    assert Api(user).get("/api/jobs").cookies == {}


@pytest.mark.parametrize(
    "body",
    [{}, {"username": "a"}, {"password": "a"}, {"username": "", "password": "a"}, {"username": "a\0", "password": "a"},
     {"username": "\ud800", "password": "a"}, {"username": "a" * 151, "password": "a"}, {"username": "a", "password": "x" * 129},
     {"username": ["a"], "password": "a"}, []],
)  # fmt: skip
def test_a_login_that_is_no_login_is_400(db, body):
    answer = Client().generic("POST", "/api/auth/login", json.dumps(body), content_type="application/json")
    assert refusal(answer) == (400, "invalid")
    assert LoginCounter.objects.count() == 0
