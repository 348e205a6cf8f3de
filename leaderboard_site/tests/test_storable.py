"""No request is answered with a 5xx, whatever a stranger puts into it: NUL, broken UTF-8, endless text and numbers, or JSON
without a bottom, in every address, query parameter, form field, cookie, header and body, for each kind of person.
"""

import json
import re
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib import admin
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import BOUNDARY, encode_multipart
from django.urls import get_resolver

from accounts.models import Operation, OperatorAction
from accounts.services import create_token
from accounts.tests.factories import ApiTokenFactory, UserFactory
from jobs.tests.factories import JobAttemptFactory, JobFactory
from leaderboard_site.errors import BodyMiddleware
from leaderboards.tests.factories import EntryFactory
from submissions.tests.factories import stored_submission
from tests.routes import routes

pytestmark = [pytest.mark.django_db, pytest.mark.slow]
APPS = ("accounts", "leaderboards", "submissions", "jobs", "leaderboard_site")
# As they stand in an address, quoted.
POISONS = {
    "nul": "a%00b",
    "surrogate": "%ED%A0%80",
    "digits": "9" * 400,
    "minus": "-1",
    "long": "x" * 3000,
    "deep": "%5B" * 1000,
}
PARAMETERS = re.compile(r"<(?:(\w+):)?(\w+)>")
TEXT_PARAMETERS = re.compile(r"<(?:(?:path|str):)?(\w+)>")
PEOPLE = ("nobody", "participant", "superuser")


ROUTES = sorted({route for route, name in routes(get_resolver().url_patterns) if name and "(?P" not in route})


def read_names(pattern):
    """List the names under which the code reads a request."""
    sources = [path for app in APPS for path in Path(settings.BASE_DIR, app).rglob("*.py") if "tests" not in path.parts]
    return sorted({name for path in sources for name in re.findall(pattern, path.read_text())})


QUERY = sorted(
    {
        *read_names(r"""(?:GET|query|query_params)\.get(?:list)?\("(\w+)\""""),
        "cursor",
        "limit",
        "next",
        "after",
        "before",
    }
)
FORM = sorted(
    {
        *read_names(r"""POST\.get(?:list)?\("(\w+)\""""),
        *read_names(r"""(?m)^    (\w+) = forms\.\w+Field\("""),
        *read_names(r"""(?m)^    (\w+) = \w+Field\("""),
        *("username", "password", "password1", "password2", "email", "name", "slug", "title", "metrics-TOTAL_FORMS"),
        *("language", "next", "action", "_selected_action", "initial-id", "object"),
    }
)


@pytest.fixture
def given():
    """An object for every parameter of an address."""
    person = UserFactory()
    entry = EntryFactory()
    board = entry.leaderboard
    name = storages["artifacts"].save(f"{uuid4()}", ContentFile(b"{}"))
    job = JobFactory(
        user=person, leaderboard=board, submission=stored_submission({"main.py": b"pass"}, user=person, leaderboard=board), status="running",
        artifacts=[{"path": "a.json", "name": name, "bytes": 2, "sha256": "0" * 64}],
    )  # fmt: skip
    JobAttemptFactory(job=job)
    operation = Operation.objects.create(user=person, action="cancel_job", object_ids=[str(job.pk)], total=1)
    OperatorAction.objects.create(username="x", action="y", kind="jobs.job", object_id=str(job.pk))
    return {
        "person": person, "job_id": job.pk, "submission_id": job.submission_id, "slug": board.slug, "kind": "csv",
        "token_id": ApiTokenFactory(user=person).pk, "path": "a.json", "operation_id": operation.pk,
        "leaderboard_id": board.pk, "object_id": "1", "content_type_id": "1", "id": "1", "app_label": "jobs",
        "url": "x/", "final_catch_all_url": "x", "slug_or_id": board.slug,
    }  # fmt: skip


def address(route, given, **poisoned):
    return "/" + PARAMETERS.sub(lambda match: str(poisoned.get(match[2], given.get(match[2], "1"))), route)


