"""A board in a real Chromium: people are picked and compared, and a choice lasts."""

from itertools import pairwise

import pytest
from playwright.sync_api import expect

from accounts.tests.factories import UserFactory
from jobs.tests.factories import JobFactory
from leaderboards.queries import PAGE_SIZE
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory
from tests.pages.hard import entry, many_people

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def a_board(people):
    board = LeaderboardFactory(
        slug="bricks", metrics=[{"name": "image_auc"}, {"name": "seconds", "direction": "lower"}]
    )
    jobs = []
    for number in range(people):
        score = 0.99 - number / 1000
        metrics = {"image_auc": score, "seconds": 10.0 + number}
        user = UserFactory(username=f"person-{number:02}")
        job = JobFactory(user=user, leaderboard=board, status="completed", score=score, metrics=metrics)
        EntryFactory(leaderboard=board, job=job, score=score)
        jobs.append(job)
    return jobs


@pytest.mark.parametrize("has_script", [True, False])
def test_picked_people_are_compared(open_page, has_script):
    jobs = a_board(3)
    page = open_page(UserFactory(), java_script_enabled=has_script)
    page.goto("/leaderboards/bricks/")
    page.check(f"#pick-{jobs[0].pk}")
    page.check(f"#pick-{jobs[2].pk}")
    page.click("#compare-chosen")
    expect(page.locator("table.compare thead")).to_contain_text("person-00")
    expect(page.locator("table.compare thead")).to_contain_text("person-02")
    assert "person-01" not in page.inner_text("table.compare")


def test_a_choice_lasts_over_order_filter_and_page(open_page):
    jobs = a_board(PAGE_SIZE + 2)
    page = open_page(UserFactory())
    page.goto("/leaderboards/bricks/")
    page.check(f"#pick-{jobs[0].pk}")
    page.click("#page-after")
    expect(page.locator("#ranking")).to_contain_text(f"person-{PAGE_SIZE + 1:02}")
    page.check(f"#pick-{jobs[PAGE_SIZE + 1].pk}")
    expect(page.locator("#page-first")).to_have_attribute("href", "?")
    page.click("#page-before")
    expect(page.locator(f"#pick-{jobs[0].pk}")).to_be_checked()
    page.fill("#filter-q", "person-01")
    expect(page.locator(".ranking tbody tr")).to_have_count(1)
    page.fill("#filter-q", "")
    expect(page.locator(f"#pick-{jobs[0].pk}")).to_be_checked()
    page.click("#compare-chosen")
    expect(page.locator("table.compare thead")).to_contain_text("person-00")
    expect(page.locator("table.compare thead")).to_contain_text(f"person-{PAGE_SIZE + 1:02}")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_rank_of_four_digits_covers_nothing(open_page, width):
    board = LeaderboardFactory(slug="people-of-long-names")
    many_people(board, 1200)
    user = UserFactory()
    entry(board, user.username, 0.1)
    page = open_page(user, viewport={"width": width, "height": 800})
    page.goto(board.get_absolute_url())
    parts = [".own-bar .medal", ".own-bar .avatar", ".own-bar .number", ".own-bar .button"]
    boxes = [page.locator(part).bounding_box() for part in parts]
    assert all(left["x"] + left["width"] < right["x"] for left, right in pairwise(boxes))
    assert page.locator(".own-bar .medal").evaluate("medal => medal.scrollWidth <= medal.clientWidth")
    page.click(".own-bar a")
    row = page.locator("#me")
    expect(row.locator(".medal")).to_have_text("1201")
    assert page.locator(".ranking tbody .cut").first.bounding_box()["width"] > 110


def test_visitors_and_boards_of_the_past_have_nothing_to_pick(open_page):
    a_board(2)
    page = open_page(None)
    page.goto("/leaderboards/bricks/")
    expect(page.locator("#ranking .pick")).to_have_count(0)
    expect(page.locator("#compare-form")).to_have_count(0)


def test_times_are_put_right_at_the_first_look_and_come_right_from_then_on(open_page):
    user = UserFactory()
    job = JobFactory(user=user, status="failed")
    page = open_page(user, timezone_id="Asia/Tokyo")
    page.context.clear_cookies(name="time_zone_seen")
    page.goto(job.get_absolute_url())
    expect(page.locator("[data-zone]")).to_contain_text("Asia/Tokyo")
    first, _, zone = page.locator(".steps time").first.inner_text().rpartition(" ")
    page.reload()
    expect(page.locator("[data-zone]")).to_have_attribute("data-zone", "Asia/Tokyo")
    # The browser calls some zones by their distance from GMT only, the server by their names.
    assert zone in ("JST", "GMT+9")
    assert page.locator(".steps time").first.inner_text() == f"{first} JST"


@pytest.mark.parametrize("is_mine", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_mark_of_a_run_without_a_sandbox_hides_neither_name_nor_score(open_page, width, is_mine):
    [job] = a_board(1)
    job.isolation = "unsafe-local"
    job.save(update_fields=["isolation"])
    page = open_page(job.user if is_mine else UserFactory(), viewport={"width": width, "height": 800}, locale="ja")
    page.goto("/leaderboards/bricks/")
    row = page.locator("table.ranking tbody tr")
    name, mark, score = (row.locator(part).first.bounding_box() for part in (".cut", ".unsafe", "td.figure.sorted"))
    assert name["width"] > 60 and mark["width"] > 60
    for other in (name, score):
        is_beside = mark["x"] + mark["width"] <= other["x"] or other["x"] + other["width"] <= mark["x"]
        assert is_beside or mark["y"] + mark["height"] <= other["y"] or other["y"] + other["height"] <= mark["y"]
