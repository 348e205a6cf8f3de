"""The console in a real browser: what is written can be read in both themes, and an action is some clicks away."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from accounts.models import OperatorAction
from accounts.tests.factories import UserFactory
from jobs.models import Job, Status
from jobs.tests.factories import JobFactory, WorkerFactory
from leaderboards.models import Pause
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
LOOKS = [("light", 1280), ("dark", 390)]


def faint(page):
    """Texts that axe finds too faint on their ground."""
    # Django's buttons fade from one theme's colours to the other's: half way nothing could be read.
    page.evaluate("Promise.allSettled(document.getAnimations().map((one) => one.finished))")
    found = Axe().run(page, options={"runOnly": ["color-contrast"], "resultTypes": ["violations"]})
    return [node["html"][:160] for one in found.response["violations"] for node in one["nodes"]]


def plan(page, obj, label):
    """From the object's page to the preview of what is to be done with it."""
    page.goto(f"/admin/{obj._meta.app_label}/{obj._meta.model_name}/{obj.pk}/change/")
    page.locator(".console-operations").get_by_role("button", name=f"{label}…", exact=True).click()
    expect(page.locator("#preview")).to_be_visible()


def carry_out(page, obj, label, reason):
    plan(page, obj, label)
    page.fill("[name=reason]", reason)
    page.locator(".submit-row input[type=submit]").click()
    expect(page.locator("#preview")).to_have_count(0)


def test_every_text_of_the_console_can_be_read(open_page):
    operator = UserFactory(is_staff=True, is_superuser=True)
    job, worker = JobFactory(status=Status.RUNNING, attempt=1), WorkerFactory()
    ended = EntryFactory().job
    page = open_page(operator, reduced_motion="reduce")
    found = {}

    def look(name):
        for scheme, width in LOOKS:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.set_viewport_size({"width": width, "height": 900})
            if complaints := faint(page):
                found[f"{name}, {scheme} {width}"] = complaints

    for name in ("", "status/", "queue/", "jobs/job/", "jobs/worker/", f"jobs/job/{job.pk}/change/"):
        page.goto(f"/admin/{name}")
        look(name)
    for obj, label in (
        (job, "Cancel"),
        (worker, "Stop now: give the job in hand back"),
        (ended, "Disqualify"),
        (job.user, "Ban"),
    ):
        plan(page, obj, label)
        expect(page.locator(".submit-row input.grave")).to_be_visible()
        look(f"preview of {label}")
    assert found == {}


def test_an_operator_acts_by_clicks_and_is_recorded(open_page):
    page = open_page(UserFactory(is_staff=True, is_superuser=True, username="operator"))
    job, board = JobFactory(), LeaderboardFactory()
    carry_out(page, job, "Cancel", "By mistake.")
    assert Job.objects.get(pk=job.pk).status == Status.CANCELLED
    carry_out(page, board, "Pause", "Until Monday.")
    assert Pause.objects.get().reason == "Until Monday."
    carry_out(page, board, "Resume", "Monday.")
    assert not Pause.objects.exists()
    told = OperatorAction.objects.order_by("id").values_list("username", "action", "reason")
    assert list(told) == [
        ("operator", "cancel_job", "By mistake."),
        ("operator", "pause_leaderboard", "Until Monday."),
        ("operator", "resume_leaderboard", "Monday."),
    ]
