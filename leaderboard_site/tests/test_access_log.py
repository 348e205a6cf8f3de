"""Every secret of a request is masked in logs: in gunicorn's lines, in Django's and in JSON."""

import json
import logging
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.urls import reverse
from gunicorn.config import Config

from accounts import masking
from accounts.log_formats import JsonAccessFormatter, JsonFormatter
from accounts.masking import MaskingFormatter, mask_secrets
from accounts.models import INVITATION_PREFIX, TOKEN_PREFIX, new_invitation_secret, new_secret
from accounts.throttle import DEVICE_PREFIX
from leaderboard_site.access_log import MaskingLogger

RANDOM = "n9Y6AtvJVJW9mFhzJFhVL5RmwHw9ns4qhkR_PMsMdc8"
TOKEN, INVITATION = f"{TOKEN_PREFIX}{RANDOM}", f"{INVITATION_PREFIX}{RANDOM}"
ADDRESSES = [
    f"/api/jobs?token={TOKEN}",
    f"/api/jobs/{TOKEN}",
    f"/x?t={TOKEN.replace('_', '%5F')}",
    f"/x?t=%6C%62%5f{RANDOM}",
    f"/x?t=%256Cb%255F{RANDOM}",
    f"/x?t%3D{TOKEN}",
    f"/x?t%253D{TOKEN}",
    f"/xyz{TOKEN}",
    f"/x?a={TOKEN}&b={TOKEN}",
    f"/x?device={DEVICE_PREFIX}{RANDOM}",
    f"/sign-up/?invitation={INVITATION}",
    f"/sign-up/{INVITATION}",
    # Made before invitations had a prefix.
    f"/sign-up/?invitation={RANDOM}",
    f"/sign-up?next=/&invitation={RANDOM}",
    f"/sign%2Dup/?%69nvitation={RANDOM}",
    f"/login/?next=/sign-up/%3Finvitation%3D{RANDOM}",
    f"/login/?next=%2Fsign-up%2F%3Finvitation%3D{RANDOM}",
    f"/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={RANDOM}",
]


def access_line(uri, formatter):
    path, _, query = uri.partition("?")
    environ = {
        "REQUEST_METHOD": "GET", "RAW_URI": uri, "SERVER_PROTOCOL": "HTTP/1.1", "PATH_INFO": path, "QUERY_STRING": query,
        "HTTP_REFERER": f"https://site.invalid{uri}", "HTTP_USER_AGENT": f"program/1.0 {uri}",
        "HTTP_AUTHORIZATION": f"Bearer {RANDOM}",
    }  # fmt: skip
    headers = [("REFERER", f"https://site.invalid{uri}"), ("AUTHORIZATION", f"Bearer {RANDOM}")]
    answer = SimpleNamespace(status="401 Unauthorized", sent=86, headers=[])
    config = Config()
    config.set("accesslog", "-")
    config.set("access_log_format", '%(r)s %(s)s "%(f)s" "%(a)s" %({authorization}i)s %(q)s')
    logger = MaskingLogger(config)
    handler = next(one for one in logger.access_log.handlers if getattr(one, "_gunicorn", False))
    if formatter:
        handler.setFormatter(formatter)
    lines = []
    handler.emit = lambda record: lines.append(handler.format(record))
    try:
        logger.access(answer, SimpleNamespace(headers=headers), environ, timedelta(seconds=1))
    finally:
        for log in (logger.error_log, logger.access_log):
            log.handlers.clear()
    return lines[0]


@pytest.mark.parametrize("uri", ADDRESSES)
@pytest.mark.parametrize("formatter", [None, JsonAccessFormatter()])
def test_a_secret_in_an_address_stays_out_of_the_access_log(uri, formatter):
    line = access_line(uri, formatter)
    assert RANDOM[-20:] not in line
    assert "GET" in line and "401" in line