def client_of(who, given, path):
    """Return a client with a token for the API, with a session elsewhere. An error that no handler takes is a 500."""
    client = Client(raise_request_exception=False)
    if who == "nobody":
        return client
    user = given["person"] if who == "participant" else given.setdefault(
        "operator", UserFactory(is_staff=True, is_superuser=True)
    )  # fmt: skip
    if path.startswith("/api/"):
        token = given.setdefault(f"token of {who}", create_token(user, name="walk")[1])
        return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token}"})
    client.force_login(user)
    return client


def assert_answered(response, *, nul=False):
    shown = response.content[:300] if not response.streaming else b""
    assert response.status_code < 500, (response.request["PATH_INFO"], response.request.get("QUERY_STRING"), shown)
    if nul:
        assert response.status_code == 400, response.request
        is_api = response.request["PATH_INFO"].startswith("/api/")
        assert response.headers["Content-Type"] == ("application/json" if is_api else "text/html; charset=utf-8")
        assert b"NUL" in response.content


def test_the_walk_finds_addresses_and_names():
    assert len(ROUTES) > 100
    assert {"q", "metric", "offset", "status", "as_of"} <= set(QUERY)
    assert {"config", "entrypoint", "text", "username", "reason"} <= set(FORM)


@pytest.mark.usefixtures("mlflow_url")
@pytest.mark.parametrize("route", [route for route in ROUTES if TEXT_PARAMETERS.search(route)])
def test_addresses(given, route):
    parameters = TEXT_PARAMETERS.findall(route)
    for who in PEOPLE:
        client = client_of(who, given, f"/{route}")
        for name, poison in [*POISONS.items(), ("nul of the console", "_00")]:
            path = address(route, given, **dict.fromkeys(parameters, poison))
            assert_answered(client.get(path), nul=name == "nul")


@pytest.mark.usefixtures("mlflow_url")
@pytest.mark.parametrize("route", ROUTES)
def test_query_parameters(given, route):
    path = address(route, given)
    for who in PEOPLE:
        client = client_of(who, given, path)
        for name, poison in POISONS.items():
            if name == "nul" or (who != "nobody" and "mlflow/" not in route):
                assert_answered(client.get(f"{path}?{'&'.join(f'{key}={poison}' for key in QUERY)}"), nul=name == "nul")


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if not route.startswith(("admin/", "api/schema", "mlflow/"))]
)
def test_each_query_parameter_alone(given, route):
    path = address(route, given)
    client = client_of("participant", given, path)
    for key in QUERY:
        assert_answered(client.get(f"{path}?{key}={'9' * 30}"))


@pytest.mark.usefixtures("mlflow_url")
@pytest.mark.parametrize("route", [route for route in ROUTES if not route.startswith("api/")])
def test_form_fields(given, route):
    path = address(route, given)
    for who in PEOPLE:
        client = client_of(who, given, path)
        for text in ("a\0b", "9" * 400, "x" * 300, "[" * 300, '{"a": "\\ud800"}', '{"a": "\\u0000"}'):
            response = client.post(path, dict.fromkeys(FORM, text))
            assert_answered(response)
            if route.endswith("logout/"):
                client = client_of(who, given, path)
            # Other views are not for this person, read no form, or are MLflow's, which has a way of its own.
            if "\0" in text and response.status_code == 200:
                pytest.fail(f"{path} took NUL")


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize(
    ("field", "value"),
    [("entrypoint", "a\0b"), ("entr\0y", "a"), ("leaderboard", "a\0b"), ("config", '{"a": "\\u0000"}'), ("key", "\0")],
)
def test_the_form_with_files(given, who, field, value):
    sent = {"files": SimpleUploadedFile("main.py", b""), "leaderboard": given["slug"], field: value}
    body = encode_multipart(BOUNDARY, sent).replace(b'filename="main.py"', b'filename="ma\0in.py"')
    for path in ("/submit/", "/api/submissions"):
        client = client_of(who, given, path)
        assert_answered(client.generic("POST", path, body, content_type=f"multipart/form-data; boundary={BOUNDARY}"))


