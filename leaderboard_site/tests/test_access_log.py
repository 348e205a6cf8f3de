"""What of a request gets into the access log."""

import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings
from gunicorn.config import Config

from accounts.models import TOKEN_PREFIX
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
    # In a process of its own: the module gives the process that imports it a folder to count requests in.
    code = "from leaderboard_site.gunicorn_hooks import *; print(logger_class)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == f"{AccessLogger.__module__}.{AccessLogger.__name__}"
