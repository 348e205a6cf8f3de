"""What must be right on every page: for everyone's eyes and hands, light and steady, in both languages."""

import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from accounts.tests.factories import PASSWORD, UserFactory
from jobs.models import Job, Status
from jobs.tests.factories import JobFactory
from leaderboards.tests.factories import LeaderboardFactory
from tests.pages.audit import accessibility, cost, tab_to
from tests.pages.console_pages import console_pages, steps
from tests.pages.demo import Demo, make_demo, make_machines
from tests.pages.test_browser import TOO_WIDE

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
LOOKS = {"en-US": [("light", 1280), ("dark", 390)], "ja-JP": [("light", 390)]}


# One of each kind: lists, forms, a page that moves, tables, charts, text, what goes wrong, the console's kinds.
SOME = {
    "home", "leaderboard", "history", "submit", "jobs", "job-completed", "job-running", "job-failed", "submission",
    "compare", "account", "not-found", "login", "status", "console-jobs", "console-job", "console-board",
    "console-preview", "console-file-preview",
}  # fmt: skip


@pytest.mark.parametrize(
    ("language", "chosen"),
    [
        ("en-US", SOME),
        pytest.param("en-US", None, marks=pytest.mark.nightly),
        pytest.param("ja-JP", None, marks=pytest.mark.nightly),
    ],
    ids=["some pages", "every page in English", "every page in Japanese"],
)
def test_pages_are_accessible_light_and_steady(open_page, settings, language, chosen):
    """`make screenshots` looks at every page in all eight looks; here in three of them."""
    settings.SIGN_UP = "open"
    demo = make_demo()
    make_machines()
    operator = UserFactory(is_staff=True, is_superuser=True)
    first = steps(demo)
    found = {}
    for user, pages in ((demo.user, demo.pages()), (None, Demo.PUBLIC), (operator, console_pages(demo, operator))):
        page = open_page(user, locale=language, reduced_motion="reduce", viewport={"width": 1280, "height": 900})
        for name, url in pages.items():
            if chosen is not None and name not in chosen:
                continue
            page.goto(url)
            if step := first.get(name):
                step(page)
            assert page.locator("html").get_attribute("lang") == language[:2]
            complaints = cost(page)
            for scheme, width in LOOKS[language]:
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.set_viewport_size({"width": width, "height": 900})
                complaints += [f"{scheme} {width}: {one}" for one in accessibility(page) + page.evaluate(TOO_WIDE)]
            page.set_viewport_size({"width": 1280, "height": 900})
            if complaints:
                found[name] = complaints
        if user == demo.user:
            page.goto("/account/")
            page.fill("#id_name", "shown once")
            page.press("#id_name", "Enter")
            expect(page.locator("#secret")).to_be_visible()
            found |= {"token": told} if (told := cost(page) + accessibility(page)) else {}
    assert found == {}


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_jumps_however_late_a_part_comes(open_page, width):
    """The history of a board is held back until the reader stands at the page's end; a log is polled some times."""
    demo = make_demo()
    page = open_page(demo.user, viewport={"width": width, "height": 900})
    held = []
    page.route("**/history/**", lambda route: held.append(route))
    page.goto(demo.board.get_absolute_url())
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".history.htmx-request")).to_be_visible()
    assert cost(page) == []
    held.pop().continue_()
    expect(page.locator(".history .charts")).to_be_visible()
    expect(page.locator(".bottom")).to_be_visible()
    assert cost(page) == []

    for job in (demo.pending, demo.running):
        page.goto(job.get_absolute_url())
        for _ in range(2):
            with page.expect_response("**/log/**"):
                pass
        assert cost(page) == []