@pytest.mark.parametrize("uri", ADDRESSES)
@pytest.mark.parametrize(
    "formatter", [MaskingFormatter("{levelname} {message}", style="{"), JsonFormatter()], ids=["text", "json"]
)
def test_a_secret_stays_out_of_messages_and_tracebacks(uri, formatter):
    try:
        raise ValueError(f'wrong: "{uri}"')
    except ValueError as error:
        trace = (type(error), error, error.__traceback__)
        record = logging.LogRecord("django.request", logging.ERROR, "", 1, "Broken: %s", (f'"{uri}"',), trace)
    line = formatter.format(record)
    assert RANDOM[-20:] not in line and "ValueError" in line
    if isinstance(formatter, JsonFormatter):
        assert set(json.loads(line)) >= {"message", "exception"}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://site:pa55-word@db:5432/site refused", "postgres://site:...@db:5432/site refused"),
        ("redis://:pa55-word@redis/0", "redis://:...@redis/0"),
        ("Authorization: Bearer abcdef, then", "Authorization: Bearer ..., then"),
        ("connect(password='abc def')", "connect(password='... def')"),
        (f"{TOKEN[:12]} is cut", "lb_... is cut"),
        ("GET /leaderboards/?page=2&sort=bulb_capacity 200", "GET /leaderboards/?page=2&sort=bulb_capacity 200"),
        ("GET http://127.0.0.1:8010/healthz?x=%20 200", "GET http://127.0.0.1:8010/healthz?x=%20 200"),
    ],
)
def test_a_line_keeps_what_is_no_secret(text, masked):
    assert mask_secrets(text) == masked


def test_a_decoded_line_stays_one_line():
    line = mask_secrets(f"GET /x?a=%0A%1b[31m\udce9&t=%6cb_{RANDOM} 200")
    assert line == "GET /x?a=%0A%1B[31m%3F&t=lb_... 200"


def test_a_configured_secret_is_masked_wherever_it_stands(monkeypatch):
    monkeypatch.setattr(masking, "_known", set())
    monkeypatch.setattr(masking, "_known_pattern", None)
    masking.add_known_secret("postgres://site:p%40ss-word-1@db/site")
    masking.add_known_secret("my signing key")
    masking.add_known_secret("short")
    assert mask_secrets("p@ss-word-1, p%40ss-word-1, my signing key, short") == "..., ..., ..., short"
    assert mask_secrets("host=db user=site") == "host=db user=site"


def test_the_sites_own_key_is_masked():
    assert settings.SECRET_KEY not in mask_secrets(f"key {settings.SECRET_KEY}")


def test_each_secret_has_its_prefix():
    assert (new_secret()[:3], new_invitation_secret()[:4]) == ("lb_", "lbi_")


def test_all_of_djangos_lines_go_through_the_masking_handler():
    """Django's defaults have handlers of their own; loggers without one use the root's."""
    loggers = [logging.getLogger(name) for name in (None, *logging.root.manager.loggerDict)]
    handlers = {
        handler
        for logger in loggers
        if logger.name == "root" or logger.name.split(".")[0] in ("django", "jobs", "accounts", "leaderboard_site")
        for handler in logger.handlers
        if type(handler).__module__ == "logging" and isinstance(handler, logging.StreamHandler)
    }
    assert handlers
    assert {type(handler.formatter) for handler in handlers} <= {MaskingFormatter, JsonFormatter}
    assert logging.getLogger("django").handlers == logging.getLogger("django.server").handlers == []


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_gunicorn_is_given_this_logger(log_format):
    # In a process of its own: the module gives the process that imports it a folder to count requests in.
    code = (
        "from gunicorn.config import Config\nfrom leaderboard_site import gunicorn_hooks as hooks\n"
        "config = Config()\nconfig.set('accesslog', '-')\nconfig.set('logger_class', hooks.logger_class)\n"
        "config.set('logconfig_dict', hooks.logconfig_dict)\nlogger = config.logger_class(config)\n"
        f"logger.error('Invalid request %s', '/sign-up/?invitation={RANDOM}')\n"
        f"logger.access_log.info('%(U)s', {{'U': '/{TOKEN}', 'm': 'GET'}})\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "LOG_FORMAT": log_format}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True, env=environment
    )
    written = done.stdout + done.stderr
    assert "Invalid request /sign-up/?..." in written and "/lb_..." in written
    assert RANDOM not in written


@pytest.mark.django_db
def test_the_page_of_an_invitation_tells_no_other_page_its_address(client, settings):
    settings.SIGN_UP = "invitation"
    answer = client.get(f"{reverse('sign_up')}?invitation={INVITATION}")
    # Not no-referrer: a form from such a page has the origin `null`, which the check against forgery refuses.
    assert (answer.status_code, answer["Referrer-Policy"]) == (200, "strict-origin")
