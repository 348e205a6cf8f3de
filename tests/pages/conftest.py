"""A real Chromium for the tests of pages; where there is none they are skipped, and say so."""

import os
import shutil

import pytest
from django.db import connection
from playwright.sync_api import expect, sync_playwright

from accounts.tests.factories import PASSWORD
from leaderboards.tests.factories import LeaderboardFactory
from tests.pages.boards import people

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# On a busy machine a page may take that long; nothing is waited for longer than it takes.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)
SWITCHES = [
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
]


def launch(playwright):
    return playwright.chromium.launch(executable_path=CHROMIUM, args=[f"--{switch}" for switch in SWITCHES])


@pytest.fixture(scope="module")
def chromium(django_db_setup):
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    # Playwright's loop runs in this thread, which Django takes for asynchronous code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    # Under that loop Django gives this thread connections of its own, which do not know the rows that migrations made: tests
    # would begin without them, and end with content types made anew, which the next test's rows meet as duplicates.
    rows = connection._test_serialized_contents
    with sync_playwright() as playwright:
        connection._test_serialized_contents = rows
        browser = launch(playwright)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_page(chromium, live_server):
    """A page, signed in unless `user` is None; what goes wrong in it, or leaves for another host, fails the test."""
    contexts, complaints = [], []

    def open_page(user, **options):
        context = chromium.new_context(**{"base_url": live_server.url, "locale": "en-US", **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        # MLflow's own pages trip over what is refused to them.
        page.on("pageerror", lambda error: None if "/mlflow/app" in page.url else complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "Policy" in message.text else None)
        page.on("request", lambda sent: None if sent.url.startswith(live_server.url) else complaints.append(sent.url))
        if user is not None:
            page.goto("/login/")
            page.fill("[name=username]", user.username)
            page.fill("[name=password]", PASSWORD)
            page.press("[name=password]", "Enter")
            expect(page.locator(".person")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def board(db):
    return LeaderboardFactory(slug="bricks", title="Bricks")


@pytest.fixture
def four(board):
    return people(board, ("ann", 0.9, 4.0), ("bob", 0.8, 3.0), ("Anna", 0.8, 2.0), ("dan", 0.7, 1.0))
