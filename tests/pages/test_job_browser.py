"""A job's page and the comparison in a real Chromium: what moves, what is found, what is drawn when it is opened."""

import re
import time
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from playwright.sync_api import expect

from accounts.tests.factories import UserFactory
from jobs.models import Job, JobProgress
from jobs.tests.factories import JobFactory, LogChunkFactory
from leaderboard_site import polling
from tests.pages.audit import tab_to
from tests.pages.demo import make_demo

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_the_bar_and_the_curves_move_while_it_runs(open_page):
    user = UserFactory()
    job = JobFactory(user=user, status="running", started_at=timezone.now() - timedelta(seconds=100))
    page = open_page(user)
    page.goto(job.get_absolute_url())
    expect(page.locator(".run-progress")).to_have_count(0)
    page.fill("#log-query", "typed before")
    curves = [{"name": "loss", "points": [[0, 1.0, 0.1], [1, 0.5, 0.2]]}]
    JobProgress.objects.create(
        job=job, attempt=1, fraction=0.5, fraction_at=timezone.now(), message="half", curves=curves
    )
    expect(page.locator(".run-progress")).to_contain_text("50%")
    expect(page.locator(".run-progress")).to_contain_text("left")
    expect(page.locator("#job-curves .curve")).to_have_count(1)
    curves.append({"name": "auc", "points": [[0, 0.5, 0.1]]})
    JobProgress.objects.update(fraction=0.75, message="on", curves=curves)
    expect(page.locator(".run-progress progress")).to_have_js_property("value", 0.75)
    expect(page.locator("#job-curves .curve")).to_have_count(2)
    assert page.input_value("#log-query") == "typed before"
    page.goto("/jobs/")
    expect(page.locator("table.jobs")).to_contain_text("75%")


def test_the_log_is_searched_in_place_also_while_it_grows(open_page):
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    first = b"".join(b"\x1b[32mepoch\x1b[0m %d\n" % number for number in range(200))
    LogChunkFactory(job=job, content=first)
    page = open_page(user)
    page.goto(job.get_absolute_url())
    count, log = page.locator("[data-log-count]"), page.locator("#log")
    page.fill("#log-query", "EPOCH 19")  # over the end of a colour
    expect(count).to_have_text("0 / 11")
    log.evaluate("log => { log.scrollTop = 0 }")
    page.press("#log-query", "Enter")
    expect(count).to_have_text("1 / 11")
    page.press("#log-query", "Enter")
    expect(count).to_have_text("2 / 11")
    assert log.evaluate("log => log.scrollTop") > 0
    page.press("#log-query", "Shift+Enter")
    page.press("#log-query", "Shift+Enter")
    expect(count).to_have_text("11 / 11")
    assert page.evaluate("[...CSS.highlights.get('log-now')].map(String)") == ["epoch 19"]
    LogChunkFactory(job=job, offset=len(first), content=b"epoch 19 again\n")
    expect(count).to_have_text("11 / 12")
    page.press("#log-query", "Escape")
    expect(count).to_have_text("")
    assert "?q=" not in page.url


def test_without_javascript_everything_is_a_page_away(open_page):
    demo = make_demo()
    page = open_page(demo.user, java_script_enabled=False)
    page.goto(demo.completed.get_absolute_url())
    page.fill("#log-query", "coreset")
    page.press("#log-query", "Enter")
    expect(page.locator(".found mark")).to_have_text(["coreset"])
    page.click("text=Show the whole log")
    expect(page.locator("#log")).to_be_visible()
    page.click("details.drawn summary")
    page.click("details.drawn a")
    expect(page.locator(".curve")).to_have_count(1)
    page.goto(demo.completed.get_absolute_url())
    page.click(".pictures a >> nth=0")
    page.click("a[rel=next]")
    expect(page.locator("h1")).to_have_text("maps/grass.png")
    page.goto(f"/compare/?job={demo.completed.pk}&job={demo.other.pk}")
    page.click("#compare-code summary")
    page.click("#compare-code a")
    expect(page.locator(".diff .add").first).to_be_visible()