BODIES = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep in place": b'{"submission_id": ' + b"[" * 500 + b"]" * 500 + b"}",
    "nul": b'{"username": "a\\u0000", "password": "a", "submission_id": "\\u0000", "config": {"a": "\\u0000"}}',
    "nul as name": b'{"\\u0000": 1, "config": {"a": {"\\u0000": 1}}}',
    "surrogate": b'{"username": "\\ud800", "password": "\\ud800", "resource_class": "\\udfff"}',
    "digits": b'{"username": ' + b"9" * 5000 + b', "submission_id": 1}',
    "bytes": b"\xff\xfe\x00",
    "many": b"[" + b"1," * 300_000 + b"1]",
    "not finite": b'{"config": {"a": NaN}}',
}  # fmt: skip


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("route", [route for route in ROUTES if route.startswith("api/")])
def test_json_bodies(given, route, who):
    path = address(route, given)
    client = client_of(who, given, path)
    for name, body in BODIES.items():
        response = client.generic("POST", path, body, content_type="application/json")
        assert_answered(response)
        if route == "api/auth/login" or (route == "api/jobs" and who != "nobody"):
            # Without a token a body of this size is refused unread.
            expected = 413 if route == "api/auth/login" and len(body) > BodyMiddleware.MOST_ANONYMOUS_BYTES else 400
            assert (name, response.status_code, set(response.json())) == (name, expected, {"code", "message"})


@pytest.mark.parametrize("path", ["/", "/api/jobs", "/admin/login/", "/static/site.css", "/healthz"])
@pytest.mark.parametrize(
    "name", [settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, "time_zone", "django_language"]
)
def test_cookies_and_headers(given, path, name):
    client = Client(raise_request_exception=False)
    assert_answered(client.get(path, headers={"Cookie": rf'{name}="a\000b"'}), nul=True)
    assert_answered(client.get(path, headers={"Cookie": f"{name}={'x' * 3000}"}))
    for header in (
        "Idempotency-Key",
        "X-Request-ID",
        "Accept-Language",
        "Authorization",
        "HX-Current-URL",
        "If-None-Match",
    ):
        assert_answered(client.get(path, headers={header: "a\0b"}), nul=True)
        assert_answered(client.get(path, headers={header: "\xff" * 300}))


@pytest.mark.parametrize("model", list(admin.site._registry), ids=lambda model: model._meta.label_lower)
def test_lists_of_the_console(given, model):
    client = client_of("superuser", given, "/admin/")
    path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    fields = [field.name for field in model._meta.fields]
    filters = [
        one if isinstance(one, str) else one[0] for one in admin.site._registry[model].list_filter if not callable(one)
    ]
    # NUL is refused before anything looks at the name.
    for key in ["q", "o", "p", "_to_field", "x", f"{fields[0]}__in"]:
        assert_answered(client.get(f"{path}?{key}=a%00b"), nul=True)
    for key in ["q", "o", "p", "_to_field", *filters, *(f"{name}__exact" for name in filters), "created_at__gte"]:
        for poison in ("9" * 30, "%ED%A0%80", "-1", "x" * 300):
            assert_answered(client.get(f"{path}?{key}={poison}"))
    assert_answered(client.post(path, {"action": "cancel_job\0", "_selected_action": ["\0"]}), nul=True)


@pytest.mark.parametrize("path", ["/static/a%00b", "/nowhere/%00", "/api/%00", "/%00", "/admin/%00/"])
def test_addresses_that_no_view_has(path):
    assert_answered(Client(raise_request_exception=False).get(path), nul=True)


def test_a_refusal_names_the_field(given):
    response = client_of("participant", given, "/api/").get("/api/jobs?status=a%00")
    assert (response.status_code, response.json()) == (
        400, {"code": "invalid", "message": "status: must not contain the NUL character."},
    )  # fmt: skip
    sent = json.dumps({"submission_id": str(given["submission_id"]), "config": {"a": {"b": "\0"}}})
    response = client_of("participant", given, "/api/").post("/api/jobs", sent, content_type="application/json")
    assert (response.status_code, response.json()["message"]) == (
        400, "config.a.b: not accepted: a text holds the character NUL.",
    )  # fmt: skip