def test_the_whole_story_without_a_mouse(open_page, tmp_path):
    user = UserFactory()
    LeaderboardFactory(slug="bricks")
    for name in ("main.py", "config.yaml"):
        (tmp_path / name).write_text("")
    page = open_page(None)
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.goto("/submit/?leaderboard=bricks")
    # With the page's first picture, which a busy browser draws after it has told that the page is loaded.
    expect(page.locator("[name=username]")).to_be_focused()
    page.keyboard.type(user.username)
    tab_to(page, "[name=password]")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")

    for _ in range(2):
        expect(page.locator("[data-drop]")).to_be_visible()
        tab_to(page, "[name=files]")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files([tmp_path / "main.py", tmp_path / "config.yaml"])
        expect(page.locator("[data-summary]")).to_contain_text("all will be taken")
        tab_to(page, "[data-send]")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/*/")
        tab_to(page, "#cancel")
        page.keyboard.press("Enter")
        page.wait_for_url("**/cancel/")
        tab_to(page, "#confirm-cancel")
        page.keyboard.press("Enter")
        expect(page.locator(".notes")).to_contain_text("cancelled")
        page.goto("/submit/?leaderboard=bricks")
    assert [job.status for job in Job.objects.all()] == [Status.CANCELLED] * 2

    tab_to(page, "a[href='/jobs/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/")
    for number in range(2):
        tab_to(page, f"#pick-{Job.objects.order_by('-created_at')[number].pk}")
        page.keyboard.press("Space")
    tab_to(page, "#compare")
    page.keyboard.press("Enter")
    expect(page.locator("table.compare").first).to_be_visible()


def test_nothing_moves_for_those_who_asked_for_less(open_page):
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    for motion, moves in (("reduce", False), ("no-preference", True)):
        page = open_page(user, reduced_motion=motion)
        page.goto("/jobs/")
        assert bool(page.evaluate("document.getAnimations().length")) == moves
        page.goto(job.get_absolute_url())
        assert bool(page.evaluate("document.getAnimations().length")) == moves


def test_the_windows_title_follows_the_job(open_page):
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    page = open_page(user)
    page.goto(job.get_absolute_url())
    assert page.title().startswith("running · ")
    ended = {"status": Status.FAILED, "error_code": "timeout", "finished_at": timezone.now(), "lease_until": None}
    Job.objects.filter(pk=job.pk).update(**ended)
    expect(page).to_have_title(re.compile("^failed · "), timeout=30_000)
    assert page.locator("#job-state title").count() == 0


def test_what_to_leave_follows_the_chosen_leaderboard(open_page):
    LeaderboardFactory(slug="open", title="Open")
    LeaderboardFactory(slug="hidden", title="Hidden", scorer="regression", ground_truth="labels")
    page = open_page(UserFactory())
    page.goto("/submit/?leaderboard=open")
    shown = page.locator("[data-leaves]:visible")
    assert shown.count() == 1 and "metrics.json" in shown.inner_text() and "predictions/" not in shown.inner_text()
    page.select_option("[name=leaderboard]", "hidden")
    assert shown.count() == 1 and "predictions/" in shown.inner_text()
    page.select_option("[name=leaderboard]", "open")
    assert "predictions/" not in shown.inner_text()


def test_a_swap_keeps_what_was_typed_the_focus_and_the_place(open_page):
    user = UserFactory()
    job = JobFactory(user=user, status="running")
    page = open_page(user, viewport={"width": 1280, "height": 500})
    page.goto(job.get_absolute_url())
    page.fill("#log-query", "not sent yet")
    page.evaluate("window.scrollTo(0, 200)")
    place = page.evaluate("window.scrollY")
    with page.expect_response("**/state/**"):
        pass
    with page.expect_response("**/state/**"):
        pass
    assert page.input_value("#log-query") == "not sent yet"
    assert page.evaluate("document.activeElement.id") == "log-query"
    assert place > 0 and page.evaluate("window.scrollY") == place


def test_a_swap_keeps_the_focus_on_what_it_replaces(open_page):
    user = UserFactory()
    page = open_page(user)
    page.goto(JobFactory(user=user, status="running").get_absolute_url())
    for link in ("#job-state .crumbs a", "#job-state .facts a"):
        page.locator(link).focus()
        for _ in range(2):
            with page.expect_response("**/state/**"):
                pass
        expect(page.locator(link)).to_be_focused(timeout=5000)
