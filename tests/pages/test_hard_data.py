"""Long names, names from right to left, 200 metrics, 10 000 people: pages stay in shape, light and cheap."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from playwright.sync_api import expect

from accounts.tests.factories import UserFactory
from leaderboards.tests.factories import LeaderboardFactory
from tests.pages.audit import accessibility, cost
from tests.pages.hard import LONGEST, MANY, RIGHT_TO_LEFT, make_hard, many_people
from tests.pages.test_browser import TOO_WIDE

pytestmark = pytest.mark.slow


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_hard_data_breaks_no_page(open_page):
    user = UserFactory(username="in-the-middle")
    pages = make_hard(user, people=120)
    page = open_page(user, reduced_motion="reduce")
    found = {}
    for name, url in pages.items():
        complaints = []
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(url)
            complaints += page.evaluate(TOO_WIDE) + cost(page)
        if told := complaints + accessibility(page):
            found[name] = told
    assert found == {}

    page.goto(pages["hard-right"])
    names = page.locator(".ranking tbody bdi")
    expect(names).to_have_text([*RIGHT_TO_LEFT, user.username])
    assert names.first.evaluate("name => getComputedStyle(name).direction") == "rtl"
    assert names.last.evaluate("name => getComputedStyle(name).direction") == "ltr"
    page.goto(pages["hard-wide"])
    expect(page.locator(f".ranking bdi[title='{LONGEST}']")).to_be_visible()


@pytest.mark.nightly
@pytest.mark.django_db
def test_a_board_of_ten_thousand_costs_what_a_small_one_does(client):
    client.force_login(UserFactory())
    asked, weights = {}, {}
    for slug, people in (("small", 60), ("large", MANY)):
        many_people(LeaderboardFactory(slug=slug), people)
        for query in ("", "?metric=seconds", "?q=-00011", "?min=0.9", "?as_of=2026-01-01"):
            with CaptureQueriesContext(connection) as queries:
                page = client.get(f"/leaderboards/{slug}/{query}")
            assert page.status_code == 200
            asked.setdefault(query, []).append(len(queries))
            weights.setdefault(query, []).append(len(page.content))
    assert all(small == large for small, large in asked.values()), asked
    assert max(large for _small, large in weights.values()) < 150_000
