"""Errors in the house's frame, in the reader's language, also while what they are about is away."""

import re

import pytest
from django.core.exceptions import RequestDataTooBig, TooManyFilesSent
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.utils import translation

from accounts.refusals import InvalidInput, QuotaExceeded
from accounts.tests.factories import PASSWORD, UserFactory
from leaderboard_site import errors, views
from submissions.archive import ArchiveRefused, check_path

JAPANESE = {"Accept-Language": "ja"}


def in_the_frame(response, language="en"):
    page = response.content.decode()
    return 'class="brand"' in page and "site.css" in page and f'<html lang="{language}">' in page


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize(
    ("draw", "status"),
    [
        (errors.bad_request, 400),
        (lambda request: errors.bad_request(request, RequestDataTooBig()), 413),
        (lambda request: errors.bad_request(request, TooManyFilesSent()), 400),
        (errors.permission_denied, 403),
        (errors.csrf_failure, 403),
        (errors.not_found, 404),
        (errors.server_error, 500),
        (lambda request: errors.database_away(request, OperationalError("gone")), 503),
    ],
    ids=["bad", "too-large", "too-many", "forbidden", "csrf", "missing", "broken", "database"],
)
def test_an_error_needs_no_database_and_no_session(draw, status, language):
    # No session, no user, no messages, and no database: pytest-django refuses every query here.
    request = RequestFactory().get("/nowhere/", headers={"Accept-Language": language})
    response = draw(request)
    assert (response.status_code, response["Content-Language"]) == (status, language)
    assert in_the_frame(response, language)
    assert str(status) in response.content.decode()


@pytest.mark.parametrize("draw", [errors.bad_request, errors.permission_denied, errors.not_found, errors.server_error])
def test_an_error_from_outside_of_the_languages_middleware_speaks_the_readers_language(draw):
    """The thread speaks whatever its last reader did; the words must be chosen where the page's are."""
    with translation.override("en"):
        page = draw(RequestFactory().get("/", headers=JAPANESE)).content.decode()
    with translation.override("ja"):
        other = draw(RequestFactory().get("/", headers={"Accept-Language": "en"})).content.decode()
    assert re.search("<h1>[^a-zA-Z]+</h1>", page) and re.search("<h1>[a-zA-Z ,;.]+</h1>", other)


def test_signing_in_is_offered_to_those_who_may_not_have_and_for_pages_alone(settings):
    visitor = RequestFactory().get("/jobs/")
    person = RequestFactory().get("/jobs/")
    person.COOKIES[settings.SESSION_COOKIE_NAME] = "x"
    assert "?next=/jobs/" in errors.not_found(visitor).content.decode()
    assert "?next=" not in errors.not_found(person).content.decode()
    assert "/jobs/" in errors.server_error(person).content.decode()
    assert "?next=" not in errors.csrf_failure(RequestFactory().post("/jobs/")).content.decode()


def test_a_crash_in_a_view_is_a_page_in_the_readers_language(db, monkeypatch):
    monkeypatch.setattr(views, "board_cards", lambda user: 1 / 0)
    client = Client(raise_request_exception=False, headers=JAPANESE)
    response = client.get("/")
    assert response.status_code == 500
    assert in_the_frame(response, "ja") and "もう一度お試しください" in response.content.decode()
    assert "ZeroDivision" not in response.content.decode()


@pytest.mark.parametrize("where", ["view", "session"])
def test_a_database_that_is_away_is_said_so(db, client, monkeypatch, where):
    def gone(*args, **kwargs):
        raise OperationalError("connection refused: host secret-host")

    if where == "view":
        monkeypatch.setattr(views, "board_cards", gone)
    else:
        monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", gone)
        client.cookies["sessionid"] = "x" * 32
    response = client.get("/")
    assert (response.status_code, response["Retry-After"]) == (503, "10")
    assert in_the_frame(response)
    assert "secret-host" not in response.content.decode()
    assert "Try again" in response.content.decode()


def test_a_verb_that_a_page_does_not_take(db, client):
    response = client.get("/logout/", headers=JAPANESE)
    assert (response.status_code, response["Allow"]) == (405, "POST, OPTIONS")
    assert in_the_frame(response, "ja")


def test_fields_beyond_the_limit_are_413(db, client, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    response = client.post("/login/", {"username": "x" * 2000})
    assert response.status_code == 413 and in_the_frame(response)


def test_too_many_logins_are_429_with_the_time_to_wait(db, client):
    user = UserFactory()
    for _ in range(5):
        client.post("/login/", {"username": user.username, "password": "wrong"}, headers=JAPANESE)
    sent = {"username": user.username, "password": PASSWORD, "next": "/submit/"}
    response = client.post("/login/", sent, headers=JAPANESE)
    assert response.status_code == 429 and int(response["Retry-After"]) > 0
    form = response.context["form"]
    assert (form["username"].value(), form["password"].value(), response.context["next"]) == (
        user.username,
        None,
        "/submit/",
    )
    page = response.content.decode()
    assert "ログインの失敗が多すぎます" in page and in_the_frame(response, "ja")
    # Said once, as people say it: 30秒, 15分.
    assert len(re.findall(r"\d+ ?(?:秒|分)", page)) == 1


def test_maintenance_answers_everything_but_the_health_checks(db, client, settings, tmp_path):
    settings.MAINTENANCE_FILE = tmp_path / "maintenance"
    assert client.get("/").status_code == 200
    settings.MAINTENANCE_FILE.write_text("Back at <b>noon</b>.\nnot shown")
    response = client.get("/jobs/")
    assert (response.status_code, response["Retry-After"]) == (503, "300") and in_the_frame(response)
    page = response.content.decode()
    assert "Back at &lt;b&gt;noon&lt;/b&gt;." in page and "not shown" not in page
    assert client.get("/api/jobs").json() == {"code": "unavailable", "message": "Back at <b>noon</b>."}
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    settings.MAINTENANCE_FILE.write_text("")
    assert "メンテナンス" in client.get("/", headers=JAPANESE).content.decode()


def test_a_refusal_speaks_the_readers_language_and_keeps_its_code(db):
    body = {"username": "a", "password": "b"}
    for _ in range(5):
        Client().post("/api/auth/login", body, content_type="application/json")
    told = {
        language: Client().post("/api/auth/login", body, content_type="application/json", headers=headers)
        for language, headers in {"en": {}, "ja": JAPANESE}.items()
    }
    assert {response.json()["code"] for response in told.values()} == {"too_many_logins"}
    assert told["en"].json()["message"].startswith("Too many failed logins")
    assert told["ja"].json()["message"].startswith("ログインの失敗が多すぎます")
    assert {language: response["Content-Language"] for language, response in told.items()} == {"en": "en", "ja": "ja"}


def test_a_refusal_is_put_into_words_when_it_is_shown():
    from django.utils.translation import gettext_lazy as _

    refusal = InvalidInput("bad_offset", _("must be a number of bytes, not %(text)r."), field="offset", text="1%")
    assert refusal.message == str(refusal) == "offset: must be a number of bytes, not '1%'."
    assert QuotaExceeded("full", "100% is plain text").message == "100% is plain text"
    with pytest.raises(ArchiveRefused) as caught:
        check_path("../x")
    with translation.override("ja"):
        assert refusal.message == "offset: バイト数にしてください（'1%' でした）。"
        assert caught.value.message == '名前 "../x" に、フォルダーの外に出る「..」があります。'
