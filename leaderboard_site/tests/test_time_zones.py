"""Times are told in the zone of who reads them; what an address means is the same for all."""

from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.utils import timezone

from accounts.tests.factories import UserFactory
from jobs.models import Job
from jobs.tests.factories import JobFactory
from leaderboard_site.time_zones import CHOSEN, SEEN, zone_named, zone_names
from leaderboards.models import Standing
from leaderboards.tests.factories import EntryFactory, LeaderboardFactory

pytestmark = pytest.mark.django_db
LATE = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)  # in Tokyo it is the next day


@pytest.fixture
def job():
    return JobFactory(status="failed", created_at=LATE)


def shown(client, job):
    client.force_login(job.user)
    return client.get(job.get_absolute_url()).content.decode()


def test_without_a_word_of_the_reader_it_is_the_sites_zone(client, job):
    html = shown(client, job)
    assert "2026-11-20 22:30:00" in html and 'data-zone="UTC"' in html


@pytest.mark.parametrize("cookie", [CHOSEN, SEEN])
def test_a_page_tells_times_in_the_readers_zone(client, job, cookie):
    client.cookies[cookie] = "Asia/Tokyo"
    html = shown(client, job)
    assert "2026-11-21 07:30:00" in html and 'data-zone="Asia/Tokyo"' in html
    assert f'datetime="{LATE.isoformat()}"' in html  # for programs, it stays what it was
    assert (" data-chosen" in html) == (cookie == CHOSEN)


def test_what_was_chosen_counts_more_than_what_was_seen(client, job):
    client.cookies[SEEN], client.cookies[CHOSEN] = "Asia/Tokyo", "America/New_York"
    assert "2026-11-20 17:30:00" in shown(client, job)


@pytest.mark.parametrize("name", ["", "Nowhere/Atall", "../../etc/passwd", "/etc/passwd", "Asia", "UTC" * 50])
def test_a_cookie_that_names_no_zone_is_nothing(client, job, name):
    assert zone_named(name) is None
    client.cookies[SEEN] = name
    assert "2026-11-20 22:30:00" in shown(client, job)


def test_it_is_chosen_on_the_account_page_without_a_script(client):
    client.force_login(UserFactory())
    page = client.post("/time-zone/", {"time_zone": "Asia/Tokyo"}, follow=True)
    assert client.cookies[CHOSEN].value == "Asia/Tokyo" and client.cookies[CHOSEN]["httponly"]
    assert "<option selected>Asia/Tokyo</option>" in page.content.decode()
    assert "Asia/Tokyo" in zone_names() and len(zone_names()) > 100
    client.post("/time-zone/", {"time_zone": "Nowhere/Atall"})
    assert client.cookies[CHOSEN].value == "Asia/Tokyo"
    client.post("/time-zone/", {"time_zone": ""})
    assert client.cookies[CHOSEN].value == ""


def test_nobody_else_gets_the_zone(client, job):
    """Threads serve one request after the other: what one of them activated must end with it."""
    client.cookies[CHOSEN] = "Asia/Tokyo"
    shown(client, job)
    assert timezone.get_current_timezone_name() == "UTC"


def test_the_board_of_a_day_is_the_same_in_every_zone(client):
    board = LeaderboardFactory(slug="bricks")
    done = JobFactory(leaderboard=board, status="completed", score=0.9, metrics={"image_auc": 0.9})
    EntryFactory(leaderboard=board, job=done, score=0.9, submitted_at=LATE)
    Standing.objects.update(began_at=LATE)
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        client.cookies[CHOSEN] = zone
        assert done.user.username in client.get("/leaderboards/bricks/?as_of=2026-11-20").content.decode()
        assert done.user.username not in client.get("/leaderboards/bricks/?as_of=2026-11-19").content.decode()


def operator_in(client, zone):
    client.cookies[CHOSEN] = zone
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    return client


def test_the_console_tells_times_in_the_operators_zone_and_names_it(client, job):
    html = operator_in(client, "Asia/Tokyo").get(f"/admin/jobs/job/{job.pk}/change/").content.decode()
    assert "2026-11-21 07:30:00 JST" in html and "Nov. 21, 2026, 7:30 a.m. JST" in html
    assert "Nov. 21, 2026, 7:30 a.m. JST" in client.get("/admin/jobs/job/").content.decode()
    assert Job.objects.get().created_at == LATE


def board_form(board, closes, zone):
    day, time = closes
    rows = {"metrics-TOTAL_FORMS": "0", "metrics-INITIAL_FORMS": "0", "baselines-TOTAL_FORMS": "0",
            "baselines-INITIAL_FORMS": "0"}  # fmt: skip
    sent = {"title": board.title, "slug": board.slug, "visibility": "public", "takes_submissions": "on", **rows}
    return {**sent, "closes_at_0": day, "closes_at_1": time, "_time_zone": zone}


@pytest.mark.parametrize("shown_in", ["Asia/Tokyo", "UTC"])
def test_the_console_reads_times_in_the_zone_that_its_form_was_shown_in(client, shown_in):
    board = LeaderboardFactory(metrics=[])
    address = f"/admin/leaderboards/leaderboard/{board.pk}/change/"
    page = operator_in(client, "Asia/Tokyo").get(address).content.decode()
    assert page.count("In the time zone Asia/Tokyo.") == 2
    assert '<input type="hidden" name="_time_zone" value="Asia/Tokyo">' in page
    assert client.post(address, board_form(board, ("2027-01-31", "09:00:00"), shown_in)).status_code == 302
    board.refresh_from_db()
    assert board.closes_at == datetime(2027, 1, 31, 9 if shown_in == "UTC" else 0, tzinfo=UTC)


@pytest.mark.parametrize("closes", [("2027-03-14", "02:30:00"), ("2027-11-07", "01:30:00")], ids=["gap", "twice"])
def test_a_time_that_a_zone_does_not_have_or_has_twice_is_refused(client, closes):
    board = LeaderboardFactory(metrics=[])
    sent = board_form(board, closes, "America/New_York")
    address = f"/admin/leaderboards/leaderboard/{board.pk}/change/"
    answer = operator_in(client, "America/New_York").post(address, sent)
    told = f"{closes[0]} {closes[1]} couldn’t be interpreted in time zone America/New_York"
    assert answer.status_code == 200 and told in answer.content.decode()


def test_commands_name_their_zone(job, capsys, settings):
    call_command("jobs", "list")
    assert "2026-11-20 22:30:00 UTC" in capsys.readouterr().out
    settings.TIME_ZONE = "Asia/Tokyo"
    call_command("jobs", "show", str(job.pk))
    assert "2026-11-21 07:30:00 JST" in capsys.readouterr().out
