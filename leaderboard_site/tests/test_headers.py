"""Security headers and CSP on every kind of answer; who may call the API from a browser; languages do not leak."""

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import translation

from accounts.tests.factories import UserFactory
from leaderboards.models import Leaderboard
from leaderboards.tests.factories import LeaderboardFactory

EXPECTED = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
pytestmark = pytest.mark.django_db


def has_all(response):
    assert {name: response.headers.get(name) for name in EXPECTED} == EXPECTED
    return response


@pytest.mark.parametrize("path", ["/", "/api/leaderboards", "/api/nowhere", "/api/auth/login"])
def test_a_name_that_the_site_does_not_answer_to_is_refused(client, path):
    response = has_all(client.get(path, headers={"host": "evil.example"}))
    assert response.status_code == 400
    assert not path.startswith("/api/") or set(response.json()) == {"code", "message"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/login/", 200), ("/jobs/", 302), ("/nowhere/", 404), ("/admin/", 302), ("/admin/login/", 200),
        ("/healthz", 200), ("/readyz", 200), ("/static/nothing.css", 404), ("/api/leaderboards", 200),
        ("/api/jobs", 401), ("/api/nowhere", 404), ("/api/auth/login", 405), ("/api/schema", 200), ("/api/docs", 200),
    ],
)  # fmt: skip
def test_every_kind_of_answer_has_the_headers(client, path, status):
    response = has_all(client.get(path))
    assert response.status_code == status
    assert response.headers.get("Cache-Control") == "no-store" or not path.startswith("/api/")


def test_a_static_file_has_them(settings, tmp_path):
    (tmp_path / "a.css").write_text("a {}")
    settings.STATIC_ROOT = tmp_path
    response = has_all(Client().get("/static/a.css"))
    assert (response.status_code, response.getvalue()) == (200, b"a {}")


def test_a_form_without_its_csrf_token_is_403_with_them():
    assert has_all(Client(enforce_csrf_checks=True).post("/login/", {})).status_code == 403


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(RuntimeError("secret"), 500, "internal"), (OperationalError("secret"), 503, "unavailable")],
)
@pytest.mark.parametrize("path", ["/", "/api/leaderboards"])
def test_an_error_of_ours_has_them_and_tells_nothing(monkeypatch, path, error, status, code):
    def broken(*given):
        raise error

    monkeypatch.setattr(Leaderboard.objects.__class__, "visible_to", broken, raising=False)
    response = has_all(Client(raise_request_exception=False).get(path))
    assert (response.status_code, b"secret" in response.content) == (status, False)
    if path.startswith("/api/"):
        assert (response.json()["code"], set(response.json())) == (code, {"code", "message"})


@pytest.mark.parametrize(
    "path", ["/api/docs", "/api/schema", "/api/leaderboards", "/api/leaderboards/x/entries?format=csv"]
)
def test_a_wrong_verb_is_405_in_the_one_shape(client, path):
    response = client.delete(path)
    assert (response.status_code, response.json()) == (
        405,
        {"code": "method_not_allowed", "message": 'Method "DELETE" not allowed.'},
    )


# --- CORS ----------------------------------------------------------------------------------------------------------

ORIGIN = "https://lab.example"
CORS = ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods")


@pytest.fixture
def allowed(settings):
    settings.ALLOWED_ORIGINS = [ORIGIN]


def cors(response):
    return tuple(response.headers.get(name) for name in CORS)


def preflight(client, path, origin=ORIGIN):
    return client.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})


def test_a_preflight_is_answered_without_a_token(client, allowed):
    response = has_all(preflight(client, "/api/jobs"))
    assert (response.status_code, response.content) == (204, b"")
    assert cors(response) == (ORIGIN, None, "GET, HEAD, POST")
    assert (
        response.headers["Access-Control-Allow-Headers"]
        == "Authorization, Content-Type, Idempotency-Key, If-None-Match"
    )
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(("path", "status"), [("/api/leaderboards", 200), ("/api/jobs", 401), ("/api/nowhere", 404)])
def test_answers_and_refusals_can_be_read_from_an_allowed_origin(client, allowed, path, status):
    response = client.get(path, headers={"Origin": ORIGIN})
    assert (response.status_code, cors(response)) == (status, (ORIGIN, None, None))
    assert response.headers["Access-Control-Expose-Headers"] == "Retry-After, X-Next-Offset, ETag"
    assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize("origin", ["https://evil.example", "http://lab.example", ORIGIN + ".evil.example", "null", ""])
def test_another_origin_gets_nothing(client, allowed, origin):
    response = client.get("/api/leaderboards", headers={"Origin": origin})
    assert (response.status_code, cors(response)) == (200, (None, None, None))
    assert cors(preflight(client, "/api/jobs", origin)) == (None, None, None)


def test_pages_are_for_no_other_origin(client, allowed):
    for path in ("/", "/login/", "/healthz", "/apis/"):
        assert cors(client.get(path, headers={"Origin": ORIGIN})) == (None, None, None)
        assert cors(preflight(client, path)) == (None, None, None)


def test_no_origin_is_allowed_by_default(client):
    assert cors(client.get("/api/leaderboards", headers={"Origin": ORIGIN})) == (None, None, None)


# --- Languages -----------------------------------------------------------------------------------------------------


def test_the_api_does_not_speak_the_last_pages_language(client):
    LeaderboardFactory()
    with translation.override("ja"):  # what a Japanese page leaves in the thread
        english = client.get("/api/nowhere").json()
    assert english == {"code": "not_found", "message": "There is nothing here, or it is not yours."}


def test_a_refusal_that_no_page_has_shown_is_a_page(client, monkeypatch):
    user = UserFactory()
    for _ in range(5):
        client.post("/login/", {"username": user.username, "password": "wrong"})
    response = has_all(client.post("/login/", {"username": user.username, "password": "wrong"}))
    assert (response.status_code, response.headers["Content-Type"]) == (429, "text/html; charset=utf-8")


def test_a_wrong_name_of_the_site_writes_no_traceback(client, caplog, settings):
    settings.ALLOWED_HOSTS = ["leaders.example"]
    assert client.get("/login/", headers={"Host": "stranger.example"}).status_code == 400
    assert "Traceback" not in caplog.text and "stranger" not in caplog.text
