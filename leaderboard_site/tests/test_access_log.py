"""What of a request gets into the access log."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from accounts.models import TOKEN_PREFIX
from leaderboard_site import gunicorn_hooks
from leaderboard_site.access_log import AccessLogger

SECRET = f"{TOKEN_PREFIX}n9Y6AtvJVJW9mFhzJFhVL5RmwHw9ns4qhkR_PMsMdc8"


@pytest.mark.parametrize(
    "uri",
    [f"/api/jobs?token={SECRET}", f"/api/jobs/{SECRET}", "/x?t=" + SECRET.replace("_", "%5F"), f"/x?a={SECRET}&b={SECRET}"],
)  # fmt: skip
def test_a_token_in_an_address_is_crossed_out(uri):
    path, _, query = uri.partition("?")
    environ = {
        "REQUEST_METHOD": "GET", "RAW_URI": uri, "SERVER_PROTOCOL": "HTTP/1.1", "PATH_INFO": path, "QUERY_STRING": query,
        "HTTP_REFERER": f"https://site.invalid{uri}", "HTTP_USER_AGENT": "program/1.0", "HTTP_AUTHORIZATION": f"Bearer {SECRET}",
    }  # fmt: skip
    request = SimpleNamespace(
        headers=[("REFERER", f"https://site.invalid{uri}"), ("AUTHORIZATION", f"Bearer {SECRET}")]
    )
    answer = SimpleNamespace(status="401 Unauthorized", sent=86, headers=[])
    atoms = AccessLogger(Config()).atoms(answer, request, environ, timedelta(seconds=1))
    assert SECRET[-20:] not in str(atoms)
    assert (atoms["m"], atoms["s"], atoms["a"]) == ("GET", "401", "program/1.0")


def test_gunicorn_is_given_this_logger():
    assert "logger_class" in gunicorn_hooks.__all__
    assert gunicorn_hooks.logger_class == f"{AccessLogger.__module__}.{AccessLogger.__name__}"