def test_numbers_and_code_are_drawn_where_they_are_opened(open_page):
    demo = make_demo()
    page = open_page(demo.user)
    page.goto(demo.completed.get_absolute_url())
    page.click("details.drawn summary")
    expect(page.locator("details.drawn .curve")).to_have_count(1)
    page.goto(f"/compare/?job={demo.completed.pk}&job={demo.other.pk}")
    expect(page.locator("#compare-curves .curve")).to_have_count(2)
    page.click("#compare-code summary")
    expect(page.locator("#compare-code .diff").first).to_be_visible()
    assert Job.objects.filter(pk=demo.completed.pk, status="completed").exists()


def test_a_running_log_is_watched_without_a_mouse(open_page):
    """From the list to the job, into its log, up to read and back to its end, and a search, all with keys."""
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    text = b"".join(b"line %d\n" % number for number in range(200))
    LogChunkFactory(job=job, content=text)
    page = open_page(user)
    page.goto("/jobs/")
    tab_to(page, f"#job-{job.pk}")
    page.keyboard.press("Enter")
    log, follow = page.locator("#log"), page.locator("[data-follow]")
    expect(log).to_contain_text("line 199")
    expect(follow).to_have_attribute("aria-pressed", "true")

    tab_to(page, "#log")
    page.keyboard.press("Home")
    expect(follow).to_have_attribute("aria-pressed", "false")
    LogChunkFactory(job=job, offset=len(text), content=b"came later\n")
    expect(log).to_contain_text("came later")
    assert log.evaluate("log => log.scrollTop") == 0
    assert page.evaluate("document.activeElement.id") == "log"
    page.keyboard.press("End")
    expect(follow).to_have_attribute("aria-pressed", "true")

    page.keyboard.press("Shift+Tab")
    while not page.evaluate("document.activeElement.matches('[data-follow]')"):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(follow).to_have_attribute("aria-pressed", "false")
    while not page.evaluate("document.activeElement.id === 'log-query'"):
        page.keyboard.press("Shift+Tab")
    page.keyboard.type("line 19")
    page.keyboard.press("Enter")
    expect(page.locator("[data-log-count]")).to_have_text("1 / 11")

    LogChunkFactory(job=job, offset=len(text) + len(b"came later\n"), content=b"line 19 again\n")
    expect(page.locator("[data-log-count]")).to_have_text("1 / 12")
    assert page.evaluate("document.activeElement.id") == "log-query"


def test_a_part_that_has_not_changed_stays_as_it_is_and_goes_on_asking(open_page, monkeypatch):
    """The browser answers htmx from what it kept; nothing empties, and the end is still seen, and ends the asking."""
    told, conditional = [], polling.get_conditional_response

    def noted(request, **options):
        answer = conditional(request, **options)
        if request.path.endswith("/state/"):
            told.append(answer.status_code)
        return answer

    monkeypatch.setattr(polling, "get_conditional_response", noted)
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    page = open_page(user)
    page.goto(job.get_absolute_url())
    page.evaluate(
        """() => { window.emptied = 0; new MutationObserver(() => {
            if (!document.querySelector('#job-state h1')) window.emptied += 1
        }).observe(document.body, {childList: true, subtree: true}) }"""
    )
    deadline = time.monotonic() + 90
    while told.count(304) < 2:
        assert time.monotonic() < deadline, told
        page.wait_for_timeout(200)
    expect(page.locator("#cancel")).to_be_visible()
    assert page.evaluate("window.emptied") == 0
    Job.objects.filter(pk=job.pk).update(
        status="cancelled", error_code="cancelled", finished_at=Now(), lease_until=None
    )
    expect(page.locator("#job-state")).not_to_have_attribute("hx-trigger", re.compile("every"))
    asked = len(told)
    page.wait_for_timeout(4500)  # two turns
    assert len(told) == asked


def test_there_is_nothing_to_follow_when_a_job_has_ended(open_page):
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    LogChunkFactory(job=job, content=b"at work\n")
    page = open_page(user)
    page.goto(job.get_absolute_url())
    follow = page.locator("[data-follow]")
    expect(follow).to_be_visible()
    follow.focus()
    Job.objects.filter(pk=job.pk).update(status="cancelled", finished_at=timezone.now(), lease_until=None)
    expect(follow).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "log"
    assert page.locator("#log").inner_text().strip() == "at work"
    page.reload()
    expect(follow).to_have_count(0)
