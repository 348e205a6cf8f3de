"""Tokens and logins: what is given, what is refused, and how often one may guess."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from statistics import median

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import throttle
from accounts.models import ApiToken, LoginCounter, token_digest
from accounts.tests.factories import PASSWORD, ApiTokenFactory, UserFactory
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
     "Bearer ト", "Bearer a b", "Bearer " + "x" * 10_000],
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


# --- Guessing ------------------------------------------------------------------------------------------------------


def test_five_wrong_passwords_then_429_even_for_the_right_one(user):
    assert [told(login(user.username, "wrong")) for _ in range(5)] == [WRONG] * 5
    answer = login(user.username)
    assert refusal(answer) == (429, "too_many_logins")
    assert int(answer.headers["Retry-After"]) in (29, 30)
    assert ApiToken.objects.count() == 0


def test_an_unknown_and_an_inactive_name_are_answered_alike(user):
    UserFactory(username="gone", is_active=False)
    for name in ("nobody-at-all", "gone"):
        assert [told(login(name, "wrong", REMOTE_ADDR=f"192.0.2.{n}")) for n in range(5)] == [WRONG] * 5
        assert refusal(login(name, PASSWORD, REMOTE_ADDR="192.0.2.9")) == (429, "too_many_logins")


def test_one_account_under_attack_leaves_the_others_alone(user):
    other = UserFactory()
    for n in range(6):
        login(user.username, "wrong", REMOTE_ADDR=f"192.0.2.{n}")
    assert login(user.username, REMOTE_ADDR="192.0.2.99").status_code == 429
    assert login(user.username.upper(), REMOTE_ADDR="192.0.2.99").status_code == 429  # no fresh count by another case
    assert login(other.username, REMOTE_ADDR="192.0.2.99").status_code == 200


def test_the_right_password_starts_anew(user):
    for _ in range(3):
        assert [login(user.username, "wrong").status_code for _ in range(4)] == [401] * 4
        assert login(user.username).status_code == 200


def test_one_address_that_tries_many_names(user):
    assert [login(f"name-{n}", "wrong").status_code for n in range(20)] == [401] * 20
    assert refusal(login(user.username)) == (429, "too_many_logins")
    assert login(user.username, REMOTE_ADDR="192.0.2.1").status_code == 200


def test_right_passwords_do_not_use_up_an_address(user):
    assert [login(user.username).status_code for _ in range(25)] == [200] * 25


def test_an_ipv6_client_counts_as_its_network(user):
    for n in range(20):
        login(f"name-{n}", "wrong", REMOTE_ADDR=f"2001:db8::{n:x}")
    assert login(user.username, REMOTE_ADDR="2001:db8::ffff").status_code == 429
    assert login(user.username, REMOTE_ADDR="2001:db8:0:1::1").status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.1", "127.0.0.1"),
        (1, "", "127.0.0.1"),
        (1, "6.6.6.6, 203.0.113.1", "203.0.113.1"),
        (2, "6.6.6.6, 203.0.113.1, 10.0.0.1", "203.0.113.1"),
        (3, "203.0.113.1", "203.0.113.1"),
    ],
)
def test_the_address_is_what_our_own_proxies_saw(rf, settings, proxies, forwarded, address):
    settings.NUM_PROXIES = proxies
    assert throttle.client_address(rf.get("/", headers={"X-Forwarded-For": forwarded})) == address


def passed(seconds):
    LoginCounter.objects.update(
        blocked_until=timezone.now() if seconds else None, updated_at=timezone.now() - timedelta(seconds=seconds)
    )


def test_each_further_failure_doubles_the_wait_up_to_a_quarter_hour(user):
    for _ in range(5):
        login(user.username, "wrong")
    waits = []
    for number in range(7):
        waits.append(int(login(user.username, REMOTE_ADDR=f"192.0.2.{number}").headers["Retry-After"]))
        passed(1)
        assert login(user.username, "wrong", REMOTE_ADDR=f"198.51.100.{number}").status_code == 401
    assert [round(wait / 10) * 10 for wait in waits] == [30, 60, 120, 240, 480, 900, 900]


def test_an_hour_later_all_is_forgotten_and_swept(user):
    for _ in range(5):
        login(user.username, "wrong")
    passed(throttle.FORGET_SECONDS + 1)
    assert [login(user.username, "wrong").status_code for _ in range(5)] == [401] * 5
    passed(throttle.FORGET_SECONDS + throttle.LONGEST_WAIT_SECONDS + 1)
    login("somebody-else", "wrong", REMOTE_ADDR="192.0.2.1")
    assert LoginCounter.objects.count() == 2


def test_no_name_and_no_address_is_kept_in_clear(user):
    login("my-password-by-mistake", "wrong")
    assert [len(counter.digest) for counter in LoginCounter.objects.all()] == [64, 64]


def test_the_login_page_and_the_admins_login_are_behind_the_same_count(client, user):
    for path in ("/login/", "/admin/login/", "/login/", "/admin/login/", "/login/"):
        assert client.post(path, {"username": user.username, "password": "wrong"}).status_code == 200
    for path in ("/login/", "/admin/login/"):
        answer = client.post(path, {"username": user.username, "password": PASSWORD})
        assert (answer.status_code, int(answer.headers["Retry-After"]) in range(1, 31)) == (429, True)
        assert b"Too many failed logins" in answer.content
    assert login(user.username).status_code == 429


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_wrong_logins_at_once_cannot_pass_the_limit_to_the_hasher(user, monkeypatch):
    hashed, start = [], threading.Barrier(16)
    verify = Argon2PasswordHasher.verify
    monkeypatch.setattr(Argon2PasswordHasher, "verify", lambda *given: hashed.append(1) or verify(*given))

    def one(number):
        start.wait()
        try:
            return login(user.username, "wrong", REMOTE_ADDR=f"192.0.2.{number}").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(pool.map(one, range(16)))
    assert (statuses, len(hashed)) == ([401] * 5 + [429] * 11, 5)


@pytest.mark.slow
def test_a_known_and_an_unknown_name_take_comparable_time(user, monkeypatch):
    monkeypatch.setattr(throttle, "ACCOUNT_FAILURES", 1000)
    monkeypatch.setattr(throttle, "ADDRESS_FAILURES", 1000)

    def seconds(name):
        began = time.perf_counter()
        assert login(name, "wrong").status_code == 401
        return time.perf_counter() - began

    seconds(user.username)
    known, unknown = zip(*[(seconds(user.username), seconds("nobody")) for _ in range(9)], strict=True)
    assert 0.5 < median(known) / median(unknown) < 2
